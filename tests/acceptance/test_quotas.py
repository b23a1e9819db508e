"""Sections 3 and 4, quotas: each kind of window, what rolls over, and grace, as a check and a hold answer them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.site import Site, Tenant, fresh, is_problem, until

WINDOWS = ("minute", "hour", "week", "month", "lifetime", "sliding:5h", "session:5h")
METERS = {window: window.partition(":")[0] for window in WINDOWS} | {"rolled": "rolled", "graced": "graced"}
CATALOGUE = f"""
currency: USD
meters: [{", ".join(f"{{id: {meter}, event_type: usage.reported}}" for meter in METERS.values())}]
plans:
  - id: bounded
    interval: month
    amount: "0"
    quotas:
{"".join(f'      - {{meter: {METERS[window]}, limit: 10, window: "{window}", mode: hard}}{chr(10)}' for window in WINDOWS)}
      - {{meter: rolled, limit: 10, window: day, mode: hard, rollover_max: 5}}
      - {{meter: graced, limit: 10, window: lifetime, mode: hard, grace_percent: 20}}
"""


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("quotas", CATALOGUE)


def used(tenant: Tenant, *usage: tuple[str, int, datetime]) -> str:
    """A customer that has had the plan for long, and has used so much of meters at these times."""
    customer = fresh()
    begun = min(at for _, _, at in usage) - timedelta(days=1)
    upgraded = {"user_id": customer, "plan_id": "bounded"}
    tenant.post(tenant.event(customer, "user.upgraded", upgraded, time=text(begun)))
    until(lambda: tenant.http.get(f"/v1/customers/{customer}/quota").json().get("plan") == "bounded")
    events = [
        tenant.event(customer, "usage.reported", {"meter": meter, "quantity": quantity}, time=text(at))
        for meter, quantity, at in usage
    ]
    tenant.post(*events)
    for outcomes in tenant.outcomes([event["id"] for event in events]).values():
        assert outcomes == [("rated", "")]
    return customer


def text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def check(tenant: Tenant, customer: str, meter: str, quantity: int = 1) -> dict[str, Any]:
    body = {"customer": customer, "meter": meter, "quantity": quantity}
    answer = tenant.http.post("/v1/quota/check", json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def starts(window: str, at: datetime) -> tuple[datetime, datetime]:
    """When the calendar window begins that a time lies in, and when it ends."""
    minute = at.replace(second=0, microsecond=0)
    hour = minute.replace(minute=0)
    day = hour.replace(hour=0)
    month = day.replace(day=1)
    match window:
        case "minute":
            return minute, minute + timedelta(minutes=1)
        case "hour":
            return hour, hour + timedelta(hours=1)
        case "week":
            monday = day - timedelta(days=day.weekday())
            return monday, monday + timedelta(days=7)
        case _:
            return month, (month + timedelta(days=32)).replace(day=1)


@pytest.mark.parametrize("window", ["minute", "hour", "week", "month"])
def test_a_calendar_window_counts_what_lies_in_it(tenant: Tenant, window: str) -> None:
    """`minute | hour | week` (ISO) `| month`, by the event's own time: the last moment before it no more, its first does."""
    now = datetime.now(UTC)
    start, end = starts(window, now)
    customer = used(tenant, (window, 4, start - timedelta(milliseconds=1)), (window, 3, start))
    told = check(tenant, customer, window, 7)
    if datetime.fromisoformat(told["resets_at"]) != end:  # the window ended meanwhile, and the next is whole
        assert (told["limit"], told["remaining"]) == ("10", "10")
        return
    assert (told["allowed"], told["limit"], told["remaining"]) == (True, "10", "7")
    over = check(tenant, customer, window, 8)
    if datetime.fromisoformat(over["resets_at"]) == end:
        assert (over["allowed"], over["reason"], over["remaining"]) == (False, "quota", "7")
        assert over["denial_id"]


def test_windows_without_a_calendar(tenant: Tenant) -> None:
    """`lifetime` never resets; `sliding:5h` is what was used in the last 5 hours; `session:5h` begins with first use."""
    now = datetime.now(UTC)
    hours = timedelta(hours=1)
    customer = used(
        tenant,
        ("lifetime", 4, now - 40 * 24 * hours),
        ("sliding", 4, now - 6 * hours),
        ("sliding", 2, now - 4 * hours),
        ("session", 4, now - 6 * hours),
        ("session", 2, now - 0.9 * hours),
        ("lifetime", 3, now),
        ("sliding", 1, now),
        ("session", 2, now),
    )
    lifetime = check(tenant, customer, "lifetime", 4)
    assert (lifetime["allowed"], lifetime["remaining"], lifetime["resets_at"]) == (False, "3", None)
    sliding = check(tenant, customer, "sliding", 8)
    assert (sliding["allowed"], sliding["remaining"]) == (False, "7")
    session = check(tenant, customer, "session", 7)
    assert (session["allowed"], session["remaining"]) == (False, "6")
    assert session["resets_at"] == text(now - 0.9 * hours + 5 * hours).replace(".000Z", "Z")
    listed = tenant.http.get(f"/v1/customers/{customer}/quota").json()["quotas"]
    left = {one["meter"]: (one["window"], one["limit"], one["remaining"]) for one in listed}
    assert left["lifetime"] == ("lifetime", "10", "3")
    assert left["sliding"] == ("sliding:5h", "10", "7")
    assert left["session"] == ("session:5h", "10", "6")


@pytest.mark.parametrize(("yesterday", "limit"), [(8, "12"), (1, "15"), (10, "10")])
def test_what_is_left_rolls_over_up_to_its_bound(tenant: Tenant, yesterday: int, limit: str) -> None:
    """`rollover_max`: the unused rest of a window goes into the next one, at most so much."""
    while True:
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        customer = used(tenant, ("rolled", yesterday, today - timedelta(hours=1)), ("rolled", 3, today))
        told = check(tenant, customer, "rolled")
        if datetime.now(UTC) < today + timedelta(days=1):
            break
    assert (told["allowed"], told["limit"], told["remaining"]) == (True, limit, str(int(limit) - 3))


def test_grace_lets_a_hard_quota_be_passed_by_so_much(tenant: Tenant) -> None:
    """`grace_percent`: 20 of 10 is 2 more; what is held counts like what is used."""
    customer = used(tenant, ("graced", 9, datetime.now(UTC)))
    assert check(tenant, customer, "graced", 3)["allowed"]
    over = check(tenant, customer, "graced", 4)
    assert (over["allowed"], over["reason"], over["limit"], over["remaining"]) == (False, "quota", "10", "1")
    made = tenant.http.post("/v1/holds", json={"customer": customer, "meter": "graced", "quantity": 3})
    assert made.status_code == 201, made.text
    refused = tenant.http.post("/v1/holds", json={"customer": customer, "meter": "graced", "quantity": 1})
    assert is_problem(refused, 429)
