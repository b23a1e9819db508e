"""What a quota has counted is what a naive recount of all usage finds in the window, for every kind of window."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.admission import AmountAsk, Ask, MeterAsk, assess
from rating.book import PriceBook
from rating.quota_rule import compile_quota
from rating.quotas import count, quota_key, used
from schemas.account import Account, new_account
from schemas.catalog import CatalogVersion, from_document
from schemas.catalog_shapes import Quota
from schemas.period import parse_time

NANOS = 10**9
SECOND = 10**6
BEGIN = int(datetime(2026, 1, 30, 22, 15, 10, tzinfo=UTC).timestamp()) * SECOND
ANCHOR = int(datetime(2025, 5, 17, 6, 30, tzinfo=UTC).timestamp()) * SECOND

Usage = list[tuple[int, int]]
"""Times, ascending, and quantities."""


def _summed(steps: list[tuple[int, int]]) -> Usage:
    at, found = BEGIN, []
    for seconds, quantity in steps:
        at += seconds * SECOND
        found.append((at, quantity))
    return found


usages = st.lists(
    st.tuples(st.sampled_from([0, 1, 59, 3_599, 40_000, 86_400, 700_000, 3_000_000]), st.integers(0, 1_000)),
    min_size=1,
    max_size=40,
).map(_summed)
later = st.integers(0, 4_000_000)


def begin_of(window: str, instant: int) -> int:
    """When the window began that an instant lies in, by the calendar."""
    at = datetime.fromtimestamp(instant // SECOND, UTC)
    day = at.replace(hour=0, minute=0, second=0)
    match window:
        case "minute":
            found = at.replace(second=0)
        case "hour":
            found = at.replace(minute=0, second=0)
        case "day":
            found = day
        case "week":
            found = day - timedelta(days=at.isoweekday() - 1)
        case "month":
            found = day.replace(day=1)
        case "period":
            anchor = datetime.fromtimestamp(ANCHOR // SECOND, UTC)
            found = anchor.replace(year=at.year, month=at.month)
            if found > at:
                found = (found.replace(day=1) - timedelta(days=1)).replace(day=anchor.day)
        case _:
            return 0
    return int(found.timestamp()) * SECOND


def quota(**given: object) -> Quota:
    return Quota.model_validate({"meter": "m", "limit": 100, "window": "day", **given})


def counted(rule_of: Quota, usage: Usage) -> str | None:
    rule, state = compile_quota(rule_of), None
    assert rule is not None
    for at, quantity in usage:
        state = count(rule, state, at, quantity, ANCHOR, 1)
    return state


@pytest.mark.parametrize("window", ["minute", "hour", "day", "week", "month", "period", "lifetime"])
@given(usage=usages, after=later)
def test_a_calendar_window_counts_what_lies_in_it(window: str, usage: Usage, after: int) -> None:
    """Whatever came before it is over, and late usage of an earlier window changes nothing."""
    rule = compile_quota(quota(window=window))
    assert rule is not None
    state, now = counted(quota(window=window), usage), usage[-1][0] + after * SECOND
    begun = begin_of(window, now)
    assert used(rule, state, now, ANCHOR, 1).quantity == sum(quantity for at, quantity in usage if at >= begun)
    if window != "lifetime":
        early = begin_of(window, usage[-1][0]) - 1
        assert count(rule, state, early, 7, ANCHOR, 1) == state


@given(usage=usages, after=later)
def test_a_session_begins_with_the_first_use_after_the_one_before(usage: Usage, after: int) -> None:
    """It lasts for its length, however it is used."""
    rule = compile_quota(quota(window="session:5h"))
    assert rule is not None
    now, length = usage[-1][0] + after * SECOND, 5 * 3_600 * SECOND
    begun, total = -length, 0
    for at, quantity in usage:
        begun, total = (at, quantity) if at >= begun + length else (begun, total + quantity)
    stands = used(rule, counted(quota(window="session:5h"), usage), now)
    assert stands.quantity == (total if now < begun + length else 0)
    assert stands.resets_at == (begun + length if now < begun + length else None)


@given(usage=usages, after=later)
def test_a_sliding_window_is_right_to_a_sixtieth_of_its_length(usage: Usage, after: int) -> None:
    """All of the last 59 sixtieths is counted, and nothing older than the whole."""
    rule = compile_quota(quota(window="sliding:5h"))
    assert rule is not None
    now, length = usage[-1][0] + after * SECOND, 5 * 3_600 * SECOND
    found = used(rule, counted(quota(window="sliding:5h"), usage), now).quantity
    least = sum(quantity for at, quantity in usage if at > now - length + length // 60)
    most = sum(quantity for at, quantity in usage if at > now - length)
    assert least <= found <= most


@given(usage=usages, most=st.integers(0, 250))
def test_what_is_left_of_a_day_rolls_over_up_to_its_bound(usage: Usage, most: int) -> None:
    """Day by day: what was left, carried amount included; never more than the bound."""
    rule = compile_quota(quota(rollover_max=most))
    assert rule is not None
    of_day: defaultdict[int, int] = defaultdict(int)
    for at, quantity in usage:
        of_day[begin_of("day", at)] += quantity * NANOS
    state = counted(quota(rollover_max=most), [(at, quantity * NANOS) for at, quantity in usage])
    day, last, limit, carried = min(of_day), max(of_day), 100 * NANOS, 0
    while day < last:
        carried = min(max(limit + carried - of_day.get(day, 0), 0), most * NANOS)
        day += 86_400 * SECOND
    stands = used(rule, state, last)
    assert (stands.quantity, stands.limit) == (of_day[last], limit + carried)


def account_with(counters: dict[str, str], balance: int = 1_000 * NANOS) -> Account:
    account = new_account("t", "c")
    account.balance, account.currency, account.plan = balance, "USD", "p"
    account.counters.update(counters)
    return account


@pytest.mark.parametrize(
    ("mode", "room"),
    [
        ({"mode": "hard"}, 4),
        ({"mode": "hard", "grace_percent": 25}, 6),
        ({"mode": "soft"}, None),
        ({"mode": "hard", "rollover_max": 3}, 7),
    ],
)
@pytest.mark.parametrize("per", ["customer", "user", "api_key"])
def test_a_mode_says_how_much_may_be_held(mode: dict[str, object], room: int | None, per: str) -> None:
    """Hard up to the limit, with grace beyond it, soft any; of whom it counts alone."""
    document = {
        "currency": "USD",
        "meters": [{"id": "m", "event_type": "usage.reported", "dimensions": ["api_key"]}],
        "prices": [{"id": "p", "meter": "m", "model": "per_unit", "unit_amount": "1"}],
        "plans": [
            {
                "id": "p",
                "interval": "month",
                "amount": "0",
                "quotas": [{"meter": "m", "limit": 8, "window": "day", "per": per, **mode}],
            }
        ],
    }
    book = PriceBook()
    book.add(CatalogVersion(1, None, 0, from_document(document)))
    now = parse_time("2026-03-05T12:00:00Z")
    catalogue = book.catalogue("t", 1, now)
    assert catalogue is not None
    (rule,) = catalogue.quotas_of("p")
    mine = {"customer": "", "user": "u", "api_key": "k"}[per]
    yesterday = now - 86_400 * SECOND
    counters = {}
    for scope, quantity in ((mine, 4), ("another", 99)):
        state = count(rule, None, yesterday, 8 * NANOS - 3 * NANOS)
        counters[quota_key(rule.id, scope)] = count(rule, state, now, quantity * NANOS)
    ask = Ask(MeterAsk("m", NANOS), user="u", dimensions={"api_key": "k"})
    (bound,) = [bound for bound in assess(account_with(counters), catalogue, ask, now).bounds if bound.kind == "quota"]
    assert (bound.room, bound.wanted) == (room * NANOS if room is not None else None, NANOS)
    nobody = Ask(MeterAsk("m", NANOS))
    bounds = [bound for bound in assess(account_with(counters), catalogue, nobody, now).bounds if bound.kind == "quota"]
    assert len(bounds) == (per == "customer")


def test_a_budget_bounds_money_of_whatever_meter() -> None:
    """What was charged in the window, beside what is wanted now."""
    document = {
        "currency": "USD",
        "meters": [{"id": "m", "event_type": "usage.reported"}],
        "prices": [{"id": "p", "meter": "m", "model": "per_unit", "unit_amount": "2"}],
        "plans": [
            {
                "id": "p",
                "interval": "month",
                "amount": "0",
                "quotas": [{"spend": "10", "window": "week", "mode": "hard"}],
            }
        ],
    }
    book = PriceBook()
    book.add(CatalogVersion(1, None, 0, from_document(document)))
    now = parse_time("2026-03-05T12:00:00Z")
    catalogue = book.catalogue("t", 1, now)
    assert catalogue is not None
    (rule,) = catalogue.quotas_of("p")
    account = account_with({quota_key(rule.id, ""): count(rule, None, now, 7 * NANOS)})
    for ask in (Ask(AmountAsk(4 * NANOS)), Ask(MeterAsk("m", 2 * NANOS))):
        (bound,) = [bound for bound in assess(account, catalogue, ask, now).bounds if bound.kind == "budget"]
        assert (bound.room, bound.wanted) == (3 * NANOS, 4 * NANOS)
    following = assess(account, catalogue, Ask(AmountAsk(NANOS)), parse_time("2026-03-09T00:00:00Z")).bounds
    assert [bound.room for bound in following if bound.kind == "budget"] == [10 * NANOS]
