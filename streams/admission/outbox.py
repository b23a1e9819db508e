"""Records that nobody waits for: the journal of holds and denials, on their way to Kafka."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final, Protocol

from ingest.accept import Record
from ingest.delivery import Delivery
from schemas.errors import InvalidInput, Unavailable

log = logging.getLogger(__name__)

WAITING_MAX: Final = 100_000
"""Records that wait for Kafka; beyond it the newest are not written, and told of."""

GATHER_SECONDS: Final = 0.05
"""How long records gather before they are handed over: one by one they would cost more than what they tell of."""

CLOSE_SECONDS: Final = 1.0


class Sender(Protocol):
    """Puts records into Kafka."""

    async def put(self, record: Record, label: object) -> Delivery:
        """Buffers one record. Errors: Unavailable."""


class Outbox:
    """Sends in order what it is given; one event loop."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._waiting: asyncio.Queue[Record] = asyncio.Queue(WAITING_MAX)
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.lost = 0
        """Records that were not written."""

    def put(self, record: Record) -> None:
        """Takes a record; whether it comes to Kafka is not known here."""
        try:
            self._waiting.put_nowait(record)
        except asyncio.QueueFull:
            self._lose("too much waits for Kafka")
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send(), name="outbox of admission")

    async def close(self) -> None:
        """Lets what waits go out, for a moment."""
        self._closing.set()
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._waiting.join(), CLOSE_SECONDS)
            self._task.cancel()

    async def _send(self) -> None:
        while True:
            record: Record | None = await self._waiting.get()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), GATHER_SECONDS)
            while record is not None:
                try:
                    await self._sender.put(record, record.topic)
                except (Unavailable, InvalidInput) as error:
                    self._lose(str(error))
                finally:
                    self._waiting.task_done()
                record = None if self._waiting.empty() else self._waiting.get_nowait()

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost & (self.lost - 1) == 0:
            log.warning("%d records of holds and denials were not written: %s", self.lost, why)
