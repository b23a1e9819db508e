"""What a period's invoice billed, day by day: the same rows as its usage lines, by meter. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from invoicing.usage_rows import Ask, PriceSum
from schemas.invoice import period_from
from schemas.money import format_nanos
from schemas.period import DAY, Period, add_months, format_time

DAYS_MAX: Final = 62
"""Of a period longer than that, each month is one."""


@dataclass(frozen=True, slots=True)
class Day:
    """A day's usage of one meter."""

    day: str
    """ISO 8601; of a long period its month."""
    description: str
    quantity: str
    """Plain decimal text."""
    amount: str
    """Plain decimal text, exact."""


def day_asks(body: Mapping[str, Any]) -> list[Ask]:
    """The charges of each day of an invoice's period that it has billed."""
    covers = (body.get("position") or {}).get("covers") or ()
    return [
        Ask(body["customer"], day, first, last) for day in _days(period_from(body["period"])) for first, last in covers
    ]


def days_of(sums: Iterable[PriceSum], body: Mapping[str, Any], names: Mapping[str, str]) -> list[Day]:
    """One for each day and meter with usage. `names`: what meters are called; else they have their ids."""
    long = _is_long(period_from(body["period"]))
    found: dict[tuple[int, str], list[int]] = {}
    for one in sums:
        if one.currency == body["currency"]:
            of = found.setdefault((one.period.start, one.meter), [0, 0])
            of[0] += one.quantity
            of[1] += one.amount
    return [
        Day(
            format_time(start)[: 7 if long else 10],
            names.get(meter) or meter or "Usage",
            format_nanos(quantity),
            format_nanos(amount),
        )
        for (start, meter), (quantity, amount) in sorted(found.items())
        if quantity or amount
    ]


def _is_long(period: Period) -> bool:
    return period.end - period.start > DAYS_MAX * DAY


def _days(period: Period) -> Sequence[Period]:
    """UTC days (or months), the first and last as the period cuts them."""
    found, start, months = [], period.start, 0
    while start < period.end:
        if _is_long(period):
            months += 1
            end = add_months(period.start, months)
        else:
            end = start - start % DAY + DAY
        found.append(Period(start, min(end, period.end)))
        start = end
    return found
