"""Dead letters as rows of `tollgate.dead_letter_records`: records of usage.dlq and account.dlq in, columns out. Pure.

A dead letter's headers say where it came from and why. One without them, which no worker of ours wrote, is shown all
the same, at its own place in the dead letter topic: nothing may hide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

TABLE: Final = "tollgate.dead_letter_records"

_TEXTS: Final = ("tenant", "customer", "source", "event_id", "event_type", "reason", "detail")
_NAMES: Final = ("topic", "partition", "offset", "seq", *_TEXTS, "key", "original", "received_at", "dlq_offset")
_TYPES: Final = (
    "String",
    "UInt16",
    "Int64",
    "Int64",
    *("String" for _ in _TEXTS),
    "String",
    "String",
    "Int64",
    "Int64",
)

Columns = tuple[str, Sequence[str], Sequence[str], list[list[Any]]]


def dead_letter_columns(records: Sequence[Any]) -> Columns:
    """Table, names, types and columns of consumer records. Times are microseconds, originals the bytes themselves."""
    rows = [_row(record) for record in records]
    return TABLE, _NAMES, _TYPES, [list(column) for column in zip(*rows, strict=True)]


def _row(record: Any) -> list[Any]:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    place: list[Any] = [record.topic, record.partition, record.offset]
    if {"topic", "partition", "offset"} <= headers.keys():
        numbers = headers["partition"], headers["offset"]
        if all(number.isascii() and number.isdigit() for number in numbers):
            place = [headers["topic"], int(numbers[0]), int(numbers[1])]
    received_at = headers.get("received_at", "")
    return [
        *place,
        _number(headers.get("seq", ""), -1),
        *(headers.get(name, "") for name in _TEXTS),
        record.key or b"",
        record.value or b"",
        _number(received_at, record.timestamp * 1_000),
        record.offset,
    ]


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() else otherwise
