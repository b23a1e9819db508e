"""Commands on a wallet: what the API asks for, booked or refused by the balance that stands at its turn.

Money that goes out is held by its sender before the command is written, under the hold that the command names; the
command ends that hold with itself. What is refused leaves nothing behind and may be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from rating.effects.credits import currency_of, customer_named, grant_of, open_wallet, paid_grant, put_in, tell_moved
from rating.effects.payments import refund_identities, refund_of_payment
from rating.turn import Effect, Naming, Refused, Turn
from rating.wallet import Burnt, check_balance, pay_out, payable, settle_currency, spendable, take_back
from schemas import commands
from schemas.claims import CREDIT, PAYMENT, claim_of
from schemas.documents import PAYMENT as PAYMENT_DOCUMENT
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import PostingKind
from schemas.money import format_nanos


def refusing(effect: Effect) -> Effect:
    """A command that the account's bounds do not allow is refused, not a dead letter: its sender hears why."""

    @wraps(effect)
    def refused(turn: Turn) -> None:
        try:
            effect(turn)
        except InvalidInput as fault:
            raise Refused(fault.reason, fault.detail) from None

    return refused


@refusing
def credit(turn: Turn) -> None:
    """tollgate.wallet.credit: a credit with its own priority, expiry and scope."""
    currency = currency_of(turn)
    credit_id = turn.event.data.get("credit_id") or turn.event.id
    _claim_once(turn, CREDIT, credit_id, currency)
    open_wallet(turn)
    place = put_in(turn, grant_of(turn, credit_id), currency, PostingKind.GRANT)
    _tell(turn, [place], credit_id=credit_id)


@refusing
def deposit(turn: Turn) -> None:
    """tollgate.wallet.deposit: money that was paid, under its payment's id if it has one."""
    currency = currency_of(turn)
    data = turn.event.data
    payment_id = data.get("payment_id")
    if payment_id is not None:
        _claim_once(turn, PAYMENT, payment_id, currency)
    open_wallet(turn)
    grant = paid_grant(turn, payment_id or turn.event.id, data["amount"])
    place = put_in(turn, grant, currency, PostingKind.DEPOSIT)
    _tell(turn, [place], credit_id=grant.credit_id)


@refusing
def consume(turn: Turn) -> None:
    """tollgate.wallet.consume: an amount that the wallet has is charged, without a price."""
    currency = currency_of(turn)
    account, data = turn.account, turn.event.data
    _check_covered(turn, data["amount"], spendable(account))
    before = account.balance
    turn.charge_amount(data["amount"], data.get("meter") or "", currency)
    tell_moved(turn, PostingKind.CHARGE, account.balance - before, turn.event.id)
    _tell(turn, ["0"] if account.balance != before else [])


@refusing
def withdraw(turn: Turn) -> None:
    """tollgate.wallet.withdraw: paid money leaves the wallet."""
    place = _take_out(turn, PostingKind.WITHDRAWAL)
    _tell(turn, [place])


@refusing
def adjust(turn: Turn) -> None:
    """tollgate.wallet.adjust: a correction by hand; below what is there only where it says so."""
    data, account = turn.event.data, turn.account
    amount: int = data["amount"]
    currency = currency_of(turn)
    open_wallet(turn)
    if amount > 0:
        place = put_in(turn, paid_grant(turn, turn.event.id, amount), currency, PostingKind.ADJUSTMENT)
    else:
        if not data.get("allow_negative"):
            _check_covered(turn, -amount, account.balance)
        check_balance(account.balance + amount)
        settle_currency(account, currency)
        place = _post_out(turn, PostingKind.ADJUSTMENT, -amount, take_back(account, -amount, ""))
    _tell(turn, [place])


@refusing
def refund(turn: Turn) -> None:
    """tollgate.wallet.refund: paid money goes back to who paid it; of one payment, if it names one."""
    data = turn.event.data
    payment_id = data.get("payment_id")
    if payment_id is None:
        place = _take_out(turn, PostingKind.REFUND)
    else:
        currency_of(turn)
        _check_covered(turn, data["amount"], payable(turn.account))
        place = refund_of_payment(turn, payment_id, data.get("refund_id") or turn.event.id, data["amount"])
    _tell(turn, [place], refund_id=data.get("refund_id") or turn.event.id)


@refusing
def transfer(turn: Turn) -> None:
    """tollgate.wallet.transfer: out into clearing; what follows from it brings the money to the other customer."""
    data, event = turn.event.data, turn.event
    receiver = data["to_customer"]
    if receiver == event.customer:
        raise Refused("same_customer", "a transfer goes to another customer")
    place = _take_out(turn, PostingKind.TRANSFER_OUT, to_customer=receiver)
    turn.command(
        receiver,
        commands.WALLET_RECEIVE,
        f"{event.id}:in",
        {
            "amount": format_nanos(data["amount"]),
            "currency": turn.account.currency,
            "transfer_id": event.id,
            "from_customer": event.customer,
        },
    )
    _tell(turn, [place], transfer_id=event.id, to_customer=receiver)


def receive(turn: Turn) -> None:
    """tollgate.wallet.receive: out of clearing into the wallet; what it cannot take goes back where it came from."""
    data, event = turn.event.data, turn.event
    name = "returned" if data.get("returned") else "from_customer"
    try:
        open_wallet(turn)
        grant = paid_grant(turn, data["transfer_id"], data["amount"])
        place = put_in(turn, grant, data["currency"], PostingKind.TRANSFER_IN, **{name: data["from_customer"]})
    except InvalidInput as fault:
        if data.get("returned"):
            raise  # it came from this very wallet: a dead letter, to be tried again
        turn.command(
            data["from_customer"],
            commands.WALLET_RECEIVE,
            f"{data['transfer_id']}:back",
            {
                "amount": format_nanos(data["amount"]),
                "currency": data["currency"],
                "transfer_id": data["transfer_id"],
                "from_customer": event.customer,
                "returned": True,
                "reason": fault.detail,
            },
        )
        turn.result.update(returned=True, reason=fault.reason)
        return
    _tell(turn, [place], transfer_id=data["transfer_id"])


def _take_out(turn: Turn, kind: PostingKind, **more: Any) -> str:
    account, amount = turn.account, turn.event.data["amount"]
    currency_of(turn)
    _check_covered(turn, amount, payable(account))
    return _post_out(turn, kind, amount, pay_out(account, amount), **more)


def _post_out(turn: Turn, kind: PostingKind, amount: int, burnt: Burnt, **more: Any) -> str:
    place = turn.post(kind, -amount, turn.event.id, burnt)
    tell_moved(turn, kind, -amount, turn.event.id, **more)
    return place


def _check_covered(turn: Turn, amount: int, there: int) -> None:
    hold_id = turn.event.data.get("hold_id")
    if hold_id is not None:
        turn.end_hold(hold_id, "settled", amount)
    if amount > there:
        raise Refused(
            "insufficient_funds", f"{format_nanos(amount)} is more than the {format_nanos(there)} that is there"
        )


def _claim_once(turn: Turn, kind: str, name: str, currency: str) -> None:
    claim = claim_of(turn.event, kind, name, str(turn.event.data["amount"]), currency)
    if claim.identity in turn.booked:
        raise Refused(f"{kind}_exists", f"the {kind} {name!r} is booked already")
    turn.claim(claim.identity, claim.content)


def _tell(turn: Turn, places: list[str], **more: Any) -> None:
    account, data = turn.account, turn.event.data
    turn.result.update(
        request=data.get("request"),
        places=places,
        amount=format_nanos(data["amount"]),
        currency=account.currency,
        balance_after=format_nanos(account.balance),
        **more,
    )


def _credit_named(event: Event) -> list[bytes]:
    return [claim_of(event, CREDIT, event.data.get("credit_id") or event.id).identity]


def _deposit_named(event: Event) -> list[bytes]:
    payment_id = event.data.get("payment_id")
    return [] if payment_id is None else [claim_of(event, PAYMENT, payment_id).identity]


def _refund_documents(event: Event) -> list[tuple[str, str]]:
    payment_id = event.data.get("payment_id")
    return customer_named(event) + ([] if payment_id is None else [(PAYMENT_DOCUMENT, payment_id)])


EFFECTS: Final[dict[str, Effect]] = {
    commands.WALLET_CREDIT: credit,
    commands.WALLET_DEPOSIT: deposit,
    commands.WALLET_CONSUME: consume,
    commands.WALLET_WITHDRAW: withdraw,
    commands.WALLET_ADJUST: adjust,
    commands.WALLET_REFUND: refund,
    commands.WALLET_TRANSFER: transfer,
    commands.WALLET_RECEIVE: receive,
}
DOCUMENTS: Final[dict[str, Naming]] = {
    **dict.fromkeys(EFFECTS, customer_named),
    commands.WALLET_REFUND: _refund_documents,
}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {
    commands.WALLET_CREDIT: _credit_named,
    commands.WALLET_DEPOSIT: _deposit_named,
    commands.WALLET_REFUND: refund_identities,
}
