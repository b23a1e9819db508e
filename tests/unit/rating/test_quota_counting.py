"""What quotas count of rated events, and what is told of it: each once a window, in the entry that caused it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rating.quotas import Used, usage
from schemas.account import NO_TERMS
from schemas.period import parse_time
from tests.fakes.partition import MemoryPartition, event

NANOS = 10**9

CATALOG = """
currency: USD
meters:
  - {id: chats, event_type: usage.reported}
  - {id: calls, event_type: called, quantity: data.calls, dimensions: [api_key]}
  - {id: peak, event_type: peaked, quantity: data.height, aggregation: max}
prices:
  - {id: chat, meter: chats, model: per_unit, unit_amount: "1"}
  - {id: call, meter: calls, model: per_unit, unit_amount: "2"}
plans:
  - id: pro
    name: Pro
    interval: month
    amount: "0.00"
    quotas:
      - {meter: chats, limit: 10, window: day, mode: soft, thresholds: [50, 80, 100]}
      - {spend: "20.00", window: month, mode: soft, thresholds: [100]}
      - {meter: calls, limit: 5, window: "sliding:1h", per: api_key, thresholds: [100]}
      - {meter: chats, limit: 4, window: "session:1h", per: user, thresholds: [50]}
      - {meter: peak, limit: 8, window: period, thresholds: [50]}
"""


def partition() -> MemoryPartition:
    made = MemoryPartition(CATALOG)
    made.usage(event(0, "usage.reported", {"meter": "chats", "quantity": 0}))
    made.of("c").plan = "pro"
    return made


def chats(number: int, quantity: int, time: str = "2026-11-01T00:00:00Z", **more: Any) -> Any:
    return event(number, "usage.reported", {"meter": "chats", "quantity": quantity, **more}, time=time)


def told(made: MemoryPartition, kinds: str = "quota.") -> list[tuple[str, str, Any, str]]:
    """Type, quota, threshold and the entry's place of what stands on billing.events."""
    found = []
    for chunk in made.decided:
        for message in chunk.messages:
            if message.topic == "billing.events":
                sent = orjson.loads(message.value or b"")
                if sent["type"].startswith(kinds):
                    data = sent["data"]
                    found.append((sent["type"], data["quota"], data.get("threshold"), sent["id"].split("-")[1]))
    return found


def standing(made: MemoryPartition, quota: str, now: str, scope: str = "") -> Used:
    catalogue = made.book.catalogue("default", 1)
    assert catalogue is not None
    (rule,) = [rule for rule in catalogue.quotas_of("pro") if rule.id == quota]
    return usage(rule, made.of("c"), scope, parse_time(now))


def test_thresholds_are_told_once_a_window_and_so_is_its_end() -> None:
    """50, 80, 100 percent, beyond, and in the next window that it holds again."""
    made = partition()
    made.usage(chats(1, 4), chats(2, 1), chats(3, 4))
    made.restart()
    made.usage(chats(4, 1), chats(5, 1), chats(6, 3), chats(7, 1, "2026-11-02T00:00:00Z"))
    of_day = [row for row in told(made) if row[1] == "chats:day:customer:soft"]
    assert of_day == [
        ("quota.threshold_reached", "chats:day:customer:soft", 50, "2"),
        ("quota.threshold_reached", "chats:day:customer:soft", 80, "3"),
        ("quota.threshold_reached", "chats:day:customer:soft", 100, "4"),
        ("quota.exceeded", "chats:day:customer:soft", None, "5"),
        ("quota.recovered", "chats:day:customer:soft", None, "7"),
    ]
    assert standing(made, "chats:day:customer:soft", "2026-11-02T01:00:00Z").quantity == NANOS


def test_one_event_may_reach_several_thresholds() -> None:
    """Each is told, in order, with what is used and when it ends."""
    made = partition()
    made.usage(chats(1, 11))
    assert [row[:3] for row in told(made) if row[1].startswith("chats:day")] == [
        ("quota.threshold_reached", "chats:day:customer:soft", 50),
        ("quota.threshold_reached", "chats:day:customer:soft", 80),
        ("quota.threshold_reached", "chats:day:customer:soft", 100),
        ("quota.exceeded", "chats:day:customer:soft", None),
    ]
    (message, *_) = [
        message for chunk in made.decided for message in chunk.messages if b"quota." in (message.value or b"")
    ]
    sent = orjson.loads(message.value or b"")
    assert (sent["subject"], sent["tenantid"]) == ("c", "default")
    assert sent["data"] == {
        "quota": "chats:day:customer:soft",
        "meter": "chats",
        "per": "customer",
        "scope": None,
        "window": "day",
        "window_id": "2026-11-01",
        "used": "11",
        "limit": "10",
        "resets_at": "2026-11-02T00:00:00Z",
        "threshold": 50,
    }


def test_money_counts_by_what_was_charged() -> None:
    """Of every meter."""
    made = partition()
    made.usage(chats(1, 18), event(2, "called", {"calls": 1}))
    assert standing(made, "spend:month:customer:soft", "2026-11-10T00:00:00Z").quantity == 20 * NANOS
    assert ("quota.threshold_reached", "spend:month:customer:soft", 100, "2") in told(made)


def test_users_and_dimensions_are_counted_apart() -> None:
    """Usage that names none is in no quota of theirs."""
    made = partition()
    made.usage(
        event(1, "called", {"calls": 3, "api_key": "a"}),
        event(2, "called", {"calls": 4, "api_key": "b"}),
        event(3, "called", {"calls": 9}),
        chats(4, 2, user_id="u"),
        chats(5, 1),
    )
    at = "2026-11-01T00:00:30Z"
    assert standing(made, "calls:sliding:1h:api_key", at, "a").quantity == 3 * NANOS
    assert standing(made, "calls:sliding:1h:api_key", at, "b").quantity == 4 * NANOS
    assert standing(made, "chats:session:1h:user", at, "u").quantity == 2 * NANOS
    assert told(made, "quota.threshold")[-1][:3] == ("quota.threshold_reached", "chats:session:1h:user", 50)


def test_a_sliding_window_tells_again_after_usage_fell() -> None:
    """It has no end at which all begins anew."""
    made = partition()
    for number, (calls, time) in enumerate(
        [(5, "10:00:00"), (1, "10:01:00"), (1, "11:30:00"), (5, "11:31:00")], start=1
    ):
        made.usage(event(number, "called", {"calls": calls, "api_key": "a"}, time=f"2026-11-01T{time}Z"))
    assert [row[0] for row in told(made) if row[1].startswith("calls")] == [
        "quota.threshold_reached",
        "quota.exceeded",
        "quota.recovered",
        "quota.threshold_reached",
        "quota.exceeded",
    ]


def test_a_quota_on_a_maximum_holds_the_periods() -> None:
    """3, then 9 of 8: not twelve."""
    made = partition()
    made.usage(event(1, "peaked", {"height": 3}), event(2, "peaked", {"height": 9}), event(3, "peaked", {"height": 5}))
    assert standing(made, "peak:period:customer", "2026-11-10T00:00:00Z").quantity == 9 * NANOS


@pytest.mark.parametrize("kind", ["duplicate", "dead_letter"])
def test_what_is_not_rated_is_not_counted(kind: str) -> None:
    """A repeat and a dead letter move no quota."""
    made = partition()
    made.usage(chats(1, 3))
    before = dict(made.of("c").counters)
    rows = made.usage(chats(1, 3) if kind == "duplicate" else event(2, "usage.reported", {"meter": "none"}))
    assert rows[0]["outcome"] == kind
    assert made.of("c").counters == before


def test_customers_without_a_plan_have_no_quota_counters() -> None:
    """Nothing is counted for whom nothing bounds."""
    made = MemoryPartition(CATALOG)
    made.usage(chats(1, 100))
    assert made.of("c").terms == NO_TERMS
    assert made.of("c").counters == {}


def test_windows_that_are_over_make_room() -> None:
    """Thousands of users leave no more than those of the present."""
    made = partition()
    for hour in range(3):
        made.usage(
            *(chats(f"{hour}-{n}", 1, f"2026-11-0{hour + 1}T00:00:00Z", user_id=f"u{n}-{hour}") for n in range(60))
        )
    users = [key for key in made.of("c").counters if key.startswith("q:21:chats:session:1h:user")]
    assert 60 <= len(users) <= 64
    assert all(key.endswith("-2") for key in users[-50:])
