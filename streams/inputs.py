"""Reading an input topic by assignment: a lane's account events, and what Faust did not deliver.

Both read committed records alone and raise Unavailable when Kafka does not answer.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import TopicPartition

from schemas.errors import Doubt
from schemas.topics import ACCOUNT_EVENTS
from streams.ledger import committed_consumer
from streams.patience import IDLE_FETCH_MS

TAKEN_AT_ONCE: Final = 2_000
"""Account events that wait in a lane's reader; beyond them it stops fetching."""


class AccountReader:
    """Follows `account.events[partition]` from an offset on, in a task of its own; sets `wake` when something came."""

    def __init__(self, bootstrap: str, partition: int, start: int, wake: asyncio.Event) -> None:
        self._bootstrap = bootstrap
        self._place = TopicPartition(ACCOUNT_EVENTS, partition)
        self._next = start
        self._wake = wake
        self._records: list[Any] = []
        self._taken = asyncio.Event()
        self._failure: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to read."""
        self._task = asyncio.create_task(self._follow(), name=f"account-reader-{self._place.partition}")
        self._task.add_done_callback(self._ended)

    def waiting(self) -> bool:
        """Whether `take` has something to give, or to raise."""
        return bool(self._records) or self._failure is not None

    def take(self) -> list[Any]:
        """What came since the last call, in offset order. Raises Doubt if reading failed: its owner opens again."""
        if self._failure is not None:
            raise Doubt(f"reading {self._place.topic}[{self._place.partition}]: {self._failure!r}") from self._failure
        records, self._records = self._records, []
        self._taken.set()
        return records

    async def stop(self) -> None:
        """Ends the task and gives the connection back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        async with committed_consumer(self._bootstrap, fetch_max_wait_ms=IDLE_FETCH_MS) as consumer:
            consumer.assign([self._place])
            if self._next == 0:
                await consumer.seek_to_beginning(self._place)
            else:
                consumer.seek(self._place, self._next)
            while True:
                records = (await consumer.getmany(self._place, timeout_ms=10_000)).get(self._place, [])
                if not records:
                    continue
                self._records.extend(records)
                self._wake.set()
                while len(self._records) >= TAKEN_AT_ONCE:
                    self._taken.clear()
                    await self._taken.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._failure = task.exception() or RuntimeError("the reader ended")
            self._wake.set()


async def read_range(bootstrap: str, topic: str, partition: int, start: int, end: int) -> list[Any]:
    """Every committed record with an offset in [start, end) that the topic still holds."""
    place = TopicPartition(topic, partition)
    found: list[Any] = []
    async with committed_consumer(bootstrap) as consumer:
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, max(start, begin))
        while await consumer.position(place) < end:
            batch = (await consumer.getmany(place, timeout_ms=1_000)).get(place, [])
            found.extend(record for record in batch if record.offset < end)
    return found
