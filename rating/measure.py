"""What a meter reads from an event: its quantity, an int of nano-units, and its dimensions, pairs of text.

Owns the evaluation of expressions: compiled once to closures, exact in whole numbers and ratios of them, and rounded
once at the end, half even to 1e-9. Optional counts of built-in types need no word here: the decoder fills them in.

Errors: InvalidInput `missing_field` and `wrong_type` name the field, `out_of_range` a division by zero or a number
beyond reading, `amount_overflow` a quantity beyond its bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias, assert_never

from schemas.errors import InvalidInput, InvariantBroken
from schemas.event import Attributes
from schemas.expression import Expression, Field, Negative, Number, Operation
from schemas.limits import ID_MAX_CHARACTERS, NUMBER_MAX_EXPONENT, QUANTITY_MAX_UNITS
from schemas.money import NANOS, round_half_even
from schemas.usage_types import DEVICE_RELEASED, TOKENS_USED, USAGE_REPORTED

QUANTITY_MAX_NANOS: Final = QUANTITY_MAX_UNITS * NANOS
"""Quantities lie in +-QUANTITY_MAX_NANOS nano-units."""


class Measurable(Protocol):
    """What an expression and a dimension read of an event."""

    @property
    def data(self) -> dict[str, Any]:
        """The event's data, numbers as int or Decimal."""

    @property
    def attributes(self) -> Attributes:
        """The envelope as sent."""


Measure: TypeAlias = Callable[[Measurable], int]
ValueOf: TypeAlias = Callable[[Measurable], str]
Dimensions: TypeAlias = tuple[tuple[str, str], ...]
_Ratio: TypeAlias = tuple[int, int]
_Term: TypeAlias = Callable[[Measurable], _Ratio]


def count(event: Measurable) -> int:
    """The quantity of a meter that counts events: one."""
    return NANOS


def compile_measure(expression: Expression) -> Measure:
    """The expression as a function of an event.

    A field alone, a difference and a product of two fields, which are nearly all meters, take a path of their own
    while their values are whole; whatever else comes takes the general one, with the same result.
    """
    general = _rounded(_term(expression))
    if (name := _data_field(expression)) is not None:
        return _one_field(name, general)
    if isinstance(expression, Operation):
        left, right = _data_field(expression.left), _data_field(expression.right)
        if left is not None and right is not None:
            if expression.operator == "-":
                return _difference(left, right, general)
            if expression.operator == "*":
                return _product(left, right, general)
    return general


def _data_field(expression: Expression) -> str | None:
    if isinstance(expression, Field) and len(expression.path) == 2 and expression.path[0] == "data":
        return expression.path[1]
    return None


def _one_field(name: str, general: Measure) -> Measure:
    def measure(event: Measurable) -> int:
        value = event.data.get(name)
        if type(value) is int and -QUANTITY_MAX_UNITS <= value <= QUANTITY_MAX_UNITS:
            return value * NANOS
        return general(event)

    return measure


def _difference(left: str, right: str, general: Measure) -> Measure:
    def measure(event: Measurable) -> int:
        data = event.data
        minuend, subtrahend = data.get(left), data.get(right)
        if type(minuend) is int and type(subtrahend) is int:
            value = minuend - subtrahend
            if -QUANTITY_MAX_UNITS <= value <= QUANTITY_MAX_UNITS:
                return value * NANOS
        return general(event)

    return measure


def _product(left: str, right: str, general: Measure) -> Measure:
    def measure(event: Measurable) -> int:
        data = event.data
        one, other = data.get(left), data.get(right)
        if type(one) is int and type(other) is int:
            value = one * other
            if -QUANTITY_MAX_UNITS <= value <= QUANTITY_MAX_UNITS:
                return value * NANOS
        return general(event)

    return measure


def _rounded(term: _Term) -> Measure:
    def measure(event: Measurable) -> int:
        numerator, denominator = term(event)
        quantity = round_half_even(numerator * NANOS, denominator)
        if not -QUANTITY_MAX_NANOS <= quantity <= QUANTITY_MAX_NANOS:
            raise InvalidInput("amount_overflow", f"a quantity is beyond +-{QUANTITY_MAX_UNITS} units")
        return quantity

    return measure


def _term(expression: Expression) -> _Term:
    """The expression as a function to a ratio whose denominator is positive."""
    match expression:
        case Number(value):
            literal = (value.numerator, value.denominator)
            return lambda event: literal
        case Field():
            return _field(expression)
        case Negative(operand):
            return _negative(_term(operand))
        case Operation(operator, left, right):
            return _OPERATIONS[operator](_term(left), _term(right))
        case _:
            assert_never(expression)


def _field(field: Field) -> _Term:
    path, text = field.path, field.text

    def term(event: Measurable) -> _Ratio:
        value = _look_up(event, path)
        if value is None:
            raise InvalidInput("missing_field", f"{text} is missing", "/" + "/".join(path))
        return _ratio(value, text, path)

    return term


def _look_up(event: Measurable, path: tuple[str, ...]) -> Any:
    """The value at a path, None where any part of it is absent or null."""
    value: Any = event.data if path[0] == "data" else event.attributes.get(path[0])
    for name in path[1:]:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _ratio(value: Any, text: str, path: tuple[str, ...]) -> _Ratio:
    if type(value) is int:
        return value, 1
    if isinstance(value, Decimal) and value.is_finite():
        if value and abs(value.adjusted()) > NUMBER_MAX_EXPONENT:  # 1e999999999 is eleven bytes that fill the memory
            raise InvalidInput("out_of_range", f"{text} is beyond 1e+-{NUMBER_MAX_EXPONENT}", "/" + "/".join(path))
        return value.as_integer_ratio() if value else (0, 1)
    raise InvalidInput("wrong_type", f"{text} is not a number", "/" + "/".join(path))


def _negative(operand: _Term) -> _Term:
    def term(event: Measurable) -> _Ratio:
        numerator, denominator = operand(event)
        return -numerator, denominator

    return term


def _sum(left: _Term, right: _Term) -> _Term:
    def term(event: Measurable) -> _Ratio:
        (a, b), (c, d) = left(event), right(event)
        return a * d + c * b, b * d

    return term


def _subtraction(left: _Term, right: _Term) -> _Term:
    def term(event: Measurable) -> _Ratio:
        (a, b), (c, d) = left(event), right(event)
        return a * d - c * b, b * d

    return term


def _multiplication(left: _Term, right: _Term) -> _Term:
    def term(event: Measurable) -> _Ratio:
        (a, b), (c, d) = left(event), right(event)
        return a * c, b * d

    return term


def _division(left: _Term, right: _Term) -> _Term:
    def term(event: Measurable) -> _Ratio:
        (a, b), (c, d) = left(event), right(event)
        if c == 0:
            raise InvalidInput("out_of_range", "the quantity divides by zero")
        return (a * d, b * c) if c > 0 else (-a * d, -b * c)

    return term


_OPERATIONS: Final[dict[str, Callable[[_Term, _Term], _Term]]] = {
    "+": _sum,
    "-": _subtraction,
    "*": _multiplication,
    "/": _division,
}


_NEVER_NEGATIVE: Final[dict[str, frozenset[str]]] = {
    TOKENS_USED: frozenset(
        (
            "input_tokens",
            "output_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "reasoning_tokens",
            "tokens_used",
        )
    ),
    DEVICE_RELEASED: frozenset(("cpu_cores", "memory_mb", "storage_mb", "gpu_count", "duration_seconds")),
    USAGE_REPORTED: frozenset(("quantity",)),
}
"""By type: numbers of its data that the decoder holds to be at or above zero."""

_CACHED: Final = (Field(("data", "input_tokens")), Field(("data", "cached_input_tokens")))


def may_be_negative(expression: Expression, event_type: str) -> bool:
    """Whether a meter of a type of event may measure less than zero; so it may wherever that is not ruled out."""
    match expression:
        case Number(value):
            return value < 0
        case Field():
            return _data_field(expression) not in _NEVER_NEGATIVE.get(event_type, ())
        case Negative():
            return True
        case Operation("-", left, right):
            return event_type != TOKENS_USED or (left, right) != _CACHED  # of these the decoder knows which is more
        case Operation(_, left, right):
            return may_be_negative(left, event_type) or may_be_negative(right, event_type)
        case _:
            assert_never(expression)


def fields_of(expression: Expression) -> tuple[str, ...] | None:
    """The field of data that an expression is, or the two that it is the difference of; None for any other."""
    if (name := _data_field(expression)) is not None:
        return (name,)
    if isinstance(expression, Operation) and expression.operator == "-":
        left, right = _data_field(expression.left), _data_field(expression.right)
        return (left, right) if left is not None and right is not None else None
    return None


def compile_value(expression: Expression) -> ValueOf:
    """The value that a lone field has in an event, as text by which equal values of one kind are the same.

    Errors of what it returns: InvalidInput `missing_field`, `wrong_type`.
    """
    if not isinstance(expression, Field):
        raise InvariantBroken("a meter of unique values names a lone field; the catalogue's check holds it to that")
    path, text = expression.path, expression.text

    def value_of(event: Measurable) -> str:
        value = _look_up(event, path)
        if value is None:
            raise InvalidInput("missing_field", f"{text} is missing", "/" + "/".join(path))
        return f"text {value}" if isinstance(value, str) else _dimension_text(text, value)

    return value_of


def compile_dimensions(names: tuple[str, ...]) -> Callable[[Measurable], Dimensions]:
    """The meter's dimensions as a function of an event: pairs (name, text) in the meter's order.

    A name is a field of data, or, where data has none of that name, an attribute of the envelope; a name with points
    is a path as in expressions. What is absent or null is left out.
    """
    if not names:
        return lambda event: ()
    if len(names) == 1 and "." not in names[0]:
        return _one_dimension(names[0])
    paths = tuple((name, tuple(name.split("."))) for name in names)

    def dimensions(event: Measurable) -> Dimensions:
        return tuple(
            (name, _dimension_text(name, value))
            for name, path in paths
            if (value := _dimension(event, path)) is not None
        )

    return dimensions


def _one_dimension(name: str) -> Callable[[Measurable], Dimensions]:
    path = (name,)

    def dimensions(event: Measurable) -> Dimensions:
        value = event.data.get(name)
        if type(value) is str and len(value) <= ID_MAX_CHARACTERS:
            return ((name, value),)
        value = _dimension(event, path)
        return () if value is None else ((name, _dimension_text(name, value)),)

    return dimensions


def _dimension(event: Measurable, path: tuple[str, ...]) -> Any:
    if len(path) > 1:
        return _look_up(event, path)
    value = event.data.get(path[0])
    return event.attributes.get(path[0]) if value is None else value


def _dimension_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) <= NUMBER_MAX_EXPONENT:
        text = format(value, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
    elif isinstance(value, str):
        text = value
    elif isinstance(value, int) and abs(value) <= QUANTITY_MAX_NANOS:
        text = str(value)
    else:
        raise InvalidInput(
            "wrong_type", f"the dimension {name} is neither a text, a number of common size nor a boolean", f"/{name}"
        )
    if len(text) > ID_MAX_CHARACTERS:
        raise InvalidInput("out_of_range", f"the dimension {name} is longer than {ID_MAX_CHARACTERS} characters")
    return text
