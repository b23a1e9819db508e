"""What a usage event costs: its charges by its customer's tariff, and the one posting that takes them from the wallet.

`rate_into` puts an event's charges into the chunk's columns; `settle` makes them stand and moves the money. An event
that is charged in pieces is rated piece by piece and settled once. Until `settle` nothing of the account has changed,
and whatever raises leaves charges behind that the chunk cuts off. This is the hot path of the whole system, and it is
written for it; what depends on the period so far is in `rating.counting`.

Errors: InvalidInput `no_price`, `amount_overflow`, `out_of_range`, `currency_mismatch`, and those of measuring.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rating.arithmetic import within_bounds
from rating.chunk import Chunk
from rating.counting import Counted, Piece, charge_of
from rating.quota_counting import count_quotas
from rating.tariff import Tariff
from rating.wallet import (
    Burnt,
    burn_first,
    charge,
    charge_credits,
    check_balance,
    check_debt,
    settle_currency,
)
from rating.weights import WIDE_BYTES, burnt_bytes
from schemas.account import PREPAID, Account
from schemas.event import Event
from schemas.ledger import BELOW_ZERO, CUSTOMER_CLOSED, LATE, PostingKind, Rate
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import decimal_text, pack_int
from schemas.period import month_of

_MODEST: Final = AMOUNT_MAX_NANOS // 4
_WIRE_INT: Final = 2**63
_PLAIN_QUANTITY: Final = 2**63
_CHARGE: Final = int(PostingKind.CHARGE)
_CORRECTION: Final = int(PostingKind.CORRECTION)


def rate_into(
    chunk: Chunk, event: Event, account: Account, tariff: Tariff, counted: Counted, piece: Piece | None = None
) -> int:
    """Puts an event's charges into the columns; their sum in nanos. What the account has to count is added to
    `counted`, and read from there before the account, so that the pieces of one event follow on one another.

    With `piece` (whose event it then is) its quantities are those of the piece, which may be negative.

    Errors: as the module, and Unseen (see `rating.counting`)."""
    entries = chunk.entries
    rates, quantities, amounts = entries.charge_rate, entries.charge_quantity, entries.charge_amount
    occurred_at = event.occurred_at
    total = 0
    for line in tariff.lines:
        quantity = line.measure(event)
        if piece is not None:
            quantity -= line.measure(piece.before) if piece.before is not None else 0
            quantity = -quantity if piece.taken_back else quantity
        if not line.start <= occurred_at < line.end:
            line.move(occurred_at)
        if line.denominator and 0 <= quantity < _PLAIN_QUANTITY:
            # What PerEventPrice.charge does, written out, for it is nearly every charge.
            if not quantity:
                continue
            amount, rest = divmod(quantity * line.numerator, line.denominator)
            if rest and (2 * rest > line.denominator or (2 * rest == line.denominator and amount & 1)):
                amount += 1
            if amount > AMOUNT_MAX_NANOS:
                within_bounds(amount)  # which refuses it
            quantities.append(quantity)
        else:
            charged = charge_of(chunk, event, account, line, quantity, counted, piece)
            if charged is None:
                continue
            quantity, amount = charged
            if not -_WIRE_INT <= quantity < _WIRE_INT:
                chunk.weight += WIDE_BYTES
            quantities.append(pack_int(quantity))
        rates.append(line.rate)
        amounts.append(amount)
        total += amount
    return total


def rate_amount(chunk: Chunk, amount: int, meter: str, currency: str) -> None:
    """Puts a charge into the columns that no price made: an amount of nanos, and no quantity."""
    entries = chunk.entries
    entries.rates.append(Rate(meter, "", chunk.position, "", currency, ()))
    entries.charge_rate.append(len(entries.rates) - 1)
    entries.charge_quantity.append(0)
    entries.charge_amount.append(amount)


class Booked(NamedTuple):
    """A charge whose amount is known: what it says, its quantity in nano-units, its nanos."""

    rate: Rate
    quantity: int
    amount: int


def rate_booked(chunk: Chunk, charge: Booked) -> None:
    """Puts such a charge into the columns."""
    entries = chunk.entries
    entries.rates.append(charge.rate)
    entries.charge_rate.append(len(entries.rates) - 1)
    entries.charge_quantity.append(pack_int(charge.quantity))
    entries.charge_amount.append(charge.amount)


def settle(
    chunk: Chunk,
    index: int,
    account: Account,
    currency: str,
    total: int,
    counted: Counted,
    *,
    received_at: int,
    event: Event,
    correcting: bool = False,
) -> None:
    """Takes the charges that were put into the columns since the last settling, `total` nanos, from the account; as a
    correction where less than nothing is taken, or where the charges correct others."""
    entries = chunk.entries
    first = chunk.charged
    found = account.balance
    if not (-AMOUNT_MAX_NANOS <= total <= AMOUNT_MAX_NANOS >= found - total >= -AMOUNT_MAX_NANOS):
        check_balance(-total)
        check_balance(found - total)
    grants = account.grants
    if grants and (len(grants) > 1 or total > _MODEST or grants[0].remaining > _MODEST or found < -_MODEST):
        check_debt(account, total)  # three modest numbers do not add up to what it refuses
    if account.currency != currency:
        settle_currency(account, currency)
    # From here on nothing raises.
    if total:
        taken, burnt = total, None
        if account.terms.collection != PREPAID:
            burnt = charge_credits(account, total, _by_meter(chunk, first))
            taken = found - account.balance
        elif not grants:
            account.balance = found - total
        elif (burnt := burn_first(account, total)) is None:
            burnt = charge(account, total, _by_meter(chunk, first))
        if taken:
            if burnt:
                entries.burnt[len(entries.posting_kind)] = burnt
                chunk.weight += burnt_bytes(burnt)
            entries.posting_kind.append(_CHARGE if total > 0 and not correcting else _CORRECTION)
            entries.posting_amount.append(-taken)
            entries.posting_balance.append(account.balance)
            entries.posting_currency.append(currency)
            entries.postings[index] += 1
    if counted:
        account.counters.update(counted)
    chunk.charged = len(entries.charge_rate)
    entries.charges[index] += chunk.charged - first
    _flag(chunk, index, received_at, event, total > 0 and (account.balance < 0 or found < 0))
    if account.closed_at and event.occurred_at >= account.closed_at:
        entries.flags[index] = entries.flags.get(index, 0) | CUSTOMER_CLOSED
    if account.spans or account.plan or account.terms.own:
        if (span := account.span_at(event.occurred_at)) is not None and span.subscription_id:
            entries.subscription_id[index] = span.subscription_id
        count_quotas(chunk, index, account, event, first)


def _by_meter(chunk: Chunk, first: int) -> Burnt:
    entries = chunk.entries
    meters = [entries.rates[rate].meter for rate in entries.charge_rate[first:]]
    return list(zip(meters, entries.charge_amount[first:], strict=True))


def _flag(chunk: Chunk, index: int, received_at: int, event: Event, below_zero: bool) -> None:
    """What is worth a second look, and the upstream cost that is kept and never charged."""
    if not chunk.month.start <= received_at < chunk.month.end:
        chunk.month = month_of(received_at)
    flags = 0
    if event.occurred_at < chunk.month.start:
        flags = LATE
    if below_zero:
        flags |= BELOW_ZERO
    if flags:
        chunk.entries.flags[index] = chunk.entries.flags.get(index, 0) | flags
    upstream = event.data.get("cost_usd")
    if upstream is not None:
        chunk.entries.upstream_cost[index] = decimal_text(upstream)
