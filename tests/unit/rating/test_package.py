"""`package`: whole packages, begun ones counted or not."""

from __future__ import annotations

import pytest

from schemas.money import NANOS
from tests.unit.rating.pricing import check, nano, price

RENTAL = {"model": "package", "package_size": 60, "amount": "10", "rounding": "up"}
SEATS = {"model": "package", "package_size": 5, "amount": "10"}
CALLS = {"model": "package", "package_size": 100, "amount": "5", "included_quantity": 100}
DOWN = {"model": "package", "package_size": 5, "amount": "10", "rounding": "down"}


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        # docs.stripe.com/billing/subscriptions/usage-based/transform-quantities: 150 minutes at $10 an hour, rounded up
        (RENTAL, "150", "30"),
        # stripe.com/docs/billing/subscriptions/quantity-transformation: $10 for every 5 users or part of 5
        (SEATS, "1", "10"),
        (SEATS, "3", "10"),
        (SEATS, "5", "10"),
        (SEATS, "6", "20"),
        (SEATS, "7", "20"),
        # the same, rounded down: only full groups of 5
        (DOWN, "1", "0"),
        (DOWN, "4.999999999", "0"),
        (DOWN, "5", "10"),
        (DOWN, "7", "10"),
        (DOWN, "10", "20"),
        # getlago.com/docs/guide/plans/charges/charge-models/package: $5 for 100, the first 100 free, 201 used
        (CALLS, "201", "10"),
        (CALLS, "200", "5"),
        (CALLS, "101", "5"),
        (CALLS, "100", "0"),
        # chargebee.com/docs/billing/2.0/product-catalog/package-pricing: $1.25 for 1M tokens
        ({"model": "package", "package_size": 1_000_000, "amount": "1.25"}, "10", "1.25"),
        ({"model": "package", "package_size": 1_000_000, "amount": "1.25"}, "1000000", "1.25"),
        ({"model": "package", "package_size": 1_000_000, "amount": "1.25"}, "1500000", "2.5"),
        # own arithmetic: zero usage, fractional sizes and quantities
        (SEATS, "0", "0"),
        (SEATS, "0.000000001", "10"),
        (SEATS, "5.000000001", "20"),
        ({"model": "package", "package_size": "0.25", "amount": "0.10"}, "1.1", "0.5"),
        ({"model": "package", "package_size": "0.25", "amount": "0.10", "rounding": "down"}, "1.1", "0.4"),
        ({"model": "package", "package_size": "0.0000000003", "amount": "1"}, "0.000000001", "4"),
    ],
)
def test_worked_examples(fields: dict[str, object], quantity: str, amount: str) -> None:
    """Each example comes to its amount exactly, by total, by steps and by charges."""
    check(fields, quantity, amount)


def test_a_package_that_an_earlier_event_began_is_not_charged_again() -> None:
    """Packages fill up over the period: an event pays only for those that it begins."""
    priced = price(**SEATS)
    charges = [priced.charge_after(before, before + nano("2")) for before in range(0, nano("10"), nano("2"))]
    assert charges == [10 * NANOS, 0, 10 * NANOS, 0, 0]


def test_a_correction_gives_a_package_back_when_it_empties_it() -> None:
    """Taking usage back below a package's first unit charges that package back."""
    priced = price(**SEATS)
    assert priced.charge_after(nano("6"), nano("5")) == -10 * NANOS
    assert priced.charge_after(nano("5"), nano("4")) == 0
