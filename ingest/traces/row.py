"""One row of a trace and what the seed gives it."""

from __future__ import annotations

from typing import NamedTuple


class Spread(NamedTuple):
    """What the seed decides about a row. `choice` and `session` are evenly drawn bytes, 0 to 255."""

    customer: str
    choice: int
    session: int


class Row(NamedTuple):
    """A row, counted from 1 without the heading. `draw` names seed and number of customers in ids."""

    number: int
    fields: dict[str, str]
    spread: Spread
    draw: str

    def whole(self, column: str) -> int:
        """A column's whole number from 0; ValueError that names the column."""
        text = self.fields[column]
        if text is None or not text.isascii() or not text.isdigit():
            raise ValueError(f"{column} is no whole number: {text!r}")
        return int(text)
