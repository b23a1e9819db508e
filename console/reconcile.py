"""`tollgate reconcile`: every equation with both sides; exit 0 if all hold, 1 if one does not, 3 if a store is away."""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec

from backing.launch import attach
from invoicing.evidence import gather
from invoicing.reconcile import Equation, totals
from schemas.errors import Unavailable
from schemas.money import format_nanos
from schemas.period import parse_month
from schemas.settings import Settings

EXIT_DIFFERENT = 1
EXIT_UNREADABLE = 3


@click.command()
@click.option("--period", metavar="YYYY-MM", help="Compare the charges of one month alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reconcile(period: str | None, as_json: bool) -> int:
    """Prove from the stores that log, ledger, accounts and rows agree."""
    settings = Settings.from_environment()
    span = parse_month(period, "/period") if period is not None else None
    try:
        equations = asyncio.run(gather(attach(settings), span, _progress))
    except Unavailable as away:
        print(f"tollgate: {away}", file=sys.stderr)
        return EXIT_UNREADABLE
    wrong = [equation for equation in equations if equation.difference]
    if as_json:
        document = {"ok": not wrong, "equations": [equation.document() for equation in equations]}
        print(msgspec.json.encode(document).decode())
    else:
        _print(equations, wrong)
    return EXIT_DIFFERENT if wrong else 0


def _print(equations: list[Equation], wrong: list[Equation]) -> None:
    """Totals over the partitions, and by partition what does not hold."""
    broken = {equation.name for equation in wrong}
    for equation in totals(equations):
        print(_line("✗" if equation.name in broken else "✓", equation))
        for one in wrong:
            if one.name == equation.name and one.partition is not None:
                print(_line("    ✗", one))
    if wrong:
        print(f"{len(wrong)} of {len(equations)} equations do not hold")
    else:
        print(f"all {len(equations)} equations hold, every difference is 0")


def _line(mark: str, equation: Equation) -> str:
    def side(value: int) -> str:
        return format_nanos(value) if equation.money else str(value)

    name = equation.name if equation.partition is None else f"partition {equation.partition}"
    text = f"{mark} {name}: {side(equation.left)} = {side(equation.right)}"
    return text if not equation.difference else f"{text}, differs by {side(equation.difference)}"


def _progress(message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{message}", end="", file=sys.stderr, flush=True)
