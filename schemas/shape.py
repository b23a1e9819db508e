"""Shapes: what the fields of a built-in event must look like, and the sentences that say which one does not.

A shape is a msgspec struct of the types below; `read` holds an object to it. Fields that the shape does not name are
free. The sentence of a refusal names the field by its path, says what is expected and shows what was sent.

Errors: InvalidInput `missing_field`, `wrong_type`, `out_of_range`, `bad_time`.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

import msgspec

from schemas.errors import InvalidInput
from schemas.limits import COUNT_MAX, ID_MAX_CHARACTERS
from schemas.money import PLACES, decimal_to_nanos, parse_amount
from schemas.period import instant_of

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX_CHARACTERS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
"""A whole number of things."""
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]

_SHOWN_CHARACTERS: Final = 60

_ShapeT = TypeVar("_ShapeT", bound=msgspec.Struct)

_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_PATH_PART: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_WORDS: Final = {
    " matching regex '^[A-Z]{3}\\\\Z'": " of three capital letters",
    "Invalid enum value": "not one of its words",
    " | null": "",
    "`int": "whole number",
    "`str": "text",
    "`decimal": "decimal number",
    "`datetime": "time",
    "`bool": "true or false",
    "`": "",
}
"""msgspec's words and ours, in the order in which they are replaced."""


def read(value: Any, shape: type[_ShapeT], pointer: str) -> _ShapeT:
    """`value` as its shape; `pointer` is where it stands in the event."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), value, pointer) from None


def read_size(value: Any, pointer: str) -> int | Decimal:
    """A number from 0 to COUNT_MAX that may have decimals."""
    if value.__class__ is not int and value.__class__ is not Decimal:
        if value is None:
            raise InvalidInput("missing_field", f"{field_of(pointer)} is missing", pointer)
        raise InvalidInput("wrong_type", f"{field_of(pointer)} is no number: {_shown(value)}", pointer)
    if not 0 <= value <= COUNT_MAX:
        raise InvalidInput("out_of_range", f"{field_of(pointer)} is not between 0 and 10^15: {_shown(value)}", pointer)
    return value


def read_money(value: Any, pointer: str) -> int:
    """Nanos of an amount that is not negative: decimal text, or a number read from its text; at most 9 places."""
    if isinstance(value, str):
        nanos = parse_amount(value, pointer)
    elif value.__class__ is int or value.__class__ is Decimal:
        nanos = parse_amount(format(value, "d" if value.__class__ is int else "f"), pointer)
    else:
        raise InvalidInput("wrong_type", f"{field_of(pointer)} is no amount: {_shown(value)}", pointer)
    if nanos < 0:
        raise InvalidInput("out_of_range", f"{field_of(pointer)} is negative: {_shown(value)}", pointer)
    return nanos


def read_cost(value: Any, pointer: str) -> int | Decimal:
    """An upstream cost, which is kept and never charged: any spelling of a number from 0, rounded to 9 places."""
    if isinstance(value, str):
        try:
            value = Decimal(value) if value.isascii() and len(value) <= _SHOWN_CHARACTERS else None
        except ArithmeticError:
            value = None
    if (value.__class__ is not int and value.__class__ is not Decimal) or not Decimal(value).is_finite():
        raise InvalidInput("wrong_type", f"{field_of(pointer)} is no number", pointer)
    if not 0 <= value <= COUNT_MAX:
        raise InvalidInput("out_of_range", f"{field_of(pointer)} is not between 0 and 10^15: {_shown(value)}", pointer)
    if value.__class__ is int:
        return value
    return Decimal(decimal_to_nanos(Decimal(value))).scaleb(-PLACES)


def read_time(moment: datetime, data: dict[str, Any], name: str) -> int:
    """Microseconds of a time that `read` took from `data[name]`."""
    return instant_of(moment, data[name], f"/data/{name}")


def field_of(pointer: str) -> str:
    """A JSON pointer as people write a field: /data/model -> data.model."""
    return pointer.lstrip("/").replace("/", ".") or "the event"


def _refusal(message: str, value: Any, pointer: str) -> InvalidInput:
    text, _, path = message.partition(" - at `$")
    sent = value
    path = path.partition("[...]")[0]  # msgspec does not say which of a mapping's values it was
    for name, index in _PATH_PART.findall(path.rstrip("`")):
        pointer = f"{pointer}/{name or index}"
        sent = sent[name] if name else sent[int(index)]
    missing = _MISSING.fullmatch(text)
    if missing is not None:
        pointer = f"{pointer}/{missing[1]}"
        return InvalidInput("missing_field", f"{field_of(pointer)} is missing", pointer)
    if text.startswith(("Expected `datetime", "Invalid RFC3339")):
        detail = f"{field_of(pointer)} is no RFC 3339 time with an offset: {_shown(sent)}"
        return InvalidInput("bad_time", detail, pointer)
    reason = "wrong_type" if ", got `" in text or "Invalid enum" in text or "regex" in text else "out_of_range"
    if text.startswith("Invalid enum"):
        text = text.partition(" '")[0]
    for word, plain in _WORDS.items():
        text = text.replace(word, plain)
    return InvalidInput(reason, f"{field_of(pointer)}: {text.lower()}: {_shown(sent)}", pointer)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
