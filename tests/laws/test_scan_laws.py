"""The laws of reading plain records in columns: what is scanned is what the decoder reads, and nothing else is."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.canonical import identity_of
from schemas.limits import COUNT_MAX
from schemas.period import parse_time
from schemas.plain_digests import digests
from schemas.plain_scan import ABSENT, COUNTS, TENANT, TIME, Scanned, scan
from schemas.plain_tokens import PlainTokens, plain_content, read_plain
from schemas.spans import Spans
from tests.fakes.digests import ends

TEXTS = ("id", "source", "customer", "tenant", "time", "datacontenttype")
OF_DATA = ("session_id", "model", "message_id", "user_id", "device_id", "allocation_id")

well = st.one_of(
    st.sampled_from(["a", "chat", "x" * 31, "x" * 32, "x" * 200, "~ !"]),
    st.text(alphabet=st.characters(min_codepoint=35, max_codepoint=91), min_size=1, max_size=40),
)
odd = st.sampled_from(["", "x" * 201, 'q"', "é", "\\", "\x7f", "\n"])
ids = st.integers(0, 29).flatmap(lambda chance: well if chance else odd)
widths = st.sampled_from([0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, COUNT_MAX])
counts = st.integers(0, 29).flatmap(
    lambda chance: (
        st.one_of(widths, st.integers(0, COUNT_MAX))
        if chance
        else st.sampled_from([COUNT_MAX + 1, -1, 1.0, 2.5, None, "1"])
    )
)
some_times = st.one_of(
    st.sampled_from(
        [
            "2026-11-01T00:00:00Z",
            "2026-11-01T00:00:00.123Z",
            "2026-02-29T00:00:00Z",
            "2024-02-29T23:59:59.999999Z",
            "2000-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "2026-11-01T00:00:60Z",
            "2026-13-01T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-01T24:00:00Z",
            "2026-11-01T00:00:00",
            "2026-11-01T00:00:00+01:00",
            "2026-11-01t00:00:00z",
            "2026-11-01 00:00:00Z",
            "2026-11-01T00:00:00.Z",
            "2026-11-01T00:00:00.1234567Z",
            "soon",
            "Z",
        ]
    ),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
)


moments = st.datetimes(min_value=datetime(1970, 1, 1)).map(lambda moment: moment.isoformat() + "Z")  # noqa: DTZ001
times = st.integers(0, 4).flatmap(lambda chance: moments if chance else some_times)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Plain ones and what nearly is, written in several ways, with a byte changed now and then."""
    data: dict[str, Any] = {"session_id": draw(ids), "model": draw(ids)}
    data |= {"input_tokens": draw(counts), "output_tokens": draw(counts)}
    for name in draw(st.lists(st.sampled_from([*COUNTS[2:]]), unique=True)):
        data[name] = draw(counts)
    for name in draw(st.lists(st.sampled_from([*OF_DATA[2:] * 4, "hold_id"]), unique=True, max_size=3)):
        data[name] = draw(ids) if draw(st.integers(0, 9)) else None
    if draw(st.booleans()):
        data["final"] = draw(st.sampled_from([True, False, True, False, None, 1]))
    sent: dict[str, Any] = {
        "specversion": draw(st.sampled_from(["1.0"] * 29 + ["1.1"])),
        "id": draw(ids),
        "source": draw(ids),
        "type": draw(st.sampled_from(["session.tokens_used"] * 29 + ["session.ended"])),
        "subject": draw(ids),
        "data": data,
    }
    for name, values in (("tenantid", ids), ("time", times), ("datacontenttype", ids), ("odd", ids)):
        if draw(st.integers(0, 29)) < (1 if name == "odd" else 15):
            sent[name] = draw(values)
    left_out = draw(st.sampled_from([None] * 99 + ["specversion", "id", "source", "type", "subject", "data", "model"]))
    sent = {name: value for name, value in draw(st.permutations(list(sent.items()))) if name != left_out}
    if left_out == "model":
        del data["model"]
    indent = draw(st.sampled_from([None, None, 1]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r:\n")]))
    text = json.dumps(sent, indent=indent, separators=separators, ensure_ascii=draw(st.booleans())).encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text) - 1))
        text = text[:at] + bytes([draw(st.integers(0, 255))]) + text[at + 1 :]
    if draw(st.integers(0, 19)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text + draw(st.sampled_from([b""] * 20 + [b" ", b"}", b"x"]))


def _text(scanned: Scanned, text: int, row: int) -> str | None:
    if scanned.sizes[text, row] == ABSENT:
        return None
    return Spans(scanned.buffer, scanned.starts[text], scanned.sizes[text])[row]


def _agrees(scanned: Scanned, row: int, read: PlainTokens | None) -> None:
    """What is plain reads the same by the decoder."""
    assert read is not None
    names = [getattr(read, name) for name in TEXTS] + [getattr(read.data, name) for name in OF_DATA]
    assert [_text(scanned, text, row) for text in range(len(names))] == names
    assert scanned.counts[:, row].tolist() == [getattr(read.data, name) for name in COUNTS]
    assert bool(scanned.final[row]) == read.data.final
    assert read.data.hold_id is None
    if read.time is None:
        assert scanned.times[row] == ABSENT
    else:
        assert scanned.times[row] == parse_time(read.time)


@settings(max_examples=400)
@given(st.lists(records(), max_size=8))
@example([b""])
@example([b"{}", b'{"data":{}}', b'{"data":{}', b'{"id":"a","id":"b"}'])
def test_what_is_scanned_is_what_the_decoder_reads(values: list[bytes]) -> None:
    """Texts, counts and times of every record that is taken for plain, and its digests."""
    scanned = scan(*ends(values))
    for row, read in enumerate(map(read_plain, values)):
        if scanned.plain[row]:
            _agrees(scanned, row, read)
    rows = np.flatnonzero(scanned.plain & (scanned.sizes[TENANT] != ABSENT))
    identities, contents = digests(scanned, rows)
    for number, row in enumerate(rows.tolist()):
        read = read_plain(values[row])
        assert read is not None
        assert identities[number].tobytes() == identity_of(read.tenant or "", read.customer, read.source, read.id)
        assert contents[number].tobytes() == plain_content(read)


def test_what_senders_write_is_scanned() -> None:
    """Compact and with spaces, with and without what may be left out: none of it takes the general way."""
    data: dict[str, Any] = {"session_id": "s", "model": "m", "input_tokens": 3, "output_tokens": COUNT_MAX}
    more: dict[str, Any] = {"cached_input_tokens": 1, "cache_write_tokens": 0, "reasoning_tokens": 7}
    more |= {"message_id": "m", "user_id": "u", "device_id": "d", "allocation_id": "a", "final": False}
    least: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "s", "type": "session.tokens_used"}
    least |= {"subject": "c", "data": data}
    most = {**least, "tenantid": "t", "time": "2026-11-01T00:00:00.123456Z", "datacontenttype": "application/json"}
    most["data"] = {**data, **more}
    sent = [json.dumps(least), json.dumps(most), json.dumps(most, separators=(",", ":")), json.dumps(most, indent=2)]
    scanned = scan(*ends([text.encode() for text in sent]))
    assert scanned.plain.all()
    assert scanned.times.tolist()[0] == ABSENT
    assert _text(scanned, TIME, 1) == most["time"]
    for row, read in enumerate(read_plain(text.encode()) for text in sent):
        _agrees(scanned, row, read)


def test_a_record_beyond_what_a_plain_one_takes_goes_the_general_way() -> None:
    """Its neighbours do not."""
    least = json.dumps(
        {
            "specversion": "1.0",
            "id": "1",
            "source": "s",
            "type": "session.tokens_used",
            "subject": "c",
            "data": {"session_id": "s", "model": "m", "input_tokens": 3, "output_tokens": 4},
        }
    ).encode()
    scanned = scan(*ends([least, least + b" " * 5_000, least]))
    assert scanned.plain.tolist() == [True, False, True]
    assert [_text(scanned, 0, row) for row in (0, 2)] == ["1", "1"]
