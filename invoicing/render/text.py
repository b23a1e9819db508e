"""An invoice for a terminal: plain text, amounts in one column."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Final

from invoicing.by_day import Day
from invoicing.render.sheet import Row, sheet
from invoicing.seller import Seller

WIDTH: Final = 96
_AMOUNT: Final = 16
_UNIT: Final = 16
_QUANTITY: Final = 18
_WORDS: Final = WIDTH - _AMOUNT - _UNIT - _QUANTITY


def text(document: Mapping[str, Any], days: Iterable[Day] = (), seller: Seller | None = None) -> str:
    """The invoice as lines; amounts in one column, WIDTH characters wide, whatever their names."""
    shown = sheet(document, days, seller)
    lines = [f"{shown.heading} {shown.number}  ({shown.state})"]
    if shown.seller.name:
        lines.append(f"  from {shown.seller.name}")
    lines.append(f"  to   {', '.join(shown.bill_to)}")
    lines += [f"  {name}: {value}" for name, value in shown.facts]
    lines += ["", _columns("", "quantity", "unit price", shown.currency), "-" * WIDTH]
    for section in shown.sections:
        lines.append(section.title)
        lines += [_row(row) for row in section.rows]
    lines.append("-" * WIDTH)
    lines += [_columns("", "", name, value) for name, value in (*shown.totals, shown.due)]
    if shown.remittance:
        lines += ["", shown.remittance]
    if shown.days:
        lines += ["", "Usage by day"]
        lines += [_columns(f"  {day}  {what}", quantity, "", amount) for day, what, quantity, amount in shown.days]
    return "\n".join(lines) + "\n"


def _row(row: Row) -> str:
    return _columns(("      " if row.step else "  ") + row.description, row.quantity, row.unit, row.amount)


def _columns(words: str, quantity: str, unit: str, amount: str) -> str:
    numbers = f"{quantity:>{_QUANTITY}}{unit:>{_UNIT}}{amount:>{_AMOUNT}}"
    indent = words[: len(words) - len(words.lstrip())]
    # What is too long for its column goes on below, and the numbers stand beside its last line.
    *above, last = textwrap.wrap(words, _WORDS - 1, initial_indent=indent, subsequent_indent=f"{indent}  ") or [""]
    return "\n".join([*above, f"{last:<{_WORDS}}{numbers}".rstrip()])
