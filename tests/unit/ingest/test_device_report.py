"""A device report is the event it stands for, whatever its spelling, and is refused in its own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.device_report import released
from schemas.errors import InvalidInput
from schemas.event import Event, decode
from schemas.period import parse_time

NOW = parse_time("2026-11-20T12:00:00Z")
HOUR = 3_600_000_000

REPORT: dict[str, Any] = {
    "deviceId": "d-1",
    "userId": "u-1",
    "tenantId": "acme",
    "allocationId": "a-1",
    "durationSeconds": 5400,
    "cpuCores": 4,
    "memoryMB": 8192,
    "storageMB": 20480.5,
    "allocatedAt": "2026-11-20T10:00:00Z",
    "releasedAt": "2026-11-20T11:30:00Z",
}


NO_TIMES = {"allocatedAt": None, "releasedAt": None}


def event_of(report: dict[str, Any], tenant: str = "acme") -> Event:
    record = released(json.dumps(report).encode(), tenant, NOW, HOUR)
    event = decode(record.value, NOW, HOUR)
    assert (record.topic, record.key) == ("usage.events", event.customer.encode())
    return event


def test_a_report_is_a_release() -> None:
    """Source, id, time, customer and data are as the contract names them."""
    event = event_of(REPORT)
    assert (event.source, event.id, event.type, event.tenant) == ("device-scheduler", "a-1", "device.released", "acme")
    assert (event.customer, event.user_id, event.device_id) == ("u-1", "u-1", "d-1")
    assert event.occurred_at == parse_time("2026-11-20T11:30:00Z")
    assert event.data["duration_seconds"] == 5400
    assert str(event.data["storage_mb"]) == "20480.5"


@pytest.mark.parametrize(
    "changes",
    [
        {
            "allocatedAt": None,
            "releasedAt": None,
            "startTime": "2026-11-20T10:00:00Z",
            "endTime": "2026-11-20T11:30:00Z",
        },
        {"allocatedAt": "2026-11-20T12:00:00.000+02:00", "releasedAt": "2026-11-20T11:30:00.000Z"},
        {
            "cpuCores": None,
            "memoryMB": None,
            "storageMB": None,
            "deviceConfig": {"cpuCores": 4.0, "memoryMB": 8192, "storageMB": 20480.50},
        },
        {"durationSeconds": None},
        {"tenantId": None},
    ],
)
def test_every_spelling_of_a_report_is_the_same_event(changes: dict[str, Any]) -> None:
    """So what is sent again by another version of the scheduler is a duplicate, no conflict."""
    other = event_of({**REPORT, **changes})
    assert (other.identity, other.content) == (event_of(REPORT).identity, event_of(REPORT).content)


def test_customer_is_billed_before_the_user_and_other_fields_are_kept() -> None:
    """The user stays a dimension."""
    event = event_of({**REPORT, "customer": "team-7", "region": "eu"})
    assert (event.customer, event.user_id, event.data["region"]) == ("team-7", "u-1", "eu")


@pytest.mark.parametrize(
    ("changes", "reason", "pointer", "said"),
    [
        ({"tenantId": "globex"}, "tenant_mismatch", "/tenantId", "globex"),
        ({"userId": None}, "no_customer", "/userId", "userId"),
        ({"userId": 7}, "wrong_type", "/userId", "userId"),
        ({"allocationId": None}, "missing_field", "/allocationId", "allocationId is missing"),
        ({"allocationId": "x" * 201}, "out_of_range", "/allocationId", "allocationId"),
        ({"deviceId": None}, "missing_field", "/deviceId", "deviceId is missing"),
        ({"cpuCores": None}, "missing_field", "/cpuCores", "cpuCores is missing"),
        ({"cpuCores": "4"}, "wrong_type", "/cpuCores", "cpuCores is no number"),
        ({"memoryMB": -1}, "out_of_range", "/memoryMB", "memoryMB"),
        ({"deviceConfig": 7}, "wrong_type", "/deviceConfig", "deviceConfig"),
        ({"releasedAt": None}, "missing_field", "/releasedAt", "releasedAt is missing"),
        ({"releasedAt": 1_795_000_000}, "bad_time", "/releasedAt", "releasedAt"),
        ({"releasedAt": None, "endTime": "yesterday"}, "bad_time", "/endTime", "endTime"),
        ({"releasedAt": "2026-11-20T09:00:00Z"}, "bad_time", "/releasedAt", "releasedAt"),
        ({"releasedAt": "2026-11-20T14:00:00Z", "durationSeconds": None}, "future", "/releasedAt", "releasedAt"),
        ({"durationSeconds": 9}, "inconsistent", "/durationSeconds", "durationSeconds 9"),
    ],
)
def test_a_report_at_fault_is_refused_in_its_own_words(
    changes: dict[str, Any], reason: str, pointer: str, said: str
) -> None:
    """Reason, pointer and detail name the report's field."""
    report = {name: value for name, value in {**REPORT, **changes}.items() if value is not None}
    with pytest.raises(InvalidInput) as refused:
        event_of(report)
    assert (refused.value.reason, refused.value.pointer) == (reason, pointer)
    assert said in refused.value.detail
