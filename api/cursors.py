"""Cursors of listings: where the page after this one begins, opaque to clients.

A cursor holds the sort key of the last row of a page, so that the next page begins behind that row whatever was added
since. It names its listing, so that a cursor of one is refused by another (InvalidInput `bad_cursor`); it grants
nothing: tenant and customer are always the request's own.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, Final

import orjson

from schemas.errors import InvalidInput

CURSOR_MAX_CHARACTERS: Final = 4_096


def encode_cursor(listing: str, key: Sequence[str | int]) -> str:
    """A cursor behind the row with this key."""
    return urlsafe_b64encode(orjson.dumps([listing, *key])).decode().rstrip("=")


def decode_cursor(text: str | None, listing: str, kinds: Sequence[type]) -> tuple[Any, ...] | None:
    """The key in a cursor, of these kinds (str, int within 64 bits); None without a cursor."""
    if text is None:
        return None
    try:
        value = orjson.loads(urlsafe_b64decode(text[:CURSOR_MAX_CHARACTERS] + "=" * (-len(text) % 4)))
    except ValueError:
        raise _bad() from None
    if not isinstance(value, list) or value[:1] != [listing] or len(value) != len(kinds) + 1:
        raise _bad()
    if not all(_is(part, kind) for part, kind in zip(value[1:], kinds, strict=True)):
        raise _bad()
    return tuple(value[1:])


def _is(value: object, kind: type) -> bool:
    return type(value) is kind and (not isinstance(value, int) or -(2**63) <= value < 2**63)


def _bad() -> InvalidInput:
    return InvalidInput("bad_cursor", "the cursor is not one of this listing", "/query/cursor")
