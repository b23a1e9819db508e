"""`per_unit`: every unit at one price, exact below a nano, rounded once."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidInput
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import NANOS
from tests.unit.rating.pricing import check, nano, price

GPT_4O_INPUT = {"model": "per_unit", "unit_amount": "2.50", "unit_divisor": 1_000_000}
TENTH_OF_A_NANO = {"model": "per_unit", "unit_amount": "0.0000000001"}


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        # zuplo.com/docs/articles/monetization/pricing-models: 100,000 calls at $0.001
        ({"model": "per_unit", "unit_amount": "0.001"}, "100000", "100"),
        # docs.stripe.com/billing/subscriptions/quantities: two sites at $9.99
        ({"model": "per_unit", "unit_amount": "9.99"}, "2", "19.98"),
        # openai.com/api/pricing, 2024: gpt-4o input $2.50 for 1M tokens
        (GPT_4O_INPUT, "1000000", "2.5"),
        (GPT_4O_INPUT, "1", "0.0000025"),
        (GPT_4O_INPUT, "374", "0.000935"),
        # 37.5 nanos a token: exact as long as nobody rounds the price
        ({"model": "per_unit", "unit_amount": "0.0000000375"}, "2", "0.000000075"),
        ({"model": "per_unit", "unit_amount": "0.0000000375"}, "3", "0.0000001125"),
        ({"model": "per_unit", "unit_amount": "0.0375", "unit_divisor": 1_000_000}, "1000003", "0.0375001125"),
        # own arithmetic: fractional quantities, nothing, free
        ({"model": "per_unit", "unit_amount": "0.50"}, "1.25", "0.625"),
        ({"model": "per_unit", "unit_amount": "0.50"}, "0", "0"),
        ({"model": "per_unit", "unit_amount": "0"}, "12", "0"),
        ({"model": "per_unit", "unit_amount": "1", "unit_divisor": 3}, "3", "1"),
        ({"model": "per_unit", "unit_amount": "3.60", "unit_divisor": 3600}, "1", "0.001"),
    ],
)
def test_worked_examples(fields: dict[str, object], quantity: str, amount: str) -> None:
    """Each example comes to its amount exactly, by total, by steps and by charges."""
    check(fields, quantity, amount)


@pytest.mark.parametrize(
    ("tenths", "nanos"), [(4, 0), (5, 0), (6, 1), (14, 1), (15, 2), (16, 2), (24, 2), (25, 2), (26, 3), (35, 4)]
)
def test_a_charge_is_rounded_once_half_even(tenths: int, nanos: int) -> None:
    """A charge that lies between two nanos goes to the nearest, a tie to the even one."""
    assert price(**TENTH_OF_A_NANO).charge(tenths * NANOS) == nanos


def test_a_tie_of_a_correction_is_the_mirror_of_the_tie_it_corrects() -> None:
    """Taking the same usage back charges the same amount back, ties included."""
    priced = price(**TENTH_OF_A_NANO)
    for tenths in range(40):
        booked = priced.charge_after(0, tenths * NANOS)
        assert priced.charge_after(tenths * NANOS, 0) == -booked


def test_a_quotient_that_does_not_end_is_exact_until_the_charge() -> None:
    """A third of a unit's price is not rounded before it is multiplied."""
    priced = price(model="per_unit", unit_amount="0.000000001", unit_divisor=3)
    assert [priced.charge(quantity * NANOS) for quantity in range(7)] == [0, 0, 1, 1, 1, 2, 2]


def test_the_unit_amount_of_a_row_is_for_one_unit() -> None:
    """The price shown beside a charge is by unit, whatever it is written for; without end, to 30 digits."""
    assert price(**GPT_4O_INPUT).unit_amount_text == "0.0000025"
    assert price(model="per_unit", unit_amount="1", unit_divisor=3).unit_amount_text == "0." + "3" * 30


def test_a_charge_beyond_64_bits_is_refused() -> None:
    """One nano beyond the bound is amount_overflow, the bound itself is charged."""
    priced = price(model="per_unit", unit_amount="0.000000001")
    assert priced.charge(AMOUNT_MAX_NANOS * NANOS) == AMOUNT_MAX_NANOS
    with pytest.raises(InvalidInput) as refused:
        priced.charge((AMOUNT_MAX_NANOS + 1) * NANOS)
    assert refused.value.reason == "amount_overflow"


def test_a_negative_quantity_needs_the_total_it_is_taken_from() -> None:
    """Usage is taken back only from usage that is there."""
    priced = price(model="per_unit", unit_amount="2")
    with pytest.raises(InvalidInput, match="below zero"):
        priced.charge(-nano("1"))
    assert priced.charge_after(nano("5"), nano("2")) == -6 * NANOS
    with pytest.raises(InvalidInput, match="below zero"):
        priced.charge_after(nano("1"), -nano("1"))


def test_a_plain_price_charges_each_event_by_itself() -> None:
    """Only what stands around it makes a per_unit price depend on the period."""
    plain = {"model": "per_unit", "unit_amount": "1"}
    assert not price(**plain).cumulative
    assert not price(**plain, discount_percent=10, minimum_amount="5").cumulative
    assert not price(**plain, included_quantity=0).cumulative
    assert price(**plain, included_quantity=1).cumulative
    assert price(**plain, maximum_amount="5").cumulative
