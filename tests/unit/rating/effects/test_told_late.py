"""What other services tell after something was missed, twice, or in a state that has no room for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.partition import NOW, MemoryPartition, event, granted

PLANS = """
currency: USD
meters: [{id: chats, event_type: usage.reported}]
plans:
  - {id: pro, interval: month, amount: "0"}
  - {id: team, interval: month, amount: "0"}
"""
RATED = ("rated", "")
NO_EFFECT = ("ignored", "no_effect")
ENDED = [RATED, RATED, NO_EFFECT]


def subscription(number: int, state: str, **data: Any) -> dict[str, Any]:
    return event(number, f"subscription.{state}", {"subscription_id": "s", "plan_id": "pro", **data})


# Events in their order; their outcomes; the plan at the end.
STORIES: list[tuple[list[dict[str, Any]], list[tuple[str, str]], str]] = [
    ([subscription(1, "activated", status="active")], [RATED], "pro"),
    ([subscription(1, "updated", old_plan="pro", new_plan="team")], [RATED], "team"),
    ([subscription(1, "updated", plan_id=None, new_plan="team")], [RATED], "team"),
    ([subscription(1, "updated", new_plan=5)], [("dead_letter", "wrong_type")], ""),
    ([subscription(1, "activated", plan_id=None)], [("dead_letter", "unknown_subscription")], ""),
    ([subscription(1, "canceled")], [("dead_letter", "unknown_subscription")], ""),
    ([subscription(1, "created"), subscription(2, "canceled"), subscription(3, "expired")], ENDED, ""),
    ([subscription(1, "created"), subscription(2, "activated")], [RATED, NO_EFFECT], "pro"),
    ([subscription(1, "usage_exceeded")], [NO_EFFECT], ""),
    ([subscription(1, "created"), subscription(2, "usage_exceeded")], [RATED, RATED], "pro"),
    ([subscription(1, "created"), subscription(2, "canceled"), subscription(3, "usage_exceeded")], ENDED, ""),
    ([event(1, "user.created", {}), event(2, "user.created", {})], [RATED, NO_EFFECT], ""),
    ([event(1, "user.created", {"tier": "pro"}), event(2, "user.created", {"tier": "pro"})], [RATED, NO_EFFECT], "pro"),
    ([event(1, "user.created", {}), event(2, "user.created", {"plan_id": "pro"})], [RATED, RATED], "pro"),
    ([granted(1), event(2, "user.created", {}), event(3, "user.created", {})], [RATED, RATED, NO_EFFECT], ""),
]  # fmt: skip


@pytest.mark.parametrize(("events", "outcomes", "plan"), STORIES)
def test_what_is_told_late_counts_as_far_as_it_can(
    events: list[dict[str, Any]], outcomes: list[tuple[str, str]], plan: str
) -> None:
    """A subscription whose beginning was missed begins with what names its plan; what changes nothing is ignored."""
    partition = MemoryPartition(PLANS)
    partition.account(*events)
    assert [(row["outcome"], row["reason"]) for row in partition.rows()] == outcomes
    account = partition.of("c")
    assert account.plan_at(NOW) == plan


def test_an_order_whose_currency_nobody_knows_can_be_sent_again() -> None:
    """Its credit is not lost: a dead letter says what is missing."""
    partition = MemoryPartition(None)
    order = {"order_id": "o", "order_type": "credits", "total_amount": "5"}
    partition.account(event(1, "order.completed", order), event(1, "order.completed", {**order, "currency": "EUR"}))
    assert [(row["outcome"], row["reason"]) for row in partition.rows()] == [("dead_letter", "missing_field"), RATED]
    assert partition.of("c").balance == 5 * 10**9
