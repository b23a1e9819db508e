"""What an event becomes: typed, filled in, with a content and an identity of its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from schemas.canonical import identity_of
from schemas.event import ACCOUNT_TYPES, COMMAND_PREFIX, decode, peek, topic_of
from schemas.period import parse_time
from tests.unit.schemas.events import DATA, HOUR, NOW, event, read, write


def test_the_example_of_the_contract_is_read() -> None:
    """Every field of the envelope and of the data is where the workers look for it."""
    made = read({"message_id": "m-9", "cached_input_tokens": 200})
    assert (made.tenant, made.customer, made.source, made.id) == ("acme", "cust-42", "chat", "e-1")
    assert made.type == "session.tokens_used"
    assert made.occurred_at == parse_time("2026-11-20T10:15:30.123Z")
    assert made.session_id == "s-1"
    assert made.data["cached_input_tokens"] == 200
    assert made.data["reasoning_tokens"] == 0
    assert made.data["tokens_used"] == 1540
    assert (made.final, made.zero) == (True, False)
    assert made.identity == identity_of("acme", "cust-42", "chat", "e-1")


@pytest.mark.parametrize("event_type", DATA)
def test_the_least_of_every_built_in_type_is_enough(event_type: str) -> None:
    """Optional fields may be absent, or null."""
    assert read(type=event_type).customer == "cust-42"
    assert read({"user_id": None}, type=event_type).user_id is None


def test_a_type_of_the_catalogue_has_free_data() -> None:
    """Only the catalogue knows whether a meter names it; names in it that are ids count."""
    made = read(type="image.generated", data={"pixels": 1.5, "session_id": "s-9", "hold_id": 5, "final": False})
    assert made.data["pixels"] == Decimal("1.5")
    assert (made.session_id, made.hold_id, made.final) == ("s-9", None, False)
    assert read(type="image.generated", data=[1]).data == {}
    assert read(type="image.generated", data=...).data == {}


def test_a_name_that_is_no_id_names_nothing_where_data_is_free() -> None:
    """In an account event as in one of the catalogue's types."""
    for event_type in ("credit.granted", "wallet.credits_added", "image.generated"):
        made = read({"hold_id": 5, "session_id": "", "device_id": "d"}, type=event_type)
        assert (made.hold_id, made.session_id, made.device_id) == (None, None, "d")


def test_without_time_it_occurred_when_kafka_received_it() -> None:
    """An absent time and a null one are the same."""
    assert read(time=...).occurred_at == NOW
    assert read(time=None).occurred_at == NOW


def test_the_future_begins_beyond_the_bound() -> None:
    """A time exactly as far ahead as allowed is accepted."""
    assert read(time="2026-11-20T11:15:31Z").occurred_at == NOW + HOUR


@pytest.mark.parametrize("subject", [..., None])
def test_without_subject_the_user_is_the_customer(subject: Any) -> None:
    """data.user_id is who pays then."""
    assert read({"user_id": "u-7"}, subject=subject).customer == "u-7"
    assert read({"user_id": "u-7"}).customer == "cust-42"


@pytest.mark.parametrize("tenant", [..., None])
def test_the_tenant_is_default_where_none_is_named(tenant: Any) -> None:
    """Absent and null."""
    assert read(tenantid=tenant).tenant == "default"


@pytest.mark.parametrize(
    ("sent", "total"),
    [
        ({"tokens_used": 9}, 1540),
        ({"tokens_used": 0}, 1540),
        ({"input_tokens": ..., "output_tokens": ..., "tokens_used": 9}, 9),
        ({"input_tokens": None, "output_tokens": None, "tokens_used": 9}, 9),
        ({"input_tokens": 0, "output_tokens": 0, "tokens_used": 9}, 9),
        ({"input_tokens": 0, "output_tokens": ..., "tokens_used": 9}, 9),
        ({"input_tokens": 5, "output_tokens": 0, "tokens_used": None}, 5),
    ],
)
def test_tokens_used_is_the_split_or_stands_alone(sent: dict[str, Any], total: int) -> None:
    """Where a split is given the total is its sum; a split of zeros is none."""
    assert read(sent).data["tokens_used"] == total


@pytest.mark.parametrize(
    ("sent", "zero"),
    [
        ({"input_tokens": 0, "output_tokens": 0}, True),
        ({"input_tokens": ..., "output_tokens": ..., "tokens_used": 0}, True),
        ({"input_tokens": 0, "output_tokens": 0, "reasoning_tokens": 1}, False),
        ({"input_tokens": 0, "output_tokens": 0, "cache_write_tokens": 1}, False),
        ({"input_tokens": 0, "output_tokens": 1}, False),
    ],
)
def test_an_event_whose_counts_are_all_zero_says_so(sent: dict[str, Any], zero: bool) -> None:
    """It is still an event: that it is ignored is the decision's business."""
    assert read(sent).zero is zero


@pytest.mark.parametrize(
    ("released_at", "sent", "seconds"),
    [
        ("2026-11-20T10:15:30.499999Z", ..., 3600),
        ("2026-11-20T10:15:30.5Z", ..., 3601),
        ("2026-11-20T10:15:30Z", 3601, 3600),
        ("2026-11-20T10:15:30Z", 3599.5, 3600),
        ("2026-11-20T10:15:30Z", None, 3600),
        ("2026-11-20T09:15:30Z", ..., 0),
    ],
)
def test_a_duration_is_whole_seconds_of_its_times(released_at: str, sent: Any, seconds: int) -> None:
    """Rounded half up; what was sent may differ by a second and does not count."""
    made = read({"released_at": released_at, "duration_seconds": sent}, type="device.released")
    assert made.data["duration_seconds"] == seconds


def test_times_of_built_in_data_are_instants() -> None:
    """Equal instants are equal values, however their offset is written."""
    utc = read(type="device.released")
    offset = read({"allocated_at": "2026-11-20T10:15:30.000+01:00"}, type="device.released")
    assert utc.data["allocated_at"] == offset.data["allocated_at"] == parse_time("2026-11-20T09:15:30Z")


def test_an_alias_becomes_the_type_it_stands_for() -> None:
    """product_id is the meter; what was sent stays in the attributes."""
    made = read(type="product.usage_recorded")
    assert (made.type, made.data["meter"], made.data["quantity"]) == ("usage.reported", "ai_chat", 3)
    assert made.attributes["type"] == "product.usage_recorded"


@pytest.mark.parametrize(
    ("cost", "kept"),
    [
        (0.25, Decimal("0.25")),
        ("0.0015", Decimal("0.0015")),
        (1e-10, Decimal(0)),
        ("1.0000000015", Decimal("1.000000002")),
    ],
)
def test_an_upstream_cost_is_kept_with_nine_places(cost: Any, kept: Decimal) -> None:
    """A number or text; rounded half even, since it is never charged."""
    assert read({"cost_usd": cost}).data["cost_usd"] == kept


@pytest.mark.parametrize(
    ("amount", "nanos"),
    [("12.50", 12_500_000_000), (12.5, 12_500_000_000), (12, 12_000_000_000), ("0.000000001", 1), (1e-9, 1), ("0", 0)],
)
def test_money_of_account_events_is_nanos(amount: Any, nanos: int) -> None:
    """Decimal text, or a number that is read from its text."""
    made = read({"amount": amount, "expires_at": "2027-01-01T00:00:00+01:00"}, type="credit.granted")
    assert made.data["amount"] == nanos
    assert made.data["expires_at"] == parse_time("2026-12-31T23:00:00Z")
    assert (made.data["kind"], made.data["priority"]) == ("paid", 0)


def test_a_number_with_a_point_is_read_from_its_text() -> None:
    """No double in between: 9007199254740993.5 nanos stay what they are."""
    raw = write(event(type="credit.granted")).replace(b'"12.50"', b"9007199.254740993")
    assert decode(raw, NOW, HOUR).data["amount"] == 9_007_199_254_740_993


@pytest.mark.parametrize("version", ["https://schemas.example/session.tokens_used/1", "/session.tokens_used/1", None])
def test_the_major_version_that_is_known_is_accepted(version: Any) -> None:
    """Absent is 1."""
    assert read(dataschema=version).type == "session.tokens_used"


def test_a_schema_of_a_type_of_the_catalogue_is_its_own_business() -> None:
    """Its data is free, and so is what describes it."""
    assert read(type="image.generated", data={}, dataschema="https://x.example/image.json").type == "image.generated"


def test_account_events_have_a_topic_of_their_own() -> None:
    """Every type of the table, and no other but commands of our own."""
    assert topic_of("credit.granted") == topic_of("storage.quota_exceeded") == "account.events"
    assert topic_of("usage.reported") == topic_of("") == topic_of("credit.unheard_of") == "usage.events"
    assert sum(not kind.startswith(COMMAND_PREFIX) for kind in ACCOUNT_TYPES) == 26


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (write(event()), ("acme", "cust-42", "chat", "e-1", "session.tokens_used")),
        (b'{"id":5,"source":"chat","subject":null,"data":{"user_id":"u"}}', ("default", "u", "chat", "", "")),
        (b'{"id":"\xff","source":"chat","tenantid":"t"}', ("t", "", "chat", "", "")),
        (b'{"source":"chat","data":' + b"[" * 900 + b"]" * 900 + b"}", ("default", "", "chat", "", "")),
        (b'{"source":"chat","pad":"' + b"x" * 1_000_000 + b'"}', ("default", "", "chat", "", "")),
        (b"[" * 1_000_000, ("", "", "", "", "")),
        (b"not JSON", ("", "", "", "", "")),
        (b"", ("", "", "", "", "")),
        (b"[]", ("", "", "", "", "")),
    ],
)
def test_of_a_broken_record_what_can_be_read_is_seen(raw: bytes, seen: tuple[str, ...]) -> None:
    """A dead letter still says whose it is, where that can be told; looking never fails."""
    assert peek(raw) == seen
