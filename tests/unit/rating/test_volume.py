"""`volume`: all units at the price of the tier reached."""

from __future__ import annotations

import pytest

from schemas.money import NANOS
from tests.unit.rating.pricing import check, nano, price
from tests.unit.rating.test_graduated import tiers

FONTS = {"model": "volume", "tiers": tiers((5, "7", None), (10, "6.5", None), (None, "6", None))}
ZUPLO = {"model": "volume", "tiers": tiers((1000, "0.10", None), (10000, "0.05", None), (None, "0.01", None))}
ORACLE = {"model": "volume", "tiers": tiers((250, "1", None), (500, "2", None), (None, "3", None))}
FLATS = {"model": "volume", "tiers": tiers((5, "5", "10"), (10, "4", "20"), (None, "3", "30"))}


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        # docs.stripe.com/subscriptions/pricing-models/tiered-pricing: fonts
        (FONTS, "1", "7"),
        (FONTS, "5", "35"),
        (FONTS, "6", "39"),
        (FONTS, "20", "120"),
        (FONTS, "25", "150"),
        # zuplo.com/docs/articles/monetization/pricing-models: 15,000 units
        (ZUPLO, "15000", "150"),
        # docs.oracle.com, Banking Liquidity Management, variable amount by number of count: 1000
        (ORACLE, "1000", "3000"),
        # own arithmetic
        (FLATS, "0", "0"),
        (FLATS, "5", "35"),
        (FLATS, "5.000000001", "40.000000004"),
        (FLATS, "10", "60"),
        (FLATS, "11", "63"),
        ({**FLATS, "charge_first_flat_at_zero": True}, "0", "10"),
        ({**FLATS, "charge_first_flat_at_zero": True}, "11", "63"),
        ({**FONTS, "unit_divisor": 100}, "20", "1.2"),
    ],
)
def test_worked_examples(fields: dict[str, object], quantity: str, amount: str) -> None:
    """Each example comes to its amount exactly, by total, by steps and by charges."""
    check(fields, quantity, amount)


def test_reaching_a_cheaper_tier_gives_back_what_the_units_before_it_cost_too_much() -> None:
    """A charge can be negative: the sixth font makes all six cheaper than five and one."""
    priced = price(**ZUPLO)
    assert priced.charge_after(nano("1000"), nano("1001")) == -(100 * NANOS - 50_050_000_000)
    walk = priced.walk((nano("1000"),), nano("1"))
    assert [(step.name, step.quantity, step.amount) for step in walk] == [
        ("tier 2", nano("1001"), 50_050_000_000),
        ("tier 1", -nano("1000"), -100 * NANOS),
    ]
