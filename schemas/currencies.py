"""How many decimals a currency's minor unit has: ISO 4217, the list of 1 January 2024 with its amendments to 2026.

What is not named has two. Currencies come into being and go; a code that no list has is taken for one of two decimals,
so that a platform can bill in units of its own.
"""

from __future__ import annotations

from typing import Final

from schemas.money import NANOS, PLACES, to_minor_units

_PLACES: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip


def minor_places(currency: str) -> int:
    """Decimals of the currency's minor unit."""
    return _PLACES.get(currency, 2)


def round_to_minor(nanos: int, currency: str) -> int:
    """Nanos to the nanos of a whole number of minor units, half up away from zero."""
    places = minor_places(currency)
    rounded: int = to_minor_units(nanos, places) * 10 ** (PLACES - places)
    return rounded


def format_minor(nanos: int, currency: str) -> str:
    """A rounded amount with all the places of its currency: "20.00", "1200", "-0.500"."""
    places = minor_places(currency)
    whole, fraction = divmod(abs(nanos), NANOS)
    sign = "-" if nanos < 0 else ""
    shown = f"{fraction:09d}"[:places]
    return f"{sign}{whole}.{shown}" if places else f"{sign}{whole}"
