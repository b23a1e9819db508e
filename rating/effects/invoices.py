"""Invoices: drafted from what a builder computed, finalized with a number, paid, void, overdue, uncollectible.

A draft stands on a version of the customer's billing document (`rating.billing`): one built upon anything older is
refused, so that however many builders there are nothing is billed twice. Finalizing takes the fees and tax (usage was
charged as it came), takes from the subscription what the invoice bills, and asks the tenant's numbering customer for a
number, which comes back as a command: the numbers have no gap since they are counted in one log, and every invoice that
asked gets its one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rating.billing import DRAFT, FINAL, VOID, entry_of, noted, with_state
from rating.effects.credits import paid_grant, put_in, tell_moved
from rating.effects.invoice_body import (
    TAKEN_AT_ONCE,
    billing_of,
    debt_of,
    invoice_documents,
    invoice_named,
    mark_paid,
    money_text,
    names,
    now_of,
    set_paid,
    tell,
    unmark_paid,
)
from rating.effects.voided_payments import free_payments, take_freed
from rating.subscription_document import from_document, item_from, to_document
from rating.subscriptions import billed, unbilled
from rating.turn import Effect, Naming, NoEffect, Refused, Turn
from rating.wallet import charge, check_balance, check_debt, settle_currency
from schemas import invoicing_commands as types
from schemas.account import POSTPAID
from schemas.currencies import round_to_minor
from schemas.documents import COUNTER, INVOICE, PAYMENT, SUBSCRIPTION
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.invoice import NUMBERING_CUSTOMER, Draft, money_of
from schemas.ledger import PostingKind
from schemas.period import DAY, format_time, parse_time

DUE_DAYS: Final = 14
"""After finalization, where the command says nothing else."""


def draft(turn: Turn) -> None:
    """tollgate.invoice.draft: the invoice as built, unless it stands already or was built upon what is past."""
    data = turn.event.data
    body: dict[str, Any] = dict(data["invoice"])
    billing = billing_of(turn)
    if billing["version"] != data["expects"]:
        raise Refused("stale", f"it was built upon version {data['expects']}, the customer is at {billing['version']}")
    stands = turn.document(INVOICE, body["id"])
    if stands is not None and not _is_draft(stands):
        raise NoEffect
    settle_currency(turn.account, body["currency"])
    if stands is not None:
        body["created_at"] = stands["created_at"]
    body |= {"position": data["position"], "adjusts": data["adjusts"], "takes": data.get("takes")}
    turn.put(INVOICE, body["id"], body)
    covers = data["position"].get("covers", ())
    turn.put(
        COUNTER, types.billing_id(turn.event.customer), noted(billing, entry_of(body, covers, data["adjusts"], DRAFT))
    )
    _tell_drafted(turn, body, new=stands is None)


def finalize(turn: Turn) -> None:
    """tollgate.invoice.finalize: takes its fees and tax and asks for its number."""
    body = invoice_named(turn)
    if not _is_draft(body):
        raise Refused("state", f"the invoice is {body['state']}, not a draft")
    _finalize(turn, body)


def drafted_and_finalized(turn: Turn, invoice: Draft, subscription_id: str) -> None:
    """An invoice that is due as soon as it is made. The event has to name the billing document."""
    at = now_of(turn)
    body = invoice.document(at) | {"position": {}, "adjusts": [], "takes": None, "subscription_id": subscription_id}
    turn.put(COUNTER, types.billing_id(turn.event.customer), noted(billing_of(turn), entry_of(body, (), (), DRAFT)))
    _tell_drafted(turn, body, new=True)
    _finalize(turn, body)


def number(turn: Turn) -> None:
    """tollgate.invoice.number: the next one of the tenant, sent back to who asked."""
    data = turn.event.data
    kind, name = types.NUMBERS
    last = (turn.document(kind, name) or {"last": 0})["last"]
    turn.put(kind, name, {"last": last + 1})
    turn.command(
        data["customer"],
        types.INVOICE_NUMBERED,
        f"numbered:{data['invoice_id']}",
        {"invoice_id": data["invoice_id"], "number": last + 1},
    )


def numbered(turn: Turn) -> None:
    """tollgate.invoice.numbered: with its number the invoice is open, or paid where nothing is due."""
    body = invoice_named(turn)
    if not body.get("numbering"):
        raise NoEffect
    del body["numbering"]
    body["number"] = f"INV-{turn.event.data['number']:06d}"
    body["state"] = "open"
    turn.put(COUNTER, types.billing_id(turn.event.customer), with_state(billing_of(turn), body["id"], FINAL))
    tell(turn, "invoice.finalized", body)
    if not money_of(body, "amount_due"):
        mark_paid(turn, body, parse_time(body["finalized_at"]))
    turn.put(INVOICE, body["id"], body)


def void(turn: Turn) -> None:
    """tollgate.invoice.void: as if it had not been; what it took is given back, what it billed can be billed again."""
    body = invoice_named(turn)
    if body.get("numbering"):
        raise Refused("state", "the invoice is just being finalized")
    if body["state"] == "void":
        raise Refused("state", "the invoice is void already")
    if body["state"] != "draft":
        unmark_paid(turn, body)
        free_payments(turn, body)
        _take(turn, body, -_taken_at_once(body), f"{body['id']}:void")
        _give_back(turn, body)
    body |= {"state": "void", "voided_at": format_time(now_of(turn)), "amount_due": money_text(body, 0)}
    turn.put(INVOICE, body["id"], body)
    turn.put(COUNTER, types.billing_id(turn.event.customer), with_state(billing_of(turn), body["id"], VOID))
    tell(turn, "invoice.voided", body)


def _tell_drafted(turn: Turn, body: Mapping[str, Any], *, new: bool) -> None:
    """A period was worked out; the first time its invoice also came into being."""
    names = ("period", "currency", "subtotal", "tax", "total")
    worked_out = {name: body[name] for name in names} | {"user_id": turn.event.customer, "invoice_id": body["id"]}
    turn.emit("billing.calculated", worked_out)
    if new:
        turn.emit("billing.record_created", worked_out | {"kind": body["kind"]})
        tell(turn, "invoice.created", body)


def _finalize(turn: Turn, body: dict[str, Any]) -> None:
    at = now_of(turn)
    settle_currency(turn.account, body["currency"])
    _take(turn, body, _taken_at_once(body), body["id"])
    _take_items(turn, body)
    days = turn.event.data.get("due_days")
    body |= {
        "numbering": True,
        "finalized_at": format_time(at),
        "due_at": format_time(at + (DUE_DAYS if days is None else days) * DAY),
    }
    set_paid(body, _paid_by_wallet(turn, body))
    take_freed(turn, body)
    turn.put(INVOICE, body["id"], body)
    turn.command(
        NUMBERING_CUSTOMER,
        types.INVOICE_NUMBER,
        f"number:{body['id']}",
        {"invoice_id": body["id"], "customer": turn.event.customer},
    )


def _paid_by_wallet(turn: Turn, body: Mapping[str, Any]) -> int:
    """What of the total the wallet has paid by now: all of it, where it has no debt; of what charges and fees left
    unpaid, what its debt is less."""
    total = money_of(body, "total")
    if body["collection"] == "postpaid" or total <= 0:
        return 0
    debt = debt_of(turn)
    if debt <= 0:
        return total
    unpaid = _taken_at_once(body) + sum(
        money_of(line, "exact_amount") for line in body["lines"] if line["kind"] not in TAKEN_AT_ONCE
    )
    return min(max(round_to_minor(unpaid - debt, body["currency"]), 0), total)


def _taken_at_once(body: Mapping[str, Any]) -> int:
    return sum(money_of(line, "amount") for line in body["lines"] if line["kind"] in TAKEN_AT_ONCE)


def _take(turn: Turn, body: Mapping[str, Any], amount: int, cause: str) -> None:
    """Takes fees from the wallet, or puts back what is negative; of a postpaid customer, from or to what it owes."""
    account, currency = turn.account, body["currency"]
    if body["collection"] == "postpaid" and account.terms.collection == POSTPAID:
        account.receivable += amount
        if account.receivable < 0:
            amount, account.receivable = account.receivable, 0
        else:
            amount = 0
    if amount > 0:
        check_balance(account.balance - amount)
        check_debt(account, amount)
        burnt = charge(account, amount, [("", amount)])
        turn.post(PostingKind.ADJUSTMENT, -amount, cause, burnt)
        tell_moved(turn, PostingKind.ADJUSTMENT, -amount, cause)
    elif amount < 0:
        put_in(turn, paid_grant(turn, cause, -amount), currency, PostingKind.ADJUSTMENT)


def _take_items(turn: Turn, body: Mapping[str, Any]) -> None:
    takes = body.get("takes")
    if not takes:
        return
    document = turn.document(SUBSCRIPTION, takes["subscription_id"])
    if document is None:
        raise Refused("stale", "the subscription that it bills was not named")
    subscription = billed(
        from_document(document), (item["id"] for item in takes["items"]), parse_time(takes["billed_to"])
    )
    turn.put(SUBSCRIPTION, subscription.id, to_document(subscription))


def _give_back(turn: Turn, body: Mapping[str, Any]) -> None:
    takes = body.get("takes")
    document = turn.document(SUBSCRIPTION, takes["subscription_id"]) if takes else None
    if document is None or not takes:
        return
    before, after = parse_time(takes["billed_from"]), parse_time(takes["billed_to"])
    advance = map(item_from, takes["advance"])
    items = map(item_from, takes["items"])
    subscription = unbilled(from_document(document), items, before, after, advance)
    turn.put(SUBSCRIPTION, subscription.id, to_document(subscription))


def _is_draft(body: Mapping[str, Any]) -> bool:
    return body["state"] == "draft" and not body.get("numbering")


def _draft_names(event: Event) -> list[tuple[str, str]]:
    invoice_id = event.data["invoice"].get("id")
    if not isinstance(invoice_id, str):
        raise InvalidInput("missing_field", "data.invoice.id is missing", "/data/invoice/id")
    return invoice_documents(event.customer, invoice_id)


def _void_names(event: Event) -> list[tuple[str, str]]:
    return names(event) + [(PAYMENT, payment_id) for payment_id in event.data.get("payments") or ()]


def _numbers(event: Event) -> list[tuple[str, str]]:
    return [types.NUMBERS]


EFFECTS: Final[dict[str, Effect]] = {
    types.INVOICE_DRAFT: draft,
    types.INVOICE_FINALIZE: finalize,
    types.INVOICE_NUMBER: number,
    types.INVOICE_NUMBERED: numbered,
    types.INVOICE_VOID: void,
}
DOCUMENTS: Final[dict[str, Naming]] = {
    types.INVOICE_DRAFT: _draft_names,
    types.INVOICE_FINALIZE: names,
    types.INVOICE_NUMBER: _numbers,
    types.INVOICE_NUMBERED: names,
    types.INVOICE_VOID: _void_names,
}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
