"""Denials as rows of `tollgate.denial_records`: records of admission.denials in, a block out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from streams.native import block, int64s, texts

TABLE: Final = "tollgate.denial_records"

_TEXTS: Final = (
    "tenant", "customer", "denial_id", "reason", "detail", "user", "meter", "window", "per", "scope", "plan",
    "currency", "limit", "used", "held", "wanted", "remaining", "available", "balance", "resets_at",
)  # fmt: skip


def encode(records: Sequence[Any]) -> bytes:
    """Consumer records as one block; amounts stay decimal text, empty where there is none."""
    told = [_read(record) for record in records]
    columns = [
        *((name, "String", texts([str(one.get(name) or "") for one in told])) for name in _TEXTS),
        ("catalog_version", "Int64", int64s(_number(one.get("catalog_version")) for one in told)),
        ("partition", "Int64", int64s(_number(_ledger(one).get("partition")) for one in told)),
        ("offset", "Int64", int64s(_number(_ledger(one).get("offset")) for one in told)),
        ("denied_at", "DateTime64(6, 'UTC')", int64s(_number(one.get("denied_us")) for one in told)),
        ("record", "Int64", int64s(record.offset for record in records)),
    ]
    return block(len(records), columns)


def _read(record: Any) -> dict[str, Any]:
    """What a record says; of one that is no denial, which nothing of ours wrote, where it lies."""
    try:
        told = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        return {"denial_id": f"unread-{record.offset}", "denied_us": record.timestamp * 1_000}
    return told


def _ledger(told: dict[str, Any]) -> dict[str, Any]:
    found = told.get("ledger")
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
