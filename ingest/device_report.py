"""The device scheduler's report of a released allocation, in its own words, as the event it stands for. Pure.

The scheduler writes camel case, times as `allocatedAt` and `releasedAt` or as `startTime` and `endTime`, sizes at the
top or in `deviceConfig`. Either way the event is the same: its source is the scheduler, its id the allocation, its time
the release. So a report that is sent again, in whatever spelling, is the same event again. Fields that are not known
here are kept under their own names.

Errors: InvalidInput of `ingest.accept`, its pointer into the report; `tenant_mismatch` for a `tenantId` that is not the
sender's.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.accept import Record, accept
from schemas.canonical import json_of, parse
from schemas.errors import InvalidInput
from schemas.period import format_time, parse_time
from schemas.usage_types import DEVICE_RELEASED

SOURCE: Final = "device-scheduler"

# Field of the event's data -> the report's names for it, in the order in which they are looked for.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "device_id": ("deviceId",),
    "allocation_id": ("allocationId",),
    "allocated_at": ("allocatedAt", "startTime"),
    "released_at": ("releasedAt", "endTime"),
    "duration_seconds": ("durationSeconds",),
    "cpu_cores": ("cpuCores",),
    "memory_mb": ("memoryMB",),
    "storage_mb": ("storageMB",),
    "gpu_count": ("gpuCount",),
    "device_type": ("deviceType",),
    "hold_id": ("holdId",),
    "user_id": ("userId",),
}
_TIMES: Final = ("allocated_at", "released_at")
_CONFIG: Final = "deviceConfig"
_ENVELOPE: Final = frozenset(("customer", "tenantId", _CONFIG))
_KNOWN: Final = frozenset(name for names in _NAMES.values() for name in names) | _ENVELOPE


def released(raw: bytes, tenant: str, now: int, max_future: int) -> Record:
    """The record of one report that a sender of `tenant` may send. `now` and `max_future` are microseconds."""
    report = _flat(parse(raw))
    named = report.get("tenantId")
    if named is not None and named != tenant:
        raise InvalidInput("tenant_mismatch", f"tenantId is {named!r}, the sender's is {tenant!r}", "/tenantId")
    data = _data(report)
    customer = report.get("customer", data.get("user_id"))
    if customer is None:
        raise InvalidInput("no_customer", "neither customer nor userId says whom it is billed to", "/userId")
    event = {
        "specversion": "1.0",
        "id": data.get("allocation_id"),
        "source": SOURCE,
        "type": DEVICE_RELEASED,
        "subject": customer,
        "time": data.get("released_at"),
        "tenantid": tenant,
        "data": data,
    }
    for field in ("allocation_id", *_TIMES):
        if field not in data:
            raise InvalidInput("missing_field", f"{_NAMES[field][0]} is missing", f"/{_NAMES[field][0]}")
    try:
        return accept(json_of(event), tenant, now, max_future)
    except InvalidInput as refusal:
        raise _in_its_words(refusal, report) from None


def _flat(report: dict[str, Any]) -> dict[str, Any]:
    """The report without nulls, its configuration's fields beside the others, which go before them."""
    config = report.get(_CONFIG)
    if config is not None and not isinstance(config, dict):
        raise InvalidInput("wrong_type", f"{_CONFIG} is no object", f"/{_CONFIG}")
    return {name: value for part in (config or {}, report) for name, value in part.items() if value is not None}


def _data(report: dict[str, Any]) -> dict[str, Any]:
    data = {name: value for name, value in report.items() if name not in _KNOWN}
    for field, names in _NAMES.items():
        name = next((name for name in names if name in report), None)
        if name is not None:
            data[field] = _time(report[name], name) if field in _TIMES else report[name]
    return data


def _time(value: Any, name: str) -> str:
    """One spelling of an instant: two reports of one release are compared by it."""
    if not isinstance(value, str):
        raise InvalidInput("bad_time", f"{name} is no RFC 3339 time with an offset", f"/{name}")
    return format_time(parse_time(value, f"/{name}"))


def _in_its_words(refusal: InvalidInput, report: dict[str, Any]) -> InvalidInput:
    """A refusal of the event as one of the report."""
    field = refusal.pointer.removeprefix("/data/")
    if refusal.pointer == "/subject":
        names = ("customer",) if "customer" in report else _NAMES["user_id"]
    elif refusal.pointer in ("/id", "/time"):
        names = _NAMES["allocation_id" if refusal.pointer == "/id" else "released_at"]
    else:
        names = _NAMES.get(field, (field,))
    name = next((name for name in names if name in report), names[0])
    detail = refusal.detail
    for words in (f"data.{field}", "subject", "time" if refusal.pointer == "/time" else "id"):
        if detail.startswith(words):
            detail = name + detail[len(words) :]
            break
    return InvalidInput(refusal.reason, detail, f"/{name}" if name else "")
