"""The event that nearly every record is, read in one pass: a session.tokens_used with nothing in it that we do not
know.

Both roads to an event meet here. `read_plain` takes a record's bytes straight to the shape; what does not fit it (a
field of the producer's own, a number spelled oddly, a fault) goes the general way, and if it then turns out to be plain
after all, `content_of_plain` gives it the very digest it would have had. So an event's content does not depend on the
road it came, and the road costs a third.
"""

from __future__ import annotations

from hashlib import blake2b as _digest
from typing import Any, Final, Literal

import msgspec

from schemas.canonical import CONTENT_BYTES
from schemas.limits import EVENT_MAX_BYTES
from schemas.shape import Count, Id


class PlainData(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    """Every field the type has, but for those that need more than their shape checked."""

    session_id: Id
    model: Id
    input_tokens: Count
    output_tokens: Count
    cached_input_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0
    message_id: Id | None = None
    user_id: Id | None = None
    hold_id: Id | None = None
    device_id: Id | None = None
    allocation_id: Id | None = None
    final: bool = True


class PlainTokens(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    """The envelope around it."""

    specversion: Literal["1.0"]
    id: Id
    source: Id
    type: Literal["session.tokens_used"]
    subject: Id
    tenantid: Id | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: PlainData

    def get(self, name: str) -> Any:
        """An attribute by its name, as the object that was sent would give it; None for what is not there."""
        return getattr(self, name) if name in _ATTRIBUTES else None


_ATTRIBUTES: Final = frozenset(PlainTokens.__struct_fields__)


def read_plain(raw: bytes) -> PlainTokens | None:
    """The event if it is plain, None if it has to go the general way."""
    if len(raw) > EVENT_MAX_BYTES:
        return None
    try:
        event = _decode(raw)  # no look for the type before: it stands near the front, and what fails there is cheap
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # the general way finds out what it is, or says what is wrong
    return event if event.data.cached_input_tokens <= event.data.input_tokens else None


def plain_content(event: PlainTokens) -> bytes:
    """Its content's digest."""
    return _digest(_encode(event), digest_size=CONTENT_BYTES).digest()


def content_of_plain(content: dict[str, Any]) -> bytes | None:
    """The digest of the general way's content, defaults filled in, if it is a plain event's; else None."""
    data = dict(content["data"])
    if data.pop("tokens_used") != data["input_tokens"] + data["output_tokens"]:
        return None
    try:
        event = msgspec.convert({**content, "data": data}, PlainTokens)
    except msgspec.ValidationError:
        return None
    return plain_content(event)


_decode = msgspec.json.Decoder(PlainTokens).decode
_encode = msgspec.msgpack.Encoder().encode
