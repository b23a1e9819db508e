"""What an invoice shows, as words: one value that text, page and PDF lay out each in their way.

All that is said and every number's form is decided here, so the three cannot differ. Amounts have the places of their
currency and thousands apart; the currency is its ISO 4217 code, for a sign may be several countries'. Dates are ISO
8601; a period's end is the last day in it, as people read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from invoicing.by_day import Day
from invoicing.seller import Seller
from schemas.currencies import minor_places

HEADINGS: Final = {
    "draft": "Draft invoice",
    "open": "Invoice",
    "paid": "Invoice",
    "overdue": "Invoice",
    "uncollectible": "Invoice",
    "void": "Void invoice",
}
_SECTIONS: Final = (
    ("fee", "Plan"),
    ("usage", "Usage"),
    ("minimum", "Minimums and commitments"),
    ("adjustment", "Adjustments of earlier periods"),
    ("discount", "Discounts"),
    ("credit", "Paid from the balance"),
    ("tax", "Tax"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line, or, indented, a step of its price."""

    description: str
    quantity: str
    unit: str
    amount: str
    step: bool


@dataclass(frozen=True, slots=True)
class Section:
    """Lines of one kind."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """All that is shown, in order."""

    heading: str
    number: str
    state: str
    facts: tuple[tuple[str, str], ...]
    """Name and value: issued, due, period."""
    seller: Seller
    bill_to: tuple[str, ...]
    currency: str
    sections: tuple[Section, ...]
    totals: tuple[tuple[str, str], ...]
    due: tuple[str, str]
    remittance: str
    days: tuple[tuple[str, str, str, str], ...]
    """Day, what, quantity, amount."""


def sheet(document: Mapping[str, Any], days: Iterable[Day] = (), seller: Seller | None = None) -> Sheet:
    """The sheet of an invoice's document (schemas.invoice)."""
    seller = seller or Seller()
    number = document["number"] or document["id"]
    return Sheet(
        heading=HEADINGS[document["state"]],
        number=number,
        state=document["state"],
        facts=_facts(document),
        seller=seller,
        bill_to=_bill_to(document),
        currency=document["currency"],
        sections=_sections(document["lines"], document["currency"]),
        totals=(
            ("Subtotal", grouped(document["subtotal"])),
            ("Tax", grouped(document["tax"])),
            ("Total", grouped(document["total"])),
            ("Paid", grouped(document["amount_paid"])),
        ),
        due=("Amount due", f"{grouped(document['amount_due'])} {document['currency']}"),
        remittance=_remittance(document, number, seller),
        days=tuple(
            (day.day, day.description, grouped(day.quantity), exact(day.amount, document["currency"])) for day in days
        ),
    )


def exact(decimal: str, currency: str) -> str:
    """An amount with all its places, and at least those of its currency: "0.5" of USD -> "0.50"."""
    whole, _, fraction = decimal.partition(".")
    fraction = fraction.ljust(minor_places(currency), "0")
    return grouped(f"{whole}.{fraction}" if fraction else whole)


def grouped(decimal: str) -> str:
    """Plain decimal text with thousands apart: "-1234567.50" -> "-1,234,567.50"."""
    sign, digits = ("-", decimal[1:]) if decimal.startswith("-") else ("", decimal)
    whole, point, fraction = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{fraction}"


def _facts(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    facts = [("Customer", str(document["customer"]))]
    if document["number"]:
        facts.append(("Number", document["number"]))
    if document["revision"] > 1:
        facts.append(("Revision", str(document["revision"])))
    facts.append(("Period", _days_of(document["period"])))
    for name, key in (("Issued", "finalized_at"), ("Due", "due_at"), ("Paid", "paid_at"), ("Void since", "voided_at")):
        if document[key]:
            facts.append((name, document[key][:10]))
    return tuple(facts)


def _days_of(period: Mapping[str, str]) -> str:
    end = datetime.fromisoformat(period["end"]) - timedelta(microseconds=1)
    return f"{period['start'][:10]} to {end.date().isoformat()}"


def _bill_to(document: Mapping[str, Any]) -> tuple[str, ...]:
    to = document["bill_to"]
    lines = [to.get("name") or document["customer"]]
    lines += str(to.get("address") or "").splitlines()
    lines += [value for value in (to.get("email"), to.get("tax_id") and f"Tax id {to['tax_id']}") if value]
    return tuple(lines)


def _sections(lines: Sequence[Mapping[str, Any]], currency: str) -> tuple[Section, ...]:
    sections = []
    for kind, title in _SECTIONS:
        rows = [row for line in lines if line["kind"] == kind for row in _rows(line, currency)]
        if rows:
            sections.append(Section(title, tuple(rows)))
    return tuple(sections)


def _rows(line: Mapping[str, Any], currency: str) -> list[Row]:
    tiers = line.get("tiers") or ()
    quantity = grouped(line["quantity"]) if line["quantity"] is not None else ""
    # Where steps follow, each has its own price.
    unit = "" if len(tiers) > 1 else line["unit_amount"] or ""
    rows = [Row(line["description"], quantity, unit, grouped(line["amount"]), step=False)]
    if len(tiers) > 1:
        rows += [
            Row(
                tier["name"],
                grouped(tier["quantity"]),
                tier["unit_amount"] or "",
                exact(tier["amount"], currency),
                step=True,
            )
            for tier in tiers
        ]
    return rows


def _remittance(document: Mapping[str, Any], number: str, seller: Seller) -> str:
    if document["state"] not in ("open", "overdue", "uncollectible") or not any(
        c in "123456789" for c in document["amount_due"]
    ):
        return ""
    how = f" {seller.remittance}" if seller.remittance else ""
    due = f" by {document['due_at'][:10]}" if document["due_at"] else ""
    amount = f"{grouped(document['amount_due'])} {document['currency']}"
    return f"Please pay {amount}{due}, naming {number}.{how}"
