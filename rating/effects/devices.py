"""Allocations of devices: opened, charged while they run, settled by their release, closed where none comes.

What a release tells is the truth: its begin, its end, its sizes. What was charged before it is taken into account or
taken back, so that whatever came before, in whatever order, the allocation comes to what its release says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rating.counting import Piece
from rating.devices import alike, used
from rating.holds import SETTLED
from rating.turn import Effect, Naming, NoEffect, Turn
from schemas.account import Allocation, pack_account
from schemas.canonical import CONTENT_BYTES, json_of, parse
from schemas.claims import ALLOCATION, claim_identity
from schemas.device_commands import ALLOCATION_EXPIRE
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.limits import ACCOUNT_MAX_BYTES
from schemas.period import SECOND, Period, format_time
from schemas.usage_types import DEVICE_ALLOCATED, DEVICE_HEARTBEAT, DEVICE_RELEASED

AHEAD_MAX: Final = 3_600 * SECOND
"""How far a heartbeat may be ahead of Kafka's time: a clock that is wrong by more charges for what has not been."""

EXPIRED_KEPT: Final = 32
"""Allocations of an account that expired and still wait for their release; beyond them the oldest is given up."""

_NAME: Final = "allocation_id"
_ALLOCATION_BYTES: Final = 60
_GIVEN_UP: Final = b"given up"
assert len(_GIVEN_UP) == CONTENT_BYTES


def allocated(turn: Turn) -> None:
    """device.allocated: the allocation is open from its own time on. One that was released already stays so."""
    event, data = turn.event, turn.event.data
    if _claim(event) not in turn.booked:
        _open(turn, data["allocated_at"], data.get("expires_at") or 0)
    if turn.measured(event):
        turn.charge(event)


def heartbeat(turn: Turn) -> None:
    """device.heartbeat: the allocation's time since it was last charged."""
    event, account = turn.event, turn.account
    if _claim(event) in turn.booked:
        raise NoEffect  # its release has settled it
    until: int = event.data["until"]
    if until > turn.received_at + AHEAD_MAX:
        raise InvalidInput(
            "future", f"data.until {format_time(until)} lies more than an hour ahead of when it came", "/data/until"
        )
    lease = account.allocations.get(_name(event)) or _told_whole(turn)
    if until <= lease.charged_to:
        raise NoEffect
    data = _used(event, lease)
    _tell_whose(turn, data)
    if not turn.measured(turn.release_of(data, lease.opened_at, until)):
        raise NoEffect
    pieces: list[Event | Piece] = [*turn.parts(data, lease.opened_at, Period(lease.charged_to, until))]
    if turn.measured(event):
        pieces.append(event)
    turn.charge(*pieces)
    lease.charged_to = until
    lease.expired = False


def released(turn: Turn) -> None:
    """device.released: the allocation comes to what its release says, less what is charged already."""
    event, data = turn.event, turn.event.data
    begin, end = data["allocated_at"], data["released_at"]
    lease = turn.account.allocations.pop(_name(event), None)
    if lease is not None:
        _end_hold(turn, lease)
    if lease is None or lease.charged_to <= lease.opened_at:
        turn.charge(*_whole(turn, begin, end))
        return
    charged = _used(event, lease)
    if lease.opened_at != begin or not alike(charged, data):
        told = turn.parts(charged, lease.opened_at, Period(lease.opened_at, lease.charged_to), taken_back=True)
        turn.charge(*told, *_whole(turn, begin, end))
    elif end < lease.charged_to:
        turn.charge(*turn.parts(data, begin, Period(end, lease.charged_to), taken_back=True))
    else:
        turn.charge(*turn.parts(data, begin, Period(lease.charged_to, end)))


def expire(turn: Turn) -> None:
    """No release has come by `expires_at`: charged up to there, and no longer open. What comes later corrects it."""
    name = _name(turn.event)
    lease = turn.account.allocations.get(name)
    if lease is None or lease.expired or not 0 < lease.expires_at <= turn.event.occurred_at:
        raise NoEffect
    data = _used(turn.event, lease)
    _tell_whose(turn, data)
    unpaid = Period(lease.charged_to, lease.expires_at)
    if unpaid.start < unpaid.end and turn.measured(turn.release_of(data, lease.opened_at, unpaid.end)):
        turn.charge(*turn.parts(data, lease.opened_at, unpaid))
        lease.charged_to = unpaid.end
    lease.expired = True
    _give_up_the_oldest(turn)


def _end_hold(turn: Turn, lease: Allocation) -> None:
    """The hold that device.allocated named ends with the release, whether that names it or not."""
    hold_id = _used(turn.event, lease).get("hold_id")
    if isinstance(hold_id, str) and hold_id != turn.event.hold_id:
        turn.end_hold(hold_id, SETTLED)


def _tell_whose(turn: Turn, data: Mapping[str, Any]) -> None:
    """Rows of what is charged name user and device as the allocation did."""
    user, device = data.get("user_id"), data.get("device_id")
    turn.used_by(user if isinstance(user, str) else "", device if isinstance(device, str) else "")


def _open(turn: Turn, begin: int, expires_at: int) -> Allocation:
    event, account = turn.event, turn.account
    name, says = _name(event), used(event.data)
    lease = account.allocations.get(name)
    if lease is not None:
        if lease.opened_at != begin or not alike(_used(event, lease), says):
            raise InvalidInput(
                "conflict", f"allocation {name!r} is open already, with another begin or size", "/data/allocation_id"
            )
        if lease.expires_at == expires_at:
            raise NoEffect
        lease.expires_at = expires_at
        return lease
    del says[_NAME]  # it is kept under its name
    stored = json_of(says if event.hold_id is None else {**says, "hold_id": event.hold_id})
    if len(pack_account(account)) + len(stored) + len(name) + _ALLOCATION_BYTES > ACCOUNT_MAX_BYTES:
        raise InvalidInput(
            "out_of_range",
            f"the account's values would be larger than {ACCOUNT_MAX_BYTES} bytes with one more allocation, {name!r}",
        )
    lease = account.allocations[name] = Allocation(begin, begin, expires_at, stored)
    return lease


def _told_whole(turn: Turn) -> Allocation:
    """An allocation that nobody opened, from a heartbeat that says all of it."""
    data = turn.event.data
    if "allocated_at" in data and all(name in data for name in ("cpu_cores", "memory_mb", "storage_mb")):
        return _open(turn, data["allocated_at"], 0)
    raise InvalidInput(
        "unknown_allocation",
        f"no device.allocated has opened allocation {_name(turn.event)!r}, and the heartbeat says neither its begin "
        "nor its sizes; its release charges all of it",
        "/data/allocation_id",
    )


def _whole(turn: Turn, begin: int, end: int) -> list[Event | Piece]:
    """All that a release is about; one of no length is charged too, as whatever its meters make of it."""
    return [*turn.parts(turn.event.data, begin, Period(begin, end))] or [turn.event]


def _give_up_the_oldest(turn: Turn) -> None:
    allocations = turn.account.allocations
    waiting = [(lease.expires_at, name) for name, lease in allocations.items() if lease.expired]
    if len(waiting) > EXPIRED_KEPT:
        _, oldest = min(waiting)
        del allocations[oldest]
        turn.claim(claim_identity(turn.event.tenant, turn.event.customer, ALLOCATION, oldest), _GIVEN_UP)


def _used(event: Event, lease: Allocation) -> Mapping[str, Any]:
    """What an allocation was said to use, which the event names."""
    return {_NAME: _name(event), **parse(lease.data)}


def _name(event: Event) -> str:
    name: str = event.data[_NAME]
    return name


def _claim(event: Event) -> bytes:
    """Under which the allocation's release is booked."""
    return claim_identity(event.tenant, event.customer, ALLOCATION, _name(event))


EFFECTS: Final[dict[str, Effect]] = {
    DEVICE_ALLOCATED: allocated,
    DEVICE_HEARTBEAT: heartbeat,
    DEVICE_RELEASED: released,
    ALLOCATION_EXPIRE: expire,
}
DOCUMENTS: Final[dict[str, Naming]] = {}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {
    DEVICE_ALLOCATED: lambda event: [_claim(event)],
    DEVICE_HEARTBEAT: lambda event: [_claim(event)],
}
