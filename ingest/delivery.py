"""What a publisher has on its way: batches by partition, and what becomes of each record in them.

A batch has one outcome for all its records, since Kafka takes it whole. Its deadline counts from its first record;
after it a delivery raises Unavailable, while the batch itself may still arrive. Units: bytes and seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from schemas.errors import Unavailable

NAMED_IN_ERRORS: Final = 10
"""So many events that are not known to be written are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a publisher may hold and how long it waits."""

    max_events: int = 100_000
    max_bytes: int = 64 * 1024 * 1024
    batch_bytes: int = 512 * 1024
    """A batch is sent when it has so many bytes before compression..."""
    linger_s: float = 0.005
    """...or is so old."""
    timeout_s: float = 60.0
    """How long the buffer may stay full and a delivery unconfirmed."""


class Position(NamedTuple):
    """Where Kafka keeps a record."""

    topic: str
    partition: int
    offset: int


class InFlight(NamedTuple):
    """What a publisher holds."""

    events: int
    bytes: int


class Delivery:
    """One record on its way: `await` it for its Position, or Unavailable."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch, self._index = batch, index

    def __await__(self) -> Generator[Any, None, Position]:
        return self._batch.confirmed(self._index).__await__()

    def done(self) -> bool:
        """Whether it is known what became of the record."""
        return self._batch.outcome.done()


class Batch:
    """Records of one partition that are sent as one."""

    __slots__ = ("builder", "bytes", "deadline", "labels", "linger", "outcome", "partition", "topic")

    def __init__(self, topic: str, partition: int, builder: Any, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.topic, self.partition, self.builder = topic, partition, builder
        self.labels: list[object] = []
        self.bytes = 0
        self.deadline = loop.time() + timeout_s
        self.outcome: asyncio.Future[int] = loop.create_future()
        """The offset of the first record."""
        self.linger: asyncio.TimerHandle | None = None

    async def confirmed(self, index: int) -> Position:
        outcome = self.outcome
        if not outcome.done():
            left = self.deadline - asyncio.get_running_loop().time()
            await asyncio.wait([outcome], timeout=max(left, 0))
            if not outcome.done():
                raise unconfirmed(1, [self.labels[index]])
        return Position(self.topic, self.partition, outcome.result() + index)

    def fail(self, error: Unavailable) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # whoever does not wait for the delivery learns of it from `flush`


class Queue:
    """One partition: the batch that is being filled, and those that wait to be handed over in their order."""

    __slots__ = ("filling", "partition", "task", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.filling: Batch | None = None
        self.waiting: deque[Batch] = deque()
        self.task: asyncio.Task[None] | None = None


def unconfirmed(count: int, labels: Sequence[object]) -> Unavailable:
    named = ", ".join(str(label) for label in labels[:NAMED_IN_ERRORS])
    more = ", …" if count > NAMED_IN_ERRORS else ""
    return Unavailable(f"Kafka has not confirmed {count} events in time; not known to be written: {named}{more}")
