"""`graduated` and `graduated_percentage`: each tier's units at its price, its flat once it is entered."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidInput
from schemas.money import NANOS
from tests.unit.rating.pricing import check, nano, price


def tiers(*rows: tuple[object, str | None, str | None]) -> list[dict[str, object]]:
    return [{"up_to": up_to, "unit_amount": unit, "flat_amount": flat} for up_to, unit, flat in rows]


FONTS = {"model": "graduated", "tiers": tiers((5, "7", None), (10, "6.5", None), (None, "6", None))}
ZUPLO = {"model": "graduated", "tiers": tiers((1000, "0.10", None), (10000, "0.05", None), (None, "0.01", None))}
AUTUMN = {"model": "graduated", "tiers": tiers((1000, "0.01", None), (10000, "0.008", None), (None, "0.005", None))}
LAGO = {"model": "graduated", "tiers": tiers((100, "1", None), (200, "0.50", None), (None, "0.10", None))}
ORACLE = {"model": "graduated", "tiers": tiers((250, "1", None), (500, "2", None), (None, "3", None))}
ORACLE_FLAT = {"model": "graduated", "tiers": tiers((250, None, "10"), (500, None, "20"), (None, None, "30"))}
FLATS = {"model": "graduated", "tiers": tiers((5, "5", "10"), (10, "4", "20"), (None, "3", "30"))}
FRACTIONS = {"model": "graduated", "tiers": tiers(("0.5", "1", None), ("1.25", "0.1", None), (None, "0.01", None))}
AT_ZERO = {**FLATS, "charge_first_flat_at_zero": True}
MONEY = {
    "model": "graduated_percentage",
    "tiers": [
        {"up_to": 1000, "rate_percent": 1, "flat_amount": "200"},
        {"up_to": 10000, "rate_percent": 2, "flat_amount": "300"},
        {"up_to": None, "rate_percent": 3, "flat_amount": "400"},
    ],
}


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        # docs.stripe.com/subscriptions/pricing-models/tiered-pricing: fonts at $7 to 5, $6.50 to 10, $6 beyond
        (FONTS, "1", "7"),
        (FONTS, "5", "35"),
        (FONTS, "6", "41.5"),
        (FONTS, "20", "127.5"),
        (FONTS, "25", "157.5"),
        # zuplo.com/docs/articles/monetization/pricing-models: 15,000 units
        (ZUPLO, "15000", "600"),
        # docs.useautumn.com/documentation/modelling-pricing/graduated-pricing: 15,000 requests
        (AUTUMN, "15000", "107"),
        # getlago.com/docs/guide/plans/charges/charge-models/graduated: $1 to 100, $0.50 to 200, $0.10 beyond
        (LAGO, "100", "100"),
        (LAGO, "200", "150"),
        (LAGO, "201", "150.1"),
        # docs.oracle.com, Banking Liquidity Management, slab amount by number of count: 1000 with and without unit
        (ORACLE, "1000", "2250"),
        (ORACLE_FLAT, "1000", "60"),
        # own arithmetic: a tier's flat is charged when its first unit is, not when the tier before is full
        (FLATS, "0", "0"),
        (FLATS, "0.000000001", "10.000000005"),
        (FLATS, "1", "15"),
        (FLATS, "5", "35"),
        (FLATS, "5.000000001", "55.000000004"),
        (FLATS, "6", "59"),
        (FLATS, "10", "75"),
        (FLATS, "11", "108"),
        (FLATS, "20", "135"),
        (AT_ZERO, "0", "10"),
        (AT_ZERO, "6", "59"),
        # fractional bounds belong to their tier
        (FRACTIONS, "0.5", "0.5"),
        (FRACTIONS, "0.75", "0.525"),
        (FRACTIONS, "1.25", "0.575"),
        (FRACTIONS, "2.25", "0.585"),
        # one tier alone is per_unit
        ({"model": "graduated", "tiers": tiers((None, "0.0000000375", None))}, "2", "0.000000075"),
        # unit_divisor scales the prices, not the bounds
        ({**LAGO, "unit_divisor": 10}, "201", "15.01"),
        # getlago.com/docs/guide/plans/charges/charge-models/graduated-percentage: $500, then $550, then $4,000
        (MONEY, "500", "205"),
        (MONEY, "1050", "511"),
        (MONEY, "5050", "591"),
        (MONEY, "10000", "690"),
        (MONEY, "10001", "1090.03"),
    ],
)
def test_worked_examples(fields: dict[str, object], quantity: str, amount: str) -> None:
    """Each example comes to its amount exactly, by total, by steps and by charges."""
    check(fields, quantity, amount)


def test_the_transactions_of_lagos_example_cost_what_it_says() -> None:
    """The charges of one period's events are the differences of its totals: $205.00, $306.00, $80.00."""
    priced = price(**MONEY)
    assert priced.charge_after(None, nano("500")) == 205 * NANOS
    assert priced.charge_after(nano("500"), nano("1050")) == 306 * NANOS
    assert priced.charge_after(nano("1050"), nano("5050")) == 80 * NANOS


def test_an_event_across_a_bound_walks_both_tiers() -> None:
    """The walk of an event names each tier it reached into, with its units and its price, and sums to its charge."""
    walk = price(**FLATS).walk((nano("4"),), nano("7"))
    assert [(step.name, step.quantity, step.unit_amount, step.amount) for step in walk] == [
        ("tier 1", nano("1"), 5, 5 * NANOS),
        ("tier 2 flat", 0, None, 20 * NANOS),
        ("tier 2", nano("5"), 4, 20 * NANOS),
        ("tier 3 flat", 0, None, 30 * NANOS),
        ("tier 3", nano("1"), 3, 3 * NANOS),
    ]


def test_the_first_flat_at_zero_is_charged_with_the_first_event_and_only_then() -> None:
    """Before a period's first event the total is 0; after an event of nothing it is what zero usage costs."""
    priced = price(**AT_ZERO)
    assert priced.charge_after(None, 0) == 10 * NANOS
    assert priced.charge_after(0, 0) == 0
    assert priced.charge_after(0, nano("1")) == 5 * NANOS
    assert priced.charge_after(None, nano("1")) == 15 * NANOS


def test_a_period_never_goes_below_zero() -> None:
    """A correction of more than there is has no total to be charged from."""
    with pytest.raises(InvalidInput) as refused:
        price(**FONTS).charge_after(nano("1"), -1)
    assert refused.value.reason == "out_of_range"
