"""Device time as it is charged: an allocation from its begin to its end, in parts that add up to the whole.

Seconds are counted from the allocation's begin: what a part has is the rounded whole up to its end less the rounded
whole up to its begin, so that no second is lost or charged twice however it is parted. Within a part one price and one
period hold; it has that of its begin. Pure.

Errors: InvalidInput `out_of_range` for an interval across more borders than PARTS_MAX.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rating.chunk import Chunk
from rating.counting import Piece
from rating.quotas import billing_of
from schemas.account import Account
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.period import SECOND, Period, month_of, period_of
from schemas.usage_types import DEVICE_RELEASED

PARTS_MAX: Final = 400
"""Parts of one charge: an allocation of decades, by month."""

_OF_THE_TELLING: Final = frozenset(
    ("allocated_at", "released_at", "expires_at", "until", "duration_seconds", "hold_id", "final", "session_id")
)
"""Fields that say when and by what, and nothing of what is used."""


def steady(chunk: Chunk, event: Event, account: Account) -> Period:
    """Around an event's time: while its prices, its plan and the period it counts in are the same."""
    at = event.occurred_at
    tariff = chunk.tariff(event, account)
    period = period_of(*billing_of(account, at), at) if account.spans else month_of(at)
    start, end = period.start, period.end
    reign = chunk.tariffs[event.tenant]
    # Comparisons, for max and min cost each as much as all of this: nearly every device.released asks.
    if reign.start > start:
        start = reign.start
    if reign.end < end:
        end = reign.end
    for span in account.spans:
        if span.start > at:
            end = min(end, span.start)
            break
        start = max(start, span.start)
    for line in tariff.lines if tariff is not None else ():
        if not line.start <= at < line.end:
            line.move(at)
        if line.start > start:
            start = line.start
        if line.end < end:
            end = line.end
    return Period(start, end)


def is_lease(chunk: Chunk, event: Event, account: Account) -> bool:
    """Whether a device.released has more to it than one charge: its allocation is open, or it crosses a border."""
    if event.allocation_id in account.allocations:
        return True
    around = steady(chunk, event, account)
    begin: int = event.data["allocated_at"]
    end: int = event.data["released_at"]
    return begin < around.start or end > around.end


def seconds(begin: int, end: int) -> int:
    """Whole seconds of an interval, rounded half up."""
    return (end - begin + SECOND // 2) // SECOND


def used(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of an event's data says what is used, and is the same for all of an allocation's time."""
    return {name: value for name, value in data.items() if name not in _OF_THE_TELLING}


def alike(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether two tellings of one allocation agree on what is used, as far as both speak of it."""
    return all(others.get(name, value) == value for name, value in used(some).items())


def release_of(event: Event, data: Mapping[str, Any], begin: int, end: int, at: int) -> Event:
    """The device.released that an allocation would have had if it had ended at `end`, told at `at`."""
    times = {"allocated_at": begin, "released_at": end, "duration_seconds": seconds(begin, end)}
    return msgspec.structs.replace(
        event,
        type=DEVICE_RELEASED,
        occurred_at=at,
        data={**data, **times},
        user_id=data.get("user_id", event.user_id),
        device_id=data.get("device_id", event.device_id),
    )


def parts(
    chunk: Chunk,
    event: Event,
    account: Account,
    data: Mapping[str, Any],
    begin: int,
    interval: Period,
    *,
    taken_back: bool = False,
) -> list[Piece]:
    """The parts of an interval of the allocation that began at `begin` and uses what `data` says; none of an empty
    one."""
    found: list[Piece] = []
    at = interval.start
    while at < interval.end:
        if len(found) == PARTS_MAX:
            raise InvalidInput(
                "out_of_range", f"the interval crosses more than {PARTS_MAX} borders of prices or periods"
            )
        so_far = release_of(event, data, begin, at, at)
        border = min(steady(chunk, so_far, account).end, interval.end)
        whole = release_of(event, data, begin, border, at)
        found.append(Piece(whole, so_far if at > begin else None, taken_back))
        at = border
    return found
