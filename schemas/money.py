"""Money and quantities: whole numbers of nanos inside, decimal text at the rim, never a float.

An amount is an `int` of nanos (1e-9 of the currency's major unit); a quantity is an `int` of nano-units. The two
roundings of the system are here and nowhere else: to nanos, half even (`round_half_even`), and from nanos to a
currency's minor unit, half up away from zero (`to_minor_units`), both by contract.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from schemas.errors import InvalidInput
from schemas.limits import AMOUNT_MAX_NANOS

NANOS: Final = 10**9
PLACES: Final = 9

_PLAIN = re.compile(r"(-?)(\d{1,30})(?:\.(\d{1,30}))?", re.ASCII)


def parse_nanos(text: str, pointer: str = "") -> int:
    """Plain decimal text ("12.50", "-0.000000001") to nanos; InvalidInput beyond 9 places or for any other form."""
    match = _PLAIN.fullmatch(text)
    if match is None:
        raise InvalidInput("wrong_type", f"{pointer or 'value'} is no plain decimal: {text[:40]!r}", pointer)
    sign, whole, fraction = match.group(1), match.group(2), (match.group(3) or "").rstrip("0")
    if len(fraction) > PLACES:
        raise InvalidInput("wrong_type", f"{pointer or 'value'} has more than {PLACES} decimal places", pointer)
    nanos = int(whole) * NANOS + int(fraction.ljust(PLACES, "0"))
    return -nanos if sign else nanos


def parse_amount(text: str, pointer: str = "") -> int:
    """As `parse_nanos`, within the bounds of an amount."""
    nanos = parse_nanos(text, pointer)
    if not -AMOUNT_MAX_NANOS <= nanos <= AMOUNT_MAX_NANOS:
        raise InvalidInput("amount_overflow", f"{pointer or 'value'} is beyond +-{AMOUNT_MAX_NANOS} nanos", pointer)
    return nanos


def format_nanos(nanos: int) -> str:
    """Nanos to the shortest plain decimal text, with no exponent and no trailing zeros: 2500000000 -> "2.5"."""
    whole, fraction = divmod(nanos, NANOS)
    if not fraction:
        return str(whole)
    if nanos < 0:
        whole, fraction = divmod(-nanos, NANOS)
        return f"-{whole}.{fraction:09d}".rstrip("0")
    return f"{whole}.{fraction:09d}".rstrip("0")


def round_half_even(numerator: int, denominator: int) -> int:
    """The whole number nearest to numerator/denominator, ties to the even one. `denominator` is positive."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def decimal_to_nanos(value: Decimal) -> int:
    """A finite decimal to nanos, rounded half even once."""
    numerator, denominator = value.as_integer_ratio()
    return round_half_even(numerator * NANOS, denominator)


def to_minor_units(nanos: int | Fraction, places: int) -> int:
    """Nanos to whole minor units of a currency with `places` decimals (ISO 4217), half up away from zero.

    An exact amount, such as a part of a fee, is rounded here for the first time.
    """
    step: int = 10 ** (PLACES - places) * nanos.denominator
    quotient, remainder = divmod(abs(nanos.numerator), step)
    if 2 * remainder >= step:
        quotient += 1
    return -quotient if nanos < 0 else quotient


def pack_int(value: int) -> int | str:
    """A whole number for the wire: itself within 64 bits, decimal text beyond (MessagePack ends there)."""
    return value if -(2**63) <= value < 2**63 else str(value)


def unpack_int(value: int | str) -> int:
    """The inverse of `pack_int`."""
    return value if isinstance(value, int) else int(value)


def pack_ints(values: Sequence[int]) -> int | str:
    """Whole numbers that belong together, at least one: as `pack_int`, several as text with `;` between them."""
    return pack_int(values[0]) if len(values) == 1 else ";".join(map(str, values))


def unpack_ints(value: int | str) -> tuple[int, ...]:
    """The inverse of `pack_ints`."""
    return (value,) if isinstance(value, int) else tuple(map(int, value.split(";")))


def decimal_text(value: object) -> str:
    """A number or decimal text as sent, as plain decimal text; for amounts that are kept and never charged."""
    return format(value, "f") if isinstance(value, Decimal) else str(value)
