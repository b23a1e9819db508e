"""The HTTP side, as a bare ASGI application under uvicorn.

Why so: uvicorn is what the project's API runs under anyway, while aiohttp is only there because Faust drags it in;
and there is one path to serve, so a framework's routing, forms and response classes would be in the way of a body
that is SQL whatever its content type and of answers that stream.

A request's status is known before its first byte leaves: an answer is held back until it is complete or larger than
HELD_BYTES (HELD_WHOLE_BYTES with `wait_end_of_query=1`), and only what fails later is told inside the body, in the
form ClickHouse gives it, on a connection that is then cut. Who takes nothing for SEND_TIMEOUT_S, or has gone, is
given up: the query is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from backing.clickhouse_server import compression, credentials, request, statement
from backing.clickhouse_server.answer_pipe import AnswerPipe
from backing.clickhouse_server.content_type import content_type_of
from backing.clickhouse_server.credentials import User
from backing.clickhouse_server.engine import Engine, Figures
from backing.clickhouse_server.errors import QUERY_IS_TOO_LARGE, Refusal, refusal
from backing.clickhouse_server.execution import Execution, Outcome
from backing.clickhouse_server.request import Request
from backing.clickhouse_server.statement import Insert, Query

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

BODY_MAX_BYTES: Final = 256 * 1024 * 1024
"""The largest request body, as sent and as decompressed. It is held in memory: an insert is all or nothing."""

HELD_BYTES: Final = 1024 * 1024
"""What is held of an answer before its status is sent."""

HELD_WHOLE_BYTES: Final = 32 * 1024 * 1024
"""The same for clients that ask to wait for the end."""

REQUESTS_AT_ONCE: Final = 16
"""Statements running at once; further ones wait. Each may use the engine's own threads besides."""

SEND_TIMEOUT_S: Final = 300.0
"""How long a client may take nothing of its answer."""

_LOGGED_CHARACTERS: Final = 300

_logger: Final = logging.getLogger(__name__)


class _ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Application:
    """The ASGI application: `engine` served to `users`."""

    def __init__(self, engine: Engine, users: Sequence[User]) -> None:
        self._engine = engine
        self._users = users
        self._execution = Execution(engine)
        self._threads = ThreadPoolExecutor(REQUESTS_AT_ONCE, "request")
        self._jobs: set[Future[Outcome]] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        path, query_string = scope["path"], scope["query_string"]
        if path in ("/ping", "/replicas_status") or (path == "/" and scope["method"] != "POST" and not query_string):
            await _send_whole(send, 200, {"Content-Type": "text/html; charset=UTF-8"}, b"Ok.\n")
            return
        if path != "/":
            await _send_whole(send, 404, {"Content-Type": "text/plain; charset=UTF-8"}, b"There is no such handler\n")
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        with contextlib.suppress(_ClientGone):
            await self._serve(scope["method"], query_string, headers, receive, send)

    async def close(self, timeout_s: float) -> bool:
        """Waits for statements that still run, then ends all sessions; False if some run on after `timeout_s`."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        _, late = await asyncio.to_thread(wait, set(self._jobs), timeout_s)
        if late:
            return False
        self._execution.close()
        return True

    async def _serve(
        self, method: str, query_string: bytes, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        common = {
            "X-ClickHouse-Server-Display-Name": "tollgate",
            "X-ClickHouse-Timezone": self._engine.timezone,
        }
        is_body_read = False
        try:
            arguments = request.parse_arguments(query_string)
            user = credentials.authenticate(self._users, credentials.offered(headers, arguments))
            asked = request.parse(method, headers, arguments)
            common["X-ClickHouse-Query-Id"] = asked.query_id
            is_body_read = True
            body = await _body(receive)
            asked, parsed = await asyncio.get_running_loop().run_in_executor(
                self._threads, _understood, asked, body, headers
            )
            del body
            await self._answer(user, asked, parsed, headers.get("accept-encoding", ""), common, receive, send)
        except Refusal as error:
            _logger.info("%s %s", common.get("X-ClickHouse-Query-Id", "-"), error.text[:_LOGGED_CHARACTERS])
            if not is_body_read:
                # A client that is still sending would take an early answer for a broken connection.
                await _drain(receive)
            common |= {"Content-Type": "text/plain; charset=UTF-8", "X-ClickHouse-Exception-Code": str(error.code)}
            if error.status == 401:
                common["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
            await _send_whole(send, error.status, common, error.body(self._engine.version))

    async def _answer(
        self,
        user: User,
        asked: Request,
        parsed: Insert | Query,
        accept_encoding: str,
        headers: dict[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        pipe = AnswerPipe()
        job = self._threads.submit(self._execution.run, user, asked, parsed, pipe.sink)
        self._jobs.add(job)
        job.add_done_callback(lambda _: pipe.end_writing())
        job.add_done_callback(self._jobs.discard)
        gone = asyncio.ensure_future(_disconnection(receive))
        try:
            async with pipe:
                held = bytearray()
                bound = HELD_WHOLE_BYTES if asked.wants_whole_answer else HELD_BYTES
                while len(held) < bound and (chunk := await _unless(gone, pipe.read())):
                    held += chunk
                encoding = compression.accepted(accept_encoding) if asked.wants_compression else None
                coding = {"Content-Encoding": encoding} if encoding is not None else {}
                if len(held) < bound:
                    outcome = await _unless(gone, asyncio.wrap_future(job))
                    body = bytes(held) + outcome.data
                    if encoding is not None:
                        body = await asyncio.to_thread(_compressed, body, encoding)
                    described = _describing(outcome.format) | {"X-ClickHouse-Summary": _summary(outcome.figures)}
                    await _send_whole(send, 200, headers | described | coding, body)
                else:
                    assert isinstance(parsed, Query), "an insert has no answer"
                    described = _describing(parsed.format or asked.default_format)
                    await self._stream(bytes(held), pipe, job, encoding, headers | described | coding, gone, send)
        finally:
            gone.cancel()
            if not job.cancel() and not job.done():
                await asyncio.to_thread(self._engine.end_query_writing_to, pipe.sink)

    async def _stream(
        self,
        held: bytes,
        pipe: AnswerPipe,
        job: Future[Outcome],
        encoding: str | None,
        headers: Mapping[str, str],
        gone: asyncio.Future[None],
        send: Send,
    ) -> None:
        tag = secrets.token_hex(8)
        headers = {**headers, "X-ClickHouse-Exception-Tag": tag}
        stream = compression.compressor(encoding) if encoding is not None else None
        await send({"type": "http.response.start", "status": 200, "headers": _encoded(headers)})
        chunk = held
        while chunk:
            await _send_part(send, await asyncio.to_thread(stream.compress, chunk) if stream is not None else chunk)
            chunk = await _unless(gone, pipe.read())
        try:
            await asyncio.wrap_future(job)
        except Refusal as error:
            _logger.info("%s, in mid-answer: %s", headers["X-ClickHouse-Query-Id"], error.text[:_LOGGED_CHARACTERS])
            last = _exception_block(error.body(self._engine.version), tag)
            await _send_part(send, stream.compress(last) + stream.flush() if stream is not None else last)
            # Without its last chunk the answer is visibly cut: uvicorn closes the connection.
            return
        await _send_part(send, stream.flush() if stream is not None else b"", is_last=True)


def _understood(asked: Request, body: bytes, headers: Mapping[str, str]) -> tuple[Request, Insert | Query]:
    body = compression.decompress(body, headers.get("content-encoding", "").strip().lower(), BODY_MAX_BYTES)
    asked = asked.with_body(body, headers.get("content-type", ""))
    return asked, statement.parse(asked.sql)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # Half a body is no statement, whatever it looks like.
            raise _ClientGone
        size_bytes += len(message.get("body", b""))
        if size_bytes > BODY_MAX_BYTES:
            parts.clear()
        else:
            parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if size_bytes > BODY_MAX_BYTES:
        raise refusal(QUERY_IS_TOO_LARGE, f"The body is larger than {BODY_MAX_BYTES} bytes")
    return b"".join(parts)


async def _drain(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless(gone: asyncio.Future[None], awaited: Awaitable[T]) -> T:
    """What is awaited, unless the client goes first."""
    future = asyncio.ensure_future(awaited)
    await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
    if not future.done():
        future.cancel()
        raise _ClientGone
    return future.result()


def _compressed(body: bytes, encoding: str) -> bytes:
    stream = compression.compressor(encoding)
    return stream.compress(body) + stream.flush()


def _exception_block(message: bytes, tag: str) -> bytes:
    footer = f"{len(message)} {tag}\r\n__exception__\r\n".encode()
    return f"\r\n__exception__\r\n{tag}\r\n".encode() + message + footer


def _describing(format_name: str | None) -> dict[str, str]:
    if format_name is None:
        return {"Content-Type": "text/plain; charset=UTF-8"}
    return {"Content-Type": content_type_of(format_name), "X-ClickHouse-Format": format_name}


def _summary(figures: Figures) -> str:
    return json.dumps(
        {
            "read_rows": str(figures.read_rows),
            "read_bytes": str(figures.read_bytes),
            "written_rows": str(figures.written_rows),
            "written_bytes": str(figures.written_bytes),
            "total_rows_to_read": "0",
            "result_rows": str(figures.result_rows),
            "elapsed_ns": str(round(figures.elapsed_s * 1e9)),
        }
    )


async def _send_whole(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    framed = {**headers, "Content-Length": str(len(body))}
    await send({"type": "http.response.start", "status": status, "headers": _encoded(framed)})
    await _send_part(send, body, is_last=True)


async def _send_part(send: Send, body: bytes, *, is_last: bool = False) -> None:
    try:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await send({"type": "http.response.body", "body": body, "more_body": not is_last})
    except TimeoutError:
        raise _ClientGone from None


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    # A query id comes from outside: what no header may hold becomes a question mark.
    return [
        (name.encode(), "".join(c if c.isprintable() else "?" for c in value).encode("latin-1", "replace"))
        for name, value in headers.items()
    ]
