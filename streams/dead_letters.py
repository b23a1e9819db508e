"""Dead letters as rows of `tollgate.dead_letter_records`: records of usage.dlq and account.dlq in, a block out. Pure.

A dead letter's headers say where it came from and why. One without them, which no worker of ours wrote, is shown all
the same, at its own place in the dead letter topic: nothing may hide here. A further record with the same place and the
header `resolution` (`retried` or `dropped`) says how it ended, when (`resolved_at`) and, where it was dropped, why
(`note`): its row replaces the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from streams.native import block, int64s, octets, texts

TABLE: Final = "tollgate.dead_letter_records"

RETRIED: Final = "retried"
DROPPED: Final = "dropped"
RESOLUTION: Final = "resolution"
"""The header that a dead letter itself never has."""

_PLACE: Final = frozenset({"topic", "partition", "offset"})
_TEXTS: Final = ("tenant", "customer", "source", "event_id", "event_type", "reason", "detail")


def encode(records: Sequence[Any]) -> bytes:
    """Consumer records as one block. Times are microseconds, originals the bytes themselves."""
    headers = [{name: value.decode("utf-8", "replace") for name, value in record.headers} for record in records]
    places = [_place(record, said) for record, said in zip(records, headers, strict=True)]
    received = [
        _number(said.get("received_at", ""), record.timestamp * 1_000)
        for record, said in zip(records, headers, strict=True)
    ]
    columns = [
        ("topic", "String", texts([topic for topic, _, _ in places])),
        ("partition", "Int64", int64s(partition for _, partition, _ in places)),
        ("offset", "Int64", int64s(offset for _, _, offset in places)),
        ("seq", "Int64", int64s(_number(said.get("seq", ""), -1) for said in headers)),
        *((name, "String", texts([said.get(name, "") for said in headers])) for name in _TEXTS),
        ("key", "String", octets([record.key or b"" for record in records])),
        ("original", "String", octets([record.value or b"" for record in records])),
        ("received_at", "DateTime64(6, 'UTC')", int64s(received)),
        ("dlq_offset", "Int64", int64s(record.offset for record in records)),
        ("retried_at", "DateTime64(6, 'UTC')", int64s(_number(said.get("resolved_at", ""), 0) for said in headers)),
        ("resolution", "String", texts([said.get(RESOLUTION, "") for said in headers])),
        ("note", "String", texts([said.get("note", "") for said in headers])),
    ]
    return block(len(records), columns)


def _place(record: Any, said: dict[str, str]) -> tuple[str, int, int]:
    if said.keys() >= _PLACE:
        partition, offset = _number(said["partition"], -1), _number(said["offset"], -1)
        if 0 <= partition < 1 << 16 and offset >= 0:
            return said["topic"], partition, offset
    return record.topic, record.partition, record.offset


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else otherwise
