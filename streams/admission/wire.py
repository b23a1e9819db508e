"""One connection to Redis with many calls on their way at once, each answered in its turn.

redis-py takes a connection for each call and waits twice for it, which costs more than all of a check. Here a call is
written behind those before it, and answers are handed out in the order in which Redis gives them. A call that finds
nothing on its way goes out at once; what is asked in one turn of the event loop besides goes out together at its end,
since each write costs both sides a system call. redis-py still makes the connection (address, TLS, password, database).

Errors: Unavailable if Redis cannot be reached, breaks off, does not answer in time or says that it does not serve now;
every call that was on its way may then have taken effect. ResponseError for any other error of Redis's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias, cast

import hiredis
from redis import exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.errors import Unavailable

NOT_NOW: Final = ("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "OOM", "READONLY", "TRYAGAIN", "UNKILLABLE")
"""How errors begin of a Redis that does not serve now."""

Word: TypeAlias = str | bytes | int


class NoScript(Exception):
    """Redis does not know the script of this digest (yet, or any more)."""


class Wire:
    """Made for one event loop; connects when it is first called, and anew after a failure."""

    def __init__(self, url: str, timeout_seconds: float, when_lost: Callable[[], None] = lambda: None) -> None:
        """`when_lost` is told at once when the connection breaks, also while nothing is asked."""
        self._pool = ConnectionPool.from_url(
            url, protocol=2, socket_connect_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0)
        )
        self._timeout_seconds = timeout_seconds
        self._when_lost = when_lost
        self._replies: _Replies | None = None
        self._connecting = asyncio.Lock()

    async def call(self, *words: Word) -> Any:
        """The answer to one command."""
        replies = self._replies
        if replies is None or replies.broken:
            replies = await self._connected()
        return await replies.ask(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub knows tuples of one word alone

    async def close(self) -> None:
        """Gives the connection back."""
        if self._replies is not None:
            self._replies.give_up("closed")

    async def _connected(self) -> _Replies:
        async with self._connecting:
            if self._replies is not None and not self._replies.broken:
                return self._replies
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await connection.connect()
            except (exceptions.RedisError, OSError, TimeoutError) as error:
                raise Unavailable(f"redis: {error}") from error
            self._replies = _Replies(connection, self._timeout_seconds, self._when_lost)
            return self._replies


class _Replies(asyncio.Protocol):
    """What was asked on one connection and is not answered yet."""

    def __init__(self, connection: AbstractConnection, timeout_seconds: float, when_lost: Callable[[], None]) -> None:
        """Takes over a connection whose handshake has been answered: from here on nobody else reads."""
        self._connection = connection  # it closes itself when nobody has it any more
        assert connection._writer is not None
        self._transport = cast("asyncio.Transport", connection._writer.transport)
        self._transport.set_protocol(self)
        self._timeout_seconds = timeout_seconds
        self._when_lost = when_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        """With the time at which each was asked."""
        self._watch: asyncio.TimerHandle | None = None
        self._unsent: list[bytes] = []
        """Asked in this turn of the event loop."""
        self.broken = False

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        """Sends a command; the future of its answer."""
        future = self._loop.create_future()
        if not self._waiting:
            self._transport.write(command)
        else:
            if not self._unsent:
                self._loop.call_soon(self._send)
            self._unsent.append(command)
        self._waiting.append((future, self._loop.time()))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_seconds, self._look)
        return future

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            future, _ = self._waiting.popleft()
            if future.done():  # whoever asked has gone
                continue
            if isinstance(answer, hiredis.ReplyError):
                future.set_exception(_error_of(str(answer)))
            else:
                future.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.give_up(str(error or "the connection was closed"))

    def give_up(self, why: str) -> None:
        """Nothing more is asked here; what was asked is not answered any more."""
        if not self.broken:
            self.broken = True
            self._when_lost()
        if self._watch is not None:
            self._watch.cancel()
        self._transport.abort()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(Unavailable(f"redis: {why}"))

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self.broken:
            self._transport.write(b"".join(unsent))

    def _look(self) -> None:
        """Whether the oldest call has waited for too long."""
        self._watch = None
        if not self._waiting:
            return
        left = self._waiting[0][1] + self._timeout_seconds - self._loop.time()
        if left <= 0:
            self.give_up(f"no answer in {self._timeout_seconds:g} s")
        else:
            self._watch = self._loop.call_later(left, self._look)


def _error_of(text: str) -> Exception:
    kind = text.partition(" ")[0]
    if kind == "NOSCRIPT":
        return NoScript(text)
    if kind in NOT_NOW:
        return Unavailable(f"redis: {text}")
    return exceptions.ResponseError(text)
