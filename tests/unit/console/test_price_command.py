"""`tollgate price estimate`: one answer a line, whatever the line."""

from __future__ import annotations

import orjson
from click.testing import CliRunner

from console.price import answer, price

UNIT = {"model": "per_unit", "unit_amount": "0.5"}


def test_a_bad_line_is_answered_and_the_next_go_on() -> None:
    """Each line by itself; once all are answered all is well."""
    lines = [
        orjson.dumps({"price": UNIT, "quantity": "3"}),
        b"no json",
        b"",
        b"5",
        b"\xff",
        b"[" * 1000,
        orjson.dumps({"price": {**UNIT, "unit_amount": 0.5}, "quantity": 1}),
        orjson.dumps({"price": UNIT, "quantity": 2}),
    ]
    run = CliRunner().invoke(price, ["estimate"], input=b"\n".join(lines) + b"\n")
    answers = [orjson.loads(line) for line in run.stdout.splitlines()]
    assert run.exit_code == 0
    assert [found.get("amount") for found in answers] == ["1.5", None, None, None, None, None, None, "1"]
    assert all(found["error"] for found in answers[1:7])
    assert answers[6]["error"].startswith("price.unit_amount: must be decimal text")


def test_a_line_may_be_longer_than_an_event() -> None:
    """A period has many events."""
    quantities = [{"quantity": "1.000000001"}] * 20_000
    found = orjson.loads(answer(orjson.dumps({"price": UNIT, "quantities": quantities})))
    assert found["amount"] == "10000.00001"
