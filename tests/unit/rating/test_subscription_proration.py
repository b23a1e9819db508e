"""A plan says whether its fee is shared out by seconds or by days; subscriptions keep to it."""

from __future__ import annotations

from typing import Any

import pytest

from rating.subscription_document import from_document, to_document
from rating.subscriptions import cancel, change, create
from schemas.catalog_shapes import Plan
from schemas.money import NANOS
from schemas.period import parse_time

NOVEMBER = parse_time("2026-11-01T00:00:00Z")
DECEMBER = parse_time("2026-12-01T00:00:00Z")
MIDDAY = parse_time("2026-11-16T12:00:00Z")


def plan(name: str, amount: str, **fields: Any) -> Plan:
    return Plan.model_validate({"id": name, "interval": "month", "amount": amount, **fields})


@pytest.mark.parametrize(
    ("old", "new", "unused", "remaining"),
    [
        # 14.5 of 30 days remain; by days the begun one counts with them: 15
        ({}, {}, 14.5, 14.5),
        ({"proration": "days"}, {"proration": "days"}, 15, 15),
        ({"proration": "seconds"}, {"proration": "days"}, 14.5, 15),
    ],
)
def test_a_change_of_plan_is_shared_out_as_each_plan_says(
    old: dict[str, str], new: dict[str, str], unused: float, remaining: float
) -> None:
    """A credit of what is unused by the old plan's measure, a charge of what remains by the new one's."""
    begun = create("s", plan("small", "30", **old), NOVEMBER)
    paid = from_document({**to_document(begun), "billed_to": "2026-12-01T00:00:00Z"})
    changed = change(paid, plan("large", "60", **new), MIDDAY, "c")
    assert [item.amount for item in changed.items] == [int(-unused * NANOS), int(2 * remaining * NANOS)]
    assert all((item.period.start, item.period.end) == (MIDDAY, DECEMBER) for item in changed.items)
    assert to_document(changed)["proration"] == new.get("proration", "seconds")


def test_a_cancellation_gives_back_by_the_plans_measure() -> None:
    """The begun day belongs to what comes after it."""
    begun = create("s", plan("small", "30", proration="days"), NOVEMBER)
    paid = from_document({**to_document(begun), "billed_to": "2026-12-01T00:00:00Z"})
    (item,) = cancel(paid, MIDDAY, "c").items
    assert item.amount == -15 * NANOS


def test_the_measure_is_kept_and_a_document_from_before_it_means_seconds() -> None:
    """There and back."""
    by_days = create("s", plan("small", "30", proration="days"), NOVEMBER)
    assert from_document(to_document(by_days)) == by_days
    old = {name: value for name, value in to_document(by_days).items() if name != "proration"}
    assert from_document(old).proration == "seconds"
