"""An invoice as a value and as the document that the log keeps of it.

A line has an exact amount (nanos, what the ledger charged or a proration came to) and a rounded one: to the currency's
minor unit, half up, once. The sum of the rounded lines is the total; what rounding made of the exact sum is kept as
`remainder`. `subtotal` is all lines but tax, so subtotal + tax = total.

An invoice is identified by customer, currency, period, kind, cause and revision: its id is made of these, so whoever
builds it, however often, builds the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Literal

from schemas.currencies import format_minor, round_to_minor
from schemas.customer import tax_fraction
from schemas.money import NANOS, format_nanos, parse_nanos, round_half_even
from schemas.period import Period, format_time, parse_time

LineKind = Literal["usage", "fee", "minimum", "discount", "credit", "tax", "adjustment"]
InvoiceKind = Literal["period", "overage", "order", "final"]
State = Literal["draft", "open", "paid", "overdue", "void", "uncollectible"]

PERIODIC: Final = frozenset({"period", "final"})
"""Kinds that bill the usage of a period: `final` is the one with which the plan ended."""
OVERAGE: Final = "overage"
"""Bills what a period that still runs has come to; the period's own invoice has the rest."""
OWED: Final = frozenset({"open", "overdue", "uncollectible"})
"""States in which a payment is still expected or at least welcome."""
FINAL: Final = frozenset({"open", "paid", "overdue", "uncollectible"})
"""States in which an invoice stands: it has a number and is not void."""

NUMBERING_CUSTOMER: Final = "tollgate:numbers"
"""Lives like a customer of the tenant, and gives numbers in the order of its log."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A part of a usage line: what of its quantity fell to one step of its price."""

    name: str
    quantity: int
    """Nano-units."""
    unit_amount: str | None
    amount: int
    """Nanos, rounded half even."""

    def document(self) -> dict[str, Any]:
        """As the invoice's document has it."""
        return {
            "name": self.name,
            "quantity": format_nanos(self.quantity),
            "unit_amount": self.unit_amount,
            "amount": format_nanos(self.amount),
        }


@dataclass(frozen=True, slots=True)
class Line:
    """One line, before its rounding."""

    kind: LineKind
    description: str
    exact: int
    """Nanos; what lessens the bill is negative."""
    period: Period
    price_id: str = ""
    meter: str = ""
    quantity: int | None = None
    """Nano-units."""
    unit_amount: str | None = None
    tiers: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes an invoice this one."""

    tenant: str
    customer: str
    currency: str
    period: Period
    kind: InvoiceKind = "period"
    cause: str = ""
    """Of an invoice that is not a period's: the subscription, order or change it is about."""
    revision: int = 1

    @property
    def id(self) -> str:
        """Its id, unique in the tenant."""
        parts = (self.tenant, self.customer, self.currency, str(self.period.start), str(self.period.end), self.kind)
        text = "\x1f".join((*parts, self.cause, str(self.revision)))
        return f"inv_{blake2b(text.encode(), digest_size=12, person=b'tollgate.invoice').hexdigest()}"


@dataclass(frozen=True, slots=True)
class Totals:
    """What the lines come to, in nanos; all but `remainder` whole minor units."""

    subtotal: int
    tax: int
    total: int
    remainder: int
    """Exact sum less total."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An invoice as built: nothing of it is a fact before the log has it."""

    identity: Identity
    collection: Literal["prepaid", "postpaid"]
    lines: tuple[Line, ...]
    plan: str = ""
    subscription_id: str = ""
    bill_to: Mapping[str, str] = field(default_factory=dict)

    def totals(self) -> Totals:
        """Sums of the rounded lines."""
        return totals(self.lines, self.identity.currency)

    def document(self, created_at: int) -> dict[str, Any]:
        """The document of a new draft."""
        identity, sums = self.identity, self.totals()
        currency = identity.currency

        def money(nanos: int) -> str:
            return format_minor(nanos, currency)

        return {
            "id": identity.id,
            "customer": identity.customer,
            "number": None,
            "kind": identity.kind,
            "cause": identity.cause,
            "revision": identity.revision,
            "currency": currency,
            "collection": self.collection,
            "period": period_document(identity.period),
            "state": "draft",
            "bill_to": dict(self.bill_to),
            "plan": self.plan or None,
            "subscription_id": self.subscription_id or None,
            "lines": [line_document(place, line, currency) for place, line in enumerate(self.lines, 1)],
            "subtotal": money(sums.subtotal),
            "tax": money(sums.tax),
            "total": money(sums.total),
            "remainder": format_nanos(sums.remainder),
            "amount_paid": money(0),
            "amount_due": money(max(sums.total, 0)),
            "payments": [],
            "created_at": format_time(created_at),
            "due_at": None,
            "finalized_at": None,
            "paid_at": None,
            "voided_at": None,
        }


def totals(lines: Iterable[Line], currency: str) -> Totals:
    """Sums of rounded lines."""
    subtotal = tax = exact = 0
    for line in lines:
        amount = round_to_minor(line.exact, currency)
        exact += line.exact
        if line.kind == "tax":
            tax += amount
        else:
            subtotal += amount
    return Totals(subtotal, tax, subtotal + tax, exact - subtotal - tax)


def line_document(place: int, line: Line, currency: str) -> dict[str, Any]:
    """A line as the document has it; `place` counts from 1."""
    document: dict[str, Any] = {
        "id": str(place),
        "kind": line.kind,
        "description": line.description,
        "price_id": line.price_id,
        "meter": line.meter,
        "quantity": format_nanos(line.quantity) if line.quantity is not None else None,
        "unit_amount": line.unit_amount,
        "exact_amount": format_nanos(line.exact),
        "amount": format_minor(round_to_minor(line.exact, currency), currency),
        "period": period_document(line.period),
    }
    if line.tiers:
        document["tiers"] = [tier.document() for tier in line.tiers]
    return document


def period_document(period: Period) -> dict[str, str]:
    """A period as documents have it."""
    start, end = _times(period)
    return {"start": start, "end": end}


@lru_cache(maxsize=8192)
def _times(period: Period) -> tuple[str, str]:
    """The lines of all invoices of a month have the same one."""
    return format_time(period.start), format_time(period.end)


def period_from(document: Mapping[str, str]) -> Period:
    """The inverse of `period_document`."""
    return _period(document["start"], document["end"])


@lru_cache(maxsize=8192)
def _period(start: str, end: str) -> Period:
    """A customer's billing document is asked for the same periods again and again."""
    return Period(parse_time(start), parse_time(end))


def tax_ratio(text: str | None) -> Fraction:
    """A customer's `tax_rate` as a ratio; none is 0."""
    return Fraction(tax_fraction(text)) if text else Fraction(0)


def tax_text(ratio: Fraction) -> str:
    """A ratio in percent, as text: 19/100 is "19"."""
    return format_nanos(round_half_even(ratio.numerator * 100 * NANOS, ratio.denominator))


def tax_line(lines: Iterable[Line], currency: str, ratio: Fraction, period: Period) -> Line | None:
    """Exclusive tax on what was supplied: all lines but credits (a way to pay) at their rounded amounts."""
    if not ratio:
        return None
    base = sum(round_to_minor(line.exact, currency) for line in lines if line.kind not in ("credit", "tax"))
    exact = round_half_even(base * ratio.numerator, ratio.denominator)
    return Line("tax", f"Tax {tax_text(ratio)} %", exact, period) if exact else None


def money_of(document: Mapping[str, Any], name: str) -> int:
    """An amount of a document, in nanos."""
    return parse_nanos(document[name], f"/{name}")
