"""What a price would come to: the pipeline's own arithmetic on quantities that are asked for, exact and not rounded.

Several quantities are the events of one period, in their order: a percentage charges each by itself, all others their
sum. Of a dynamic price a quantity is the amount that an event would bring, so its `amount_field` may be left out.
Answers the closing total, which contains a minimum, with the steps that lead to it: which quantity at which price in
which tier.

Errors: InvalidInput, whose detail names the field; CatalogRefused for the price itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from rating.model import Exact, Step, exact_text
from rating.rate import compile_price
from schemas.catalog import price_from_document
from schemas.errors import InvalidInput
from schemas.money import NANOS

MAX_QUANTITIES: Final = 100_000
"""Events in one estimate: some seconds of work, where each is priced by itself."""

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
    price = price_from_document(_with_amount_field(request["price"]))
    total, asked = Fraction(0), []
    for at, usage in enumerate(_usages(request)):
        if usage.dimensions is not None and not price.match.items() <= usage.dimensions.items():
            pointer = f"/quantities/{at}/dimensions"
            raise InvalidInput("no_price", f"the price does not match quantities[{at}].dimensions", pointer)
        total += usage.quantity
        if total < 0:
            where = f"quantities[{at}]" if "quantities" in request else "quantity"
            detail = f"{where}: the period's quantity would be {exact_text(total)}, below zero"
            raise InvalidInput("out_of_range", detail, _pointer(where))
        asked.append(_nano_units(usage.quantity))
    return Estimate(*compile_price(price).closed(asked))


def _with_amount_field(price: Any) -> Any:
    if isinstance(price, dict) and price.get("model") == "dynamic":
        return {"amount_field": "data.amount", **price}
    return price


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
    if len(listed) > MAX_QUANTITIES:
        raise InvalidInput(
            "too_large", f"quantities has {len(listed)} events, more than {MAX_QUANTITIES}", "/quantities"
        )
    return [_usage(item, f"quantities[{at}]") for at, item in enumerate(listed)]


def _usage(item: Any, path: str) -> Usage:
    if not isinstance(item, dict):
        raise InvalidInput("wrong_type", f"{path} must be an object with quantity", _pointer(path))
    if "quantity" not in item:
        raise InvalidInput("missing_field", f"{path}.quantity is missing", _pointer(f"{path}.quantity"))
    return Usage(_quantity(item["quantity"], f"{path}.quantity"), _dimensions(item.get("dimensions"), path))


def _dimensions(given: Any, path: str) -> dict[str, str] | None:
    """As an event's dimensions read: numbers and booleans as text, what is null as if absent."""
    if given is None:
        return None
    if not isinstance(given, dict) or any(isinstance(value, dict | list) for value in given.values()):
        pointer = _pointer(f"{path}.dimensions")
        raise InvalidInput("wrong_type", f"{path}.dimensions must be an object of texts, numbers or booleans", pointer)
    return {name: _text(value) for name, value in given.items() if value is not None}


def _text(value: str | bool | int | Decimal) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return exact_text(Fraction(value))


def _quantity(value: Any, path: str) -> Fraction:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**30 else None
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        detail = f"{path} must be decimal text or a whole number, of at most 30 + 30 digits"
        raise InvalidInput("wrong_type", detail, _pointer(path))
    return Fraction(value)


def _pointer(path: str) -> str:
    """`quantities[3].quantity` as a JSON pointer."""
    return "/" + path.replace("[", "/").replace("]", "").replace(".", "/")


def _line(step: Step) -> dict[str, str]:
    line = {"name": step.name, "quantity": exact_text(Fraction(step.quantity) / NANOS)}
    if step.unit_amount is not None:
        line["unit_amount"] = exact_text(step.unit_amount)
    return {**line, "amount": exact_text(step.amount / NANOS)}
