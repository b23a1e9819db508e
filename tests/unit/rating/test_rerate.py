"""History rated again: the difference is what the other catalogue would have charged from the beginning."""

from __future__ import annotations

from typing import Any

import pytest

from rating.book import CompiledCatalogue
from rating.rerate import Charge, Line, rerate
from schemas.account import new_account
from schemas.catalog import parse
from schemas.errors import InvalidInput
from schemas.period import Period, parse_time
from tests.fakes.partition import MemoryPartition, reported, tokens

CATALOG = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: calls, event_type: usage.reported}
prices:
  - {id: a, meter: input_tokens, model: per_unit, unit_amount: "0.001"}
  - {id: calls, meter: calls, model: graduated,
     tiers: [{up_to: 10, unit_amount: "1"}, {up_to: null, unit_amount: "0.5"}]}
"""
OTHER = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: calls, event_type: usage.reported}
prices:
  - {id: a, meter: input_tokens, match: {model: m}, model: per_unit, unit_amount: "0.0025"}
  - {id: b, meter: input_tokens, match: {model: n}, model: per_unit, unit_amount: "0.0000000015"}
  - {id: calls, meter: calls, model: volume, tiers: [{up_to: 10, unit_amount: "1"}, {up_to: null, unit_amount: "0.75"}]}
"""
NOVEMBER = Period(parse_time("2026-11-01T00:00:00Z"), parse_time("2026-12-01T00:00:00Z"))
EVENTS = [
    tokens(1, 700),
    reported(2, 8, "calls"),
    tokens(3, 333, model="n", time="2026-11-05T00:00:00Z"),
    reported(4, 7, "calls", time="2026-11-06T00:00:00Z"),
    reported(5, 9, "calls", time="2026-11-09T00:00:00Z"),
]


def charges(catalog: str, events: list[dict[str, Any]]) -> list[Charge]:
    partition = MemoryPartition(catalog)
    rows = partition.usage(*events)
    return [
        Charge(
            row["occurred_at"],
            charge["meter"],
            charge["price_id"],
            tuple(charge["dimensions"].items()),
            charge["currency"],
            charge["quantity"],
            charge["amount"],
        )
        for row in rows
        for charge in row["charges"]
    ]


def rerated(span: Period = NOVEMBER, catalog: str = OTHER) -> list[Line]:
    compiled = CompiledCatalogue(0, parse(catalog))
    return rerate(charges(CATALOG, EVENTS), compiled, new_account("default", "c"), span)


def test_the_lines_are_what_the_other_catalogue_would_have_charged() -> None:
    """Also where it prices by another model, and where a price parts in two."""
    after: dict[str, int] = {}
    for charge in charges(OTHER, EVENTS):
        after[charge.price_id] = after.get(charge.price_id, 0) + charge.amount
    lines = rerated()
    assert {line.name.price_after: line.after for line in lines} == after
    assert [(line.name.meter, line.name.price_before, line.name.price_after) for line in lines] == [
        ("calls", "calls", "calls"),
        ("input_tokens", "a", "a"),
        ("input_tokens", "a", "b"),
    ]
    assert sum(line.before for line in lines) == sum(charge.amount for charge in charges(CATALOG, EVENTS))
    assert sum(line.charges for line in lines) == 5


def test_under_the_same_catalogue_nothing_differs() -> None:
    """Every line, to the nano."""
    assert [line.difference for line in rerated(catalog=CATALOG)] == [0, 0]


def test_a_span_within_a_period_counts_on_from_what_was_before_it() -> None:
    """Two spans add up to the whole, though the price depends on the period so far."""
    middle = parse_time("2026-11-06T00:00:00Z")
    parts = rerated(Period(NOVEMBER.start, middle)) + rerated(Period(middle, NOVEMBER.end))
    assert sum(line.difference for line in parts) == sum(line.difference for line in rerated())
    assert len({line.name.period_start for line in parts}) == 1


def test_an_amount_that_no_price_made_stays() -> None:
    """As a hold settled by amount does."""
    kept = Charge(NOVEMBER.start, "", "", (), "USD", 0, 5)
    (line,) = rerate([kept], CompiledCatalogue(0, parse(OTHER)), new_account("default", "c"), NOVEMBER)
    assert (line.before, line.after) == (5, 5)


@pytest.mark.parametrize(
    ("charge", "reason"),
    [
        (Charge(NOVEMBER.start, "input_tokens", "a", (("model", "z"),), "USD", 1, 1), "no_price"),
        (Charge(NOVEMBER.start, "gone", "a", (), "USD", 1, 1), "no_meter"),
    ],
)
def test_what_the_other_catalogue_cannot_charge_is_refused(charge: Charge, reason: str) -> None:
    """By name: a silent zero would be a gift."""
    with pytest.raises(InvalidInput) as refused:
        rerate([charge], CompiledCatalogue(0, parse(OTHER)), new_account("default", "c"), NOVEMBER)
    assert refused.value.reason == reason
