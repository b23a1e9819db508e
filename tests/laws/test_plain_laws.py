"""The law of the short road: plain events in columns leave, byte for byte, what the general way leaves."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from rating.names import Names
from rating.received import Received, Records
from schemas.event import Event, decode, decode_general
from schemas.ledger import ACCOUNT, USAGE
from streams.deciding import name
from tests.fakes.partition import (
    MAX_FUTURE,
    NOW,
    MemoryPartition,
    event,
    granted,
    paid,
    released,
    reported,
    rows_as_bytes,
)

CATALOG = """
currency: USD
meters:
  - {id: fresh, event_type: session.tokens_used, quantity: data.input_tokens - data.cached_input_tokens,
     dimensions: [model]}
  - {id: cached, event_type: session.tokens_used, quantity: data.cached_input_tokens, dimensions: [model]}
  - {id: output, event_type: session.tokens_used, quantity: data.output_tokens, dimensions: [model]}
  - {id: all, event_type: session.tokens_used, quantity: data.tokens_used}
  - {id: seconds, event_type: device.released, quantity: data.duration_seconds}
  - {id: chats, event_type: usage.reported}
prices:
  - {id: fresh-m, meter: fresh, match: {model: m}, model: per_unit, unit_amount: "2.5", unit_divisor: 1000000}
  - {id: fresh-n, meter: fresh, match: {model: n}, model: per_unit, unit_amount: "0.0000000005"}
  - {id: fresh-dear, meter: fresh, match: {model: dear}, model: per_unit, unit_amount: "1000000"}
  - {id: fresh-tiers, meter: fresh, match: {model: tiers}, model: graduated,
     tiers: [{up_to: 100, unit_amount: "1"}, {up_to: null, unit_amount: "0.5"}]}
  - {id: cached, meter: cached, model: per_unit, unit_amount: "0.0000000015"}
  - {id: cached-later, meter: cached, model: per_unit, unit_amount: "0.3333333333", unit_divisor: 7,
     effective_from: 2026-11-10T00:00:00Z}
  - {id: output, meter: output, model: per_unit, unit_amount: "0.1"}
  - {id: second, meter: seconds, model: per_unit, unit_amount: "0.01"}
  - {id: chat, meter: chats, model: per_unit, unit_amount: "1"}
plans:
  - {id: pro, name: Pro, interval: month, amount: "0.00",
     quotas: [{spend: "10.00", window: day, mode: soft, thresholds: [50]}]}
"""

counts = st.sampled_from([0, 0, 1, 3, 7, 10**6, 9_300_000_000, 10**15])
modest = st.sampled_from([0, 1, 2, 3, 5, 7, 1000])
customers = st.sampled_from(["c", "d", "e"])


@st.composite
def usage(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly plain; now and then one that names a hold, is late, brings a field of its own, or is no event."""
    number = draw(st.integers(0, 40))
    taken = draw(st.one_of(modest, modest, counts))
    data = {
        "session_id": "s",
        "model": draw(st.sampled_from(["m", "m", "m", "n", "dear", "tiers", "unheard-of"])),
        "input_tokens": taken,
        "output_tokens": draw(modest),
        "cached_input_tokens": min(taken, draw(modest)),
    }
    odd: list[dict[str, Any]] = [{}, {}, {}, {}, {"hold_id": "h"}, {"odd": 1}, {"cost_usd": "1"}, {"user_id": "u"}]
    more = draw(st.sampled_from(odd))
    times = ["2026-11-01T00:00:00Z", "2026-11-17T10:00:00.123Z", "2026-10-31T23:59:59Z", "2099-01-01T00:00:00Z"]
    time = draw(st.sampled_from([*times[:2] * 4, *times]))
    return event(number, "session.tokens_used", {**data, **more}, subject=draw(customers), time=time)


@st.composite
def others(draw: st.DrawFn) -> tuple[int, Any]:
    """What comes between."""
    number, who = draw(st.integers(0, 40)), draw(customers)
    kind = draw(st.sampled_from(["granted", "expiring", "scoped", "paid", "plan", "released", "chats", "bad"]))
    amount = draw(st.sampled_from(["0.000000001", "1", "5.5", "3000000000"]))
    if kind == "granted":
        return ACCOUNT, granted(f"g{number}", amount, subject=who)
    if kind == "expiring":
        return ACCOUNT, granted(f"x{number}", amount, subject=who, expires_at="2026-11-18T12:00:00Z")
    if kind == "scoped":
        return ACCOUNT, granted(f"s{number}", amount, subject=who, scope=["cached"])
    if kind == "paid":
        return ACCOUNT, paid(f"p{number}", amount, payment=f"pay{number}") | {"subject": who}
    if kind == "plan":
        return ACCOUNT, event(f"u{number}", "user.created", {"user_id": who, "plan_id": "pro"}, subject=who)
    if kind == "released":
        return USAGE, released(f"d{number}", f"a{number}", draw(st.integers(1, 59)), subject=who)
    if kind == "chats":
        return USAGE, reported(f"r{number}", draw(modest), subject=who)
    return USAGE, b"{"


@st.composite
def histories(draw: st.DrawFn) -> list[Received]:
    """Records of both inputs in the order they met."""
    partition, now = MemoryPartition(None), NOW
    made = []
    for topic, value in draw(
        st.lists(st.one_of(*[usage().map(lambda value: (USAGE, value))] * 4, others()), min_size=1, max_size=40)
    ):
        now += draw(st.sampled_from([0, 0, 0, 0, 40 * 10**6]))
        made.append(partition.received(json.dumps(value).encode() if isinstance(value, dict) else value, topic, now))
    return made


@settings(max_examples=300)
@given(histories(), st.integers(0, 40), st.integers(1, 3))
def test_columns_leave_byte_for_byte_what_the_general_way_leaves(
    history: list[Received], cut: int, fewest: int
) -> None:
    """Records, accounts, identities and messages, however many plain events there are, in one batch or two."""
    short, general = MemoryPartition(CATALOG), MemoryPartition(CATALOG)
    for part in (history[:cut], history[cut:]):
        if part:
            short.take(part, fewest=fewest)
            general.take(part, fewest=10**9)
    assert [chunk.encoded for chunk in short.decided] == [chunk.encoded for chunk in general.decided]
    for one, other in zip(short.decided, general.decided, strict=True):
        assert sorted(rows_as_bytes(one.booked)) == sorted(rows_as_bytes(other.booked))
    assert [chunk.messages for chunk in short.decided] == [chunk.messages for chunk in general.decided]
    assert short.accounts == general.accounts


def test_columns_cut_chunks_where_the_general_way_does() -> None:
    """Thousands of events with long names: the records end at the same places."""
    records = []
    made = MemoryPartition(None)
    for number in range(3_000):
        data = {"session_id": "s" * 150, "model": "m", "input_tokens": number + 1, "output_tokens": 1}
        who = f"customer-{number % 700:03}-" + "x" * 100
        sent = event(f"{number}-" + "i" * 150, "session.tokens_used", data, subject=who)
        records.append(made.received(json.dumps(sent).encode()))
    short, general = MemoryPartition(CATALOG), MemoryPartition(CATALOG)
    short.take(records)
    general.take(records, fewest=10**9)
    assert len(short.decided) > 3
    assert [chunk.encoded for chunk in short.decided] == [chunk.encoded for chunk in general.decided]


@given(histories())
def test_reading_by_columns_says_what_reading_one_by_one_says(history: list[Received]) -> None:
    """Every name, time, identity and content, and each event whole."""
    records = Records.of(history)
    by_columns, singly = name(records, MAX_FUTURE), name(records, MAX_FUTURE, isolate=True)
    assert not len(singly.names.plain.places)
    assert _said(by_columns.names) == _said(singly.names)
    assert (by_columns.names.weights <= singly.names.weights).all()
    assert by_columns.customers == singly.customers
    assert set(rows_as_bytes(by_columns.identities)) == set(rows_as_bytes(singly.identities))
    assert (by_columns.documents, by_columns.holds) == (singly.documents, singly.holds)
    plain = by_columns.names.plain
    for place, content in zip(plain.places.tolist(), rows_as_bytes(plain.contents), strict=True):
        event = singly.names.event(place)
        assert isinstance(event, Event)
        assert content == event.content
    for place in range(len(history)):
        one, other = by_columns.names.event(place), singly.names.event(place)
        assert isinstance(one, Event) == isinstance(other, Event)
        if isinstance(one, Event) and isinstance(other, Event):
            assert replace(one, attributes={}) == replace(other, attributes={})


def _said(names: Names) -> list[dict[str, Any]]:
    """What is said of each record, as plain values."""
    columns = ("tenant", "customer", "source", "event_id", "event_type", "user_id", "session_id")
    few = ("device_id", "allocation_id", "hold_id")
    numbers = ("input", "offset", "received_at", "occurred_at")
    return [
        {
            "key": names.key(place),
            "identity": names.identity[place].tobytes(),
            **{column: getattr(names, column)[place] for column in columns},
            **{column: getattr(names, column).get(place) for column in few},
            **{column: int(getattr(names, column)[place]) for column in numbers},
        }
        for place in range(len(names.received))
    ]


def test_a_meter_of_a_field_that_no_plain_event_has_takes_the_general_way() -> None:
    """Its events are dead letters that name the field, however many there are."""
    catalog = CATALOG.replace("quantity: data.tokens_used}", "quantity: data.words}")
    partition = MemoryPartition(catalog)
    data = {"session_id": "s", "model": "m", "input_tokens": 1, "output_tokens": 1}
    partition.take([partition.received(event(number, "session.tokens_used", data)) for number in range(20)])
    assert {row["reason"] for row in partition.rows()} == {"missing_field"}


def test_an_envelope_says_the_same_by_either_road() -> None:
    """Also of what was not sent: a price may look at it."""
    data = {"session_id": "s", "model": "m", "input_tokens": 1, "output_tokens": 1}
    raw = json.dumps(event(1, "session.tokens_used", data)).encode()
    one, other = decode(raw, NOW, MAX_FUTURE), decode_general(raw, NOW, MAX_FUTURE)
    names = ("specversion", "id", "source", "type", "subject", "tenantid", "time", "datacontenttype", "odd")
    assert [one.attributes.get(name) for name in names] == [other.attributes.get(name) for name in names]
