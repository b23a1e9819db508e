"""From a record's bytes to values, and from values to the one form that contents are compared in.

`parse` reads one JSON object with exact numbers: an `int` where the value is whole (1, 1.0 and 1e0 are the same), else
a `Decimal` without trailing zeros; never a float. `content_of` is the digest of the canonical form: keys sorted, no
white space, numbers by value, text and numbers apart. `identity_of` is the digest of an event's identity.

Refuses with InvalidInput: `empty`; `too_large`, beyond EVENT_MAX_BYTES; `bad_encoding`; `too_deep`, beyond
EVENT_MAX_DEPTH; `not_json`, which NaN and Infinity are too; `out_of_range`, a number so long that to compute with it
would be an attack. Of a key that an object has twice the last counts.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, Final

import msgspec

from schemas.errors import InvalidInput, InvariantBroken
from schemas.limits import EVENT_MAX_BYTES, EVENT_MAX_DEPTH, NUMBER_MAX_CHARACTERS, NUMBER_MAX_EXPONENT

CONTENT_BYTES: Final = 8
IDENTITY_BYTES: Final = 16

# A text (closed or not, so that an open quote costs one pass) or one bracket.
_TEXT_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_NOT_A_NUMBER: Final = re.compile(r"\b(NaN|-?Infinity)\b")


def parse(raw: bytes, max_bytes: int = EVENT_MAX_BYTES) -> dict[str, Any]:
    """The object a record holds; what is no event may be longer than one."""
    if len(raw) > max_bytes:
        raise InvalidInput("too_large", f"the record has {len(raw)} bytes, more than {max_bytes}")
    # Before anything recurses. Nearly every event is one object in another, which two passes of memchr tell.
    if (b"[" in raw or raw.count(b"{") > EVENT_MAX_DEPTH) and _too_deep(raw):
        raise InvalidInput("too_deep", f"the record nests deeper than {EVENT_MAX_DEPTH} levels")
    try:
        value = _decode(raw)  # every text becomes a str, which checks its UTF-8; elsewhere JSON is ASCII
    except UnicodeDecodeError:
        raise _not_text(raw) from None
    except msgspec.ValidationError as error:  # a whole number longer than Python converts
        raise InvalidInput("out_of_range", f"a number in the record is too long: {error}") from None
    except msgspec.DecodeError as error:
        raise _not_json(raw, error) from None
    if value.__class__ is not dict:
        raise InvalidInput("not_json", "the record is JSON, but no object")
    return value


def content_of(value: Any) -> bytes:
    """Digest of the canonical form of a parsed value."""
    return blake2b(_encode(value), digest_size=CONTENT_BYTES).digest()


def identity_of(tenant: str, customer: str, source: str, event_id: str) -> bytes:
    """Digest of an identity; packed, each part has its length in front, so that no two identities read the same."""
    return blake2b(_pack((tenant, customer, source, event_id)), digest_size=IDENTITY_BYTES).digest()


def exact_number(text: str) -> int | Decimal:
    """The value of a JSON number with a fraction or an exponent."""
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent beyond what even Decimal holds
        raise _absurd(text) from None
    if len(text) > NUMBER_MAX_CHARACTERS or (value and abs(value.adjusted()) > NUMBER_MAX_EXPONENT):
        raise _absurd(text)
    if not value:
        return 0
    whole = int(value)
    if whole == value:
        return whole
    return value.normalize(Context(prec=NUMBER_MAX_CHARACTERS))


def json_of(value: Any) -> bytes:
    """A parsed value as JSON again, numbers exact, keys in their order."""
    return _write(value)


_decode = msgspec.json.Decoder(float_hook=exact_number).decode
_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode
_pack = msgspec.msgpack.Encoder().encode
_write = msgspec.json.Encoder(decimal_format="number").encode


def _too_deep(raw: bytes) -> bool:
    if raw.count(b"{") + raw.count(b"[") <= EVENT_MAX_DEPTH:
        return False
    depth = 0
    for match in _TEXT_OR_BRACKET.finditer(raw):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
            if depth > EVENT_MAX_DEPTH:
                return True
        elif token in (b"}", b"]"):
            depth -= 1
    return False


def _not_json(raw: bytes, error: msgspec.DecodeError) -> InvalidInput:
    if not raw.strip():
        return InvalidInput("empty", "the record has no value")
    try:
        found = _NOT_A_NUMBER.search(str(raw, "utf-8"))
    except UnicodeDecodeError:
        return _not_text(raw)
    hint = f" ({found[0]} is no JSON number)" if found else ""
    return InvalidInput("not_json", f"the record is not JSON: {error}{hint}")


def _not_text(raw: bytes) -> InvalidInput:
    try:
        str(raw, "utf-8")
    except UnicodeDecodeError as error:
        detail = f"the record is not valid UTF-8: {error.reason} at byte {error.start}"
        return InvalidInput("bad_encoding", detail)
    raise InvariantBroken("the decoder refused the encoding of valid UTF-8")


def _absurd(text: str) -> InvalidInput:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return InvalidInput("out_of_range", f"the number {shown} has too many digits or too large an exponent")
