"""How far the inputs' decisions are behind, asked of Kafka on one connection that stays.

The end of a partition may be markers of transactions, which nobody decides about: what looks behind is read once, and
what turns out to hold no record is remembered. Units: events, and seconds since Kafka received the oldest of them.

Errors: Unavailable; the next question connects anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import Unavailable
from streams.ledger import committed_consumer

READ_MS: Final = 300
"""What has not come by then is asked for again at the next look."""


@dataclass(frozen=True, slots=True)
class Lag:
    """One input partition."""

    topic: str
    partition: int
    events: int
    seconds: float


class LagWatch:
    """Not for use by two tasks at once."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._stack = AsyncExitStack()
        self._consumer: AIOKafkaConsumer | None = None
        self._empty_to: dict[TopicPartition, int] = {}
        """Offsets below which, from the position on, there is no record."""
        self._oldest: dict[TopicPartition, tuple[int, int]] = {}
        """Position and append time (ms) of the record there."""

    async def measure(self, decided: Mapping[tuple[str, int], int], now: int) -> list[Lag]:
        """By partition of `decided`, which names the first offset that is not decided. `now`: microseconds."""
        positions = {TopicPartition(*place): offset for place, offset in decided.items()}
        if not positions:
            return []
        try:
            consumer = await self._connected()
            if consumer.assignment() != set(positions):
                consumer.assign(list(positions))
                consumer.pause(*positions)
            ends = await consumer.end_offsets(list(positions))
            await self._read({place: at for place, at in positions.items() if self._start(place, at) < ends[place]})
        except (KafkaError, OSError) as error:
            await self.close()
            raise Unavailable(f"kafka: lag: {error!r}") from error
        return [self._lag(place, at, ends[place], now) for place, at in positions.items()]

    async def close(self) -> None:
        """Gives the connection back."""
        self._consumer = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            self._consumer = await self._stack.enter_async_context(committed_consumer(self._bootstrap))
        return self._consumer

    def _start(self, place: TopicPartition, at: int) -> int:
        return max(at, self._empty_to.get(place, 0))

    def _lag(self, place: TopicPartition, at: int, end: int, now: int) -> Lag:
        events = max(0, end - self._start(place, at))
        position, received_ms = self._oldest.get(place, (-1, 0))
        seconds = max(0.0, now / 1e6 - received_ms / 1e3) if events and position == at else 0.0
        return Lag(place.topic, place.partition, events, seconds)

    async def _read(self, behind: Mapping[TopicPartition, int]) -> None:
        """Finds the append times of the records at these positions, or that there are none."""
        assert self._consumer is not None
        wanted = {place: at for place, at in behind.items() if self._oldest.get(place, (-1, 0))[0] != at}
        if not wanted:
            return
        consumer = self._consumer
        begins = await consumer.beginning_offsets(list(wanted))  # what lay before them is kept no longer
        for place, at in wanted.items():
            consumer.seek(place, max(self._start(place, at), begins[place]))
        consumer.resume(*wanted)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READ_MS / 1000
        missing = set(wanted)
        while missing and (left := deadline - loop.time()) > 0:
            found = await consumer.getmany(*missing, timeout_ms=int(left * 1000), max_records=1)
            for place, records in found.items():
                if records:
                    self._oldest[place] = wanted[place], records[0].timestamp
                    missing.discard(place)
        consumer.pause(*wanted)
        _let_go(consumer)
        for place in missing:
            self._empty_to[place] = await consumer.position(place)


def _let_go(consumer: Any) -> None:
    """Frees what was fetched and is not read on: half a megabyte a partition and look.

    aiokafka reads it by a generator that holds its own holder. Only the collector of cycles would find that out, and in
    a process that serves it comes seldom (`streams.garbage`)."""
    for waiting in consumer._fetcher._records.values():
        polled = getattr(waiting, "_partition_records", None)  # None: all of it was read, or it is an error
        if polled is not None:
            polled._records_iterator = iter(())
