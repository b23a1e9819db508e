"""`tollgate price estimate`: one JSON a line in, one JSON a line out, without a server."""

from __future__ import annotations

import sys

import click
import orjson

from console.events import standard_input
from rating.estimate import estimate as estimated
from schemas.canonical import parse
from schemas.errors import InvalidInput
from schemas.limits import BODY_MAX_BYTES


@click.group()
def price() -> None:
    """Estimate amounts without a server."""


@price.command()
def estimate() -> None:
    """Answer each line of standard input with its amount, exact and not rounded, or with an error.

    A line is {"price": {…}, "quantity": "…"}, or {"price": {…}, "quantities": [{"quantity": "…"}, …]} for the events of
    one period. A price needs only its model and the model's fields.
    """
    for line in standard_input():
        sys.stdout.buffer.write(answer(line) + b"\n")
        sys.stdout.buffer.flush()


def answer(line: bytes) -> bytes:
    """The answer to one line."""
    try:
        return orjson.dumps(estimated(parse(line, BODY_MAX_BYTES)).document())
    except InvalidInput as error:
        return orjson.dumps({"error": error.detail})
