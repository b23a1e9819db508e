"""`flat`: one amount a period."""

from __future__ import annotations

import pytest

from schemas.money import NANOS
from tests.unit.rating.pricing import check, nano, price

FEE = {"model": "flat", "amount": "99.00"}


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        # zuplo.com/docs/articles/monetization/pricing-models: a platform fee of $99.00, whatever the usage
        (FEE, "0", "99"),
        (FEE, "1", "99"),
        (FEE, "123456.789", "99"),
        ({**FEE, "discount_percent": "33.3"}, "1", "66.033"),
    ],
)
def test_worked_examples(fields: dict[str, object], quantity: str, amount: str) -> None:
    """Each example comes to its amount exactly, by total, by steps and by charges."""
    check(fields, quantity, amount)


def test_the_first_event_of_a_period_pays_all_of_it() -> None:
    """Every later event pays nothing, also after usage was taken back to zero."""
    priced = price(**FEE)
    assert priced.charge_after(None, nano("3")) == 99 * NANOS
    assert priced.charge_after(nano("3"), nano("4")) == 0
    assert priced.charge_after(0, nano("4")) == 0
