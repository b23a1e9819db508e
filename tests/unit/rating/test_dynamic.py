"""`dynamic`: the amount comes with the event."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from rating.rate import DynamicPrice
from schemas.errors import InvalidInput, InvariantBroken
from schemas.event import Attributes
from schemas.money import NANOS
from tests.unit.rating.pricing import check, closing, nano, price

COST = {"model": "dynamic", "amount_field": "data.cost"}


@dataclass
class Sent:
    """What a price reads of an event."""

    data: dict[str, Any]
    attributes: Attributes


def sent(data: dict[str, Any], **attributes: Any) -> Sent:
    return Sent(data, attributes)  # type: ignore[arg-type]


def dynamic(**fields: Any) -> DynamicPrice:
    priced = price(**{**COST, **fields})
    assert isinstance(priced, DynamicPrice)
    return priced


@pytest.mark.parametrize(
    ("fields", "quantity", "amount"),
    [
        (COST, "12.34", "12.34"),
        (COST, "0", "0"),
        ({**COST, "multiplier": "1.2"}, "12.34", "14.808"),
        ({**COST, "multiplier": "0"}, "12.34", "0"),
        ({**COST, "multiplier": "1.2", "discount_percent": 50}, "10", "6"),
        ({**COST, "maximum_amount": "10"}, "12.34", "10"),
        ({**COST, "minimum_amount": "20"}, "12.34", "20"),
        ({**COST, "minimum_amount": "20"}, "0", "20"),
        ({**COST, "included_quantity": "2.34", "multiplier": 2}, "12.34", "20"),
        ({**COST, "unit_divisor": 1000}, "12.34", "12.34"),
    ],
)
def test_worked_examples(fields: dict[str, Any], quantity: str, amount: str) -> None:
    """The amount is a quantity that costs the multiplier; a divisor is of unit prices, and there is none."""
    check(fields, quantity, amount)


@pytest.mark.parametrize(
    ("value", "nanos"),
    [
        ("12.34", 12_340_000_000),
        (Decimal("12.34"), 12_340_000_000),
        (7, 7 * NANOS),
        ("-1", -NANOS),
        (Decimal("1E-9"), 1),
        (0, 0),
    ],
)
def test_an_amount_is_text_or_a_number(value: Any, nanos: int) -> None:
    """As money may come."""
    assert dynamic().amount_of(sent({"cost": value})) == nanos


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        ({}, "missing_field", "data.cost is missing"),
        ({"cost": None}, "missing_field", "data.cost is missing"),
        ({"cost": "much"}, "wrong_type", "data.cost is no amount"),
        ({"cost": "1e3"}, "wrong_type", "data.cost is no amount"),
        ({"cost": True}, "wrong_type", "data.cost is no amount"),
        ({"cost": [1]}, "wrong_type", "data.cost is no amount"),
        ({"cost": Decimal("NaN")}, "wrong_type", "data.cost is no amount"),
        ({"cost": Decimal("1E+999999")}, "out_of_range", "data.cost is beyond"),
        ({"cost": 10**30}, "amount_overflow", "data.cost is beyond"),
    ],
)
def test_an_event_without_a_usable_amount_names_the_field(data: dict[str, Any], reason: str, said: str) -> None:
    """A dead letter that says what is missing."""
    with pytest.raises(InvalidInput, match=said) as refused:
        dynamic().amount_of(sent(data))
    assert (refused.value.reason, refused.value.pointer) == (reason, "/data/cost")


def test_a_field_lies_anywhere_in_the_event() -> None:
    """Deeper in the data, or in the envelope."""
    assert dynamic(amount_field="data.bill.total").amount_of(sent({"bill": {"total": "3"}})) == 3 * NANOS
    assert dynamic(amount_field="cost").amount_of(sent({}, cost="4")) == 4 * NANOS
    assert dynamic(amount_field="cost").amount_of(sent({"cost": "5"}, cost="4")) == 5 * NANOS
    with pytest.raises(InvalidInput, match=r"data\.bill\.total is missing"):
        dynamic(amount_field="data.bill.total").amount_of(sent({"bill": 3}))


def test_an_amount_is_rounded_once() -> None:
    """After the multiplier, so that what lies below a nano still counts."""
    priced = dynamic(multiplier=3)
    amount = priced.amount_of(sent({"cost": "0.0000000005"}))
    assert priced.advance(None, amount) == (2, ())
    assert dynamic().advance(None, amount) == (0, ())
    assert closing(priced, "0.0000000005") == "0.0000000015"


def test_only_a_bounded_period_has_a_counter() -> None:
    """What an event pays depends on those before it where a maximum or an included amount says so."""
    assert dynamic(minimum_amount="5", discount_percent=10).counters == ()
    bounded = dynamic(maximum_amount="10")
    assert bounded.counters == ("",)
    assert bounded.advance(None, nano("8")) == (8 * NANOS, (nano("8"),))
    assert bounded.advance((nano("8"),), nano("8")) == (2 * NANOS, (nano("16"),))
    assert bounded.advance((nano("16"),), nano("-8")) == (-2 * NANOS, (nano("8"),))


def test_money_taken_back_needs_a_period_to_take_it_from() -> None:
    """As with any price, a negative amount alone is refused, and one beside its period is not."""
    with pytest.raises(InvalidInput, match="below zero"):
        dynamic().advance(None, nano("-1"))
    assert dynamic(multiplier=2).advance((nano("5"),), nano("-1")) == (-2 * NANOS, (nano("4"),))
    with pytest.raises(InvalidInput, match="below zero"):
        dynamic().advance((nano("5"),), nano("-6"))


def test_it_is_never_charged_by_its_meters_quantity() -> None:
    """That would be a fault of ours."""
    with pytest.raises(InvariantBroken, match="own amount"):
        dynamic().charge(1)


def test_a_walk_says_which_amount_was_multiplied() -> None:
    """By event, and within a bounded period."""
    steps = dynamic(multiplier="1.5").walk(None, nano("2"))
    assert [(step.name, step.quantity, step.amount) for step in steps] == [("amount", nano("2"), 3 * NANOS)]
    steps = dynamic(maximum_amount="3").walk((nano("2"),), nano("2"))
    assert [(step.name, step.amount) for step in steps] == [("amount", 2 * NANOS), ("maximum", -NANOS)]


def test_a_charge_tells_the_amount_behind_it() -> None:
    """The amount itself is not booked; what was charged leads back to it."""
    priced = dynamic(multiplier="1.2", discount_percent=50)
    for amount in (0, 1, 7, 12_340_000_000):
        charge, _ = priced.advance(None, amount)
        behind = priced.amount_behind(charge)
        assert behind is not None
        assert priced.advance(None, behind)[0] == charge
    assert priced.amount_behind(7_404_000_000) == 12_340_000_000
    assert dynamic(multiplier=0).amount_behind(0) is None
    assert dynamic(maximum_amount="1").amount_behind(1) is None
