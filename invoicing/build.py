"""An invoice from values: what was used, what recurs, what is missing to a minimum, what lessens it, tax. Pure.

The order of lines is the order of this module: usage, fees, minimums and commitment, discounts, adjustments of earlier
periods, credits, tax. A usage line's exact amount is the sum of the period's charges as the ledger has them, so the sum
over invoices is the sum of the ledger; everything is rounded once, per line.

Credits are what charges took from the wallet at or above zero (of a customer who pays afterwards: from credits). Where
one line for all would be rounded to another sum than the lines it pays, there is one for each price.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal

from rating.subscriptions import Discount
from schemas.currencies import round_to_minor
from schemas.invoice import Draft, Identity, Line, Tier, tax_line
from schemas.money import NANOS, parse_nanos, round_half_even
from schemas.period import Period, format_time

LINES_MAX: Final = 150
"""Prices of an invoice that have lines of their own; the smallest beyond are one line together."""

TIERS_MAX: Final = 12
"""Steps of a price that a line shows; one with more shows none."""


@dataclass(frozen=True, slots=True)
class UsageSum:
    """A customer's charges of one price in one billing period, summed."""

    price_id: str
    meter: str
    description: str
    quantity: int
    """Nano-units."""
    amount: int
    """Nanos, exact."""
    covered: int
    """Of the amount: what the wallet (or credits) paid."""
    unit_amount: str | None = None
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Late:
    """Charges of an earlier period that came after its invoice."""

    period: Period
    invoice: str
    """Number or id of the invoice they came too late for."""
    usage: UsageSum


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What is missing to what a price or a commitment costs at least."""

    description: str
    amount: int
    price_id: str = ""
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Fee:
    """A recurring fee or what a change gave back or added, nanos."""

    description: str
    amount: int
    period: Period


@dataclass(frozen=True, slots=True)
class Material:
    """All that an invoice is made of."""

    identity: Identity
    collection: Literal["prepaid", "postpaid"]
    usage: Sequence[UsageSum] = ()
    fees: Sequence[Fee] = ()
    shortfalls: Sequence[Shortfall] = ()
    late: Sequence[Late] = ()
    discount: Discount | None = None
    tax: Fraction = Fraction(0)
    plan: str = ""
    subscription_id: str = ""
    bill_to: Mapping[str, str] = field(default_factory=dict)


def build(material: Material) -> Draft | None:
    """The invoice; None where there is nothing to bill."""
    identity = material.identity
    currency, period = identity.currency, identity.period
    usage = _bounded(material.usage)
    lines = [_usage_line(one, period) for one in usage]
    lines += [Line("fee", fee.description, fee.amount, fee.period) for fee in material.fees if fee.amount]
    lines += [
        Line("minimum", missing.description, missing.amount, period, missing.price_id, missing.meter)
        for missing in material.shortfalls
        if missing.amount
    ]
    lines += _discounts(lines, material.discount, period)
    late = _merged(material.late)
    lines += [_late_line(one) for one in late]
    if not lines:
        return None
    lines += _credits(usage, late, currency, period)
    tax = tax_line(lines, currency, material.tax, period)
    if tax is not None:
        lines.append(tax)
    return Draft(
        identity, material.collection, tuple(lines), material.plan, material.subscription_id, dict(material.bill_to)
    )


def _usage_line(one: UsageSum, period: Period) -> Line:
    return Line(
        "usage", one.description, one.amount, period, one.price_id, one.meter, one.quantity, one.unit_amount, one.tiers
    )


def _late_line(one: Late) -> Line:
    used = one.usage
    until = format_time(one.period.end)[:10]
    description = f"{used.description}, late usage of {format_time(one.period.start)[:10]} to {until} ({one.invoice})"
    return Line(
        "adjustment", description, used.amount, one.period, used.price_id, used.meter, used.quantity, used.unit_amount
    )


def _bounded(usage: Sequence[UsageSum]) -> list[UsageSum]:
    """At most LINES_MAX of them, ordered by meter and price; the smallest amounts beyond are one."""
    listed = sorted(usage, key=lambda one: (one.meter, one.price_id, one.unit_amount or ""))
    if len(listed) <= LINES_MAX:
        return listed
    by_size = sorted(listed, key=lambda one: (-abs(one.amount), one.meter, one.price_id))
    kept = {id(one) for one in by_size[: LINES_MAX - 1]}
    rest = [one for one in listed if id(one) not in kept]
    other = UsageSum(
        "",
        "",
        f"{len(rest)} further prices",
        quantity=sum(one.quantity for one in rest),
        amount=sum(one.amount for one in rest),
        covered=sum(one.covered for one in rest),
    )
    return [*(one for one in listed if id(one) in kept), other]


def _merged(late: Sequence[Late]) -> list[Late]:
    """By period at most LINES_MAX lines in all; what is beyond is one line a period."""
    ordered = sorted(late, key=lambda one: (one.period.start, one.usage.meter, one.usage.price_id))
    if len(ordered) <= LINES_MAX:
        return ordered
    by_period: dict[tuple[Period, str], list[UsageSum]] = defaultdict(list)
    for one in ordered:
        by_period[one.period, one.invoice].append(one.usage)
    return [
        Late(
            period,
            invoice,
            UsageSum(
                "",
                "",
                f"{len(sums)} prices",
                quantity=sum(one.quantity for one in sums),
                amount=sum(one.amount for one in sums),
                covered=sum(one.covered for one in sums),
            ),
        )
        for (period, invoice), sums in by_period.items()
    ]


def _discounts(lines: Iterable[Line], discount: Discount | None, period: Period) -> list[Line]:
    """What the subscription's discount takes off: never more than there is."""
    if discount is None or (discount.ends_at and discount.ends_at <= period.start):
        return []
    base = sum(line.exact for line in lines)
    if base <= 0:
        return []
    if discount.percent:
        ratio = Fraction(parse_nanos(discount.percent), 100 * NANOS)
        off = min(round_half_even(base * ratio.numerator, ratio.denominator), base)
        return [Line("discount", f"Discount {discount.percent} %", -off, period)] if off else []
    off = min(parse_nanos(discount.amount), base)
    return [Line("discount", "Discount", -off, period)] if off else []


def _credits(usage: Iterable[UsageSum], late: Iterable[Late], currency: str, period: Period) -> list[Line]:
    paid = [Line("credit", f"Paid from credit: {one.description}", -one.covered, period, one.price_id, one.meter)
            for one in usage if one.covered]  # fmt: skip
    paid += [
        Line(
            "credit",
            f"Paid from credit: {one.usage.description}, late",
            -one.usage.covered,
            one.period,
            one.usage.price_id,
            one.usage.meter,
        )
        for one in late
        if one.usage.covered
    ]
    if not paid:
        return []
    together = Line("credit", "Paid from credit", sum(line.exact for line in paid), period)
    apart = sum(round_to_minor(line.exact, currency) for line in paid)
    return [together] if round_to_minor(together.exact, currency) == apart else paid


def without_tiers(draft: Draft) -> Draft:
    """The same invoice with less detail, for one that would be too large a document."""
    return replace(draft, lines=tuple(replace(line, tiers=()) for line in draft.lines))
