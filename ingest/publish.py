"""The producers' client: events into Kafka, in the order in which they are sent, each confirmed by all replicas.

    async with Publisher("127.0.0.1:9092") as publisher:
        delivery = await publisher.send(event)     # judged and buffered; waits while the buffer is full
        await delivery                             # Kafka has it
        await publisher.flush()                    # Kafka has all

Records are gathered by partition into batches (idempotent, acks=all, lz4), keyed by customer, and put where the Java
client would put them. What is in flight is bounded in events and bytes. After a time-out an event may still reach Kafka
later: to send it again is harmless, since its identity counts once.

Refuses with InvalidInput what `ingest.accept` refuses, and `too_large` for a record beyond what Kafka takes; raises
Unavailable where Kafka does not confirm in time: it counts the events that are not known to be written and names the
first of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerClosed

from ingest.accept import Record, judge
from ingest.delivery import NAMED_IN_ERRORS, Batch, Bounds, Delivery, InFlight, Position, Queue, unconfirmed
from ingest.producer import connect, stop
from schemas.canonical import json_of
from schemas.errors import InvalidInput, Unavailable
from schemas.event import DEFAULT_TENANT
from schemas.ids import partition_of_key
from schemas.limits import EVENT_MAX_BYTES, INPUT_RECORD_MAX_BYTES

RECORD_OVERHEAD_BYTES: Final = 100
"""More than Kafka adds to a record and its batch."""

RECORD_MAX_BYTES: Final = INPUT_RECORD_MAX_BYTES - INPUT_RECORD_MAX_BYTES // 128
"""Key and value of a record: what Kafka takes, less what lz4 may add to bytes that it cannot compress (1/255)."""
assert EVENT_MAX_BYTES < RECORD_MAX_BYTES

RETRY_S: Final = 0.1
"""Between two attempts to hand a batch over while Kafka is away."""

CLOSE_S: Final = 5.0
"""How long `close` lets what is on its way arrive."""


__all__ = ["RECORD_MAX_BYTES", "Bounds", "Delivery", "Position", "Publisher"]


class Publisher:
    """Connects when it is first needed, and anew after a failure. One event loop; any number of tasks."""

    def __init__(
        self,
        bootstrap: str,
        *,
        tenant: str = DEFAULT_TENANT,
        max_future: int = 3_600_000_000,
        bounds: Bounds | None = None,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """`tenant`: whose events these are. `max_future`: microseconds that an event's time may lie ahead."""
        self._bootstrap, self._tenant, self._max_future, self._now = bootstrap, tenant, max_future, now
        self._bounds = bounds or Bounds()
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._partitions: dict[str, int] = {}
        self._queues: dict[tuple[str, int], Queue] = {}
        self._in_flight: set[Batch] = set()
        self._events = self._bytes = 0
        self._room = asyncio.Event()
        self._lost = 0
        self._lost_first: list[object] = []
        self._discarded: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def in_flight(self) -> InFlight:
        """What is buffered and not yet confirmed."""
        return InFlight(self._events, self._bytes)

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.flush()
        finally:
            await self.close()

    async def send(self, event: bytes | str | Mapping[str, Any]) -> Delivery:
        """Judges one CloudEvent as a worker will, and buffers it."""
        if isinstance(event, Mapping):
            raw = json_of_event(event)
        else:
            raw = event.encode() if isinstance(event, str) else event
        judged, record = judge(raw, self._tenant, self._now(), self._max_future)
        return await self.put(record, f"{judged.source}/{judged.id}")

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has all records, which are not judged again."""
        for delivery in [await self.put(record, place) for place, record in enumerate(records)]:
            await delivery

    async def put(self, record: Record, label: object) -> Delivery:
        """Buffers one record as it is; `label` names it in errors."""
        topic, key, value = record
        size = len(key) + len(value)
        if size > RECORD_MAX_BYTES:
            raise InvalidInput("too_large", f"{label}: {size} bytes with its key, more than {RECORD_MAX_BYTES}")
        size += RECORD_OVERHEAD_BYTES
        bounds = self._bounds
        if self._events >= bounds.max_events or (self._bytes and self._bytes + size > bounds.max_bytes):
            await self._wait_for_room(size)
        partitions = self._partitions.get(topic) or await self._partitions_of(topic)
        place = (topic, partition_of_key(key, partitions))
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = Queue(*place)
        batch = queue.filling
        if batch is None or batch.builder.append(timestamp=None, key=key, value=value) is None:
            batch = await self._new_batch(queue, key, value)
        batch.labels.append(label)
        batch.bytes += size
        self._events += 1
        self._bytes += size
        return Delivery(batch, len(batch.labels) - 1)

    def hand_over(self, topic: str) -> None:
        """Sends what of a topic is buffered on its way: no more of it is to come soon."""
        for queue in self._queues.values():
            if queue.topic == topic:
                self._hand_over(queue)

    async def flush(self) -> None:
        """Returns once Kafka has all that was sent; Unavailable names what it is not known to have."""
        for queue in self._queues.values():
            self._hand_over(queue)
        unsettled = {batch.outcome for batch in self._in_flight}
        if unsettled:
            await asyncio.wait(unsettled, timeout=self._bounds.timeout_s)
        lost, named = self._lost, self._lost_first
        self._lost, self._lost_first = 0, []
        for batch in self._in_flight:
            lost += len(batch.labels)
            named += batch.labels[:NAMED_IN_ERRORS]
        if lost:
            raise unconfirmed(lost, named)

    async def close(self) -> None:
        """Gives the connections back; sends nothing more than is on its way and does not wait for an absent Kafka."""
        self._closed = True
        producer, self._producer = self._producer, None
        for queue in self._queues.values():
            if queue.filling is not None and queue.filling.linger is not None:
                queue.filling.linger.cancel()
            if queue.task is not None:
                queue.task.cancel()
        await asyncio.gather(*(queue.task for queue in self._queues.values() if queue.task), return_exceptions=True)
        if producer is not None:
            self._discard(producer, CLOSE_S)
        if self._discarded:
            await asyncio.wait(self._discarded)
        for batch in list(self._in_flight):
            self._settle(batch, None, unconfirmed(len(batch.labels), batch.labels))

    async def _new_batch(self, queue: Queue, key: bytes, value: bytes) -> Batch:
        producer = await self._connected()
        # Another task may have begun a batch while this one waited for the connection: then that one is filled.
        batch = queue.filling
        if batch is not None and batch.builder.append(timestamp=None, key=key, value=value) is not None:
            return batch
        self._hand_over(queue)
        batch = Batch(queue.topic, queue.partition, producer.create_batch(), self._bounds.timeout_s)
        assert batch.builder.append(timestamp=None, key=key, value=value) is not None, "a first record always fits"
        queue.filling = batch
        self._in_flight.add(batch)
        loop = asyncio.get_running_loop()
        batch.linger = loop.call_later(self._bounds.linger_s, self._hand_over, queue)
        return batch

    def _hand_over(self, queue: Queue) -> None:
        batch, queue.filling = queue.filling, None
        if batch is None:
            return
        if batch.linger is not None:
            batch.linger.cancel()
        queue.waiting.append(batch)
        if queue.task is None or queue.task.done():
            queue.task = asyncio.create_task(self._send_in_order(queue))

    async def _send_in_order(self, queue: Queue) -> None:
        while queue.waiting:
            batch = queue.waiting[0]
            producer = None
            try:
                producer = await self._connected()
                sent = await producer.send_batch(batch.builder, batch.topic, partition=batch.partition)
            except (KafkaTimeoutError, ProducerClosed, Unavailable) as error:  # not handed over: nothing of it was sent
                if asyncio.get_running_loop().time() < batch.deadline and not self._closed:
                    await asyncio.sleep(RETRY_S)
                    continue
                self._settle(batch, None, Unavailable(f"Kafka is away: {error}"))
            except KafkaError as error:
                self._settle(batch, producer, Unavailable(f"Kafka refused a batch: {error!r}"))
            else:
                sent.add_done_callback(lambda done, batch=batch, producer=producer: self._sent(batch, producer, done))
            queue.waiting.popleft()

    def _sent(self, batch: Batch, producer: AIOKafkaProducer, done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            self._settle(batch, producer, unconfirmed(len(batch.labels), batch.labels))
        elif (error := done.exception()) is not None:
            self._settle(batch, producer, Unavailable(f"Kafka did not take a batch: {error!r}"))
        elif not batch.outcome.done():
            batch.outcome.set_result(done.result().offset)
            self._forget(batch)

    def _settle(self, batch: Batch, suspect: AIOKafkaProducer | None, error: Unavailable) -> None:
        """A batch that is lost, as far as is known. The producer that lost it has a gap in its numbers: replaced."""
        if batch.outcome.done():
            return
        batch.fail(error)
        self._lost += len(batch.labels)
        self._lost_first += batch.labels[: NAMED_IN_ERRORS - len(self._lost_first)]
        self._forget(batch)
        if suspect is not None and suspect is self._producer:
            self._producer = None
            self._discard(suspect, self._bounds.timeout_s)

    def _forget(self, batch: Batch) -> None:
        self._in_flight.discard(batch)
        self._events -= len(batch.labels)
        self._bytes -= batch.bytes
        self._room.set()

    async def _wait_for_room(self, size: int) -> None:
        bounds = self._bounds
        deadline = asyncio.get_running_loop().time() + bounds.timeout_s
        while self._events >= bounds.max_events or (self._bytes and self._bytes + size > bounds.max_bytes):
            for queue in self._queues.values():
                self._hand_over(queue)
            self._room.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._room.wait(), max(left, 0))
            except TimeoutError:
                message = f"the buffer is full: Kafka has confirmed nothing for {bounds.timeout_s:g} s"
                raise Unavailable(message) from None

    async def _partitions_of(self, topic: str) -> int:
        producer = await self._connected()
        try:
            async with asyncio.timeout(self._bounds.timeout_s):
                self._partitions[topic] = len(await producer.partitions_for(topic))
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"Kafka does not name the partitions of {topic}: {error!r}") from error
        return self._partitions[topic]

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._connecting:
            if self._closed:
                raise Unavailable("the publisher is closed")
            # What a discarded producer still has goes before what the next one sends.
            if self._discarded:
                await asyncio.wait(self._discarded)
            if self._producer is None:
                self._producer = await connect(self._bootstrap, self._bounds.batch_bytes, self._bounds.timeout_s)
            return self._producer

    def _discard(self, producer: AIOKafkaProducer, timeout_s: float) -> None:
        task = asyncio.create_task(stop(producer, timeout_s))
        self._discarded.add(task)
        task.add_done_callback(self._discarded.discard)


def json_of_event(event: Mapping[str, Any]) -> bytes:
    """JSON of an event, which may hold no NaN and no Infinity: encoders write null, an absent count. InvalidInput."""
    _refuse_float(event, "")
    try:
        return json_of(event)
    except TypeError as error:
        raise InvalidInput("not_json", f"the event has no JSON: {error}") from None


def _refuse_float(value: Any, pointer: str) -> None:
    """NaN and Infinity have no JSON; encoders write null, which would be an absent count."""
    if isinstance(value, float | Decimal) and not isfinite(value):
        raise InvalidInput("not_json", f"{pointer.lstrip('/').replace('/', '.')} is {value}, no JSON number", pointer)
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_float(item, f"{pointer}/{name}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _refuse_float(item, f"{pointer}/{place}")
