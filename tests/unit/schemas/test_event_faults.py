"""What is wrong with a record is told by a reason of the closed set and a sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import InvalidInput
from schemas.event import decode
from schemas.outcome import REASONS
from tests.unit.schemas.events import HOUR, NOW, event, write

RECORDS: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b" \n", "empty"),
    (b"hello", "not_json"),
    (write(event())[:-1], "not_json"),
    (write(event()) + b"x", "not_json"),
    (b"[" + write(event()) + b"]", "not_json"),
    (b"null", "not_json"),
    (b"\xef\xbb\xbf" + write(event()), "not_json"),
    (write(event()).replace(b"1200", b"NaN"), "not_json"),
    (write(event()).replace(b"1200", b"Infinity"), "not_json"),
    (write(event()).replace(b"1200", b"01"), "not_json"),
    (write(event()).replace(b"gpt-4o", b"gpt\xff"), "bad_encoding"),
    (write(event()).replace(b"gpt-4o", b"\xed\xa0\x80"), "bad_encoding"),
    (write(event(extra="")).replace(b'"extra"', b'"\xc3"'), "bad_encoding"),
    (write(event({"pad": "x" * 1_000_000})), "too_large"),
    (write(event({"deep": ...})).replace(b'"gpt-4o"', b"[" * 31 + b"]" * 31), "too_deep"),
    (write(event(extra=...)).replace(b'"gpt-4o"', b'{"a":' * 40 + b"1" + b"}" * 40), "too_deep"),
    (write(event()).replace(b'"gpt-4o"', b"[" * 100_000 + b"]" * 100_000), "too_deep"),
    (b"[" * 250_000, "too_deep"),
    (b'{"a":' * 50_000, "too_deep"),
    (b'{"a":"' + b'\\"[' * 80_000, "not_json"),
    (write(event(extra=...)).replace(b"1200", b"1e999999999"), "out_of_range"),
    (write(event(extra=...)).replace(b"1200", b"1e-999999999"), "out_of_range"),
    (write(event(extra=...)).replace(b"1200", b"1" * 5000), "out_of_range"),
    (write(event(extra=...)).replace(b"1200", b"0." + b"1" * 5000), "out_of_range"),
    (write(event(extra=...)).replace(b"1200", b"1e99999999999999999999999"), "out_of_range"),
]

ENVELOPES: list[tuple[dict[str, Any], str, str]] = [
    ({"specversion": ...}, "missing_field", "/specversion"),
    ({"specversion": "0.3"}, "wrong_type", "/specversion"),
    ({"id": ...}, "missing_field", "/id"),
    ({"id": ""}, "out_of_range", "/id"),
    ({"id": "x" * 201}, "out_of_range", "/id"),
    ({"id": 17}, "wrong_type", "/id"),
    ({"source": None}, "wrong_type", "/source"),
    ({"type": ["session.tokens_used"]}, "wrong_type", "/type"),
    ({"subject": ...}, "no_customer", "/subject"),
    ({"subject": ""}, "out_of_range", "/subject"),
    ({"tenantid": {}}, "wrong_type", "/tenantid"),
    ({"time": "yesterday"}, "bad_time", "/time"),
    ({"time": 1_795_169_730}, "bad_time", "/time"),
    ({"time": "2026-11-20T10:15:30"}, "bad_time", "/time"),
    ({"time": "1969-12-31T23:59:59Z"}, "bad_time", "/time"),
    ({"time": "2026-11-20T11:15:31.000001Z"}, "future", "/time"),
    ({"dataschema": "https://schemas.example/session.tokens_used/2"}, "unknown_version", "/dataschema"),
    ({"dataschema": "https://schemas.example/device.released/1"}, "unknown_version", "/dataschema"),
    ({"data": ...}, "missing_field", "/data"),
    ({"data": [1]}, "wrong_type", "/data"),
    ({"data": "eyJ9"}, "wrong_type", "/data"),
]

FIELDS: list[tuple[str, dict[str, Any], str, str]] = [
    ("session.tokens_used", {"model": ...}, "missing_field", "model"),
    ("session.tokens_used", {"session_id": 5}, "wrong_type", "session_id"),
    ("session.tokens_used", {"input_tokens": ..., "output_tokens": ...}, "missing_field", "input_tokens"),
    ("session.tokens_used", {"output_tokens": ...}, "missing_field", "output_tokens"),
    ("session.tokens_used", {"output_tokens": ..., "tokens_used": 9}, "missing_field", "output_tokens"),
    ("session.tokens_used", {"input_tokens": -1}, "out_of_range", "input_tokens"),
    ("session.tokens_used", {"input_tokens": "12"}, "wrong_type", "input_tokens"),
    ("session.tokens_used", {"input_tokens": 1.5}, "wrong_type", "input_tokens"),
    ("session.tokens_used", {"input_tokens": True}, "wrong_type", "input_tokens"),
    ("session.tokens_used", {"input_tokens": 10**15 + 1}, "out_of_range", "input_tokens"),
    ("session.tokens_used", {"output_tokens": 1e300}, "out_of_range", "output_tokens"),
    ("session.tokens_used", {"cached_input_tokens": 1201}, "inconsistent", "cached_input_tokens"),
    ("session.tokens_used", {"cost_usd": "a lot"}, "wrong_type", "cost_usd"),
    ("session.tokens_used", {"cost_usd": "NaN"}, "wrong_type", "cost_usd"),
    ("session.tokens_used", {"cost_usd": -1}, "out_of_range", "cost_usd"),
    ("session.tokens_used", {"final": "yes"}, "wrong_type", "final"),
    ("session.ended", {"ended_at": "2026-11-20T09:59:59Z"}, "bad_time", "ended_at"),
    ("session.ended", {"started_at": ...}, "missing_field", "started_at"),
    ("device.released", {"released_at": "2026-11-20T09:15:29.999999Z"}, "bad_time", "released_at"),
    ("device.released", {"allocated_at": "1969-01-01T00:00:00Z"}, "bad_time", "allocated_at"),
    ("device.released", {"duration_seconds": 3602}, "inconsistent", "duration_seconds"),
    ("device.released", {"duration_seconds": "1h"}, "wrong_type", "duration_seconds"),
    ("device.released", {"cpu_cores": ...}, "missing_field", "cpu_cores"),
    ("device.released", {"cpu_cores": None}, "missing_field", "cpu_cores"),
    ("device.released", {"cpu_cores": "4"}, "wrong_type", "cpu_cores"),
    ("device.released", {"memory_mb": -0.5}, "out_of_range", "memory_mb"),
    ("device.released", {"gpu_count": 0.5}, "wrong_type", "gpu_count"),
    ("device.allocated", {"expires_at": "2026-11-20T09:00:00Z"}, "bad_time", "expires_at"),
    ("device.heartbeat", {"until": ...}, "missing_field", "until"),
    ("usage.reported", {"meter": ...}, "missing_field", "meter"),
    ("usage.reported", {"quantity": -1}, "out_of_range", "quantity"),
    ("usage.reported", {"quantity": "1"}, "wrong_type", "quantity"),
    ("usage.corrected", {"reason": ...}, "missing_field", "reason"),
    ("credit.granted", {"amount": ...}, "missing_field", "amount"),
    ("credit.granted", {"amount": "12,50"}, "wrong_type", "amount"),
    ("credit.granted", {"amount": "1e3"}, "wrong_type", "amount"),
    ("credit.granted", {"amount": 0.0000000001}, "wrong_type", "amount"),
    ("credit.granted", {"amount": "-1"}, "out_of_range", "amount"),
    ("credit.granted", {"amount": "9223372036.854775808"}, "amount_overflow", "amount"),
    ("credit.granted", {"amount": True}, "wrong_type", "amount"),
    ("credit.granted", {"currency": "usd"}, "wrong_type", "currency"),
    ("credit.granted", {"currency": "USD\n"}, "wrong_type", "currency"),
    ("credit.granted", {"kind": "borrowed"}, "wrong_type", "kind"),
    ("credit.granted", {"expires_at": "never"}, "bad_time", "expires_at"),
    ("credit.granted", {"priority": 1.5}, "wrong_type", "priority"),
    ("payment.completed", {"payment_id": ...}, "missing_field", "payment_id"),
    ("payment.refunded", {"refund_id": ""}, "out_of_range", "refund_id"),
    ("order.completed", {"order_id": ...}, "missing_field", "order_id"),
    ("order.completed", {"credit_amount": "x"}, "wrong_type", "credit_amount"),
    ("user.created", {"plan_id": 5}, "wrong_type", "plan_id"),
]


def _refusal(raw: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        decode(raw, NOW, HOUR)
    assert refused.value.reason in REASONS
    assert refused.value.detail
    assert len(refused.value.detail) < 400
    return refused.value


@pytest.mark.parametrize(("raw", "reason"), RECORDS)
def test_a_record_that_is_no_event_says_why(raw: bytes, reason: str) -> None:
    """Not text, not JSON, not an object, too large, too deep, or with a number that is an attack."""
    assert _refusal(raw).reason == reason


@pytest.mark.parametrize(("attributes", "reason", "pointer"), ENVELOPES)
def test_a_fault_of_the_envelope_names_its_attribute(attributes: dict[str, Any], reason: str, pointer: str) -> None:
    """Reason, pointer and a sentence with the attribute's name."""
    refusal = _refusal(write(event(**attributes)))
    assert (refusal.reason, refusal.pointer) == (reason, pointer)
    assert pointer[1:] in refusal.detail


@pytest.mark.parametrize(("event_type", "data", "reason", "field"), FIELDS)
def test_a_fault_of_the_data_names_its_field(event_type: str, data: dict[str, Any], reason: str, field: str) -> None:
    """Reason, pointer and a sentence with the field's name."""
    refusal = _refusal(write(event(data, type=event_type)))
    assert (refusal.reason, refusal.pointer) == (reason, f"/data/{field}")
    assert field in refusal.detail


def test_thirty_two_levels_are_not_too_deep() -> None:
    """The event is the first of them; brackets inside text are none."""
    deep = write(event(extra=...)).replace(b'"gpt-4o"', b'"gpt-4o","deep":' + b"[" * 30 + b"]" * 30)
    assert decode(deep, NOW, HOUR).data["deep"]
    assert decode(write(event({"model": "[{" * 50})), NOW, HOUR)


def test_a_record_may_be_as_large_as_the_bound() -> None:
    """256 kB, to the byte."""
    missing = 256_000 - len(write(event({"pad": ""})))
    assert decode(write(event({"pad": "x" * missing})), NOW, HOUR)
    assert _refusal(write(event({"pad": "x" * (missing + 1)}))).reason == "too_large"
