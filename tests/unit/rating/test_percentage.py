"""`percentage`: of each event's money a share and a fixed fee, some of it free."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from rating.arithmetic import sum_of
from rating.model import exact_text
from rating.percentage import PercentagePrice
from schemas.errors import InvalidInput, InvariantBroken
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import NANOS, round_half_even
from tests.unit.rating.pricing import nano, price

CARDS = {"model": "percentage", "rate_percent": "2.9", "fixed_per_event": "0.30"}
ALLOWED = {
    "model": "percentage",
    "rate_percent": "1.2",
    "fixed_per_event": "0.10",
    "free_events": 3,
    "free_amount": "500",
}


@pytest.mark.parametrize(
    ("fields", "events", "amounts"),
    [
        # stripe.com/pricing: 2.9 % + 30 cents a successful card charge
        (CARDS, ["100"], ["3.2"]),
        (CARDS, ["100", "10.01"], ["3.2", "0.59029"]),
        (CARDS, ["0"], ["0.3"]),
        # the allowance ends by events
        (ALLOWED, ["100", "50", "20", "100"], ["0", "0", "0", "1.3"]),
        # or by money, whichever is first; who crosses pays the rate on the excess and the whole fixed fee
        (ALLOWED, ["400", "150", "100"], ["0", "0.7", "1.3"]),
        (ALLOWED, ["500", "1"], ["0", "0.112"]),
        ({**CARDS, "free_amount": "10"}, ["4", "6", "0"], ["0", "0", "0.3"]),
        ({**CARDS, "free_events": 2}, ["1000000", "1", "1"], ["0", "0", "0.329"]),
        ({**CARDS, "free_events": 0}, ["100"], ["3.2"]),
        ({**CARDS, "free_events": 0, "free_amount": "100"}, ["100"], ["3.2"]),
        # bounds of each event, after rate and fixed fee; a free one does not pay the minimum
        ({**CARDS, "min_per_event": "1"}, ["10", "100"], ["1", "3.2"]),
        ({**CARDS, "max_per_event": "3"}, ["10", "100"], ["0.59", "3"]),
        ({**CARDS, "min_per_event": "1", "free_events": 1}, ["10", "10"], ["0", "1"]),
        ({**CARDS, "min_per_event": "1", "free_amount": "10"}, ["10", "0.5"], ["0", "1"]),
        ({**CARDS, "min_per_event": "1", "max_per_event": "1"}, ["10", "1000"], ["1", "1"]),
        # what stands around
        ({**CARDS, "included_quantity": "50"}, ["40", "60", "100"], ["0", "1.75", "3.2"]),
        ({**CARDS, "included_quantity": "50", "free_events": 1}, ["40", "60", "100"], ["0", "0", "3.2"]),
        ({**CARDS, "discount_percent": 50}, ["100"], ["1.6"]),
        ({**CARDS, "maximum_amount": "5"}, ["100", "100", "100"], ["3.2", "1.8", "0"]),
        ({**CARDS, "discount_percent": 50, "maximum_amount": "2"}, ["100", "100"], ["1.6", "0.4"]),
        ({**CARDS, "minimum_amount": "50"}, ["100"], ["3.2"]),
        # what is taken out of a period gives back its rate, and no fixed fee
        (CARDS, ["100", "-100"], ["3.2", "-2.9"]),
        (ALLOWED, ["600", "-50", "-50", "-100"], ["1.3", "-0.6", "-0.6", "0"]),
        (ALLOWED, ["1", "1", "1", "100", "-50"], ["0", "0", "0", "1.3", "-0.6"]),
        ({**CARDS, "max_per_event": "1"}, ["100", "-50"], ["1", "-1"]),
    ],
)
def test_worked_examples(fields: dict[str, Any], events: list[str], amounts: list[str]) -> None:
    """Event by event, as the ledger has them; the walk of each charge and the period's total say the same."""
    priced = price(**fields)
    assert isinstance(priced, PercentagePrice)
    before, charges, walked = None, [], []
    for event in events:
        walked.append(sum_of(priced.walk(before, nano(event))))
        charge, before = priced.advance(before, nano(event))
        charges.append(exact_text(Fraction(charge, NANOS)))
    assert charges == amounts
    assert [exact_text(amount / NANOS) for amount in walked] == amounts
    total = sum(Fraction(amount) for amount in amounts)
    closed = priced.closed([nano(event) for event in events])
    assert closed.amount == NANOS * max(total, Fraction(fields.get("minimum_amount", 0)))
    assert sum(step.amount for step in closed.steps) == closed.amount


def test_no_event_is_nothing_but_the_minimum() -> None:
    """A fixed fee is of an event."""
    assert price(**CARDS).closed([]).amount == 0
    assert price(**CARDS, minimum_amount="5").closed([]).amount == 5 * NANOS
    assert price(**CARDS).due_at_close(None) == 0
    assert price(**CARDS, minimum_amount="5").due_at_close(None) == 5 * NANOS
    assert price(**CARDS, minimum_amount="5").due_at_close(2 * NANOS) == 3 * NANOS
    assert price(**CARDS, minimum_amount="5").due_at_close(6 * NANOS) == 0


def test_charges_below_a_nano_add_up() -> None:
    """Forty events of a tenth of a nano are four nanos: differences of rounded totals, not rounded events."""
    priced = price(model="percentage", rate_percent="10")
    before, charged = None, 0
    for _ in range(40):
        charge, before = priced.advance(before, 1)
        charged += charge
    assert charged == 4
    assert before is not None
    assert before[:2] == (40, 40)


def test_counters_are_whole_numbers_of_any_price() -> None:
    """The exact total is packed, however many places a rate and a discount have."""
    priced = price(model="percentage", rate_percent="0." + "3" * 30, discount_percent="0." + "7" * 30)
    before, exact = None, Fraction(0)
    share = Fraction("0." + "3" * 30) / 100 * (1 - Fraction("0." + "7" * 30) / 100)
    for quantity in (1, 10**15 + 1, 7):
        _, before = priced.advance(before, quantity)
        exact += quantity * share
    again, after = priced.advance(before, 10**12)
    assert all(type(counter) is int and counter >= 0 for counter in after)
    both = exact + 10**12 * share
    assert again == round_half_even(both.numerator, both.denominator) - round_half_even(
        exact.numerator, exact.denominator
    )


def test_a_walk_tells_every_step_of_an_event() -> None:
    """Included, free, rate, fixed fee, bound, discount and maximum, in this order."""
    priced = price(
        model="percentage",
        rate_percent=10,
        fixed_per_event="1",
        included_quantity=5,
        free_amount="5",
        min_per_event="4",
        discount_percent=50,
        maximum_amount="1",
    )
    assert [(step.name, step.quantity, step.amount) for step in priced.walk(None, nano("20"))] == [
        ("included", nano("5"), 0),
        ("free", nano("5"), 0),
        ("rate", nano("10"), NANOS),
        ("fixed", 0, NANOS),
        ("minimum per event", 0, 2 * NANOS),
        ("discount", 0, -2 * NANOS),
        ("maximum", 0, -NANOS),
    ]


def test_what_cannot_be_charged_is_refused() -> None:
    """Below zero, beyond 64 bits, and without the period so far."""
    with pytest.raises(InvalidInput, match="below zero"):
        price(**CARDS).advance(None, -1)
    with pytest.raises(InvalidInput) as refused:
        price(model="percentage", rate_percent=200).advance(None, AMOUNT_MAX_NANOS)
    assert refused.value.reason == "amount_overflow"
    with pytest.raises(InvariantBroken, match="period so far"):
        price(**CARDS).charge(1)


def test_a_period_goes_on_when_its_price_is_changed() -> None:
    """The total so far is exact whatever price it was charged at, with more places than the new one or fewer."""
    fine = price(model="percentage", rate_percent="0.00000000001")
    coarse = price(model="percentage", rate_percent="100")
    charged, so_far = fine.advance(None, 6 * 10**12)
    assert charged == 1  # six tenths of a nano
    charged, so_far = coarse.advance(so_far, 5)
    assert charged == 5  # from 0.6 to 5.6: rounded 6 less rounded 1
    charged, so_far = fine.advance(so_far, 8 * 10**12)
    assert charged == 0  # to 6.4
    charged, _ = coarse.advance(so_far, 1)
    assert charged == 1
