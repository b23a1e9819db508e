from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api import bodies
from api.bodies import BodyBounds
from api.problems import Refused, problem
from tests.unit.api.conftest import World

MEGABYTE = 1024 * 1024


class Sender:
    """A client that sends parts of a body and then nothing."""

    def __init__(self, *parts: bytes, endless: bool = False, silent: bool = False) -> None:
        self.parts = list(parts)
        self.taken = 0
        self.endless = endless
        self.silent = silent

    async def receive(self) -> Message:
        if self.endless:
            self.taken += MEGABYTE
            return {"type": "http.request", "body": bytes(MEGABYTE), "more_body": True}
        if not self.parts:
            await asyncio.sleep(3600)
        part = self.parts.pop(0)
        self.taken += len(part)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.silent}


async def reading(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads the body, as a route does."""
    try:
        answer: Response = Response(await Request(scope, receive).body())
    except Refused as refused:
        answer = problem(refused.status, refused.reason, refused.detail)
    await answer(scope, receive, send)


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers without a look at the body."""
    await problem(403, "missing_scope", "no")(scope, receive, send)


async def call(app: object, sender: Sender, *headers: tuple[bytes, bytes], seconds: float = 5.0) -> tuple[int, bool]:
    """Status of the answer, and whether the connection is closed after it."""
    started: list[Message] = []

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": list(headers)}
    await BodyBounds(app, max_bytes=100, seconds=seconds)(scope, sender.receive, send)  # type: ignore[arg-type]
    return started[0]["status"], (b"connection", b"close") in started[0]["headers"]


CHUNKED = (b"transfer-encoding", b"chunked")


async def test_a_body_within_its_bound_is_handed_on() -> None:
    """The last byte that fits is taken."""
    assert await call(reading, Sender(bytes(60), bytes(40)), CHUNKED) == (200, False)


async def test_a_body_that_grows_beyond_its_bound_is_cut_without_content_length() -> None:
    """Bytes are counted as they come, whatever the head says or does not."""
    assert await call(reading, Sender(bytes(60), bytes(41)), CHUNKED) == (413, False)


async def test_a_body_that_declares_too_much_is_not_read_by_the_route() -> None:
    """The rest is taken in so that the sender gets to read the answer, and the connection stays."""
    assert await call(reading, Sender(bytes(101)), (b"content-length", b"101")) == (413, False)


async def test_whoever_waits_for_a_100_is_answered_at_once() -> None:
    """A sender that asked first has sent nothing, and must not."""
    sender = Sender(bytes(101))
    headers = ((b"content-length", b"101"), (b"expect", b"100-continue"))
    assert await call(reading, sender, *headers) == (413, True)
    assert sender.taken == 0


async def test_an_endless_body_is_cut_off() -> None:
    """Beyond the bound of what is taken in behind an answer the connection is closed."""
    sender = Sender(endless=True)
    assert await call(refusing, sender, CHUNKED) == (403, True)
    assert sender.taken <= bodies.DISCARD_MAX_BYTES + MEGABYTE
    assert await call(refusing, Sender(), (b"content-length", b"99999999999")) == (403, True)


async def test_a_body_that_does_not_come_is_cut_off() -> None:
    """408 when its time is over, however much of it came, and the connection is closed."""
    began = time.monotonic()
    assert await call(reading, Sender(bytes(1), silent=True), CHUNKED, seconds=0.05) == (408, True)
    assert time.monotonic() - began < bodies.DISCARD_SECONDS


async def test_a_request_without_a_body_waits_for_none() -> None:
    """A GET is answered whatever comes after it."""
    assert await call(refusing, Sender()) == (403, False)


async def parts(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)


@pytest.mark.parametrize(("megabytes", "status"), [(8, 400), (9, 413)])
async def test_the_bound_of_a_body_holds_on_every_route_that_reads_one(
    world: World, megabytes: int, status: int
) -> None:
    """Eight MiB are read (and are no event), more is 413, sent in pieces without a length."""
    headers = {**world.token(), "Content-Type": "application/json"}
    for method, path in (("POST", "/v1/events"), ("PUT", "/v1/catalog"), ("POST", "/v1/prices/estimate")):
        content = parts(megabytes, MEGABYTE)
        response = await world.client.request(method, path, headers=headers, content=content)
        expected = 422 if path == "/v1/events" and status != 413 else status
        assert response.status_code == expected, path


@pytest.mark.parametrize("given", ["", "text/plain", "application/json; charset=latin-1", "application/xml"])
async def test_a_body_of_another_type_is_415(world: World, given: str) -> None:
    """What is not taken, and what is, stands in the detail."""
    headers = {**world.token(), "Content-Type": given}
    for method, path in (("POST", "/v1/events"), ("PUT", "/v1/catalog"), ("POST", "/v1/prices/estimate")):
        response = await world.client.request(method, path, headers=headers, content=b"{}")
        assert response.status_code == 415, path
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_content_type_may_say_utf8(world: World) -> None:
    """Parameters and case of a media type do not matter."""
    headers = {**world.token(), "Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert (await world.client.post("/v1/events", headers=headers, content=b"{}")).status_code == 422
