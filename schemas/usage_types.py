"""The built-in usage events: the shape of each type's data, what is filled in, and what must agree.

Each type has one function from data as sent, nulls in optional fields taken out, to `Filled`. What is filled in with
defaults is part of the content that identical events are compared by (an absent optional count, null and 0 are the
same); what is computed is not. Times in computed data are microseconds.

Errors: as `schemas.shape`, and InvalidInput `inconsistent`, `bad_time` (an end before its begin).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from schemas.errors import InvalidInput
from schemas.period import SECOND, Timestamp
from schemas.shape import Count, Id, read, read_cost, read_size, read_time

TOKENS_USED: Final = "session.tokens_used"
SESSION_ENDED: Final = "session.ended"
DEVICE_RELEASED: Final = "device.released"
DEVICE_ALLOCATED: Final = "device.allocated"
DEVICE_HEARTBEAT: Final = "device.heartbeat"
USAGE_REPORTED: Final = "usage.reported"
USAGE_CORRECTED: Final = "usage.corrected"
PRODUCT_USAGE_RECORDED: Final = "product.usage_recorded"
"""The alias of USAGE_REPORTED, whose `product_id` is the meter."""

DURATION_TOLERANCE: Final = SECOND
"""A duration sent may differ by this much from the times it belongs to."""


class Filled(msgspec.Struct, frozen=True, gc=False):
    """What a type makes of its data."""

    data: dict[str, Any]
    """As sent, with defaults filled in: what content is compared by."""
    computed: dict[str, Any] | None = None
    """What goes before `data` in the event itself."""
    zero: bool = False
    """All counts are zero: there is nothing to charge."""


class _Named(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What any usage event may carry."""

    user_id: Id | None = None
    hold_id: Id | None = None
    session_id: Id | None = None
    device_id: Id | None = None
    allocation_id: Id | None = None
    final: bool | None = None


class _Tokens(_Named, frozen=True, kw_only=True, gc=False):
    session_id: Id
    model: Id
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cached_input_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    tokens_used: Count | None = None
    message_id: Id | None = None
    cost_usd: Any = None


class _SessionEnded(_Named, frozen=True, kw_only=True, gc=False):
    session_id: Id
    started_at: Timestamp
    ended_at: Timestamp
    message_count: Count | None = None
    duration_seconds: Any = None


class _Released(_Named, frozen=True, kw_only=True, gc=False):
    device_id: Id
    allocation_id: Id
    allocated_at: Timestamp
    released_at: Timestamp
    cpu_cores: Any
    memory_mb: Any
    storage_mb: Any
    gpu_count: Count | None = None
    device_type: Id | None = None
    duration_seconds: Any = None


class _Allocated(_Named, frozen=True, kw_only=True, gc=False):
    device_id: Id
    allocation_id: Id
    allocated_at: Timestamp
    cpu_cores: Any
    memory_mb: Any
    storage_mb: Any
    gpu_count: Count | None = None
    device_type: Id | None = None
    expires_at: Timestamp | None = None


class _Heartbeat(_Named, frozen=True, kw_only=True, gc=False):
    allocation_id: Id
    until: Timestamp
    allocated_at: Timestamp | None = None
    cpu_cores: Any = None
    memory_mb: Any = None
    storage_mb: Any = None
    gpu_count: Count | None = None
    device_type: Id | None = None


class _Reported(_Named, frozen=True, kw_only=True, gc=False):
    meter: Id
    quantity: Any = None


class _ProductUsage(_Named, frozen=True, kw_only=True, gc=False):
    product_id: Id
    quantity: Any = None


class _Corrected(_Named, frozen=True, kw_only=True, gc=False):
    source: Id
    id: Id
    reason: Id
    replace: dict[str, Any] | None = None


class BuiltIn:
    """A built-in type: the shape of its data, and what completes data that carries no null in an optional field."""

    __slots__ = ("complete", "optional", "shape")

    def __init__(self, shape: type[msgspec.Struct], complete: Callable[[dict[str, Any]], Filled]) -> None:
        self.shape = shape
        self.complete = complete
        self.optional = frozenset(field.encode_name for field in msgspec.structs.fields(shape) if not field.required)

    def without_nulls(self, data: dict[str, Any]) -> dict[str, Any]:
        """`data` without optional fields that are null: they are as if they were absent."""
        return {name: value for name, value in data.items() if value is not None or name not in self.optional}


_TOKENS_DEFAULTS: Final = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cached_input_tokens": 0,
    "cache_write_tokens": 0,
    "reasoning_tokens": 0,
    "final": True,
}


def _tokens(data: dict[str, Any]) -> Filled:
    sent = read(data, _Tokens, "/data")
    filled = _TOKENS_DEFAULTS | data
    taken, given, total = sent.input_tokens, sent.output_tokens, sent.tokens_used
    if taken is None or given is None:
        # Without a split the total stands alone. Half a split is a fault: the other half would go uncharged.
        if taken or given or total is None:
            name = "input_tokens" if taken is None else "output_tokens"
            raise InvalidInput("missing_field", f"data.{name} is missing", f"/data/{name}")
    elif taken or given or not total:
        total = taken + given
    if sent.cached_input_tokens and sent.cached_input_tokens > (taken or 0):
        raise InvalidInput(
            "inconsistent",
            f"data.cached_input_tokens {sent.cached_input_tokens} is more than data.input_tokens {taken or 0}",
            "/data/cached_input_tokens",
        )
    computed: dict[str, Any] | None = None
    if not sent.tokens_used:
        filled["tokens_used"] = total
    elif sent.tokens_used != total:
        computed = {"tokens_used": total}
    if sent.cost_usd is not None:
        computed = {**(computed or {}), "cost_usd": read_cost(sent.cost_usd, "/data/cost_usd")}
    return Filled(filled, computed, not (total or sent.cache_write_tokens or sent.reasoning_tokens))


def _session_ended(data: dict[str, Any]) -> Filled:
    sent = read(data, _SessionEnded, "/data")
    start, end = read_time(sent.started_at, data, "started_at"), read_time(sent.ended_at, data, "ended_at")
    _in_order(start, end, "started_at", "ended_at")
    filled = {"message_count": 0, "final": True} | data
    seconds = _duration(filled, start, end)
    return Filled(filled, {"started_at": start, "ended_at": end, "duration_seconds": seconds})


def _released(data: dict[str, Any]) -> Filled:
    sent = read(data, _Released, "/data")
    start, end = read_time(sent.allocated_at, data, "allocated_at"), read_time(sent.released_at, data, "released_at")
    _in_order(start, end, "allocated_at", "released_at")
    _sizes(sent)
    filled = {"gpu_count": 0, "final": True} | data
    seconds = _duration(filled, start, end)
    return Filled(filled, {"allocated_at": start, "released_at": end, "duration_seconds": seconds})


_RUNNING: Final = {"final": False}
"""An allocation that runs does not end the hold that pays for it; its release does."""


def _allocated(data: dict[str, Any]) -> Filled:
    sent = read(data, _Allocated, "/data")
    computed = {"allocated_at": read_time(sent.allocated_at, data, "allocated_at")}
    if sent.expires_at is not None:
        computed["expires_at"] = read_time(sent.expires_at, data, "expires_at")
        _in_order(computed["allocated_at"], computed["expires_at"], "allocated_at", "expires_at")
    _sizes(sent)
    return Filled({"gpu_count": 0} | _RUNNING | data, computed)


def _heartbeat(data: dict[str, Any]) -> Filled:
    sent = read(data, _Heartbeat, "/data")
    computed = {"until": read_time(sent.until, data, "until")}
    if sent.allocated_at is not None:
        computed["allocated_at"] = read_time(sent.allocated_at, data, "allocated_at")
    for name in ("cpu_cores", "memory_mb", "storage_mb"):
        if data.get(name) is not None:
            read_size(data[name], f"/data/{name}")
    return Filled(_RUNNING | data, computed)


def _reported(data: dict[str, Any]) -> Filled:
    read(data, _Reported, "/data")
    filled = {"quantity": 1, "final": True} | data
    read_size(filled["quantity"], "/data/quantity")
    return Filled(filled)


def _product_usage(data: dict[str, Any]) -> Filled:
    sent = read(data, _ProductUsage, "/data")
    filled = {"quantity": 1, "final": True} | data
    read_size(filled["quantity"], "/data/quantity")
    return Filled(filled, {"meter": sent.product_id})


def _corrected(data: dict[str, Any]) -> Filled:
    read(data, _Corrected, "/data")
    return Filled({"final": True} | data)


def _sizes(sent: _Released | _Allocated) -> None:
    read_size(sent.cpu_cores, "/data/cpu_cores")
    read_size(sent.memory_mb, "/data/memory_mb")
    read_size(sent.storage_mb, "/data/storage_mb")


def _in_order(start: int, end: int, start_name: str, end_name: str) -> None:
    if end < start:
        raise InvalidInput("bad_time", f"data.{end_name} lies before data.{start_name}", f"/data/{end_name}")


def whole_seconds(start: int, end: int) -> int:
    """Whole seconds from start to end, rounded half up."""
    return (end - start + SECOND // 2) // SECOND


def duration_agrees(sent: int | Decimal, start: int, end: int) -> bool:
    """Whether a duration in seconds that was sent is that of its times."""
    return -DURATION_TOLERANCE <= sent * SECOND - (end - start) <= DURATION_TOLERANCE


def _duration(filled: dict[str, Any], start: int, end: int) -> int:
    """Whole seconds from start to end; a duration that was sent must agree with the times."""
    seconds = whole_seconds(start, end)
    sent = filled.get("duration_seconds")
    if sent is None:
        filled["duration_seconds"] = seconds
    elif not duration_agrees(read_size(sent, "/data/duration_seconds"), start, end):
        raise InvalidInput(
            "inconsistent",
            f"data.duration_seconds {sent} differs by more than 1 s from its times, {seconds} s apart",
            "/data/duration_seconds",
        )
    return seconds


USAGE_TYPES: Final = {
    TOKENS_USED: BuiltIn(_Tokens, _tokens),
    SESSION_ENDED: BuiltIn(_SessionEnded, _session_ended),
    DEVICE_RELEASED: BuiltIn(_Released, _released),
    DEVICE_ALLOCATED: BuiltIn(_Allocated, _allocated),
    DEVICE_HEARTBEAT: BuiltIn(_Heartbeat, _heartbeat),
    USAGE_REPORTED: BuiltIn(_Reported, _reported),
    USAGE_CORRECTED: BuiltIn(_Corrected, _corrected),
    PRODUCT_USAGE_RECORDED: BuiltIn(_ProductUsage, _product_usage),
}
