"""Laws of rating: what holds for every price, every quantity and every order of events."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rating.estimate import estimate
from rating.percentage import PercentagePrice
from rating.rate import Price, compile_price
from schemas.catalog import price_from_document
from schemas.errors import InvalidInput
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import NANOS, format_nanos, round_half_even

MONEY = st.integers(0, 10**12).map(lambda digits: f"{digits // 10**11}.{digits % 10**11:011d}")
COUNT = st.one_of(st.integers(1, 10**6), st.integers(1, 10**12).map(lambda n: f"{n // 10**9}.{n % 10**9:09d}"))
COUNTS = COUNT.filter(lambda count: Fraction(count) > 0)
NANO_UNITS = st.one_of(st.integers(0, 10**4), st.integers(0, 10**16))


@st.composite
def tier_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    ends = sorted(set(draw(st.lists(COUNTS.map(str), max_size=5))), key=Fraction)
    distinct = [end for before, end in pairwise(["0", *ends]) if Fraction(end) > Fraction(before)]
    flats = st.one_of(st.none(), MONEY)
    return [{"up_to": end, "unit_amount": draw(MONEY), "flat_amount": draw(flats)} for end in [*distinct, None]]


TIERED = tier_lists()
STEPS = tier_lists().map(lambda tiers: [{"up_to": tier["up_to"], "amount": tier["unit_amount"]} for tier in tiers])
SHARES = tier_lists().map(
    lambda tiers: [
        {"up_to": tier["up_to"], "rate_percent": tier["unit_amount"], "flat_amount": tier["flat_amount"]}
        for tier in tiers
    ]
)
MODELS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"model": st.just("per_unit"), "unit_amount": MONEY}),
    st.fixed_dictionaries({"model": st.just("flat"), "amount": MONEY}),
    st.fixed_dictionaries(
        {
            "model": st.just("package"),
            "package_size": COUNTS,
            "amount": MONEY,
            "rounding": st.sampled_from(("up", "down")),
        }
    ),
    st.fixed_dictionaries({"model": st.sampled_from(("graduated", "volume")), "tiers": TIERED}),
    st.fixed_dictionaries({"model": st.just("stairstep"), "tiers": STEPS, "charge_first_flat_at_zero": st.booleans()}),
    st.fixed_dictionaries({"model": st.just("graduated_percentage"), "tiers": SHARES}),
    st.fixed_dictionaries({"model": st.just("dynamic"), "amount_field": st.just("data.cost"), "multiplier": MONEY}),
)
PERCENTAGES = st.fixed_dictionaries(
    {"model": st.just("percentage"), "rate_percent": MONEY},
    optional={
        "fixed_per_event": MONEY,
        "free_events": st.integers(0, 5),
        "free_amount": MONEY,
        "min_per_event": st.just("0.000000001"),
        "max_per_event": MONEY.filter(lambda amount: Fraction(amount) >= Fraction(1, NANOS)),
    },
)
AROUND = st.fixed_dictionaries(
    {},
    optional={
        "included_quantity": COUNT,
        "discount_percent": st.integers(0, 1000).map(lambda tenths: f"{tenths // 10}.{tenths % 10}"),
        "maximum_amount": MONEY,
        "unit_divisor": COUNTS,
    },
)
PRICES = st.tuples(MODELS, AROUND).map(lambda parts: {**parts[0], **parts[1]})
ALL_PRICES = st.one_of(PRICES, st.tuples(PERCENTAGES, AROUND).map(lambda parts: {**parts[0], **parts[1]}))


def compiled(fields: dict[str, Any]) -> Price:
    return compile_price(price_from_document(fields))


def charges(price: Price, quantities: list[int]) -> list[int]:
    """What a period's events are charged, in this order. A charge beyond the bound is refused: a law of its own."""
    booked = []
    before: tuple[int, ...] | None = None
    for quantity in quantities:
        try:
            charge, after = price.advance(before, quantity)
        except InvalidInput as refusal:
            assume(refusal.reason != "amount_overflow")
            raise
        booked.append(charge)
        before = after or None
    return booked


@given(PRICES, st.lists(NANO_UNITS, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_splitting_and_reordering_a_period_never_changes_its_total(
    fields: dict[str, Any], quantities: list[int], shuffled: Any
) -> None:
    """The charges of a price of the period sum to its rounded total, however usage is split and in whatever order."""
    price = compiled(fields)
    if not price.counters:
        return
    assert not isinstance(price, PercentagePrice)
    exact = price.arithmetic.running().exact(sum(quantities))
    rounded = round_half_even(exact.numerator, exact.denominator)
    assert sum(charges(price, quantities)) == rounded
    shuffled.shuffle(quantities)
    assert sum(charges(price, quantities)) == rounded
    assert charges(price, [sum(quantities)]) == [rounded]


@given(PRICES, st.lists(st.integers(-(10**16), 10**16), min_size=1, max_size=12))
def test_taking_usage_back_ends_where_less_usage_would(fields: dict[str, Any], changes: list[int]) -> None:
    """Corrections that leave the total at or above zero are events like any others."""
    price, total, kept = compiled(fields), 0, []
    for change in changes:
        if total + change >= 0:
            kept.append(change)
            total += change
    if kept and price.counters:
        assert [sum(charges(price, kept))] == charges(price, [total])


@given(
    MODELS.filter(lambda fields: fields["model"] not in ("volume", "stairstep")),
    AROUND,
    NANO_UNITS,
    NANO_UNITS,
)
def test_more_usage_never_costs_less(fields: dict[str, Any], around: dict[str, Any], one: int, more: int) -> None:
    """Where a model has no cheaper tier for all units, its total climbs."""
    total = compiled({**fields, **around}).arithmetic.closing()
    assert total.exact(one) <= total.exact(one + more)


@given(TIERED, NANO_UNITS)
def test_graduated_is_never_dearer_than_all_units_in_its_dearest_tier(
    tiers: list[dict[str, Any]], quantity: int
) -> None:
    """The dearest unit price for all units, and every flat, bound it from above."""
    total = compiled({"model": "graduated", "tiers": tiers}).arithmetic.closing().exact(quantity)
    dearest = max(Fraction(tier["unit_amount"]) for tier in tiers)
    flats = sum(Fraction(tier["flat_amount"] or 0) for tier in tiers) * NANOS
    assert total <= quantity * dearest + flats


@given(TIERED, NANO_UNITS, COUNTS)
def test_graduated_and_volume_equal_a_walk_unit_by_unit(
    tiers: list[dict[str, Any]], quantity: int, divisor: int | str
) -> None:
    """Against totals worked out from the words of the definition, in fractions of units."""
    units, start, graduated, volume = Fraction(quantity, NANOS), Fraction(0), Fraction(0), None
    for tier in tiers:
        end = Fraction(tier["up_to"]) if tier["up_to"] is not None else None
        rate, flat = Fraction(tier["unit_amount"]) / Fraction(divisor), Fraction(tier["flat_amount"] or 0)
        if units > start:
            graduated += (min(units, end) - start if end is not None else units - start) * rate + flat
            if volume is None and (end is None or units <= end):
                volume = units * rate + flat
        start = end if end is not None else start
    for model, expected in (("graduated", graduated), ("volume", volume or Fraction(0))):
        price = compiled({"model": model, "tiers": tiers, "unit_divisor": divisor})
        assert price.arithmetic.closing().exact(quantity) == expected * NANOS


@given(PRICES, NANO_UNITS, NANO_UNITS)
def test_a_walk_sums_exactly_to_the_total_it_explains(fields: dict[str, Any], before: int, more: int) -> None:
    """No step is missing, none is told twice; between two quantities as well."""
    price = compiled(fields)
    assert not isinstance(price, PercentagePrice)
    total = price.arithmetic.running()
    assert sum(step.amount for step in price.arithmetic.steps(before)) == total.exact(before)
    walk = price.arithmetic.walk(before, before + more)
    assert sum(step.amount for step in walk) == total.exact(before + more) - total.exact(before)
    closing = price.arithmetic.steps(before, closing=True)
    assert sum(step.amount for step in closing) == price.arithmetic.closing().exact(before)


@given(PRICES, MONEY, NANO_UNITS)
def test_a_minimum_below_the_maximum_is_what_a_period_comes_to_at_least(
    fields: dict[str, Any], minimum: str, quantity: int
) -> None:
    """The closing total is the running one, or the minimum where that is more, and never beyond the maximum."""
    if "maximum_amount" in fields and Fraction(fields["maximum_amount"]) < Fraction(minimum):
        return
    arithmetic = compiled({**fields, "minimum_amount": minimum}).arithmetic
    assert arithmetic.closing().exact(quantity) == max(arithmetic.running().exact(quantity), Fraction(minimum) * NANOS)


@given(MONEY, COUNTS, st.lists(NANO_UNITS, min_size=1, max_size=20))
def test_an_event_alone_is_charged_within_half_a_nano(amount: str, divisor: int | str, quantities: list[int]) -> None:
    """A price by event rounds each charge once; a period's sum is off by half a nano an event at most. What would be
    beyond the bound is refused, and nothing else."""
    price = compiled({"model": "per_unit", "unit_amount": amount, "unit_divisor": divisor})
    rate = Fraction(amount) / Fraction(divisor)
    for quantity in quantities:
        if round(quantity * rate) > AMOUNT_MAX_NANOS:
            with pytest.raises(InvalidInput) as refused:
                price.charge_after(None, quantity)
            assert refused.value.reason == "amount_overflow"
            continue
        assert abs(price.charge_after(None, quantity) - quantity * rate) <= Fraction(1, 2)
        assert price.charge_after(None, quantity) == round(quantity * rate)


@given(ALL_PRICES, st.lists(NANO_UNITS, min_size=1, max_size=8))
def test_an_estimate_rounded_to_a_nano_is_the_sum_of_the_charges(fields: dict[str, Any], quantities: list[int]) -> None:
    """One arithmetic behind both; a price by event may differ by half a nano a charge."""
    price = compiled(fields)
    asked = [{"quantity": format_nanos(quantity)} for quantity in quantities]
    exact = estimate({"price": fields, "quantities": asked}).amount
    booked = sum(charges(price, quantities))
    if price.counters:
        assert booked == round(exact)
    else:
        assert abs(booked - exact) <= Fraction(len(quantities), 2)


@given(ALL_PRICES, MONEY, st.lists(NANO_UNITS, max_size=6))
def test_charges_and_the_close_come_to_what_the_period_is_worth(
    fields: dict[str, Any], minimum: str, quantities: list[int]
) -> None:
    """With a minimum, and for a period without an event as well."""
    assume("maximum_amount" not in fields or Fraction(fields["maximum_amount"]) >= Fraction(minimum))
    price = compiled({**fields, "minimum_amount": minimum})
    booked = sum(charges(price, quantities)) if quantities else None
    total = (booked or 0) + price.due_at_close(booked)
    exact = price.closed(quantities).amount
    assert abs(total - exact) <= Fraction(1, 2) * (1 if price.counters else max(len(quantities), 1))


@given(PERCENTAGES, AROUND, st.lists(NANO_UNITS, max_size=8))
def test_a_percentage_equals_a_walk_event_by_event(
    fields: dict[str, Any], around: dict[str, Any], quantities: list[int]
) -> None:
    """Against the words of the definition, in fractions of money."""
    included, share = (
        Fraction(around.get("included_quantity", 0)),
        1 - Fraction(around.get("discount_percent", 0)) / 100,
    )
    money = events = total = Fraction(0)
    used = Fraction(0)
    for quantity in quantities:
        event = Fraction(quantity, NANOS)
        wholly_included = used < included and used + event <= included
        used += event
        if wholly_included:
            continue
        paid = min(event, used - included)
        total += _of_one_event(fields, events, money, paid)
        events, money = events + 1, money + paid
    total *= share
    if "maximum_amount" in around:
        total = min(total, Fraction(around["maximum_amount"]))
    assert compiled({**fields, **around}).closed(quantities).amount == total * NANOS


def _of_one_event(fields: dict[str, Any], events: Fraction, money: Fraction, paid: Fraction) -> Fraction:
    bounds = [events >= fields["free_events"]] if "free_events" in fields else []
    if "free_amount" in fields:
        bounds.append(money >= Fraction(fields["free_amount"]))
    if bounds and not any(bounds):
        left = Fraction(fields["free_amount"]) - money if "free_amount" in fields else paid
        if paid <= left:
            return Fraction(0)
        paid -= left
    amount = paid * Fraction(fields["rate_percent"]) / 100 + Fraction(fields.get("fixed_per_event", 0))
    amount = max(amount, Fraction(fields.get("min_per_event", 0)))
    return min(amount, Fraction(fields["max_per_event"])) if "max_per_event" in fields else amount


@given(
    st.tuples(PERCENTAGES, AROUND).map(lambda parts: {**parts[0], **parts[1]}), st.lists(st.integers(-(10**12), 10**12))
)
def test_a_percentage_never_gives_back_more_than_it_took(fields: dict[str, Any], changes: list[int]) -> None:
    """With corrections, a period's charges stay at or above zero, and its counters whole numbers that do as well."""
    price, quantity, charged = compiled(fields), 0, 0
    before: tuple[int, ...] | None = None
    for change in changes:
        if quantity + change < 0:
            with pytest.raises(InvalidInput, match="below zero"):
                price.advance(before, change)
            continue
        quantity += change
        charge, before = price.advance(before, change)
        charged += charge
        assert charged >= 0
        assert before[0] == quantity
        assert all(type(counter) is int and counter >= 0 for counter in before)


@given(PERCENTAGES, st.lists(NANO_UNITS, max_size=6), NANO_UNITS)
def test_one_more_event_never_makes_a_percentage_cheaper(
    fields: dict[str, Any], quantities: list[int], more: int
) -> None:
    """Nothing that an event pays depends on those after it."""
    price = compiled(fields)
    assert price.closed([*quantities, more]).amount >= price.closed(quantities).amount


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**15))
def test_rounding_is_half_even_and_symmetric(numerator: int, denominator: int) -> None:
    """As Python rounds a fraction, and the same on both sides of zero."""
    assert round_half_even(numerator, denominator) == round(Fraction(numerator, denominator))
    assert round_half_even(-numerator, denominator) == -round_half_even(numerator, denominator)


@given(st.integers(-(10**12), 10**12))
def test_a_tie_goes_to_the_even_nano(whole: int) -> None:
    """Halves alone, where roundings differ."""
    rounded = round_half_even(2 * whole + 1, 2)
    assert rounded % 2 == 0
    assert abs(2 * rounded - (2 * whole + 1)) == 1
