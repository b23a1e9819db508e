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

from dataclasses import dataclass
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rating.book import PriceBook
from rating.decision import Standing
from rating.names import Names
from rating.tariff import RateTable, Tariff, Tariffs
from rating.weights import ENTRY_BYTES, utf8
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import Rate
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import NANOS
from schemas.period import month_of
from schemas.plain_scan import COUNTS

LINES_MAX: Final = 8
"""Meters of one event; more take the general way."""

FEWEST: Final = 8
"""Events of a batch with one tariff for which columns pay."""

_SUM_MAX: Final = AMOUNT_MAX_NANOS // (2 * LINES_MAX)
"""A charge beyond this takes the general way, so that no sum of them leaves 64 bits."""

_QUANTITY_MAX: Final = (2**63 - 1) // NANOS

_COUNTED: Final = frozenset({*COUNTS, "tokens_used"})
"""The fields that a plain event has as numbers."""

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]


@dataclass(slots=True)
class Priced:
    """The plain events of a batch with what they cost: by row, ascending by place.

    Row r has the charges from `starts[r]` up to `starts[r + 1]` in the flat columns."""

    places: Numbers
    """Its place in the batch."""
    rows: Numbers
    """By place: its row; -1: it is not plain."""
    accounts: NDArray[np.int32]
    """Whose it is: see Names."""
    tariffs: Numbers
    totals: Numbers
    """Nanos; above 0."""
    counts: Numbers
    """How many charges."""
    starts: Numbers
    weights: Numbers
    """Bytes of its entry from above, but for charges and account."""
    rates: Numbers
    """By charge: index into `table`."""
    quantities: Numbers
    amounts: Numbers
    table: list[Rate]
    of_tariffs: list[list[int]]
    """By tariff: its rates in the order in which it names them, indices into `table`."""
    currencies: list[str]
    """By tariff."""
    fingerprints: Octets
    """By row: identity and content, end to end."""

    def charges_of(self, rows: Numbers) -> Numbers | slice:
        """Where the charges of rows, ascending, stand in the flat columns."""
        if not len(rows):
            return slice(0, 0)
        first, last = int(rows[0]), int(rows[-1]) + 1
        start, stop = int(self.starts[first]), int(self.starts[last])
        if last - first == len(rows):
            return slice(start, stop)
        chosen = np.zeros(last - first, np.bool_)
        chosen[rows - first] = True
        return np.flatnonzero(np.repeat(chosen, self.counts[first:last])) + start


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
    if len(plain.places) < max(fewest, 1):
        return None
    month = month_of(int(names.received_at[0]))
    if int(names.received_at.max()) >= month.end:
        return None
    usual = (plain.occurred_at >= month.start) & (
        (plain.numbers("tokens_used") + plain.numbers("cache_write_tokens") + plain.numbers("reasoning_tokens")) > 0
    )
    usual &= ~_known(names, standing)[plain.places]
    if standing.elsewhere:
        away = np.array([key in standing.elsewhere for key in names.keys], np.bool_)
        usual &= ~away[names.account[plain.places]]
    # Of one tenant, as nearly all batches are, the model alone makes the group.
    models = len(plain.models.words)
    group_of = names.tenant.codes[plain.places].astype(np.int64) * models + plain.models.codes
    table = RateTable([])
    tariffs: dict[str, Tariffs] = {}
    groups = []
    order = np.flatnonzero(usual)
    order = order[np.argsort(group_of[order], kind="stable")]
    borders = np.flatnonzero(np.diff(group_of[order])) + 1
    for rows in np.split(order, borders):
        if len(rows) >= fewest and len(rows):
            place = int(plain.places[rows[0]])
            tenant = names.tenant[place]
            if tenant not in tariffs:
                tariffs[tenant] = Tariffs(book, tenant, position, table)
            group = _group(names, place, rows, tariffs[tenant])
            if group is not None:
                groups.append(group)
    return _in_order(groups, table.rates, names) if groups else None


def _known(names: Names, standing: Standing) -> NDArray[np.bool_]:
    """By place: whether its identity is booked, or comes more than once. It may say so of one more, whose first half is
    the same."""
    heads = names.identity.view(np.uint64)[:, 0]
    known = np.isin(heads, np.frombuffer(b"".join(standing.booked), np.uint64)[::2])
    order = np.argsort(heads)
    again = np.flatnonzero(heads[order][1:] == heads[order][:-1])
    known[order[again]] = known[order[again + 1]] = True
    return known


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
        if (
            line.fields is None
            or not _COUNTED.issuperset(line.fields)
            or not line.start <= first <= last < line.end
            or (line.price is None and line.priced)
        ):
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
    places = plain.places[of_plain]
    rows = np.full(len(names.received), -1)
    rows[places] = np.arange(len(places))
    accounts = names.account[places]
    key_bytes = np.fromiter(map(utf8, names.keys), np.int64, len(names.keys))
    return Priced(
        places,
        rows,
        accounts,
        tariffs[order],
        totals[order],
        counts,
        np.append(0, np.cumsum(counts)),
        ENTRY_BYTES + key_bytes[accounts] + names.weights[places],
        rates[charged],
        units[charged] * NANOS,
        amounts[charged],
        table,
        [[line.rate for line in group.tariff.lines] for group in groups],
        [group.tariff.currency for group in groups],
        np.hstack((plain.identities[of_plain], plain.contents[of_plain])),
    )
