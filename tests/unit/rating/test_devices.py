"""Device time: charged once and to the second, whatever is told of it, in what order and how often."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from schemas.device_commands import ALLOCATION_EXPIRE
from schemas.period import SECOND, format_time, month_start, parse_time
from tests.fakes.partition import MemoryPartition, event

CATALOG = """
currency: USD
meters:
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores, aggregation: sum,
     dimensions: [device_type]}
  - {id: releases, event_type: device.released, aggregation: count}
  - {id: tiered, event_type: device.released, quantity: data.duration_seconds, aggregation: sum}
prices:
  - {id: old, meter: core_seconds, model: per_unit, unit_amount: "0.0000333333"}
  - {id: new, meter: core_seconds, model: per_unit, unit_amount: "0.00005", effective_from: 2026-10-15T12:00:00Z}
  - id: steps
    meter: tiered
    model: graduated
    tiers: [{up_to: 1000000, unit_amount: "0.001"}, {up_to: null, unit_amount: "0.0001"}]
"""
BEGIN = parse_time("2026-10-05T07:00:00.250Z")
CHANGE = parse_time("2026-10-15T12:00:00Z")
END = parse_time("2026-11-04T07:00:00.900Z")
CORES = 3


def partition() -> MemoryPartition:
    return MemoryPartition(CATALOG)


def told(kind: str, number: object, at: int, /, **data: Any) -> dict[str, Any]:
    return event(number, kind, {"allocation_id": "a", **data}, time=format_time(at))


def sizes(**changes: Any) -> dict[str, Any]:
    return {"device_id": "d", "cpu_cores": CORES, "memory_mb": 1, "storage_mb": 1, "device_type": "l", **changes}


def allocated(number: object = "alloc", begin: int = BEGIN, **more: Any) -> dict[str, Any]:
    return told("device.allocated", number, begin, allocated_at=format_time(begin), **sizes(), **more)


def heartbeat(until: int, number: object = None, **more: Any) -> dict[str, Any]:
    return told("device.heartbeat", number or f"beat-{until}", until, until=format_time(until), **more)


def released(number: object = "rel", begin: int = BEGIN, end: int = END, **changes: Any) -> dict[str, Any]:
    times = {"allocated_at": format_time(begin), "released_at": format_time(end)}
    return told("device.released", number, end, **times, **sizes(**changes))


def charges(partition: MemoryPartition) -> Counter[tuple[str, str]]:
    """Quantity in nano-units and amount in nanos of all charges, by price (or meter) and what."""
    sums: Counter[tuple[str, str]] = Counter()
    for row in partition.rows():
        for charge in row["charges"]:
            name = charge["price_id"] or charge["meter"]
            sums[name, "quantity"] += charge["quantity"]
            sums[name, "amount"] += charge["amount"]
    return sums


def seconds(begin: int, end: int) -> int:
    """Rounded half up, told apart from the code's own."""
    return int(Fraction(end - begin, SECOND) + Fraction(1, 2))


def expected(begin: int = BEGIN, end: int = END, cores: int = CORES) -> Counter[tuple[str, str]]:
    """What a lease comes to, reckoned by its own borders."""
    change = min(max(CHANGE, begin), end)
    before, whole = seconds(begin, change), seconds(begin, end)
    month = min(max(month_start(END), begin), end)
    within = [seconds(begin, month), whole - seconds(begin, month)]
    tiered = sum(min(part, 10**6) * 10**6 + max(part - 10**6, 0) * 10**5 for part in within)
    sums = Counter(
        {
            ("old", "quantity"): before * cores * 10**9,
            ("new", "quantity"): (whole - before) * cores * 10**9,
            ("new", "amount"): (whole - before) * cores * 50_000,
            ("releases", "quantity"): 10**9,
            ("steps", "quantity"): whole * 10**9,
            ("steps", "amount"): tiered,
        }
    )
    return +sums


def check(partition: MemoryPartition, **lease: int) -> None:
    """The charges are the lease's, and the wallet, the counters and the ledger agree."""
    found = charges(partition)
    old = found.pop(("old", "amount"), 0)
    assert +found == expected(**lease)
    quantity = found["old", "quantity"] // 10**9
    assert abs(old - Fraction(quantity * 333_333, 10)) <= 40  # rounded once a part, half a nano each
    balance = partition.of("c").balance
    assert balance == -sum(amount for (_, what), amount in charges(partition).items() if what == "amount")
    assert balance == sum(posting["amount"] for row in partition.rows() for posting in row["postings"])


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["outcome"], row["reason"]) for row in rows]


def test_a_lease_of_thirty_days_with_heartbeats_is_exact_over_a_price_change_and_a_months_end() -> None:
    """Heartbeats at odd instants; the second they cut is charged once, each side of a border at its own price."""
    chance = random.Random(7)
    lease = partition()
    lease.usage(allocated())
    at = BEGIN
    while (at := at + chance.randrange(1, 5_400 * SECOND)) < END:
        lease.usage(heartbeat(at))
    lease.usage(released())
    check(lease)
    assert lease.of("c").allocations == {}


def test_a_release_alone_is_split_at_the_same_borders() -> None:
    """Three parts: before the change, after it, and the next month."""
    lease = partition()
    (row,) = lease.usage(released())
    check(lease)
    assert [charge["price_id"] for charge in row["charges"] if charge["meter"] == "core_seconds"] == [
        "old",
        "new",
        "new",
    ]
    assert len(row["postings"]) == 1


def test_a_release_within_one_price_and_period_is_one_charge() -> None:
    """The common road: as many charges as meters."""
    lease = partition()
    (row,) = lease.usage(released(end=BEGIN + 90 * SECOND))
    assert [charge["meter"] for charge in row["charges"]] == ["core_seconds", "releases", "tiered"]
    check(lease, end=BEGIN + 90 * SECOND)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_told_in_whatever_order_comes_to_what_the_release_says(seed: int) -> None:
    """Lost, doubled, late and overlapping heartbeats, a wrong begin, wrong sizes, an expiry, a process that dies."""
    chance = random.Random(seed)
    begin, cores = BEGIN, CORES
    end = BEGIN + chance.randrange(1, 40 * 86_400 * SECOND)
    lease = partition()
    stories = [allocated(expires_at=format_time(begin + chance.randrange(1, 40 * 86_400) * SECOND))]
    if seed % 4 == 0:
        stories = [allocated(begin=begin + chance.randrange(-(10**9), 10**9))]
    stories += [heartbeat(begin + chance.randrange(1, 45 * 86_400 * SECOND)) for _ in range(chance.randrange(12))]
    stories += chance.choices(stories, k=3)
    if seed % 3 == 0:
        chance.shuffle(stories)
    for story in stories:
        lease.usage(story)
        if chance.random() < 0.2:
            lease.restart()
    if seed % 2:
        lease.account(event("x", ALLOCATION_EXPIRE, {"allocation_id": "a"}, time=None), received_at=END + 10**14)
    if seed % 5 == 0:
        cores = 8
    lease.usage(*[released(number, begin, end, cpu_cores=cores) for number in ("r", "other", "r")])
    check(lease, begin=begin, end=end, cores=cores)


def test_an_allocation_is_told_and_charged_while_it_runs() -> None:
    """device.allocated is rated without a charge and is open; a heartbeat charges the time since the last."""
    lease = partition()
    assert outcomes(lease.usage(allocated(), allocated("again"))) == [("rated", ""), ("ignored", "no_effect")]
    assert lease.rows()[0]["charges"] == []
    assert list(lease.of("c").allocations) == ["a"]
    beats = [heartbeat(BEGIN + 60 * SECOND), heartbeat(BEGIN + 30 * SECOND), heartbeat(BEGIN + 60 * SECOND, "twin")]
    assert outcomes(lease.usage(*beats)) == [("rated", ""), ("ignored", "no_effect"), ("ignored", "no_effect")]
    assert charges(lease)["steps", "quantity"] == 60 * 10**9
    lease.usage(heartbeat(BEGIN + 100 * SECOND))
    assert charges(lease)["steps", "quantity"] == 100 * 10**9
    assert charges(lease)["releases", "quantity"] == 10**9


def test_a_heartbeats_row_names_user_and_device_as_the_allocation_did() -> None:
    """So that a user's usage is whole, though the heartbeat says only which allocation it is of."""
    lease = partition()
    lease.usage(allocated(user_id="u-1"), heartbeat(BEGIN + 60 * SECOND))
    beat = lease.rows()[-1]
    assert (beat["user_id"], beat["device_id"], beat["allocation_id"]) == ("u-1", "d", "a")


def test_the_hold_that_pays_for_an_allocation_ends_with_its_release() -> None:
    """Neither the allocation nor a heartbeat that names it ends it."""
    lease = partition()
    beat = heartbeat(BEGIN + 60 * SECOND, hold_id="h")
    rows = lease.usage(allocated(hold_id="h"), beat, released(end=BEGIN + 90 * SECOND))
    ends = [[(end["hold_id"], end["state"]) for end in row["hold_ends"]] for row in rows]
    assert [("h", "settled")] not in ends[:2]
    assert ("h", "settled") in ends[2]
    check(lease, end=BEGIN + 90 * SECOND)


def test_a_release_before_its_heartbeats_overshot_takes_back_what_was_too_much() -> None:
    """As a correction of the wallet, at the price it was charged at."""
    lease = partition()
    lease.usage(allocated(), heartbeat(BEGIN + 1_000 * SECOND))
    (row,) = lease.usage(released(end=BEGIN + 400 * SECOND))
    assert [posting["kind"] for posting in row["postings"]] == ["correction"]
    check(lease, end=BEGIN + 400 * SECOND)


def test_a_release_before_its_allocation_settles_it() -> None:
    """What then comes opens nothing and charges nothing."""
    lease = partition()
    late = [released(), allocated(), heartbeat(BEGIN + 60 * SECOND)]
    assert outcomes(lease.usage(*late)) == [("rated", ""), ("rated", ""), ("ignored", "no_effect")]
    assert lease.of("c").allocations == {}
    check(lease)


def test_a_second_release_is_a_duplicate_or_a_conflict() -> None:
    """By its times, under whatever source and id; also where the first one settled an open allocation."""
    lease = partition()
    lease.usage(allocated(), heartbeat(BEGIN + 60 * SECOND), released())
    rows = lease.usage(released("other"), released("third", end=END + SECOND))
    assert outcomes(rows) == [("duplicate", "same_allocation"), ("dead_letter", "conflict")]
    check(lease)


def test_a_heartbeat_of_an_unknown_allocation_says_what_is_missing() -> None:
    """With its begin and its sizes it opens the allocation itself."""
    lease = partition()
    assert outcomes(lease.usage(heartbeat(CHANGE))) == [("dead_letter", "unknown_allocation")]
    whole = heartbeat(CHANGE, "whole", allocated_at=format_time(BEGIN), **sizes())
    assert outcomes(lease.usage(whole)) == [("rated", "")]
    lease.usage(released())
    check(lease)


def test_a_release_that_never_comes_is_charged_to_its_expiry() -> None:
    """Not before it; once, however often it is asked for; a heartbeat after it shows that it lives."""
    expiry = BEGIN + 3_600 * SECOND
    lease = partition()
    lease.usage(allocated(expires_at=format_time(expiry)), heartbeat(BEGIN + 60 * SECOND))

    def expire(number: object, at: int) -> tuple[str, str]:
        return outcomes(
            lease.account(event(number, ALLOCATION_EXPIRE, {"allocation_id": "a"}, time=None), received_at=at)
        )[0]

    assert expire(1, expiry - 1) == ("ignored", "no_effect")
    assert expire(2, expiry) == ("rated", "")
    assert expire(3, expiry + 1) == ("ignored", "no_effect")
    assert charges(lease)["steps", "quantity"] == 3_600 * 10**9
    assert lease.of("c").allocations["a"].expired
    lease.usage(heartbeat(expiry + 100 * SECOND))
    assert not lease.of("c").allocations["a"].expired
    lease.usage(released())
    check(lease)


def test_a_heartbeat_far_ahead_of_its_coming_is_a_dead_letter() -> None:
    """A clock that is wrong by more than an hour must not charge for time that has not been."""
    lease = partition()
    lease.usage(allocated())
    ahead = told("device.heartbeat", "b", BEGIN, until="2027-01-01T00:00:00Z")
    assert outcomes(lease.usage(ahead)) == [("dead_letter", "future")]


def test_an_allocation_told_twice_with_other_sizes_is_a_conflict() -> None:
    """The first stands."""
    lease = partition()
    other = told("device.allocated", "b", BEGIN, allocated_at=format_time(BEGIN), **sizes(cpu_cores=64))
    assert outcomes(lease.usage(allocated(), other)) == [("rated", ""), ("dead_letter", "conflict")]
    lease.usage(released())
    check(lease)


def test_without_a_meter_of_device_time_heartbeats_are_ignored_and_releases_are_not() -> None:
    """As they are without an allocation: not to charge a release is to lose money."""
    lease = MemoryPartition("currency: USD\nmeters: [{id: m, event_type: usage.reported, aggregation: sum}]\n")
    rows = lease.usage(allocated(), heartbeat(CHANGE), released())
    assert outcomes(rows) == [("rated", ""), ("ignored", "no_effect"), ("dead_letter", "no_meter")]


def test_an_interval_across_too_many_borders_is_a_dead_letter() -> None:
    """A clock that stood at 1970 is no reason for a thousand charges."""
    lease = partition()
    assert outcomes(lease.usage(released(begin=0))) == [("dead_letter", "out_of_range")]
    assert lease.of("c").balance == 0


def test_a_customer_may_have_two_thousand_devices() -> None:
    """All of them open at once, each settled by its own release."""
    lease, count = partition(), 2_000

    def each(kind: str, **data: Any) -> list[Any]:
        return [
            told(kind, f"{kind}-{number}", END, **data, **sizes(allocation_id=f"a-{number}", device_id=f"d-{number}"))
            for number in range(count)
        ]

    begins = {"allocated_at": format_time(BEGIN)}
    rows = lease.usage(*each("device.allocated", **begins, expires_at=format_time(END)))
    assert {(row["outcome"], row["reason"]) for row in rows} == {("rated", "")}
    assert len(lease.of("c").allocations) == count
    rows = lease.usage(*each("device.released", **begins, released_at=format_time(BEGIN + 60 * SECOND)))
    assert {(row["outcome"], row["reason"]) for row in rows} == {("rated", "")}
    assert charges(lease)["steps", "quantity"] == count * 60 * 10**9
    assert lease.of("c").allocations == {}
