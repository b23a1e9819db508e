"""`stairstep`: the amount of the tier reached."""

from __future__ import annotations

import pytest

from schemas.money import NANOS
from tests.unit.rating.pricing import check, nano, price

MESSAGES = {
    "model": "stairstep",
    "tiers": [
        {"up_to": 1000, "amount": "50"},
        {"up_to": 5000, "amount": "200"},
        {"up_to": 10000, "amount": "350"},
        {"up_to": None, "amount": "500"},
    ],
}


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        # docs.flexprice.io/docs/product-catalogue/plans/billing-models/package: messages by range
        (MESSAGES, "1500", "200"),
        (MESSAGES, "4500", "200"),
        # own arithmetic
        (MESSAGES, "1", "50"),
        (MESSAGES, "1000", "50"),
        (MESSAGES, "1000.000000001", "200"),
        (MESSAGES, "5000", "200"),
        (MESSAGES, "10001", "500"),
        (MESSAGES, "0", "0"),
        ({**MESSAGES, "charge_first_flat_at_zero": True}, "0", "50"),
        ({**MESSAGES, "charge_first_flat_at_zero": True}, "1500", "200"),
    ],
)
def test_worked_examples(fields: dict[str, object], quantity: str, amount: str) -> None:
    """Each example comes to its amount exactly, by total, by steps and by charges."""
    check(fields, quantity, amount)


def test_a_step_charges_the_difference_to_the_one_before() -> None:
    """The event that reaches the next step pays what it adds, all others nothing."""
    priced = price(**MESSAGES)
    assert priced.charge_after(None, nano("1")) == 50 * NANOS
    assert priced.charge_after(nano("1"), nano("1000")) == 0
    assert priced.charge_after(nano("1000"), nano("1001")) == 150 * NANOS
