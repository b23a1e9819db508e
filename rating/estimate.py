"""What a price would come to: the pipeline's own arithmetic on quantities that are asked for, exact and not rounded.

Several quantities are the events of one period. Answers the closing total, which contains a minimum, with the steps
that lead to it. Errors: InvalidInput, whose detail names the field; CatalogRefused for the price itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from rating.model import Exact, Step, exact_text
from rating.rate import compile_price
from schemas.catalog import price_from_document
from schemas.errors import InvalidInput
from schemas.money import NANOS

_NUMBER: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class Usage:
    """The quantity of one event, in units."""

    quantity: Fraction
    dimensions: Mapping[str, str] | None
    """None: not said; any price applies."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The amount of a period and how it comes about."""

    amount: Fraction
    """Nanos."""
    steps: tuple[Step, ...]

    def document(self) -> dict[str, Any]:
        """As the command and the API answer it: plain decimals of the major unit."""
        return {"amount": exact_text(self.amount / NANOS), "lines": [_line(step) for step in self.steps]}


def estimate(request: Mapping[str, Any]) -> Estimate:
    """The answer to `{"price": …, "quantity": …}` or `{"price": …, "quantities": [{"quantity", "dimensions"}, …]}`."""
    if "price" not in request:
        raise InvalidInput("missing_field", "price is missing", "/price")
    price = price_from_document(request["price"])
    total, asked = Fraction(0), []
    for at, usage in enumerate(_usages(request)):
        if usage.dimensions is not None and not price.match.items() <= usage.dimensions.items():
            raise InvalidInput("no_price", f"the price does not match quantities[{at}].dimensions", "/quantities")
        total += usage.quantity
        if total < 0:
            raise InvalidInput("out_of_range", f"the period's quantity would be {exact_text(total)}, below zero")
        asked.append(_nano_units(usage.quantity))
    return Estimate(*compile_price(price).closed(asked))


def _nano_units(quantity: Fraction) -> Exact:
    exact = quantity * NANOS
    return exact.numerator if exact.denominator == 1 else exact


def _usages(request: Mapping[str, Any]) -> list[Usage]:
    if ("quantity" in request) == ("quantities" in request):
        raise InvalidInput("missing_field", "exactly one of quantity and quantities is needed", "/quantity")
    if "quantity" in request:
        return [Usage(_quantity(request["quantity"], "quantity"), None)]
    listed = request["quantities"]
    if not isinstance(listed, list):
        raise InvalidInput("wrong_type", "quantities must be a list", "/quantities")
    return [_usage(item, f"quantities[{at}]") for at, item in enumerate(listed)]


def _usage(item: Any, path: str) -> Usage:
    if not isinstance(item, dict):
        raise InvalidInput("wrong_type", f"{path} must be an object with quantity", "/quantities")
    dimensions = item.get("dimensions")
    if dimensions is not None and not (
        isinstance(dimensions, dict) and all(isinstance(value, str) for value in dimensions.values())
    ):
        raise InvalidInput("wrong_type", f"{path}.dimensions must be an object of texts", "/quantities")
    return Usage(_quantity(item.get("quantity"), f"{path}.quantity"), dimensions)


def _quantity(value: Any, path: str) -> Fraction:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**30 else None
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        detail = f"{path} must be decimal text or a whole number, of at most 30 + 30 digits"
        raise InvalidInput("wrong_type", detail, "/quantity")
    return Fraction(value)


def _line(step: Step) -> dict[str, str]:
    line = {"name": step.name, "quantity": exact_text(Fraction(step.quantity) / NANOS)}
    if step.unit_amount is not None:
        line["unit_amount"] = exact_text(step.unit_amount)
    return {**line, "amount": exact_text(step.amount / NANOS)}
