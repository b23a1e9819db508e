"""Every price model against worked examples, each with its source: public documentation, or our own arithmetic.

`examples/*.yaml` is a list of `{source, price, cases}`; a case has a `quantity`, or the `quantities` of a period's
events in their order, and the exact `amount` that the period comes to. `with` are fields that the case adds to the
price (null takes one away), `charges` the nanos that the pipeline charges each event. Amounts stand as their source has
them or as plain arithmetic gives them; none was taken from what the code answered.

Each case is asked of every road to an amount: the estimate, the command's line, and the pipeline's charges with what
the close of the period adds.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, get_args

import orjson
import pytest

from console.price import answer
from rating.estimate import estimate
from rating.rate import PerEventPrice, compile_price
from schemas.catalog import price_from_document
from schemas.catalog_document import read
from schemas.catalog_shapes import Priced
from schemas.money import NANOS, round_half_even

EXAMPLES = Path(__file__).parent / "examples"
AT_LEAST = 150


class Example(NamedTuple):
    """One case of a file."""

    name: str
    source: str
    price: dict[str, Any]
    usage: dict[str, Any]
    amount: str
    charges: list[int] | None

    @property
    def quantities(self) -> list[Fraction]:
        if "quantity" in self.usage:
            return [Fraction(self.usage["quantity"])]
        return [Fraction(event["quantity"]) for event in self.usage["quantities"]]


def _examples() -> list[Example]:
    found = []
    for file in sorted(EXAMPLES.glob("*.yaml")):
        for at, group in enumerate(read(file.read_bytes())):
            assert set(group) == {"source", "price", "cases"}
            for number, case in enumerate(group["cases"]):
                assert set(case) <= {"quantity", "quantities", "amount", "with", "charges"}
                changed = {**group["price"], **case.get("with", {})}
                price = {name: value for name, value in changed.items() if value is not None}
                if "quantity" in case:
                    usage: dict[str, Any] = {"quantity": case["quantity"]}
                else:
                    usage = {"quantities": [{"quantity": quantity} for quantity in case["quantities"]]}
                name = f"{file.stem}-{at}-{number}"
                found.append(Example(name, group["source"], price, usage, case["amount"], case.get("charges")))
    return found


ALL = _examples()
OF_THE_PIPELINE = [
    example for example in ALL if all((quantity * NANOS).denominator == 1 for quantity in example.quantities)
]
"""Quantities of more than nine decimals are for estimates alone."""


def test_there_are_enough_of_them_of_every_model() -> None:
    """No model goes without, no example without its source, and none stands twice."""
    assert len(ALL) >= AT_LEAST
    models = Counter(example.price["model"] for example in ALL)
    assert set(models) == {get_args(shape.model_fields["model"].annotation)[0] for shape in Priced.__subclasses__()}
    assert all(example.source.strip() for example in ALL)
    asked = [orjson.dumps([example.price, example.usage], option=orjson.OPT_SORT_KEYS) for example in ALL]
    assert not [example.name for example, count in zip(ALL, map(asked.count, asked), strict=True) if count > 1]


@pytest.mark.parametrize("example", ALL, ids=[example.name for example in ALL])
def test_the_estimate_is_the_amount(example: Example) -> None:
    """Exact, as the library answers it and as the command prints it; its lines sum to it."""
    request = {"price": example.price, **example.usage}
    found = estimate(request)
    assert found.document()["amount"] == _plain(example.amount), example.source
    assert sum(step.amount for step in found.steps) == found.amount
    assert orjson.loads(answer(orjson.dumps(request))) == found.document()


@pytest.mark.parametrize("example", OF_THE_PIPELINE, ids=[example.name for example in OF_THE_PIPELINE])
def test_the_charges_of_the_period_sum_to_the_amount(example: Example) -> None:
    """To a nano, in the order given; a price by event may be off by half a nano an event."""
    quantities = [int(quantity * NANOS) for quantity in example.quantities]
    price = compile_price(price_from_document(example.price))
    before: tuple[int, ...] | None = None
    charges = []
    for quantity in quantities:
        charge, before = price.advance(before, quantity)
        charges.append(charge)
        if not price.counters:  # by event: a correction needs its period beside it, which the caller keeps
            before = (sum(quantities[: len(charges)]),)
    booked = sum(charges) if charges else None
    total = (booked or 0) + price.due_at_close(booked)
    exact = estimate({"price": example.price, **example.usage}).amount
    if isinstance(price, PerEventPrice):
        assert abs(total - exact) <= Fraction(max(len(charges), 1), 2)
    else:
        assert total == round_half_even(exact.numerator, exact.denominator)
    if example.charges is not None:
        assert charges == example.charges


def _plain(amount: str) -> str:
    """As a source may write it, without the zeros that say nothing."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount
