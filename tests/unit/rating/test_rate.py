"""What stands around a model, and in which order."""

from __future__ import annotations

import pytest

from rating.rate import compile_price
from schemas.catalog_shapes import Price, Priced
from schemas.errors import InvalidInput, InvariantBroken
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import NANOS
from tests.unit.rating.pricing import check, closing, nano, price
from tests.unit.rating.test_graduated import FONTS

UNIT = {"model": "per_unit", "unit_amount": "1"}


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        # included quantity
        ({**UNIT, "included_quantity": 100}, "99", "0"),
        ({**UNIT, "included_quantity": 100}, "100", "0"),
        ({**UNIT, "included_quantity": 100}, "100.5", "0.5"),
        ({**FONTS, "included_quantity": 5}, "10", "35"),  # comes off before tiers: 5 at $7, none at $6.50
        # discount
        ({**UNIT, "discount_percent": 10}, "50", "45"),
        ({**UNIT, "discount_percent": "12.5"}, "1", "0.875"),
        ({**UNIT, "discount_percent": 100}, "50", "0"),
        ({**UNIT, "discount_percent": 0}, "50", "50"),
        # minimum, also at zero usage
        ({**UNIT, "minimum_amount": "20"}, "0", "20"),
        ({**UNIT, "minimum_amount": "20"}, "19.5", "20"),
        ({**UNIT, "minimum_amount": "20"}, "20.5", "20.5"),
        # maximum
        ({**UNIT, "maximum_amount": "20"}, "19.5", "19.5"),
        ({**UNIT, "maximum_amount": "20"}, "20.5", "20"),
        ({**UNIT, "maximum_amount": "0"}, "20.5", "0"),
        # the order: included, model, discount, minimum, maximum
        ({**UNIT, "included_quantity": 10, "discount_percent": 50}, "20", "5"),
        ({**UNIT, "discount_percent": 50, "minimum_amount": "8"}, "10", "8"),
        ({**UNIT, "discount_percent": 50, "maximum_amount": "8"}, "20", "8"),
        ({**UNIT, "included_quantity": 10, "discount_percent": 50, "minimum_amount": "3"}, "10", "3"),
        ({**UNIT, "minimum_amount": "7", "maximum_amount": "7"}, "3", "7"),
        ({**UNIT, "minimum_amount": "7", "maximum_amount": "7"}, "30", "7"),
        ({"model": "package", "package_size": 10, "amount": "5", "included_quantity": 10}, "11", "5"),
        ({"model": "flat", "amount": "10", "discount_percent": 25, "maximum_amount": "7"}, "1", "7"),
    ],
)
def test_worked_examples(fields: dict[str, object], quantity: str, amount: str) -> None:
    """Own arithmetic, from the order in which the adjustments are stated to apply."""
    check(fields, quantity, amount)


def test_a_maximum_ends_the_charges_of_a_period() -> None:
    """The event that reaches the maximum pays up to it, those after it nothing."""
    priced = price(**UNIT, maximum_amount="10")
    assert [priced.charge_after(before, before + nano("4")) for before in (0, nano("4"), nano("8"), nano("12"))] == [
        4 * NANOS,
        4 * NANOS,
        2 * NANOS,
        0,
    ]


def test_no_charge_contains_the_minimum() -> None:
    """The pipeline charges usage; what is missing to the minimum is for the close of the period."""
    assert price(**FONTS, minimum_amount="1000").charge_after(None, nano("1")) == 7 * NANOS
    assert price(**UNIT, minimum_amount="1000").charge(nano("1")) == NANOS


def test_the_walk_names_every_adjustment() -> None:
    """Steps are told in their order: included, units, discount, minimum."""
    priced = price(**UNIT, included_quantity=10, discount_percent=50, minimum_amount="20")
    steps = priced.arithmetic.steps(nano("30"), closing=True)
    assert [(step.name, step.amount) for step in steps] == [
        ("included", 0),
        ("units", 20 * NANOS),
        ("discount", -10 * NANOS),
        ("minimum", 10 * NANOS),
    ]


def test_a_price_of_the_period_is_never_asked_for_an_event_alone() -> None:
    """To charge it without the quantity so far is a fault of ours, not of the input."""
    with pytest.raises(InvariantBroken, match="quantity so far"):
        price(**FONTS).charge(1)


def test_a_difference_beyond_64_bits_is_refused() -> None:
    """A charge is bounded also where it is a difference of totals."""
    priced = price(model="graduated", tiers=[{"up_to": None, "unit_amount": "1"}])
    assert priced.charge_after(0, AMOUNT_MAX_NANOS) == AMOUNT_MAX_NANOS
    with pytest.raises(InvalidInput) as refused:
        priced.charge_after(0, AMOUNT_MAX_NANOS + 1)
    assert refused.value.reason == "amount_overflow"


def test_rating_has_every_model_that_a_catalogue_may_have() -> None:
    """What `check` lets pass can be charged."""
    samples: dict[str, dict[str, object]] = {
        "flat": {"amount": "1"},
        "per_unit": {"unit_amount": "1"},
        "package": {"package_size": 1, "amount": "1"},
        "graduated": {"tiers": [{"unit_amount": "1"}]},
        "volume": {"tiers": [{"unit_amount": "1"}]},
        "stairstep": {"tiers": [{"amount": "1"}]},
        "percentage": {"rate_percent": 1},
        "graduated_percentage": {"tiers": [{"rate_percent": 1}]},
        "dynamic": {"amount_field": "data.amount"},
    }
    shapes = {shape.model_fields["model"].annotation.__args__[0]: shape for shape in Priced.__subclasses__()}
    assert set(shapes) == set(samples)
    for model, fields in samples.items():
        shape: Price = shapes[model].model_validate({"id": "p", "meter": "m", "model": model, **fields})
        assert compile_price(shape).model == model


def test_a_quotient_without_end_is_written_with_thirty_digits() -> None:
    """Division is exact; only its text is cut, half even."""
    assert closing(price(**UNIT, unit_divisor=3), "2") == "0." + "6" * 29 + "7"
    assert closing(price(**UNIT, unit_divisor=3), "3") == "1"
    assert closing(price(**UNIT, unit_divisor=7), "1000000") == "142857.142857142857142857142857"
