"""What plain events cost, worked out for a whole batch at once: every quantity and amount of a tariff in one sweep.

Nearly all records are `session.tokens_used` with nothing unusual in them, priced by the unit. What such an event costs
is a function of its counts and its tariff alone, so it is worked out in columns of whole numbers before anything is
decided. Deciding then only has to move the money, one by one and in order, for which of them that really are as plain
as they look: see `rating.plain`. It is an estimate of nothing: the numbers are those that `rating.charging` comes to.

Plain are events read as such, that name no hold, are not late and live here, whose identity is not booked and comes
once in the batch; of a tenant and model whose meters are sums of a field or of a difference of two, without dimensions
but the model, each priced by the unit (or not at all) by one price for all of the batch's times. Whatever else there is
goes the general way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import gcd
from operator import add
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rating.book import PriceBook
from rating.chunk import ENTRY_BYTES, utf8
from rating.decision import Standing
from rating.names import Names
from rating.tariff import RateTable, Tariff, Tariffs
from schemas.account import Account
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import Rate
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import NANOS
from schemas.period import month_of

LINES_MAX: Final = 8
"""Meters of one event; more take the general way."""

FEWEST: Final = 8
"""Events of a batch with one tariff for which columns pay."""

_SUM_MAX: Final = AMOUNT_MAX_NANOS // (2 * LINES_MAX)
"""A charge beyond this takes the general way, so that no sum of them leaves 64 bits."""

_QUANTITY_MAX: Final = (2**63 - 1) // NANOS

Numbers = NDArray[np.int64]


@dataclass(slots=True)
class Priced:
    """The plain events of a batch with what they cost. Event i of the batch has row `rows[i]`; -1: it is not plain.

    Row r has the charges from `starts[r]` up to `starts[r + 1]` in the flat columns."""

    rows: list[int]
    tariffs: list[int]
    """By row."""
    totals: list[int]
    """By row, nanos; above 0."""
    counts: list[int]
    """By row: how many charges."""
    starts: list[int]
    ends: list[int]
    """By row: the row after the last of those that follow on one another in the batch."""
    weights: list[int]
    """By row: bytes of its entry from above, but for charges and account."""
    rates: list[int]
    """By charge: index into `table`."""
    quantities: list[int]
    amounts: list[int]
    table: list[Rate]
    of_tariffs: list[list[int]]
    """By tariff: its rates in the order in which it names them, indices into `table`."""
    currencies: list[str]
    """By tariff."""
    identities: list[bytes]
    contents: list[bytes]
    fingerprints: list[bytes]
    """By row, as those two."""
    usual: dict[str, tuple[Account, int | None]] = field(default_factory=dict)
    """By account key: those of which deciding has seen that plain events are all there is to them, and what each weighs
    in a record; None where that has to be looked at again."""


@dataclass(slots=True)
class _Group:
    """Events of one tariff: their rows among the plain ones, and a column of units and of nanos for each meter."""

    tariff: Tariff
    rows: Numbers
    units: list[Numbers]
    amounts: list[Numbers]


def price_plain(
    names: Names, standing: Standing, book: PriceBook, position: int, fewest: int = FEWEST
) -> Priced | None:
    """The plain events of a batch, priced; None where there are too few, or the batch spans the end of a month."""
    plain = names.plain
    if len(plain.events) < max(fewest, 1):
        return None
    month = month_of(names.received_at[0])
    if max(names.received_at) >= month.end:
        return None
    usual = (plain.occurred_at >= month.start) & (
        (plain.numbers("tokens_used") + plain.numbers("cache_write_tokens") + plain.numbers("reasoning_tokens")) > 0
    )
    places: list[int] = plain.places.tolist()
    if known := standing.booked.keys() | _repeated(names):
        identity = names.identity
        usual &= np.array([identity[place] not in known for place in places], np.bool_)
    if elsewhere := standing.elsewhere:
        usual &= np.array([names.key[place] not in elsewhere for place in places], np.bool_)
    models = plain.column("model")
    # Of one tenant, as nearly all batches are, the model alone makes the group.
    several = len(set(names.tenant)) > 1
    alike = [(names.tenant[place], model) for place, model in zip(places, models, strict=True)] if several else models
    groups_of = {group: number for number, group in enumerate(dict.fromkeys(alike))}
    group_of = np.fromiter(map(groups_of.__getitem__, alike), np.int64, len(places))
    table = RateTable([])
    tariffs: dict[str, Tariffs] = {}
    groups = []
    for number in range(len(groups_of)):
        rows = np.flatnonzero((group_of == number) & usual)
        if len(rows) >= fewest and len(rows):
            place = places[rows[0]]
            tenant = names.tenant[place]
            if tenant not in tariffs:
                tariffs[tenant] = Tariffs(book, tenant, position, table)
            group = _group(names, place, rows, tariffs[tenant])
            if group is not None:
                groups.append(group)
    return _in_order(groups, table.rates, names) if groups else None


def _repeated(names: Names) -> set[bytes]:
    """Identities that come more than once."""
    identities = names.identity
    if len(set(identities)) == len(identities):
        return set()
    return {identity for identity, times in Counter(identities).items() if times > 1}


def _group(names: Names, place: int, rows: Numbers, tariffs: Tariffs) -> _Group | None:
    """A group, of which `place` is an event, with its columns; None where it cannot be priced in columns."""
    plain = names.plain
    times = plain.occurred_at[rows]
    first, last = int(times.min()), int(times.max())
    event = names.event(place)
    assert isinstance(event, Event)
    try:
        tariff = tariffs.of_plain(event, first, last)
    except InvalidInput:
        return None  # which the events themselves will say
    if tariff is None or len(tariff.lines) > LINES_MAX:
        return None
    units, amounts = [], []
    for line in tariff.lines:
        line.move(first)
        if line.fields is None or not line.start <= first <= last < line.end or (line.price is None and line.priced):
            return None
        taken = plain.numbers(line.fields[0])[rows]
        if len(line.fields) == 2:
            taken = taken - plain.numbers(line.fields[1])[rows]
        if int(taken.min()) < 0 or int(taken.max()) > _QUANTITY_MAX:
            return None
        charged = _amounts(taken, line.numerator, line.denominator) if line.price is not None else taken * 0
        if charged is None:
            return None
        units.append(taken)
        amounts.append(charged)
    return _Group(tariff, rows, units, amounts)


def _amounts(units: Numbers, numerator: int, denominator: int) -> Numbers | None:
    """Nanos of whole units at so many nanos for a nano-unit, rounded half even; None where 64 bits are too few."""
    if not denominator:
        return None
    common = gcd(numerator * NANOS, denominator)
    rise, run = numerator * NANOS // common, denominator // common
    if int(units.max()) * rise > _SUM_MAX or run > _SUM_MAX:
        return None
    if run == 1:
        return units * rise
    whole, rest = np.divmod(units * rise, run)
    twice = 2 * rest
    up: Numbers = whole + ((twice > run) | ((twice == run) & ((whole & 1) == 1)))
    return up


def _in_order(groups: list[_Group], table: list[Rate], names: Names) -> Priced:
    """The groups' columns as rows in the order of the batch."""
    plain = names.plain
    width = max(len(group.units) for group in groups)
    of_plain = np.concatenate([group.rows for group in groups])
    units = np.zeros((len(of_plain), width), np.int64)
    amounts, rates = np.zeros_like(units), np.zeros_like(units)
    tariffs = np.repeat(np.arange(len(groups)), [len(group.rows) for group in groups])
    start = 0
    for group in groups:
        end = start + len(group.rows)
        for at, (line, taken, charged) in enumerate(zip(group.tariff.lines, group.units, group.amounts, strict=True)):
            units[start:end, at], amounts[start:end, at], rates[start:end, at] = taken, charged, line.rate
        start = end
    totals = amounts.sum(axis=1)
    order = np.argsort(of_plain)
    order = order[totals[order] > 0]  # what costs nothing moves no money: it goes the general way
    of_plain, units, amounts, rates = of_plain[order], units[order], amounts[order], rates[order]
    charged = units != 0
    counts = charged.sum(axis=1)
    ordered = plain.places[of_plain]
    rows = np.full(len(names.received), -1)
    rows[ordered] = np.arange(len(ordered))
    borders = np.append(np.flatnonzero(np.diff(ordered) != 1) + 1, len(ordered))
    ends = np.repeat(borders, np.diff(borders, prepend=0))
    in_order: list[int] = ordered.tolist()
    identities = list(map(names.identity.__getitem__, in_order))
    contents = list(map(plain.contents().__getitem__, of_plain.tolist()))
    return Priced(
        rows.tolist(),
        tariffs[order].tolist(),
        totals[order].tolist(),
        counts.tolist(),
        [0, *np.cumsum(counts).tolist()],
        ends.tolist(),
        [ENTRY_BYTES + utf8(names.key[place]) + len(names.received[place].value or b"") for place in in_order],
        rates[charged].tolist(),
        (units[charged] * NANOS).tolist(),
        amounts[charged].tolist(),
        table,
        [[line.rate for line in group.tariff.lines] for group in groups],
        [group.tariff.currency for group in groups],
        identities,
        contents,
        list(map(add, identities, contents)),
    )
