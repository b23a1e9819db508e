"""Whose call goes to Redis next: some at once, the others in the order in which they came.

Redis does one thing at a time anyway. Who was told that what it computed with is stale goes before the others: should
it wait as long as they do, the account may have changed again, and again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from types import TracebackType
from typing import Final

from schemas.errors import Unavailable

CALLS_AT_ONCE: Final = 16
WAIT_SECONDS: Final = 2.0
"""How long a call waits for its turn."""

HURRIES: Final[ContextVar[bool]] = ContextVar("HURRIES", default=False)
"""Whether the task at hand asks again what it has asked before."""


class Turns:
    """Entered for each call. Errors: Unavailable for one that too many were before. One event loop."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """A turn without waiting, where that is possible; it has to be passed on."""
        if self._running < CALLS_AT_ONCE and not self._waiting:
            self._running += 1
            return True
        return False

    async def wait(self) -> None:
        """Waits for a turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if HURRIES.get():
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.pass_on()  # it was given a turn in the moment it gave up
            elif turn in self._waiting:
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise Unavailable("redis: too many wait for it") from None
            raise

    async def __aenter__(self) -> None:
        if not self.take():
            await self.wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pass_on()

    def pass_on(self) -> None:
        """The call at hand is answered."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
