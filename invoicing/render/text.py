"""An invoice for a terminal: plain text, amounts in one column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from invoicing.render.sheet import Day, Row, Seller, sheet

WIDTH: Final = 96
_AMOUNT: Final = 16
_UNIT: Final = 16
_QUANTITY: Final = 18
_WORDS: Final = WIDTH - _AMOUNT - _UNIT - _QUANTITY


def text(document: Mapping[str, Any], days: Iterable[Day] = (), seller: Seller | None = None) -> str:
    """The invoice as lines of at most WIDTH characters, but for names that are longer."""
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
    line = f"{words:<{_WORDS}}{quantity:>{_QUANTITY}}{unit:>{_UNIT}}{amount:>{_AMOUNT}}"
    return line.rstrip()
