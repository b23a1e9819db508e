"""The device.released that nearly all are, read in one pass: nothing in it that we do not know, and whole numbers.

As with `schemas.plain_tokens`: what does not fit the shape (a field of the producer's own, half a core, a null, no
subject, a fault) goes the general way, which says what is wrong, and comes to the same event where nothing is. So an
event does not depend on the road it came, and this one costs half.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.period import Timestamp
from schemas.shape import Count, Id


class ReleaseData(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """Every field the type has. What is unset is not there; defaults are part of the content."""

    device_id: Id
    allocation_id: Id
    allocated_at: str
    released_at: str
    cpu_cores: Count
    memory_mb: Count
    storage_mb: Count
    gpu_count: Count = 0
    device_type: Id | UnsetType = UNSET
    duration_seconds: Count | UnsetType = UNSET
    user_id: Id | UnsetType = UNSET
    hold_id: Id | UnsetType = UNSET
    session_id: Id | UnsetType = UNSET
    final: bool = True


class Release(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The envelope around it."""

    specversion: Literal["1.0"]
    id: Id
    source: Id
    type: Literal["device.released"]
    subject: Id
    tenantid: Id | UnsetType = UNSET
    time: str | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    data: ReleaseData

    def get(self, name: str) -> Any:
        """An attribute by its name, as the object that was sent would give it; None for what is not there."""
        value = getattr(self, name) if name in _NAMES else None
        return None if value is UNSET else value


class Times(msgspec.Struct, array_like=True, gc=False):
    """The times of a release, read together."""

    allocated_at: Timestamp
    released_at: Timestamp
    time: Timestamp | None


def read_release(raw: bytes) -> tuple[Release, Times] | None:
    """A record as a release and its times; None for what has to go the general way."""
    try:
        sent = _decode(raw)
        data = sent.data
        times = (data.allocated_at, data.released_at, sent.time if sent.time is not UNSET else None)
        return sent, msgspec.convert(times, Times)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


_NAMES: Final = frozenset(Release.__struct_fields__)
_decode = msgspec.json.Decoder(Release).decode
