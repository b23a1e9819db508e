"""What a sender may send, and the record that becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.accept import Record, accept, split_batch
from schemas.errors import InvalidInput
from schemas.event import decode
from tests.unit.schemas.events import HOUR, NOW, event, write


def test_a_record_is_the_senders_bytes() -> None:
    """White space, key order and unknown fields included; its key is the customer."""
    raw = b" " + write(event({"unknown": [1.0]})).replace(b", ", b" ,\t") + b"\n"
    assert accept(raw, "acme", NOW, HOUR) == Record("usage.events", b"cust-42", raw)


@pytest.mark.parametrize("named", [..., None])
def test_the_tenant_is_written_in_where_none_is_named(named: Any) -> None:
    """Behind everything else, so that a null or a second one before it does not stand."""
    raw = write(event(tenantid=named)) + b" \r\n"
    made = decode(accept(raw, 'ac"mé', NOW, HOUR).value, NOW, HOUR)
    assert made.tenant == 'ac"mé'
    assert made.data == decode(raw, NOW, HOUR).data


def test_the_default_tenants_bytes_need_no_tenant() -> None:
    """What names none is the default tenant's already."""
    raw = write(event(tenantid=...))
    assert accept(raw, "default", NOW, HOUR).value == raw


@pytest.mark.parametrize(("named", "tenant"), [("acme", "other"), ("acme", "default"), ("default", "acme")])
def test_an_event_of_another_tenant_is_refused(named: str, tenant: str) -> None:
    """Also where it names the default one by name."""
    with pytest.raises(InvalidInput) as refused:
        accept(write(event(tenantid=named)), tenant, NOW, HOUR)
    assert (refused.value.reason, refused.value.pointer) == ("tenant_mismatch", "/tenantid")


def test_the_topic_is_the_types_and_the_key_the_customers() -> None:
    """Account events have a topic of their own; data.user_id stands in for the subject."""
    raw = write(event({"user_id": "usér"}, type="credit.granted", subject=...))
    record = accept(raw, "acme", NOW, HOUR)
    assert (record.topic, record.key) == ("account.events", "usér".encode())


def test_what_a_worker_would_not_read_is_not_accepted() -> None:
    """The refusal is the decoder's own."""
    with pytest.raises(InvalidInput, match=r"data\.input_tokens"):
        accept(write(event({"input_tokens": -1})), "acme", NOW, HOUR)


def test_a_tenant_that_makes_an_event_too_large_is_refused() -> None:
    """What goes to Kafka is what is bounded."""
    made = event({"pad": ""}, tenantid=...)
    made["data"]["pad"] = "x" * (256_000 - len(write(made)))
    accept(write(made), "default", NOW, HOUR)
    with pytest.raises(InvalidInput) as refused:
        accept(write(made), "acme", NOW, HOUR)
    assert refused.value.reason == "too_large"


def test_a_batch_is_its_events_as_they_were_sent() -> None:
    """Also those that are no events: each is judged alone."""
    parts = [b'{"a" : 1.0}', b"5", b'"x"', b"[]", json.dumps({"b": "\u20ac"}).encode()]
    assert split_batch(b" [" + b" , ".join(parts) + b"]\n") == parts
    assert split_batch(b"[]") == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "not_json"), (b"[1", "not_json"), (b'{"a":1}', "wrong_type"), (b"[" + b"[" * 200_000, "too_deep")],
)
def test_what_is_no_batch_is_refused_whole(body: bytes, reason: str) -> None:
    """No array, no JSON, or an attack on the parser."""
    with pytest.raises(InvalidInput) as refused:
        split_batch(body)
    assert refused.value.reason == reason
