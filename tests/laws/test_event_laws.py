"""Laws of an event's content: spelling never changes it, any value does; and what is decoded never surprises."""

from __future__ import annotations

import contextlib
import json
import random
from decimal import Decimal
from typing import Any

from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ingest.accept import accept
from schemas.canonical import exact_number, identity_of
from schemas.errors import InvalidInput
from schemas.event import Event, decode, decode_general, decode_release, peek
from schemas.ids import murmur2
from schemas.outcome import REASONS
from schemas.period import TIME_END, format_time, month_of, parse_time
from tests.unit.schemas.events import DATA, HOUR, NOW, event, write

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
counts = st.integers(0, 10**15)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.decimals(-10, 10, places=6), keys)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)
free = st.dictionaries(keys.map(lambda key: f"x_{key}"), values, max_size=4)

OPTIONAL_COUNTS = ("cached_input_tokens", "cache_write_tokens", "reasoning_tokens")


def content(made: dict[str, Any]) -> bytes:
    """Its digest by the plainest spelling."""
    return decoded(made).content


def decoded(made: dict[str, Any]) -> Event:
    """The event, however it is spelled by the standard library."""
    return decode(spelled(made, random.Random(0)), NOW, HOUR)


def without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    """Data as expressions and dimensions read it: what is null is absent."""
    return {name: value for name, value in data.items() if value is not None}


def refusal_of(raw: bytes) -> InvalidInput | None:
    """Why it is no event; None if it is one."""
    try:
        decode(raw, NOW, HOUR)
    except InvalidInput as refusal:
        return refusal
    return None


def spelled(value: Any, chance: random.Random) -> bytes:
    """One of the many JSON texts of a value: keys in any order, any white space, numbers in any of their forms."""
    return _spelled(value, chance).encode()


def _spelled(value: Any, chance: random.Random) -> str:
    gap = chance.choice(["", " ", "\n\t "])
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)
        inner = f"{gap},".join(f"{gap}{_spelled(name, chance)}{gap}:{_spelled(item, chance)}" for name, item in items)
        return f"{{{inner}{gap}}}{gap}"
    if isinstance(value, list):
        return f"[{gap}{','.join(_spelled(item, chance) for item in value)}{gap}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=chance.random() < 0.5)
    if isinstance(value, bool) or value is None:
        return gap + json.dumps(value)
    return gap + _number(Decimal(str(value)), chance)


def _number(value: Decimal, chance: random.Random) -> str:
    plain = format(value, "f")
    point = plain if "." in plain else f"{plain}.0"
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scientific = f"{'-' if sign else ''}{''.join(map(str, digits))}{chance.choice('eE')}{exponent}"
    forms = [plain, point, f"{point}00", scientific]
    return chance.choice(forms)


@given(data=free, extra=free, seed=st.integers(), split=st.tuples(counts, counts))
def test_spelling_never_changes_a_content(
    data: dict[str, Any], extra: dict[str, Any], seed: int, split: tuple[int, int]
) -> None:
    """Key order, white space, escapes and the spelling of numbers say nothing."""
    made = event(
        {"input_tokens": split[0], "output_tokens": split[1], **data}, **{f"y{key}": extra[key] for key in extra}
    )
    one, other = (decode(spelled(made, random.Random(seed + step)), NOW, HOUR) for step in (0, 1))
    assert one.content == other.content
    assert without_nulls(one.data) == without_nulls(other.data)


@given(st.sampled_from(sorted(DATA)), st.data())
def test_a_null_optional_field_is_as_if_it_were_absent(event_type: str, choice: st.DataObject) -> None:
    """Of every built-in type."""
    optional = ["user_id"]
    if event_type == "session.tokens_used":
        optional += ["hold_id", "message_id", "cost_usd", "final", "tokens_used", *OPTIONAL_COUNTS]
    elif event_type == "device.released":
        optional += ["gpu_count", "device_type", "duration_seconds", "final"]
    elif event_type == "usage.reported":
        optional += ["quantity"]
    elif event_type == "credit.granted":
        optional += ["expires_at", "priority", "scope", "kind"]
    chosen = choice.draw(st.lists(st.sampled_from(optional), unique=True))
    assert content(event(dict.fromkeys(chosen), type=event_type)) == content(event(type=event_type))


def test_defaults_that_are_written_out_change_no_content() -> None:
    """The tenant, optional counts of 0, a final hold, one thing of a plain count, the kind of a credit."""
    plain = content(event(tenantid=...))
    assert content(event(tenantid="default")) == content(event(tenantid=None)) == plain
    assert (
        content(event({**dict.fromkeys(OPTIONAL_COUNTS, 0), "final": True, "tokens_used": 1540}, tenantid=...)) == plain
    )
    assert content(event({"tokens_used": 0}, tenantid=...)) == plain
    assert content(event({"quantity": 1}, type="usage.reported")) == content(event(type="usage.reported"))
    assert content(event({"kind": "paid", "priority": 0}, type="credit.granted")) == content(
        event(type="credit.granted")
    )
    released = content(event(type="device.released"))
    assert content(event({"gpu_count": 0, "duration_seconds": 3600}, type="device.released")) == released
    assert content(event({"duration_seconds": 3601}, type="device.released")) != released


@given(st.dictionaries(keys, values, min_size=1, max_size=4), st.data())
def test_any_value_that_changes_changes_the_content(data: dict[str, Any], choice: st.DataObject) -> None:
    """Of free data: a null, a text that looks like a number, true for 1 are values of their own."""
    name = choice.draw(st.sampled_from(sorted(data)))
    other = choice.draw(values)
    assume(_typed(other) != _typed(data[name]))
    changed = {**data, name: other}
    assert content(event(type="custom", data=data)) != content(event(type="custom", data=changed))
    without = {key: item for key, item in data.items() if key != name}
    assert content(event(type="custom", data=data)) != content(event(type="custom", data=without))


def _typed(value: Any) -> Any:
    """A value by which Python tells true from 1."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return (isinstance(value, bool), value)


@given(st.sampled_from(["source", "id", "time", "subject", "tenantid", "extra"]))
def test_any_attribute_that_changes_changes_the_event(name: str) -> None:
    """The time as well, and an extension that nobody knows: it is another event, or the same with another content."""
    other = "2026-11-20T10:15:30.124Z" if name == "time" else "other"
    for more in ({}, {"type": "custom"}):
        one, changed = decoded(event(**more)), decoded(event(**more, **{name: other}))
        assert (changed.identity == one.identity) == (name in ("time", "extra"))
        assert changed.identity != one.identity or changed.content != one.content


@given(
    counts,
    counts,
    st.lists(counts, min_size=3, max_size=3),
    st.booleans(),
    st.booleans(),
    ids,
    st.none() | ids,
    st.booleans(),
)
def test_the_short_road_and_the_general_one_lead_to_the_same_event(
    taken: int, given_: int, more: list[int], final: bool, timed: bool, name: str, user: str | None, named: bool
) -> None:
    """A plain event is the same when a null extension sends it the long way."""
    fields: dict[str, Any] = dict(zip(OPTIONAL_COUNTS, more, strict=True))
    fields["cached_input_tokens"] = min(taken, more[0])
    fields |= {"input_tokens": taken, "output_tokens": given_, "final": final, "hold_id": name}
    if user is not None:
        fields["user_id"] = user
    made = event(fields, tenantid=name if named else ..., id=name)
    if not timed:
        del made["time"]
    short, long = decode(write(made), NOW, HOUR), decode(write({**made, "dataschema": None}), NOW, HOUR)
    for attribute in short.__struct_fields__:
        if attribute not in ("data", "attributes"):
            assert getattr(short, attribute) == getattr(long, attribute), attribute
    assert without_nulls(short.data) == long.data


usual_releases = st.fixed_dictionaries(
    {"cpu_cores": counts, "memory_mb": counts},
    optional={
        "gpu_count": counts,
        "device_type": ids,
        "duration_seconds": st.sampled_from([3599, 3600]),
        "allocated_at": st.sampled_from(["2026-11-20T09:15:30.123Z", "2026-11-20T10:15:30+01:00"]),
        "user_id": ids,
        "hold_id": ids,
        "session_id": ids,
        "final": st.booleans(),
    },
)
odd_releases: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        *({"allocated_at": time} for time in ("2026-11-20T09:15:30.1234567Z", "2026-11-20T10:15:31Z", "2026-11-20", 1)),
        *({"cpu_cores": size} for size in (0.5, -1, 10**15 + 1, True, "4", None, ...)),
        *({"duration_seconds": seconds} for seconds in (3601, 3602, 3600.5, None)),
        *({name: None} for name in ("user_id", "gpu_count", "final")),
        {"user_id": ""},
        {"odd": 1},
    ]
)
usual_envelopes = st.fixed_dictionaries(
    {},
    optional={
        "tenantid": st.just(...),
        "time": st.sampled_from([..., "2026-11-20T10:15:30+00:00", "2026-11-20T10:15:30.123456Z"]),
        "datacontenttype": ids,
    },
)
odd_envelopes: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{"subject": ...}, {"time": "2026-11-21T00:00:00Z"}, {"time": None}, {"odd": 1}, {"dataschema": "x"}]
)


@given(usual_releases, usual_envelopes, st.none() | odd_releases, st.none() | odd_envelopes, st.none() | st.integers())
def test_a_release_that_is_read_in_one_pass_is_the_event_that_the_general_way_makes_of_it(
    data: dict[str, Any],
    attributes: dict[str, Any],
    odd: dict[str, Any] | None,
    odd_attributes: dict[str, Any] | None,
    seed: int | None,
) -> None:
    """Every field of it, and every attribute of its envelope; what is no usual release it leaves to the general way."""
    made = event({**data, **(odd or {})}, type="device.released", **{**attributes, **(odd_attributes or {})})
    raw = write(made) if seed is None else spelled(made, random.Random(seed))
    short = decode_release(raw, NOW, HOUR)
    assert short is not None or odd or odd_attributes or seed is not None
    if short is None:
        return
    long = decode_general(raw, NOW, HOUR)
    for field in short.__struct_fields__:
        if field != "attributes":
            assert getattr(short, field) == getattr(long, field), field
    for name in ("specversion", "id", "source", "type", "subject", "tenantid", "time", "datacontenttype", "get", "odd"):
        assert short.attributes.get(name) == long.attributes.get(name), name


@given(st.lists(ids, min_size=4, max_size=4), st.lists(ids, min_size=4, max_size=4))
@example(["a", "b", "c", "d"], ["ab", "", "c", "d"])
@example(["1:a", "b", "c", "d"], ["1", ":ab", "c", "d"])
def test_two_identities_never_read_the_same(one: list[str], other: list[str]) -> None:
    """Not even where tenant and customer run into one another."""
    assert (identity_of(*one) == identity_of(*other)) == (one == other)


@given(st.binary(max_size=200))
@example(b'{"specversion":"1.0","id":"\xff"}')
def test_any_bytes_are_an_event_or_a_refusal_with_a_known_reason(raw: bytes) -> None:
    """Nothing else comes out of the decoder, and looking at them never fails."""
    peek(raw)
    refusal = refusal_of(raw)
    assert refusal is None or (refusal.reason in REASONS and refusal.detail)


@given(st.data())
def test_a_byte_that_flips_is_an_event_or_a_refusal(choice: st.DataObject) -> None:
    """Whatever breaks in a record that was right."""
    raw = bytearray(write(event(type=choice.draw(st.sampled_from(sorted(DATA))))))
    for _ in range(choice.draw(st.integers(1, 3))):
        raw[choice.draw(st.integers(0, len(raw) - 1))] = choice.draw(st.integers(0, 255))
    broken = bytes(raw)
    peek(broken)
    refusal = refusal_of(broken)
    if refusal is None:
        assert broken.decode(), "what is accepted is text throughout"
    else:
        assert refusal.reason in REASONS


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_is_its_value_or_refused(value: Decimal) -> None:
    """An int where it is whole, else the Decimal without trailing zeros; never another value."""
    text = f"{value}" if "." in f"{value}" or "E" in f"{value}" else f"{value}.0"
    with contextlib.suppress(InvalidInput):
        number = exact_number(text)
        assert number == value
        assert isinstance(number, int) == (value == value.to_integral_value())


@given(st.integers(0, TIME_END - 1))
def test_a_time_written_and_read_is_the_same_instant(instant: int) -> None:
    """And its month holds it."""
    assert parse_time(format_time(instant)) == instant
    assert instant in month_of(instant)


@given(st.binary(max_size=64))
def test_a_customers_partition_is_kafkas(key: bytes) -> None:
    """The hash is aiokafka's, which is the Java client's."""
    assert murmur2(key) == aiokafka_murmur2(key)


@given(ids, free)
def test_what_is_accepted_decodes_to_the_senders_tenant(tenant: str, data: dict[str, Any]) -> None:
    """The tenant is written in where it is missing, and the content is the same as if its sender had named it."""
    bare = event(type="custom", data=data, tenantid=...)
    record = accept(spelled(bare, random.Random(len(data))), tenant, NOW, HOUR)
    made = decode(record.value, NOW, HOUR)
    assert made.tenant == tenant
    assert made.content == content({**bare, "tenantid": tenant})
