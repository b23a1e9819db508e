"""Estimates: the pipeline's arithmetic on what is asked for, exact, with the steps that lead there."""

from __future__ import annotations

from typing import Any

import pytest

from rating.estimate import estimate
from schemas.errors import InvalidInput
from tests.unit.rating.test_graduated import FLATS, FONTS

CARDS = {"model": "percentage", "rate_percent": "2.9", "fixed_per_event": "0.30"}
UNIT = {"model": "per_unit", "unit_amount": "1"}


def test_an_estimate_is_the_amount_and_its_lines() -> None:
    """Plain decimals of the major unit; the lines sum to the amount."""
    assert estimate({"price": {**FLATS, "minimum_amount": "100"}, "quantity": "11.5"}).document() == {
        "amount": "109.5",
        "lines": [
            {"name": "tier 1 flat", "quantity": "0", "amount": "10"},
            {"name": "tier 1", "quantity": "5", "unit_amount": "5", "amount": "25"},
            {"name": "tier 2 flat", "quantity": "0", "amount": "20"},
            {"name": "tier 2", "quantity": "5", "unit_amount": "4", "amount": "20"},
            {"name": "tier 3 flat", "quantity": "0", "amount": "30"},
            {"name": "tier 3", "quantity": "1.5", "unit_amount": "3", "amount": "4.5"},
        ],
    }


@pytest.mark.parametrize(
    ("request_", "amount"),
    [
        ({"price": FONTS, "quantity": 6}, "41.5"),
        ({"price": FONTS, "quantities": [{"quantity": 5}, {"quantity": "1"}]}, "41.5"),
        ({"price": FONTS, "quantities": []}, "0"),
        ({"price": UNIT, "quantity": "0.0000000000000000000001"}, "0.0000000000000000000001"),
        ({"price": {**UNIT, "unit_amount": "0.0000000000001"}, "quantity": "3"}, "0.0000000000003"),
        ({"price": {**UNIT, "unit_divisor": 3}, "quantity": "1"}, "0." + "3" * 30),
        ({"price": {**UNIT, "minimum_amount": "7"}, "quantity": 0}, "7"),
        ({"price": {"model": "flat", "amount": "5"}, "quantity": 0}, "5"),
        ({"price": {"model": "flat", "amount": "5", "id": "x", "meter": "y"}, "quantity": 3}, "5"),
        ({"price": UNIT, "quantities": [{"quantity": 5}, {"quantity": "-2"}]}, "3"),
        ({"price": UNIT, "quantities": [{"quantity": 5, "dimensions": {"model": "a"}}]}, "5"),
        ({"price": {**UNIT, "match": {"model": "a"}}, "quantities": [{"quantity": 5}]}, "5"),
        ({"price": {**UNIT, "match": {"m": "a"}}, "quantities": [{"quantity": 5, "dimensions": {"m": "a"}}]}, "5"),
        ({"price": {**UNIT, "match": {"m": 7}}, "quantities": [{"quantity": 5, "dimensions": {"m": 7}}]}, "5"),
        ({"price": {**UNIT, "match": {"m": True}}, "quantities": [{"quantity": 5, "dimensions": {"m": True}}]}, "5"),
        ({"price": UNIT, "quantities": [{"quantity": 5, "dimensions": {"m": None, "n": "x"}}]}, "5"),
        ({"price": CARDS, "quantity": "100"}, "3.2"),
        ({"price": CARDS, "quantities": [{"quantity": "100"}, {"quantity": "50"}]}, "4.95"),
        ({"price": CARDS, "quantities": []}, "0"),
        ({"price": {**CARDS, "minimum_amount": "5"}, "quantities": []}, "5"),
        (
            {"price": {"model": "dynamic", "multiplier": "1.1"}, "quantities": [{"quantity": 1}, {"quantity": "2"}]},
            "3.3",
        ),
    ],
)
def test_an_estimate_is_exact_and_not_rounded(request_: dict[str, Any], amount: str) -> None:
    """Below a nano too; several quantities are the events of one period."""
    assert estimate(request_).document()["amount"] == amount


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"quantity": 1}, "price is missing"),
        ({"price": UNIT}, "exactly one of quantity and quantities"),
        ({"price": UNIT, "quantity": 1, "quantities": []}, "exactly one of quantity and quantities"),
        ({"price": 5, "quantity": 1}, "price: must be a mapping"),
        ({"price": {"model": "cheap"}, "quantity": 1}, "'cheap' is no price model"),
        ({"price": {**UNIT, "unit_amount": 1}, "quantity": 1}, "price.unit_amount: must be decimal text"),
        ({"price": UNIT, "quantity": "1e3"}, "quantity must be decimal text"),
        ({"price": UNIT, "quantity": True}, "quantity must be decimal text"),
        ({"price": UNIT, "quantity": None}, "quantity must be decimal text"),
        ({"price": UNIT, "quantity": 10**30}, "quantity must be decimal text"),
        ({"price": UNIT, "quantity": "-1"}, "the period's quantity would be -1, below zero"),
        ({"price": UNIT, "quantities": [{"quantity": 1}, {"quantity": "-1.5"}]}, "would be -0.5, below zero"),
        ({"price": UNIT, "quantities": 5}, "quantities must be a list"),
        ({"price": UNIT, "quantities": [5]}, "quantities[0] must be an object"),
        ({"price": UNIT, "quantities": [{}]}, "quantities[0].quantity is missing"),
        ({"price": UNIT, "quantities": [{"quantity": "x"}]}, "quantities[0].quantity must be decimal text"),
        ({"price": UNIT, "quantities": [{"quantity": 1, "dimensions": {"m": []}}]}, "quantities[0].dimensions must be"),
        ({"price": UNIT, "quantities": [{"quantity": 1, "dimensions": 5}]}, "quantities[0].dimensions must be"),
        ({"price": UNIT, "quantities": [{"quantity": 0}] * 100_001}, "quantities has 100001 events, more than"),
        (
            {"price": {**UNIT, "match": {"m": "a"}}, "quantities": [{"quantity": 1, "dimensions": {"m": "b"}}]},
            "the price does not match quantities[0].dimensions",
        ),
    ],
)
def test_what_cannot_be_estimated_is_named(request_: dict[str, Any], said: str) -> None:
    """One sentence with the field."""
    with pytest.raises(InvalidInput) as refused:
        estimate(request_)
    assert said in refused.value.detail


def test_the_field_at_fault_has_a_pointer() -> None:
    """For whoever answers over HTTP."""
    with pytest.raises(InvalidInput) as refused:
        estimate({"price": UNIT, "quantities": [{"quantity": 1}, {"quantity": "x"}]})
    assert refused.value.pointer == "/quantities/1/quantity"


def test_events_of_a_percentage_are_told_together() -> None:
    """What is free, at the rate, and the fixed fees of all."""
    answer = estimate({"price": {**CARDS, "free_amount": "60"}, "quantities": [{"quantity": "50"}] * 3}).document()
    assert answer == {
        "amount": "3.21",
        "lines": [
            {"name": "free", "quantity": "60", "unit_amount": "0", "amount": "0"},
            {"name": "rate", "quantity": "90", "unit_amount": "0.029", "amount": "2.61"},
            {"name": "fixed", "quantity": "0", "amount": "0.6"},
        ],
    }
