"""`dynamic`: the amount comes with the event, in a field of its own; a multiplier may stand before it.

An event's amount takes the place of the meter's quantity: one unit of it is one of the currency, and it costs the
multiplier. What stands around any model stands around it as well; an included quantity is then an amount of money.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, TypeAlias

from rating.measure import Measurable
from rating.model import Exact, Step
from schemas.catalog_shapes import Dynamic
from schemas.errors import InvalidInput
from schemas.expression import Field
from schemas.limits import NUMBER_MAX_EXPONENT, QUANTITY_MAX_UNITS
from schemas.money import NANOS

AmountOf: TypeAlias = Callable[[Measurable], Exact]
"""An event's own amount, in nanos."""

_PLAIN: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


@dataclass(frozen=True, slots=True)
class DynamicModel:
    """total = amount x multiplier."""

    multiplier: Fraction

    @classmethod
    def of(cls, price: Dynamic) -> DynamicModel:
        """From the catalogue."""
        return cls(Fraction(price.multiplier) if price.multiplier is not None else Fraction(1))

    @property
    def denominator(self) -> int:
        return self.multiplier.denominator

    def numerator(self, quantity: Exact) -> Exact:
        return quantity * self.multiplier.numerator

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        if not quantity:
            return ()
        return (Step("amount", quantity, self.multiplier, quantity * self.multiplier),)


def compile_amount_of(field: Field) -> AmountOf:
    """The amount that stands in a field of an event, exact; decimal text or a number, as money may come.

    Errors of what it returns, each naming the field: InvalidInput `missing_field`, `wrong_type`, `out_of_range`,
    `amount_overflow`.
    """
    path, text, pointer = field.path, field.text, "/" + "/".join(field.path)

    def amount_of(event: Measurable) -> Exact:
        value = _found(event, path)
        if value is None:
            raise InvalidInput("missing_field", f"{text} is missing", pointer)
        amount = value * NANOS if type(value) is int else _exact(value, text, pointer)
        if not -QUANTITY_MAX_UNITS * NANOS <= amount <= QUANTITY_MAX_UNITS * NANOS:
            raise InvalidInput("amount_overflow", f"{text} is beyond +-{QUANTITY_MAX_UNITS}", pointer)
        return amount

    return amount_of


def _found(event: Measurable, path: tuple[str, ...]) -> Any:
    """What stands at a path, or None; a lone name is a field of the data before it is one of the envelope."""
    if len(path) == 1 and event.data.get(path[0]) is not None:
        return event.data[path[0]]
    value: Any = event.data if path[0] == "data" else event.attributes.get(path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _exact(value: Any, text: str, pointer: str) -> Exact:
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite():
        raise InvalidInput("wrong_type", f"{text} is no amount: neither a number nor decimal text", pointer)
    if value and abs(value.adjusted()) > NUMBER_MAX_EXPONENT:  # eleven bytes can be a number that fills the memory
        raise InvalidInput("out_of_range", f"{text} is beyond 1e+-{NUMBER_MAX_EXPONENT}", pointer)
    exact = Fraction(value) * NANOS
    return exact.numerator if exact.denominator == 1 else exact
