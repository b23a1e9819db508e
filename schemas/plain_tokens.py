"""The event that nearly every record is, read in one pass: a session.tokens_used with nothing in it that we do not
know.

Both roads to an event meet here. `read_plain` takes a record's bytes straight to the shape; what does not fit it (a
field of the producer's own, a number spelled oddly, a fault) goes the general way, and if it then turns out to be plain
after all, `content_of_plain` gives it the very digest it would have had. So an event's content does not depend on the
road it came, and the road costs a third. `schemas.plain_scan` reads many of them together, by the same rules.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import astuple

from schemas.canonical import CONTENT_BYTES
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


class PlainTokens(
    msgspec.Struct,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
    kw_only=True,
    rename={"customer": "subject", "tenant": "tenantid"},
):
    """The envelope around it; its names are those of an event."""

    specversion: Literal["1.0"]
    id: Id
    source: Id
    type: Literal["session.tokens_used"]
    customer: Id
    tenant: Id | None = None
    time: str | None = None
    datacontenttype: str | None = None
    data: PlainData

    def get(self, name: str) -> Any:
        """An attribute by its name, as the object that was sent would give it; None for what is not there."""
        field = _FIELDS.get(name)
        return getattr(self, field) if field is not None else None


_FIELDS: Final = dict(zip(PlainTokens.__struct_encode_fields__, PlainTokens.__struct_fields__, strict=True))


def read_plain(raw: bytes) -> PlainTokens | None:
    """The event of a record, if it has the shape; None for what has to go the general way.

    What only its numbers say is not looked at: see `is_plain`."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # the general way finds out what it is, or says what is wrong


def is_plain(data: PlainData) -> bool:
    """Whether the counts of a plain record agree with one another."""
    return data.cached_input_tokens <= data.input_tokens


def plain_content(event: PlainTokens) -> bytes:
    """The digest of its content: of time, content type and data, as a tuple, which is all that a plain event has beside
    its identity and its type."""
    told = (event.time, event.datacontenttype, astuple(event.data))
    return blake2b(_pack(told), digest_size=CONTENT_BYTES).digest()


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
_pack = msgspec.msgpack.Encoder().encode
