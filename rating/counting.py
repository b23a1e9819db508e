"""Charges that depend on what their period has counted so far, and the aggregations of meters.

What a period has counted stands in the account's counters, under a name and `counter_key(price, start of the period)`;
a meter without a price counts under its own id. How the quantity of a period comes about:

    sum, count   every event has a part of its own; a counter only where the price needs one (`rating.rate`), or where
                 a quantity may be negative: then the period's quantity must stay at or above zero
    min, max     the smallest, the largest quantity of an event
    avg          sum of the quantities / events, rounded half even to a nano-unit; kept as sum and count
    latest       the quantity of the event that occurred last; of several at one time, the last in the ledger
    unique       how many values a field had. Which ones is booked in the identity index, a claim for each, so that
                 it is exact, however many there are

A charge of the last five is the difference of two rounded totals, its quantity that of the period after less before: so
a period's rows sum to its quantity and its amount in whatever order events came. It may be negative (an average that
falls). An event that changes neither has no charge. Corrections take back their part of a sum, a count or an average;
the others keep what was once seen.

Whether a value of `unique` was seen must be looked up before it can be counted, and under which price and period it
would be is known only once the event's account is. So what deciding finds not looked up it names by raising Unseen,
before anything is changed; its caller looks it up and decides that event again.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from rating.chunk import Chunk
from rating.dynamic import AmountOf
from rating.model import Exact
from rating.percentage import PercentagePrice
from rating.rate import DynamicPrice, PerEventPrice, PeriodPrice
from rating.wallet import check_room
from rating.weights import COUNTER_BYTES, UTF8
from schemas.account import Account, PlanSpan, counter_key
from schemas.event import Event
from schemas.money import NANOS, pack_int, pack_ints, round_half_even, unpack_int
from schemas.period import month_start, period_of

if TYPE_CHECKING:
    from rating.tariff import Line, Tariff

Counted = list[tuple[str, int | str]]
"""Counters of the account and what they will hold, packed."""

_SEEN: Final = b"unique\0\0"
"""The content of a claim of `unique`; nothing conflicts with it."""


class Unseen(Exception):
    """Values of `unique` that nobody has looked up yet: look them up, and decide the event again."""

    def __init__(self, identities: list[bytes]) -> None:
        super().__init__(f"{len(identities)} identities were not looked up")
        self.identities = identities


class Piece(NamedTuple):
    """A part of what is charged in parts: what `event` measures, less what `before` (what was there before the part)
    does. It is charged at the time of `event`."""

    event: Event
    before: Event | None = None
    """None: it is the first part."""
    taken_back: bool = False
    """It was charged so, and that is undone."""


def period_start(account: Account, instant: int) -> int:
    """The start of the customer's billing period at a time; without a subscription that of the calendar month."""
    if not account.spans:
        return month_start(instant)
    span: PlanSpan | None = account.span_at(instant)
    return (
        period_of(span.anchor, span.months, instant).start if span is not None and span.plan else month_start(instant)
    )


def charge_of(
    chunk: Chunk, event: Event, account: Account, line: Line, quantity: int, counted: Counted, piece: Piece | None
) -> tuple[int, int] | None:
    """Quantity and nanos of an event's charge by one line; None where there is nothing to charge. `quantity` is what
    the line measured, of a piece its part. Counters go to `counted`, and are read from there before the account."""
    price = line.price
    if line.how is not None:
        return _aggregated(chunk, event, account, line, counted, piece)
    if price is None:
        if quantity and line.priced:
            raise line.no_price()
        return (quantity, 0) if quantity else None
    if isinstance(price, PerEventPrice):
        if not quantity:
            return None
        if not line.signed:
            return quantity, price.charge(quantity) if quantity > 0 or piece is None else -price.charge(-quantity)
    elif piece is not None and not quantity and not isinstance(price, DynamicPrice):
        return None
    asked: Exact = quantity
    if isinstance(price, DynamicPrice):
        asked = _part(price.amount_of, event, piece)
    names = price.counters or ("",)  # one that needs none is counted for what may come to take something back
    key = counter_key(price.id, period_start(account, event.occurred_at))
    before = _counters(account, counted, names, key)
    if before is None and not price.counters:
        before = (0,)
    amount, after = _advance(price, before, asked)
    if not asked and isinstance(price, DynamicPrice):
        return (quantity, 0) if quantity else None
    for name, value in zip(names, after, strict=True):
        _count(chunk, account, counted, name + key, pack_int(value))
    if before and any(before):
        held = chunk.entries.charge_before[len(chunk.entries.charge_rate)] = pack_ints(before)
        if isinstance(held, str):
            chunk.weight += len(held)
    return quantity, amount


def _advance(
    price: PerEventPrice | PeriodPrice | PercentagePrice | DynamicPrice, before: tuple[int, ...] | None, asked: Exact
) -> tuple[int, tuple[int, ...]]:
    if isinstance(price, DynamicPrice):
        return price.advance(before, asked)
    return price.advance(before, int(asked))


def _part(amount_of: AmountOf, event: Event, piece: Piece | None) -> Exact:
    amount = amount_of(event)
    if piece is None:
        return amount
    part = amount - amount_of(piece.before) if piece.before is not None else amount
    return -part if piece.taken_back else part


def _aggregated(
    chunk: Chunk, event: Event, account: Account, line: Line, counted: Counted, piece: Piece | None
) -> tuple[int, int] | None:
    price, how = line.price, line.how
    start = period_start(account, event.occurred_at)
    if price is None and line.priced:
        raise line.no_price()
    assert price is None or isinstance(price, PeriodPrice), "a line that aggregates has no other"
    key = _key(line, start)
    state = _state(account, counted, key)
    if how == "unique":
        before = None if state is None else unpack_int(state)
        after, kept = _unique(chunk, event, line, key, before), None
    elif how == "avg":
        before, after, kept = _average(event, line, state, piece)
    elif how == "latest":
        before, after, kept = _latest(event, line, state)
    else:
        before = None if state is None else unpack_int(state)
        quantity = line.measure(event)
        after, kept = quantity if before is None else (max if how == "max" else min)(before, quantity), None
    amount = price.charge_after(before, after) if price is not None else 0
    packed = pack_int(after) if kept is None else kept
    if packed != state:
        _count(chunk, account, counted, key, packed)
    if after == (before or 0) and not amount:
        return None
    if before:
        chunk.entries.charge_before[len(chunk.entries.charge_rate)] = pack_int(before)
    return after - (before or 0), amount


def _key(line: Line, start: int) -> str:
    """Of a line that aggregates: by price, or by meter where it has none."""
    if line.price is None:
        return f"{line.how}!{counter_key(line.meter_id, start)}"
    return f"{line.how}:{counter_key(line.price.id, start)}"


def _average(event: Event, line: Line, state: int | str | None, piece: Piece | None) -> tuple[int | None, int, str]:
    """The average before and after, and the sum and count to keep."""
    total, events = (int(part) for part in str(state).split("|")) if state is not None else (0, 0)
    before = round_half_even(total, events) if events else None
    quantity, one = line.measure(event), 1
    if piece is not None and piece.before is not None:
        quantity, one = quantity - line.measure(piece.before), 0
    if piece is not None and piece.taken_back:
        quantity, one = -quantity, -one
    total, events = total + quantity, events + one
    return before, round_half_even(total, events) if events > 0 else 0, f"{total}|{events}"


def _latest(event: Event, line: Line, state: int | str | None) -> tuple[int | None, int, str]:
    """The value before and after, and the time and value to keep."""
    quantity, at = line.measure(event), event.occurred_at
    if state is None:
        return None, quantity, f"{at}|{quantity}"
    known_at, known = (int(part) for part in str(state).split("|"))
    return (known, quantity, f"{at}|{quantity}") if at >= known_at else (known, known, str(state))


def _unique(chunk: Chunk, event: Event, line: Line, key: str, before: int | None) -> int:
    """How many values there are with the event's, in nano-units."""
    identity = _identity(event, line, key)
    if identity not in chunk.looked_up:
        raise Unseen([identity])
    if chunk.stands(identity):
        return before or 0
    chunk.claim(identity, _SEEN)
    return (before or 0) + NANOS


def _identity(event: Event, line: Line, key: str) -> bytes:
    """The digest under which a value is booked; the marker in front keeps it from those of events and claims."""
    assert line.value_of is not None
    tenant, customer = event.tenant, event.customer
    text = f"{len(tenant)}:{tenant}{len(customer)}:{customer}{len(key)}:{key}{line.value_of(event)}"
    return blake2b(text.encode(), digest_size=16, person=b"tollgate.unique").digest()


def unique_identities(event: Event, account: Account, tariff: Tariff) -> list[bytes]:
    """What has to be looked up to count an event with `unique`; nothing for nearly all. Whatever is wrong with the
    event is found when it is decided."""
    start = period_start(account, event.occurred_at)
    found = []
    for line in tariff.lines:
        if line.how == "unique":
            if not line.start <= event.occurred_at < line.end:
                line.move(event.occurred_at)
            found.append(_identity(event, line, _key(line, start)))
    return found


def _state(account: Account, counted: Counted, key: str) -> int | str | None:
    for known, value in reversed(counted):
        if known == key:
            return value
    return account.counters.get(key)


def _counters(account: Account, counted: Counted, names: tuple[str, ...], key: str) -> tuple[int, ...] | None:
    """What the counters of a price hold; None before its period's first event."""
    if not names:
        return None
    found = [_state(account, counted, name + key) for name in names]
    return None if found[0] is None else tuple(unpack_int(value or 0) for value in found)


def _count(chunk: Chunk, account: Account, counted: Counted, key: str, value: int | str) -> None:
    chunk.weight += COUNTER_BYTES + (len(value) if isinstance(value, str) else 0)
    if key not in account.counters:
        check_room(account, key)
        chunk.weight += UTF8 * len(key)
    counted.append((key, value))
