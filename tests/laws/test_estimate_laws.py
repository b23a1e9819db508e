"""The law between what is asked before and what is charged after: through the whole decider, from raw records."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from rating.estimate import estimate
from schemas.ledger import USAGE
from schemas.money import format_nanos
from tests.fakes.partition import MemoryPartition
from tests.laws.test_rating_laws import ALL_PRICES

QUANTITIES = st.lists(st.one_of(st.integers(0, 10**4), st.integers(0, 10**15)), min_size=1, max_size=8)


def partition_of_one_price(fields: dict[str, Any]) -> MemoryPartition:
    """A partition whose catalogue has this price alone, for what the events `sold` say."""
    meter = {"id": "sold", "event_type": "goods.sold", "quantity": "data.quantity"}
    price = {"amount_field": "data.quantity"} if fields["model"] == "dynamic" else {}
    prices = [{"id": "price", "meter": "sold", **fields, **price}]
    return MemoryPartition(json.dumps({"currency": "USD", "meters": [meter], "prices": prices}))


def sold(number: int, quantity: int, day: int) -> bytes:
    """An event with a quantity as exact as JSON can say it."""
    return (
        b'{"specversion": "1.0", "id": "%d", "source": "test", "type": "goods.sold", "subject": "c",'
        b' "time": "2026-11-%02dT00:00:00Z", "data": {"quantity": %s}}'
    ) % (number, day, format_nanos(quantity).encode())


@given(ALL_PRICES, QUANTITIES, st.data())
def test_the_charges_of_a_period_sum_to_its_estimate(
    fields: dict[str, Any], quantities: list[int], data: st.DataObject
) -> None:
    """Rounded to a nano, whatever batches the events came in and whenever in the period they happened; a price by event
    may be off by half a nano a charge."""
    asked = [{"quantity": format_nanos(quantity)} for quantity in quantities]
    exact = estimate({"price": fields, "quantities": asked}).amount
    partition = partition_of_one_price(fields)
    days = data.draw(st.lists(st.integers(1, 18), min_size=len(quantities), max_size=len(quantities)))
    records = [
        partition.received(sold(number, quantity, day), USAGE)
        for number, (quantity, day) in enumerate(zip(quantities, days, strict=True))
    ]
    cut = data.draw(st.integers(0, len(records)))
    for batch in (records[:cut], records[cut:]):
        if batch:
            partition.take(batch)
    rows = partition.rows()
    assume(all(row["reason"] != "amount_overflow" for row in rows))
    assert {row["outcome"] for row in rows} == {"rated"}
    charges = [charge["amount"] for row in rows for charge in row["charges"]]
    if fields["model"] in ("per_unit", "dynamic"):
        assert abs(sum(charges) - exact) <= Fraction(len(quantities), 2)
    else:
        assert sum(charges) == round(exact)
