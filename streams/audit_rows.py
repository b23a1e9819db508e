"""The audit log as rows of `tollgate.audit_records`: records of audit.log in, a block out. Pure.

A record that is no entry, which nothing of ours wrote, is shown all the same: nothing may hide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from schemas.audit import AuditEntry, decode_entry
from streams.native import block, int64s, texts

TABLE: Final = "tollgate.audit_records"

_TEXTS: Final = ("tenant", "actor", "action", "target", "detail")


def encode(records: Sequence[Any]) -> bytes:
    """Consumer records as one block."""
    entries = [_entry(record) for record in records]
    columns = [
        ("audit_id", "String", texts([entry.id for entry in entries])),
        ("at", "DateTime64(6, 'UTC')", int64s(entry.at for entry in entries)),
        *((name, "String", texts([getattr(entry, name) for entry in entries])) for name in _TEXTS),
        ("status", "Int64", int64s(entry.status for entry in entries)),
        ("offset", "Int64", int64s(record.offset for record in records)),
    ]
    return block(len(records), columns)


def _entry(record: Any) -> AuditEntry:
    try:
        return decode_entry(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        shown = (record.value or b"").decode("utf-8", "replace")
        return AuditEntry(f"unread-{record.offset}", "", record.timestamp * 1_000, "", "unread", shown)
