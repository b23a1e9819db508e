"""Request bodies: how large, how long, of which kind.

`BodyBounds` is ASGI middleware around what a route receives: it counts what comes, whatever Content-Length says or does
not, and raises to whoever reads, before anything is parsed: 413 beyond BODY_MAX_BYTES, 408 for a body that has not come
within BODY_SECONDS. A route refuses for its own reasons first (401, 403, 404), so nothing is read for a request that is
refused. An answer given before the body has come takes in a bounded rest of it, so that a client that sends before
it reads gets to see the answer; beyond that bound the connection is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Refused
from schemas.errors import InvalidInput
from schemas.limits import BODY_MAX_BYTES

BODY_SECONDS: Final = 30.0
"""A body that has not come by then is cut off; its sender holds a connection and memory of ours."""

DISCARD_MAX_BYTES: Final = 16 * 1024 * 1024
"""How much of an unwanted body is taken in behind an early answer..."""

DISCARD_SECONDS: Final = 2.0
"""...and how long."""

assert DISCARD_MAX_BYTES >= BODY_MAX_BYTES

JSON: Final = "application/json"
CLOUDEVENT: Final = "application/cloudevents+json"
CLOUDEVENTS_BATCH: Final = "application/cloudevents-batch+json"
YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml")


class BodyBounds:
    """Holds bodies to their bounds."""

    def __init__(self, app: ASGIApp, max_bytes: int = BODY_MAX_BYTES, seconds: float = BODY_SECONDS) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._max_bytes, self._seconds)

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and not await body.settle():
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, body.receive, send_after_body)


class _Body:
    """What of one request's body has come."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, seconds: float) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._declared = _header(scope, b"content-length")
        self._awaited = _header(scope, b"expect") is not None
        self._taken = 0
        self._complete = False
        self._late = False

    async def receive(self) -> Message:
        """The next part; raises Refused 413 or 408."""
        if self._complete:
            return await self._receive()  # only a disconnect can follow, and may take its time
        if self._declared is not None and int(self._declared) > self._max_bytes:
            raise self._too_large()
        self._awaited = False
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            self._late = True
            raise Refused(408, "body_too_late", f"the body has not come within {self._seconds:g} s") from None
        self._take(message)
        if self._taken > self._max_bytes:
            raise self._too_large()
        return message

    async def settle(self) -> bool:
        """Before an answer: whether the connection can be used on, all of the body being taken in."""
        if self._complete:
            return True
        # Whoever waits for a 100 has sent nothing yet, and whoever is late would only be waited for again.
        if self._awaited or self._late:
            return False
        if self._declared is not None and int(self._declared) > DISCARD_MAX_BYTES:
            return False
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._complete and self._taken <= DISCARD_MAX_BYTES:
                    self._take(await self._receive())
        except TimeoutError:
            return False
        return self._complete

    def _take(self, message: Message) -> None:
        self._taken += len(message.get("body", b""))
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)

    def _too_large(self) -> Refused:
        return Refused(413, "too_large", f"a body has at most {self._max_bytes} bytes")


async def read_body(request: Request, *media_types: str) -> tuple[str, bytes]:
    """Media type and bytes of a body; 415 for any other type, before the body is read."""
    given = request.headers.get("content-type", "")
    media_type, _, parameters = given.partition(";")
    media_type = media_type.strip().lower()
    if media_type not in media_types:
        shown = f"{given[:100]!r} is not taken here" if given else "a Content-Type is needed"
        raise Refused(415, "unsupported_media_type", f"{shown}: {', '.join(media_types)}")
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if "charset=" in charset and "charset=utf-8" not in charset:
        raise Refused(415, "unsupported_media_type", "a body is UTF-8")
    return media_type, await request.body()


@contextmanager
def json_judged(body: bytes) -> Iterator[None]:
    """Tells a body that is JSON, but not what is asked for (422), from one that is not JSON (400)."""
    try:
        yield
    except InvalidInput as error:
        if error.reason == "not_json" and is_json(body):
            raise InvalidInput("wrong_type", error.detail) from None
        raise


def is_json(body: bytes) -> bool:
    """Whether a body is JSON of any kind."""
    try:
        _anything(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


_anything: Final = msgspec.json.Decoder().decode


def described_body(schema: dict[str, Any], *media_types: str) -> dict[str, Any]:
    """The part of an OpenAPI operation that says what `read_body` takes."""
    return {"requestBody": {"required": True, "content": {media: {"schema": schema} for media in media_types}}}


def _has_body(scope: Scope) -> bool:
    length = _header(scope, b"content-length")
    return length not in (None, b"0") or _header(scope, b"transfer-encoding") is not None


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)
