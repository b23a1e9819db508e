"""The journal of holds and denials, for which nobody waits, on their way to a Kafka that may be away meanwhile."""

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

SENT_AT_ONCE: Final = 5_000
"""Records on their way together."""

RETRY_SECONDS: Final = 1.0
"""Between two attempts while Kafka is away."""

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
            records = [await self._waiting.get()]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), GATHER_SECONDS)
            while len(records) < SENT_AT_ONCE and not self._waiting.empty():
                records.append(self._waiting.get_nowait())
            await self._deliver(list(records))
            for _ in records:
                self._waiting.task_done()

    async def _deliver(self, records: list[Record]) -> None:
        """Returns once Kafka has them, however long it is away. What is sent again is sent with all that came after it:
        the last word on a hold stays the last."""
        while records:
            try:
                await self._deliver_once(records)
            except Unavailable as away:
                log.debug("%d records of holds and denials wait: %s", len(records), away)
                await asyncio.sleep(RETRY_SECONDS)

    async def _deliver_once(self, records: list[Record]) -> None:
        """Takes away from `records` what Kafka has. Errors: Unavailable."""
        sent: list[Delivery | None] = []
        for record in records:
            try:
                sent.append(await self._sender.put(record, record.topic))
            except InvalidInput as error:  # no later attempt would do better
                self._lose(str(error))
                sent.append(None)
        for delivery in sent:
            if delivery is not None:
                await delivery
            del records[0]

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost & (self.lost - 1) == 0:
            log.warning("%d records of holds and denials were not written: %s", self.lost, why)
