"""Subscriptions: every state and action by the table, periods and anchors, trials, recurring credits."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from rating import recurring
from rating.subscription_document import from_document, to_document
from rating.subscriptions import (
    ENDED,
    LIVE,
    TRANSITIONS,
    Action,
    IllegalTransition,
    Item,
    Status,
    billed,
    cancel_at_period_end,
    change,
    change_at_period_end,
    create,
    moved,
    pause,
    reactivate,
    renew,
    respanned,
    resume,
    unbilled,
)
from schemas.account import PAID, Grant, PlanSpan
from schemas.catalog_shapes import Plan
from schemas.money import NANOS
from schemas.period import DAY, Period, format_time, parse_time

T0 = parse_time("2026-01-31T10:00:00Z")
PRO = Plan.model_validate({"id": "pro", "interval": "month", "amount": "20"})
MAX = Plan.model_validate({"id": "max", "interval": "month", "amount": "50"})
YEAR = Plan.model_validate({"id": "year", "interval": "year", "amount": "200"})


@pytest.mark.parametrize("status", get_args(Status))
@pytest.mark.parametrize("action", get_args(Action))
def test_what_is_not_in_the_table_is_refused(status: Status, action: Action) -> None:
    """Every pair either leads to a state or is illegal, and an ended one only comes back by reactivation."""
    if (status, action) in TRANSITIONS:
        assert moved(status, action) in get_args(Status)
        assert status not in ENDED or action == "reactivate"
    else:
        with pytest.raises(IllegalTransition):
            moved(status, action)


def test_every_live_state_can_end_and_be_changed() -> None:
    """No live state is a dead end."""
    for status in LIVE:
        assert {action for of, action in TRANSITIONS if of == status} >= {"change", "cancel", "expire", "pause"}


def test_periods_keep_the_anchors_day() -> None:
    """From the last of January on: the end of each month, and the 31st again where there is one."""
    subscription = create("s", PRO, T0)
    ends = []
    for _ in range(4):
        ends.append(format_time(subscription.period.end))
        subscription = renew(subscription, PRO)
    assert ends == ["2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z", "2026-05-31T10:00:00Z"]


def test_a_leap_day_has_its_anniversary_a_day_earlier() -> None:
    """A yearly plan begun on 29 February."""
    subscription = create("s", YEAR, parse_time("2028-02-29T00:00:00Z"))
    assert format_time(subscription.period.end) == "2029-02-28T00:00:00Z"


def test_an_anchor_ahead_makes_a_first_part_of_a_period() -> None:
    """Begun on 20 January with the first of February as the anchor."""
    subscription = create("s", PRO, parse_time("2026-01-20T00:00:00Z"), anchor=parse_time("2026-02-01T00:00:00Z"))
    assert format_time(subscription.period.end) == "2026-02-01T00:00:00Z"


def test_a_trial_is_billed_from_its_end_on() -> None:
    """Fees and periods are counted from there."""
    subscription = create("s", PRO, T0, trial_end=T0 + 14 * DAY)
    assert (subscription.status, subscription.billed_to, subscription.anchor) == (
        "trialing", T0 + 14 * DAY, T0 + 14 * DAY,
    )  # fmt: skip
    assert renew(subscription, PRO).status == "active"


def test_another_interval_begins_a_period_of_its_own() -> None:
    """From a month to a year: a new anchor, the unused given back, the year billed from there."""
    half = T0 + 14 * DAY
    changed = change(replace(create("s", PRO, T0), billed_to=T0 + 28 * DAY), YEAR, half, "c")
    assert (changed.anchor, changed.period.start, changed.billed_to, changed.months) == (half, half, half, 12)
    assert [item.amount for item in changed.items] == [-10 * NANOS]


def test_a_change_at_the_end_waits_for_the_renewal() -> None:
    """And the same plan again takes it back."""
    waiting = change_at_period_end(create("s", PRO, T0), MAX)
    assert (waiting.plan, waiting.next_plan) == ("pro", "max")
    assert change_at_period_end(waiting, PRO).next_plan == ""
    assert renew(waiting, MAX).plan == "max"


def test_a_cancellation_to_come_can_be_taken_back() -> None:
    """Reactivation of what has not ended; of what was never cancelled it is illegal."""
    ending = cancel_at_period_end(create("s", PRO, T0))
    assert ending.next_at() == T0  # its credits are due first
    assert reactivate(ending, T0).cancel_at == 0
    with pytest.raises(IllegalTransition):
        reactivate(create("s", PRO, T0), T0)


def test_what_was_paused_long_comes_back_in_a_new_period() -> None:
    """Periods that went by are not billed."""
    paused = pause(create("s", PRO, T0), T0 + DAY)
    assert resume(paused, T0 + 2 * DAY).period == paused.period
    later = resume(paused, T0 + 100 * DAY)
    assert (later.period.start, later.billed_to, later.status) == (T0 + 100 * DAY, T0 + 100 * DAY, "active")


def test_a_void_gives_back_what_it_took() -> None:
    """Its items wait again; its fee too, as what is next to be billed, or as an item where later fees are billed."""
    item, fee = Item("i", "d", 5, Period(T0, T0 + DAY)), Item("f", "fee", 7, Period(T0 + DAY, T0 + 2 * DAY))
    taken = billed(replace(create("s", PRO, T0), items=(item,)), ["i"], T0 + 2 * DAY)
    assert (taken.items, taken.billed_to) == ((), T0 + 2 * DAY)
    back = unbilled(taken, [item], T0 + DAY, T0 + 2 * DAY, [fee])
    assert (back.items, back.billed_to) == ((item,), T0 + DAY)
    later = unbilled(replace(taken, billed_to=T0 + 9 * DAY), [item], T0 + DAY, T0 + 2 * DAY, [fee])
    assert (later.items, later.billed_to) == ((item, fee), T0 + 9 * DAY)


def test_a_document_is_the_subscription_again() -> None:
    """Every field survives."""
    made = replace(
        create("s", PRO, T0, metadata={"a": "b"}),
        items=(Item("i", "d", -5, Period(T0, T0 + DAY)),), next_plan="max", cancel_at=T0 + DAY, attempts=2,
    )  # fmt: skip
    assert from_document(to_document(made)) == made


def test_spans_from_a_time_on_are_replaced() -> None:
    """Equal neighbours become one."""
    a, b = PlanSpan(0, "a", "s", 0, 1), PlanSpan(10, "b", "s", 0, 1)
    assert respanned([a, b], 5, [PlanSpan(5, "a", "s", 0, 1)]) == [a]
    assert respanned([a, b], 20, [PlanSpan(20, "", "", 0, 1)]) == [a, b, PlanSpan(20, "", "", 0, 1)]


CREDITS = Plan.model_validate(
    {
        "id": "c", "interval": "year", "amount": "1",
        "credits": [
            {"amount": "20", "expires_after": "P1M", "rollover_max": "5"},
            {"amount": "7", "every": "year", "expires_after": "P1M"},
        ],
    }
)  # fmt: skip


def test_credits_come_each_month_also_of_a_yearly_plan() -> None:
    """Twelve of the monthly and one of the yearly in the first year; one that does not roll over has its expiry."""
    subscription = create("s", CREDITS, T0)
    due, credited = recurring.credits_due(subscription, CREDITS.credits, parse_time("2027-01-31T09:59:59Z"))
    assert ([one.place for one in due].count(0), [one.place for one in due].count(1), credited) == (12, 1, 12)
    yearly = next(recurring.grant_of("s", one) for one in due if one.place == 1)
    assert format_time(yearly.expires_at) == "2026-02-28T10:00:00Z"


def test_what_does_not_roll_over_lapses_oldest_first() -> None:
    """Of 3 and 6 left, 5 stay."""
    due, _ = recurring.credits_due(create("s", CREDITS, T0), CREDITS.credits, T0)
    old = [Grant(f"s:credit-0:{at}", 20 * NANOS, left * NANOS, 0, 0, at, PAID, ()) for at, left in ((1, 3), (2, 6))]
    other = Grant("s:credit-1:x", NANOS, NANOS, 0, 0, 1, PAID, ())
    assert [(one.granted_at, part) for one, part in recurring.lapsing([*old, other], "s", due[0])] == [
        (1, 3 * NANOS), (2, 1 * NANOS),
    ]  # fmt: skip
