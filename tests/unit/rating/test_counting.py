"""What depends on the period so far: which period, which price, what may be negative, what must be looked up."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.account import PlanSpan
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.period import parse_time
from tests.fakes.partition import MemoryPartition, event

NANOS = 10**9

CATALOG = """
currency: USD
meters:
  - {id: moved, event_type: moved, quantity: data.money}
  - {id: sold, event_type: sold, quantity: "1"}
  - {id: weight, event_type: weighed, quantity: data.kilos}
  - {id: heap, event_type: heaped, quantity: data.kilos}
  - {id: people, event_type: visited, quantity: data.who, aggregation: unique}
  - {id: peak, event_type: peaked, quantity: data.height, aggregation: max}
  - {id: unpriced, event_type: unpriced, quantity: data.height, aggregation: max}
prices:
  - {id: share, meter: moved, model: percentage, rate_percent: "10", fixed_per_event: "0.5", free_events: 1}
  - {id: deal, meter: sold, model: dynamic, amount_field: data.price, multiplier: "1.5"}
  - {id: kilo, meter: weight, model: per_unit, unit_amount: "0.1"}
  - {id: heaps, meter: heap, model: graduated,
     tiers: [{up_to: 10, unit_amount: "1"}, {up_to: null, unit_amount: "0.5"}]}
  - {id: person, meter: people, model: per_unit, unit_amount: "2"}
  - {id: top, meter: peak, model: per_unit, unit_amount: "1"}
plans:
  - {id: pro, name: Pro, interval: month, amount: "20.00"}
"""


def partition() -> MemoryPartition:
    return MemoryPartition(CATALOG)


def charged(rows: list[dict[str, Any]]) -> list[list[int]]:
    return [[charge["amount"] for charge in row["charges"]] for row in rows]


def test_a_percentage_remembers_its_free_events_and_money_through_a_restart() -> None:
    """The first event is free, the next pays share and fee, a negative one gets its share back and no fee."""
    made = partition()
    rows = made.usage(event(1, "moved", {"money": 10}), event(2, "moved", {"money": 10}))
    made.restart()
    rows += made.usage(event(3, "moved", {"money": 0}), event(4, "moved", {"money": -4}))
    assert charged(rows) == [[0], [1_500_000_000], [500_000_000], [-400_000_000]]
    assert made.of("c").balance == -1_600_000_000


def test_a_dynamic_price_takes_the_amount_from_the_event() -> None:
    """Decimal text or a number, times the multiplier; the row's quantity is the meter's."""
    made = partition()
    rows = made.usage(
        event(1, "sold", {"price": "2.000000001"}),
        event(2, "sold", {"price": 3}),
        event(3, "sold", {}),
        event(4, "sold", {"price": -4}),
        event(5, "sold", {"price": -2}),
    )
    assert charged(rows) == [[3_000_000_002], [4_500_000_000], [], [-6_000_000_000], []]
    assert [row["reason"] for row in rows] == ["", "", "missing_field", "", "out_of_range"]
    assert rows[0]["charges"][0]["quantity"] == NANOS


@pytest.mark.parametrize("kind", ["weighed", "heaped"])
def test_a_negative_quantity_takes_back_what_its_period_has(kind: str) -> None:
    """Down to zero and no further; another period's usage is of no help, and what is refused changes nothing."""
    made = partition()
    rows = made.usage(
        event(1, kind, {"kilos": -1}),
        event(2, kind, {"kilos": 12}),
        event(3, kind, {"kilos": -13}),
        event(4, kind, {"kilos": -12}, time="2026-10-31T23:59:59Z"),
        event(5, kind, {"kilos": -12}),
        event(6, kind, {"kilos": 1}),
    )
    assert [row["reason"] for row in rows] == ["out_of_range", "", "out_of_range", "out_of_range", "", ""]
    price = {"weighed": (1_200_000_000, 100_000_000), "heaped": (11_000_000_000, NANOS)}[kind]
    assert charged(rows) == [[], [price[0]], [], [], [-price[0]], [price[1]]]
    assert rows[4]["postings"][0]["kind"] == "correction"
    assert made.of("c").balance == -price[1]


def test_what_cannot_be_negative_is_not_counted() -> None:
    """Counts of built-in types lie at or above zero: their prices by unit leave nothing in the account."""
    made = MemoryPartition()
    made.usage(
        event(1, "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 3, "output_tokens": 1})
    )
    assert made.of("c").counters == {}


def test_the_period_is_that_of_the_plan_at_the_events_time() -> None:
    """Periods begin at the subscription's anchor, before and without it with the calendar month."""
    made = partition()
    made.usage(event(0, "visited", {"who": "nobody"}, time="2026-08-01T00:00:00Z"))
    account = made.of("c")
    anchor = parse_time("2026-10-15T12:00:00Z")
    account.spans = [PlanSpan(anchor, "pro", "sub", anchor, 1)]
    times = [
        "2026-10-31T00:00:00Z",
        "2026-11-14T00:00:00Z",
        "2026-11-16T00:00:00Z",
        "2026-10-15T00:00:00Z",
        "2026-10-02T00:00:00Z",
    ]
    rows = made.usage(*(event(number, "peaked", {"height": 5}, time=time) for number, time in enumerate(times, 1)))
    assert charged(rows) == [[5 * NANOS], [], [5 * NANOS], [5 * NANOS], []]
    assert [row["subscription_id"] for row in rows] == ["sub", "sub", "sub", "", ""]


def test_values_are_unique_within_a_price_and_a_period_for_ever() -> None:
    """A value counts once a period, by whatever batch; text and number of one spelling are two values."""
    made = partition()
    rows = made.usage(*(event(n, "visited", {"who": who}) for n, who in enumerate(["ann", "bob", "ann", 1, "1"])))
    made.restart()
    rows += made.usage(
        event(6, "visited", {"who": "bob"}),
        event(7, "visited", {"who": "bob"}, time="2026-10-01T00:00:00Z"),
        event(8, "visited", {"who": "bob"}, subject="d"),
        event(9, "visited", {}),
        event(10, "visited", {"who": "cid"}),
    )
    assert [len(row["charges"]) for row in rows] == [1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    assert rows[8]["reason"] == "missing_field"
    assert made.of("c").balance == -12 * NANOS


def test_a_value_that_is_refused_with_its_event_is_not_seen() -> None:
    """Its claim goes with the charge: the next event with the value pays for it."""
    made = partition()
    made.usage(event(0, "visited", {"who": "ann"}))
    account = made.of("c")
    account.balance = -AMOUNT_MAX_NANOS
    rows = made.usage(event(1, "visited", {"who": "bob"}))
    assert rows[0]["reason"] == "amount_overflow"
    account.balance = 0
    rows = made.usage(event(2, "visited", {"who": "bob"}))
    assert charged(rows) == [[2 * NANOS]]


def test_a_meter_without_a_price_has_its_periods_quantity_in_its_rows() -> None:
    """A maximum that nobody charges is still a maximum."""
    made = partition()
    rows = made.usage(*(event(n, "unpriced", {"height": height}) for n, height in enumerate([3, 2, 7])))
    assert [[charge["quantity"] for charge in row["charges"]] for row in rows] == [[3 * NANOS], [], [4 * NANOS]]
