"""Prices from plain fields, and worked examples held against every road to an amount."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from rating.model import exact_text
from rating.rate import Price, compile_price
from schemas.catalog import price_from_document
from schemas.money import NANOS, round_half_even


def price(**fields: Any) -> Price:
    """A price ready to charge."""
    return compile_price(price_from_document(fields))


def nano(quantity: str) -> int:
    """Decimal text to nano-units."""
    exact = Fraction(quantity) * NANOS
    assert exact.denominator == 1, "the pipeline's quantities have nine decimals"
    return exact.numerator


def closing(priced: Price, quantity: str) -> str:
    """What the period comes to, exact, as decimal text."""
    return exact_text(priced.closed([Fraction(quantity) * NANOS]).amount / NANOS)


def check(fields: dict[str, Any], quantity: str, amount: str) -> None:
    """Holds an example against the exact total, its steps, the pipeline's charge, and the charge in two parts."""
    priced = price(**fields)
    exact = Fraction(amount) * NANOS
    asked = Fraction(quantity) * NANOS
    assert closing(priced, quantity) == exact_text(Fraction(amount))
    assert sum(step.amount for step in priced.closed([asked]).steps) == exact
    if "minimum_amount" in fields or asked.denominator != 1:
        return
    whole, part = int(asked), int(asked) // 3
    rounded = round_half_even(exact.numerator, exact.denominator)
    assert priced.advance(None, whole)[0] == rounded
    if priced.cumulative:
        first, so_far = priced.advance(None, part)
        assert first + priced.advance(so_far, whole - part)[0] == rounded
