"""Section 2: what becomes of every record, by outcome and reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.site import Record, Site, Tenant, fresh, plain, until

CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens - data.cached_input_tokens, dimensions: [model]}
  - {id: output_tokens, event_type: session.tokens_used, quantity: data.output_tokens, dimensions: [model]}
  - {id: all_tokens, event_type: session.tokens_used, quantity: data.tokens_used}
  - {id: device_core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
  - {id: ai_chat, event_type: usage.reported}
  - {id: counted_only, event_type: usage.reported}
  - {id: only_gold, event_type: usage.reported, dimensions: [tier]}
  - {id: pages, event_type: printer.printed, quantity: data.pages * data.copies}
  - {id: big, event_type: usage.reported}
prices:
  - {id: in-old, meter: input_tokens, model: per_unit, unit_amount: "0.001", effective_from: 2020-01-01T00:00:00Z}
  - {id: in-new, meter: input_tokens, model: per_unit, unit_amount: "0.002", effective_from: 2026-01-01T00:00:00Z}
  - {id: in-4o, meter: input_tokens, match: {model: gpt-4o}, model: per_unit, unit_amount: "0.0000025"}
  - {id: out, meter: output_tokens, model: per_unit, unit_amount: "0.00001"}
  - {id: token, meter: all_tokens, model: per_unit, unit_amount: "0.01"}
  - {id: cores, meter: device_core_seconds, model: per_unit, unit_amount: "0.01"}
  - {id: chat, meter: ai_chat, model: per_unit, unit_amount: "0.5"}
  - {id: gold, meter: only_gold, match: {tier: gold}, model: per_unit, unit_amount: "1"}
  - {id: page, meter: pages, model: per_unit, unit_amount: "0.1"}
  - {id: dear, meter: big, model: per_unit, unit_amount: "1000000"}
"""
TOKENS = {"session_id": "s", "model": "gpt-4o", "input_tokens": 1200, "cached_input_tokens": 200, "output_tokens": 340}
DEVICE = {
    "device_id": "d", "allocation_id": "a", "allocated_at": "2026-11-20T10:00:00Z", "released_at": "2026-11-20T10:01:00Z",
    "cpu_cores": 2, "memory_mb": 1024.5, "storage_mb": 0,
}  # fmt: skip
CHARGED = {"input_tokens": "0.0025", "output_tokens": "0.0034", "all_tokens": "15.4"}
NOW = datetime.now(UTC)


def at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("events", CATALOGUE)


def nested(depth: int) -> dict[str, Any]:
    return {"deeper": nested(depth - 1)} if depth else {}


# Name; type; data; what of the envelope differs; outcome; reason; charge by meter.
CASES: list[tuple[str, str, dict[str, Any], dict[str, Any], str, str, dict[str, str]]] = [
    ("tokens", "session.tokens_used", TOKENS, {}, "rated", "", CHARGED),
    ("a dead letter of any size keeps its names", "session.tokens_used", {**TOKENS, "output_tokens": -1, "x": "y" * 200_000}, {}, "dead_letter", "*", {}),
    ("no cached", "session.tokens_used", {**TOKENS, "cached_input_tokens": None}, {}, "rated", "", {**CHARGED, "input_tokens": "0.003"}),
    ("tokens_used alone", "session.tokens_used", {"session_id": "s", "model": "m", "tokens_used": 5}, {}, "rated", "", {"all_tokens": "0.05"}),
    ("tokens_used is filled in", "session.tokens_used", {**TOKENS, "tokens_used": 7}, {}, "rated", "", CHARGED),
    ("half a split", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 5}, {}, "dead_letter", "missing_field", {}),
    ("no count at all", "session.tokens_used", {"session_id": "s", "model": "m"}, {}, "dead_letter", "missing_field", {}),
    ("numbers by value", "session.tokens_used", {**TOKENS, "input_tokens": 1.2e3, "output_tokens": 340.0}, {}, "rated", "", CHARGED),
    ("true is no number", "session.tokens_used", {**TOKENS, "output_tokens": True}, {}, "dead_letter", "wrong_type", {}),
    ("text is no number", "session.tokens_used", {**TOKENS, "output_tokens": "340"}, {}, "dead_letter", "wrong_type", {}),
    ("null where a field must be", "session.tokens_used", {**TOKENS, "model": None}, {}, "dead_letter", "*", {}),
    ("nulls where none need be", "session.tokens_used", {**TOKENS, **dict.fromkeys(("message_id", "user_id", "cost_usd", "hold_id", "final"))}, {}, "rated", "", CHARGED),
    ("10^15 is a count", "session.tokens_used", {**TOKENS, "reasoning_tokens": 10**15}, {}, "rated", "", CHARGED),
    ("a field of the sender's own", "session.tokens_used", {**TOKENS, "organization_id": 5, "more": {"a": [1]}}, {}, "rated", "", CHARGED),
    ("a subject of 200 characters", "session.tokens_used", TOKENS, {"subject": f"{'é' * 160}/ %2F{fresh()}".ljust(200, "☃")}, "rated", "", CHARGED),
    ("a subject of 201 characters", "session.tokens_used", TOKENS, {"subject": "x" * 201}, "dead_letter", "*", {}),
    ("an empty subject", "session.tokens_used", TOKENS, {"subject": ""}, "dead_letter", "*", {}),
    ("nobody's", "session.tokens_used", TOKENS, {"subject": None}, "dead_letter", "no_customer", {}),
    ("no data", "session.tokens_used", TOKENS, {"data": None}, "dead_letter", "missing_field", {}),
    ("data that is no object", "session.tokens_used", TOKENS, {"data": [1]}, "dead_letter", "wrong_type", {}),
    ("all zero", "session.tokens_used", {**TOKENS, "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}, {}, "ignored", "zero", {}),
    ("price of its own time", "session.tokens_used", {**TOKENS, "model": "x", "output_tokens": 0}, {"time": "2025-06-01T00:00:00Z"}, "rated", "", {"input_tokens": "1", "all_tokens": "12"}),
    ("price of now", "session.tokens_used", {**TOKENS, "model": "x", "output_tokens": 0}, {"time": "2026-06-01T00:00:00Z"}, "rated", "", {"input_tokens": "2", "all_tokens": "12"}),
    ("any offset inward", "session.tokens_used", {**TOKENS, "model": "x", "output_tokens": 0}, {"time": "2026-01-01T00:30:00+01:00"}, "rated", "", {"input_tokens": "1", "all_tokens": "12"}),
    ("without time Kafka's is used", "session.tokens_used", TOKENS, {"time": None}, "rated", "", CHARGED),
    ("customer of user_id", "session.tokens_used", {**TOKENS, "user_id": "by-user"}, {"subject": None}, "rated", "", CHARGED),
    ("upstream cost is never charged", "session.tokens_used", {**TOKENS, "cost_usd": 99.5}, {}, "rated", "", CHARGED),
    ("cached beyond input", "session.tokens_used", {**TOKENS, "cached_input_tokens": 1201}, {}, "dead_letter", "*", {}),
    ("negative count", "session.tokens_used", {**TOKENS, "output_tokens": -1}, {}, "dead_letter", "*", {}),
    ("count beyond 10^15", "session.tokens_used", {**TOKENS, "output_tokens": 10**15 + 1}, {}, "dead_letter", "*", {}),
    ("fractional count", "session.tokens_used", {**TOKENS, "output_tokens": 1.5}, {}, "dead_letter", "*", {}),
    ("missing field", "session.tokens_used", {"session_id": "s", "input_tokens": 1, "output_tokens": 1}, {}, "dead_letter", "missing_field", {}),
    ("unknown type", "never.heard_of", {}, {}, "dead_letter", "unknown_type", {}),
    ("unknown version", "session.tokens_used", TOKENS, {"dataschema": "https://x/session.tokens_used/2"}, "dead_letter", "unknown_version", {}),
    ("known version", "session.tokens_used", TOKENS, {"dataschema": "https://x/session.tokens_used/1"}, "rated", "", CHARGED),
    ("future", "session.tokens_used", TOKENS, {"time": at(NOW + timedelta(hours=3))}, "dead_letter", "future", {}),
    ("a little ahead", "session.tokens_used", TOKENS, {"time": at(NOW + timedelta(minutes=20))}, "rated", "", CHARGED),
    ("before 1970", "session.tokens_used", TOKENS, {"time": "1969-12-31T23:59:59Z"}, "dead_letter", "bad_time", {}),
    ("a year that RFC 3339 has not", "session.tokens_used", TOKENS, {"time": "10000-01-01T00:00:00Z"}, "dead_letter", "bad_time", {}),
    ("no offset", "session.tokens_used", TOKENS, {"time": "2026-11-20T10:15:30"}, "dead_letter", "bad_time", {}),
    ("no time at all", "session.tokens_used", TOKENS, {"time": "soon"}, "dead_letter", "bad_time", {}),
    ("other specversion", "session.tokens_used", TOKENS, {"specversion": "0.3"}, "dead_letter", "*", {}),
    ("at the bound of depth", "session.tokens_used", {**TOKENS, "x": nested(29)}, {}, "rated", "", CHARGED),
    ("just too deep", "session.tokens_used", {**TOKENS, "x": nested(30)}, {}, "dead_letter", "too_deep", {}),
    ("nested too deep", "session.tokens_used", {**TOKENS, "x": nested(40)}, {}, "dead_letter", "*", {}),
    ("nested deep", "session.tokens_used", {**TOKENS, "x": nested(20)}, {}, "rated", "", CHARGED),
    ("beyond 256 kB", "session.tokens_used", {**TOKENS, "x": "y" * 300_000}, {}, "dead_letter", "*", {}),
    ("device", "device.released", {**DEVICE, "allocation_id": "a1"}, {}, "rated", "", {"device_core_seconds": "1.2"}),
    ("duration within a second", "device.released", {**DEVICE, "allocation_id": "a2", "duration_seconds": 61}, {}, "rated", "", {"device_core_seconds": "1.2"}),
    ("rounded half up", "device.released", {**DEVICE, "allocation_id": "a3", "released_at": "2026-11-20T10:01:00.5Z"}, {}, "rated", "", {"device_core_seconds": "1.22"}),
    ("rounded down below the half", "device.released", {**DEVICE, "allocation_id": "a6", "released_at": "2026-11-20T10:01:00.499Z"}, {}, "rated", "", {"device_core_seconds": "1.2"}),
    ("sizes may have decimals", "device.released", {**DEVICE, "allocation_id": "a7", "cpu_cores": 0.5}, {}, "rated", "", {"device_core_seconds": "0.3"}),
    ("times of any offset", "device.released", {**DEVICE, "allocation_id": "a8", "allocated_at": "2026-11-20T11:00:00+01:00"}, {}, "rated", "", {"device_core_seconds": "1.2"}),
    ("no time at all is no charge", "device.released", {**DEVICE, "allocation_id": "a9", "released_at": DEVICE["allocated_at"]}, {}, "rated", "", {}),
    ("a negative size", "device.released", {**DEVICE, "allocation_id": "b1", "memory_mb": -1}, {}, "dead_letter", "out_of_range", {}),
    ("duration that differs", "device.released", {**DEVICE, "allocation_id": "a4", "duration_seconds": 62}, {}, "dead_letter", "*", {}),
    ("an end before its begin", "device.released", {**DEVICE, "allocation_id": "a5", "released_at": "2026-11-20T09:00:00Z"}, {}, "dead_letter", "*", {}),
    ("reported", "usage.reported", {"meter": "ai_chat", "quantity": 3}, {}, "rated", "", {"ai_chat": "1.5"}),
    ("quantity is 1 by default", "usage.reported", {"meter": "ai_chat"}, {}, "rated", "", {"ai_chat": "0.5"}),
    ("a null quantity is as if absent", "usage.reported", {"meter": "ai_chat", "quantity": None}, {}, "rated", "", {"ai_chat": "0.5"}),
    ("rounded once, half even", "usage.reported", {"meter": "ai_chat", "quantity": 0.000000001}, {}, "rated", "", {"ai_chat": "0"}),
    ("rounded once, half even, up", "usage.reported", {"meter": "ai_chat", "quantity": 0.000000003}, {}, "rated", "", {"ai_chat": "0.000000002"}),
    ("below zero", "usage.reported", {"meter": "ai_chat", "quantity": -1}, {}, "dead_letter", "out_of_range", {}),
    ("an alias has its own word for the meter", "product.usage_recorded", {"product_id": "ai_chat", "meter": "big"}, {}, "rated", "", {"ai_chat": "0.5"}),
    ("an alias without a product", "product.usage_recorded", {"meter": "ai_chat"}, {}, "dead_letter", "missing_field", {}),
    ("a meter of another type", "usage.reported", {"meter": "input_tokens"}, {}, "dead_letter", "no_meter", {}),
    ("alias", "product.usage_recorded", {"product_id": "ai_chat", "quantity": 2}, {}, "rated", "", {"ai_chat": "1"}),
    ("a meter without any price only counts", "usage.reported", {"meter": "counted_only", "quantity": 4}, {}, "rated", "", {"counted_only": "0"}),
    ("no price", "usage.reported", {"meter": "only_gold", "quantity": 1, "tier": "tin"}, {}, "dead_letter", "no_price", {}),
    ("no price for nothing", "usage.reported", {"meter": "only_gold", "quantity": 0, "tier": "tin"}, {}, "rated", "", {}),
    ("most specific", "usage.reported", {"meter": "only_gold", "quantity": 2, "tier": "gold"}, {}, "rated", "", {"only_gold": "2"}),
    ("no meter", "usage.reported", {"meter": "nobody_s", "quantity": 1}, {}, "dead_letter", "no_meter", {}),
    ("the largest charge", "usage.reported", {"meter": "big", "quantity": 9223.372036}, {}, "rated", "", {"big": "9223372036"}),
    ("overflow", "usage.reported", {"meter": "big", "quantity": 10**10}, {}, "dead_letter", "amount_overflow", {}),
    ("any further type may be metered", "printer.printed", {"pages": 3, "copies": 2}, {}, "rated", "", {"pages": "0.6"}),
    ("the sum is rounded, not its parts", "printer.printed", {"pages": 0.1, "copies": 0.3}, {}, "rated", "", {"pages": "0.003"}),
    ("a field that an expression needs", "printer.printed", {"pages": 3}, {}, "dead_letter", "missing_field", {}),
    ("a null that an expression needs", "printer.printed", {"pages": 3, "copies": None}, {}, "dead_letter", "missing_field", {}),
    ("text that an expression needs as a number", "printer.printed", {"pages": "3", "copies": 1}, {}, "dead_letter", "wrong_type", {}),
    ("any further type has any version", "printer.printed", {"pages": 1, "copies": 1}, {"dataschema": "https://x/printer.printed/7"}, "rated", "", {"pages": "0.1"}),
    ("ended, not metered", "session.ended", {"session_id": "s", "started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T10:01:00Z"}, {}, "ignored", "no_meter", {}),
    ("ended before it began", "session.ended", {"session_id": "s", "started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T09:01:00Z"}, {}, "dead_letter", "*", {}),
    ("allocated", "device.allocated", {"device_id": "d", "allocation_id": "l1", "allocated_at": "2026-11-20T10:00:00Z", "cpu_cores": 2, "memory_mb": 1, "storage_mb": 0}, {}, "rated", "", {}),
]  # fmt: skip


def test_every_record_ends_in_one_outcome_by_name(site: Site, tenant: Tenant) -> None:
    """Every record of an input topic ends in exactly one of `rated`, `duplicate`, `ignored`, `dead_letter`, with a
    machine-readable `reason` where it is not `rated`.
    """
    sent = {}
    for name, type_, data, other, *_ in CASES:
        event = {**tenant.event(fresh("cust"), type_, data, time="2026-11-20T10:15:30.123Z"), **other}
        sent[name] = {attribute: value for attribute, value in event.items() if value is not None}
    tenant.send(*sent.values())
    outcomes = tenant.outcomes([event["id"] for event in sent.values()])
    charges: dict[str, dict[str, str]] = {}
    for row in tenant.rows("rated_usage"):
        charges.setdefault(row["event_id"], {})[row["meter"]] = row["amount"]
    wrong = []
    for name, _, _, _, outcome, reason, amounts in CASES:
        ((what, why),) = outcomes[sent[name]["id"]]
        booked = {meter: plain(amount) for meter, amount in charges.get(sent[name]["id"], {}).items()}
        good = (outcome in ("*", what) and reason in ("*", why)) and (what == "rated") == (why == "")
        if not good or (what == "rated" and booked != amounts):
            wrong.append((name, what, why, booked))
    assert wrong == []


BROKEN = [
    ("not json", b"{ broken"),
    ("an array", b"[1, 2]"),
    ("bad UTF-8", b'{"specversion": "1.0", "id": "\xff"}'),
    ("empty", b""),
    ("nothing", None),
    ("a NaN", b'{"specversion": "1.0", "id": NaN}'),
    ("a byte order mark", b'\xef\xbb\xbf{"specversion": "1.0"}'),
    ("a number beyond all bounds", b'{"specversion": "1.0", "id": 1e99999999999}'),
    ("two of a key", b'{"specversion": "1.0", "id": "a", "id": "b"}'),
]


def test_records_that_are_no_events_are_dead_letters(site: Site, tenant: Tenant) -> None:
    """A dead letter keeps the original bytes, topic, partition, offset and a readable `detail`. One bad event never
    stops its partition.
    """
    placed = site.produce([Record("usage.events", value, fresh("k").encode(), 3) for _, value in BROKEN])
    behind = site.produce([Record("usage.events", value, fresh("k").encode(), 3) for _, value in BROKEN[:1]])
    first, last = placed[0][1], behind[0][1]
    query = (
        "SELECT topic, partition, offset, reason, detail, original FROM tollgate.dead_letters "
        "WHERE topic = 'usage.events' AND partition = 3 AND offset BETWEEN {first:Int64} AND {last:Int64}"
    )
    letters = until(lambda: rows if len(rows := site.sql(query, first=first, last=last)) >= len(BROKEN) + 1 else [])
    assert len(letters) == len(BROKEN) + 1
    for letter in letters:
        assert letter["reason"], letter
        assert letter["detail"], letter
    originals = {letter["offset"]: letter["original"] for letter in letters}
    assert originals[placed[0][1]].encode() == BROKEN[0][1]
    assert originals[placed[1][1]].encode() == BROKEN[1][1]


def tokens(tenant: Tenant, customer: str, **other: Any) -> dict[str, Any]:
    return tenant.event(customer, "session.tokens_used", TOKENS, time="2026-11-20T10:15:30.123Z", **other)


def changed(event: Mapping[str, Any], **data: Any) -> dict[str, Any]:
    return {**event, "data": {**event["data"], **data}}


def test_a_heartbeat_charges_the_time_since_the_last_mark(tenant: Tenant) -> None:
    """The allocation still runs; charges its time since the last mark; the release settles the rest."""
    customer, allocation = fresh("cust"), fresh("alloc")
    begin = {key: value for key, value in DEVICE.items() if key != "released_at"} | {"allocation_id": allocation}
    events = [
        tenant.event(customer, "device.allocated", begin),
        tenant.event(customer, "device.heartbeat", {"allocation_id": allocation, "until": "2026-11-20T10:00:20Z"}),
        tenant.event(customer, "device.heartbeat", {"allocation_id": allocation, "until": "2026-11-20T10:00:50Z"}),
        tenant.event(customer, "device.released", {**DEVICE, "allocation_id": allocation}),
    ]
    tenant.send(*events)
    outcomes = tenant.outcomes([event["id"] for event in events])
    assert [outcomes[event["id"]] for event in events] == [[("rated", "")]] * 4
    rows = tenant.rows("rated_usage", "allocation_id = {a:String}", a=allocation)
    assert sorted(plain(row["amount"]) for row in rows) == ["0.2", "0.4", "0.6"]
    assert tenant.balance(customer)["balance"] == "-1.2"


def test_a_correction_cancels_or_replaces(tenant: Tenant) -> None:
    """`usage.corrected`: `source`, `id` of an earlier event, `reason`, optional `replace`; books correcting entries."""
    cancelled, replaced = fresh("cust"), fresh("cust")
    first, second = tokens(tenant, cancelled), tokens(tenant, replaced)
    tenant.send(first, second)
    tenant.outcomes([first["id"], second["id"]])
    named = {"source": "acceptance", "reason": "wrong"}
    corrections = [
        tenant.event(cancelled, "usage.corrected", {**named, "id": first["id"]}),
        tenant.event(replaced, "usage.corrected", {**named, "id": second["id"], "replace": {**TOKENS, "output_tokens": 0}}),
    ]  # fmt: skip
    tenant.send(*corrections)
    tenant.outcomes([event["id"] for event in corrections])
    until(lambda: tenant.balance(cancelled)["balance"] == "0", "the cancelled event")
    until(lambda: tenant.balance(replaced)["balance"] == "-12.0025", "the replaced event")
