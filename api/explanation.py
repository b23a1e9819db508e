"""Why an event or a charge came to what it did, from a ledger entry and the catalogue that priced it. Pure.

The amounts are those of the ledger; the steps are reckoned again, exact and before rounding, by the price of the
version that the charge names. Where the two do not agree within what rounding takes, the explanation says so instead of
showing steps that explain something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from rating.model import Step, exact_text
from rating.rate import DynamicPrice, Price, compile_price
from schemas.catalog import CatalogVersion
from schemas.errors import InvalidInput
from schemas.ledger import BELOW_ZERO, HOLD_NOT_OPEN, LATE
from schemas.money import NANOS, format_nanos
from schemas.period import format_time

Versions = Callable[[int], CatalogVersion | None]
"""A catalogue version by its number."""

_FLAGS = {LATE: "late", BELOW_ZERO: "below_zero", HOLD_NOT_OPEN: "hold_not_open"}


def explain_entry(row: Mapping[str, Any], ledger_offset: int, versions: Versions) -> dict[str, Any]:
    """An entry of `schemas.ledger.rows` as an explanation."""
    postings = [_posting(posting) for posting in row["postings"]]
    return {
        "event": {
            "tenant": row["tenant"],
            "customer": row["customer"],
            "source": row["source"],
            "id": row["event_id"],
            "type": row["event_type"],
            "occurred_at": format_time(row["occurred_at"]),
            "received_at": format_time(row["received_at"]),
            **{name: row[name] or None for name in ("user_id", "session_id", "device_id", "allocation_id", "hold_id")},
        },
        "outcome": row["outcome"],
        "reason": row["reason"] or None,
        "flags": [name for flag, name in _FLAGS.items() if row["flags"] & flag],
        "record": {"topic": row["topic"], "partition": row["partition"], "offset": row["offset"]},
        "entry": {
            "topic": "usage.rated",
            "partition": row["partition"],
            "offset": ledger_offset,
            "seq": row["seq"],
            "rated_at": format_time(row["rated_at"]),
        },
        "charges": [explain_charge(charge, versions) for charge in row["charges"]],
        "postings": postings,
        "balance": {
            "before": postings[0]["balance_before"],
            "after": postings[-1]["balance_after"],
            "currency": postings[0]["currency"],
        }
        if postings
        else None,
    }


def explain_charge(charge: Mapping[str, Any], versions: Versions) -> dict[str, Any]:
    """A charge with its price, as the catalogue has it, and the walk through it."""
    quantity, before = charge["quantity"], charge["quantity_before"]
    shown: dict[str, Any] = {
        "charge_id": charge["charge_id"],
        "meter": charge["meter"],
        "dimensions": charge["dimensions"],
        "quantity": format_nanos(quantity),
        "price_id": charge["price_id"] or None,
        "catalog_version": charge["catalog_version"],
        "unit_amount": charge["unit_amount"] or None,
        "amount": format_nanos(charge["amount"]),
        "currency": charge["currency"],
        "quantity_before": None,
        "quantity_after": None,
        "price": None,
        "steps": [],
        "exact_amount": None,
        "remark": None,
        "invoice_line": None,
    }
    if not charge["price_id"]:
        return {**shown, "remark": "the meter has no price and only counts"}
    version = versions(charge["catalog_version"])
    found = _price(version, charge["price_id"]) if version is not None else None
    if found is None:
        return {**shown, "remark": "the price is not of this catalogue: it is the customer's own"}
    document, price = found
    shown["price"] = document
    steps = _walk(price, quantity, tuple(charge["counters_before"]), charge["amount"])
    if price.counters:
        shown["quantity_before"], shown["quantity_after"] = format_nanos(before), format_nanos(before + quantity)
    if steps is None:
        return {**shown, "remark": "the amount comes from what the ledger's quantities alone do not tell"}
    shown["steps"] = [
        {
            "name": step.name,
            "quantity": _exact(step.quantity),
            "unit_amount": exact_text(step.unit_amount) if step.unit_amount is not None else None,
            "amount": _exact(step.amount),
        }
        for step in steps
    ]
    shown["exact_amount"] = _exact(sum((step.amount for step in steps), Fraction(0)))
    return shown


def _walk(price: Price, quantity: int, before: tuple[int, ...], amount: int) -> Sequence[Step] | None:
    """The steps of a charge; None where no reading of what the ledger keeps comes to its amount."""
    if isinstance(price, DynamicPrice):
        brought = price.amount_behind(amount)
        return price.walk(None, brought) if brought is not None else None
    readings: tuple[tuple[int, ...] | None, ...] = (None,)
    if price.counters:
        readings = (before,) if any(before) else (None, (0,) * len(price.counters))
    for reading in readings:
        if reading is not None and len(reading) != len(price.counters):
            continue  # the price had another model when it charged
        try:
            steps = price.walk(reading, quantity)
        except InvalidInput:
            continue
        if abs(sum((step.amount for step in steps), Fraction(0)) - amount) <= 1:  # two roundings of half a nano
            return steps
    return None


def _price(version: CatalogVersion, price_id: str) -> tuple[dict[str, Any], Price] | None:
    documents: Sequence[dict[str, Any]] = version.catalog.document.get("prices", ())
    document = next((price for price in documents if price.get("id") == price_id), None)
    shape = next((price for price in version.catalog.prices if price.id == price_id), None)
    if document is None or shape is None:
        return None
    return document, compile_price(shape)


def _posting(posting: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "entry_id": posting["entry_id"],
        "kind": posting["kind"],
        "amount": format_nanos(posting["amount"]),
        "balance_before": format_nanos(posting["balance_after"] - posting["amount"]),
        "balance_after": format_nanos(posting["balance_after"]),
        "currency": posting["currency"],
        "cause": posting["cause"] or None,
        "burnt": [{"credit_id": name, "amount": format_nanos(amount)} for name, amount in posting["burnt"]],
    }


def _exact(nanos: Fraction | int) -> str:
    return exact_text(Fraction(nanos) / NANOS)
