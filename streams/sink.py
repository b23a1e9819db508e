"""The sink: brings blocks of the ledger, and dead letters with their originals, into ClickHouse.

A consumer group shares the partitions out among sinks and is trusted for nothing else. Whoever was given a partition of
the ledger asks ClickHouse how far its rows go, reads on from there, and inserts each block the ledger delimits as one
insert. Any doubt ends in the same way: forget all, ask ClickHouse, go on. While a store is away the block at hand is
retried in place, without end; nothing more is fetched meanwhile, so memory stays at a block a partition.

Dead letters have no rows to count: their position is the group's offset, committed after the insert, and a row that is
inserted twice replaces itself.

Raises InvariantBroken, which ends the process, for a ledger or rows that are not what they must be.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from schemas.errors import InvariantBroken, Unavailable
from schemas.ledger import LedgerRecord
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS, LARGEST_BATCH_BYTES, SINK_GROUP, USAGE_RATED
from streams import dead_letters
from streams.blocks import Block, Gathering, encode
from streams.ledger import LedgerReader
from streams.rows import ClickHouseRows, Standing, Superseded, put

INSERTS_AT_ONCE: Final = 2
RECORDS_AT_ONCE: Final = 16
"""Ledger records decoded between two looks at the other partitions."""
DEAD_LETTERS_AT_ONCE: Final = 200
DRAIN_SECONDS: Final = 10
"""A sink that is to stop ends the inserts at hand, but waits no longer than this: the next one finds out."""
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between attempts while a store is away; the last for ever."""

LOOK_SECONDS: Final = 0.15
"""Lanes that inserted within this time share one look at what is there: a query costs as much as 1,000 rows."""

_POLL_MS: Final = 1_000
_NEVER_MS: Final = 2**31 - 1

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class _Lane(Protocol):
    async def run(self) -> None: ...


class Sink:
    """One member of the group. `run` serves until `stop` is called; `tell` hears whether all it was given is served."""

    def __init__(self, bootstrap: str, clickhouse_url: str, tell: Callable[[bool], None]) -> None:
        self.rows = ClickHouseRows(clickhouse_url)
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=SINK_GROUP,
            isolation_level="read_committed",
            enable_auto_commit=False,
            # A place to begin for partitions nobody committed; a lane of the ledger seeks its own.
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=LARGEST_BATCH_BYTES,
            # A lane that waits for ClickHouse does not poll, and keeps its partition: nobody else could do more.
            max_poll_interval_ms=_NEVER_MS,
            # The least a broker takes by default: what a killed sink's partitions wait for.
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_500,
        )
        self._threads = ThreadPoolExecutor(INSERTS_AT_ONCE, thread_name_prefix="sink")
        self._stopping = asyncio.Event()
        self._lanes: dict[TopicPartition, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: set[asyncio.Future[Any]] = set()
        self._tell = tell
        self._serving: set[TopicPartition] = set()
        self._looking: asyncio.Task[dict[int, tuple[int, int]]] | None = None

    async def run(self) -> None:
        """Serves what the group gives it. Errors: InvariantBroken."""
        await self._join()
        self.consumer.subscribe([USAGE_RATED, *DEAD_LETTERS.values()], listener=_Rebalance(self))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((stopping, self._failure), return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            self._tell(False)
            if self._calls:
                await asyncio.wait(self._calls, timeout=DRAIN_SECONDS)
        finally:
            stopping.cancel()
            await self.end(self._lanes)
            await self.consumer.stop()
            self._threads.shutdown(wait=False, cancel_futures=True)
            self.rows.close()
        if self._failure.done():
            self._failure.result()

    def stop(self) -> None:
        """Ends `run`, once the inserts at hand are done."""
        self._stopping.set()

    def stopping(self) -> bool:
        """Whether no new insert is to begin."""
        return self._stopping.is_set()

    async def in_thread(self, call: Callable[[], Value]) -> Value:
        """Runs what waits for ClickHouse beside the loop, a few at a time."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        self._calls.add(running)
        running.add_done_callback(self._calls.discard)
        return await running

    async def extent(self, partition: int) -> tuple[int, int]:
        """How far a partition's rows go, by a query that begins after this call."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        return (await asyncio.shield(self._looking)).get(partition, (0, 0))

    async def insert(self, block: Block, token: str) -> None:
        """Inserts a block of the ledger."""
        await self.in_thread(partial(self.rows.insert, block, token))

    async def _look(self) -> dict[int, tuple[int, int]]:
        await asyncio.sleep(LOOK_SECONDS)
        self._looking = None  # whoever asks from here on needs a later look
        return await self.in_thread(self.rows.extents)

    def serves(self, place: TopicPartition, serving: bool) -> None:
        """A lane says whether it gets on."""
        if serving:
            self._serving.add(place)
        else:
            self._serving.discard(place)
        self._tell(self._serving.issuperset(self._lanes) and not self.stopping())

    async def begin(self, places: Iterable[TopicPartition]) -> None:
        """Starts a lane for each partition given to this sink."""
        for place in places:
            lane: _Lane = LedgerLane(self, place) if place.topic == USAGE_RATED else DeadLetterLane(self, place)
            task = asyncio.create_task(lane.run(), name=f"{place.topic}[{place.partition}]")
            task.add_done_callback(self._ended)
            self._lanes[place] = task
        self._tell(self._serving.issuperset(self._lanes))

    async def end(self, places: Iterable[TopicPartition]) -> None:
        """Ends the lanes of partitions taken away. What a thread still inserts is harmless: its token names it."""
        ended = []
        for place in list(places):
            self._serving.discard(place)
            if (task := self._lanes.pop(place, None)) is not None:
                ended.append(task)
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def commit(self, place: TopicPartition, offset: int) -> None:
        """Tells the group a position. Unavailable if Kafka does not take it."""
        try:
            await self.consumer.commit({place: offset})
        except (CommitFailedError, IllegalStateError) as error:
            # Another member has the partition by now; it goes on from what was committed before.
            log.info("%s[%d]: offset %d is not committed: %r", place.topic, place.partition, offset, error)
        except KafkaError as error:
            raise Unavailable(f"committing {place.topic}[{place.partition}]: {error!r}") from error

    async def _join(self) -> None:
        attempt = 0
        while not self.stopping():
            try:
                await self.consumer.start()
                return
            except KafkaError as error:
                log.warning("Kafka does not answer, trying again: %r", error)
                await _pause(attempt)
                attempt += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._failure.done():
            self._failure.set_exception(error)


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no annotations
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._sink.end(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._sink.begin(assigned)


class LedgerLane:
    """Follows one partition of the ledger."""

    def __init__(self, sink: Sink, place: TopicPartition) -> None:
        self._sink = sink
        self._place = place
        self._committed = -1
        self._failed = 0
        """Attempts that failed since something went well."""

    async def run(self) -> None:
        """Serves until cancelled. Errors: InvariantBroken."""
        while True:
            try:
                await self._follow()
            except Superseded as ahead:
                log.info("%s; going on from there", ahead)
            except (Unavailable, KafkaError) as error:
                log.warning("%s[%d] waits: %s", self._place.topic, self._place.partition, error)
                self._sink.serves(self._place, False)
                await _pause(self._failed)
                self._failed += 1

    async def _follow(self) -> None:
        partition, consumer = self._place.partition, self._sink.consumer
        standing = await self._sink.in_thread(partial(self._sink.rows.standing, partition))
        if standing is None:
            reader = LedgerReader(partition, at_start=True)
            consumer.seek(self._place, 0)
        else:
            await self._recognize(standing)
            reader = LedgerReader(partition, at_start=False, next_seq=standing.next_seq)
            consumer.seek(self._place, standing.last_offset + 1)
        gathering = None if standing is None else Gathering(standing.ledger_id, standing.next_seq)
        ledger_id = "" if standing is None else standing.ledger_id
        self._sink.serves(self._place, True)
        while not self._sink.stopping():
            records = await self._poll(RECORDS_AT_ONCE, _POLL_MS)
            self._failed = 0
            for record in records:
                taken = reader.take(record.offset, record.value)
                if gathering is None:
                    ledger_id = reader.ledger_id
                    gathering = Gathering(ledger_id, 0)
                block = gathering.add(record.offset, taken)
                if block is not None:
                    await self._store(ledger_id, block)
                    await self._hint(block[-1][0] + 1)
                    if self._sink.stopping():
                        break
            if not records and gathering is not None and not gathering.entries:
                await self._hint(await consumer.position(self._place))
        await asyncio.Event().wait()

    async def _recognize(self, standing: Standing) -> None:
        """Compares the ledger's name in Kafka with that of the rows."""
        self._sink.consumer.seek(self._place, 0)
        reader = LedgerReader(self._place.partition, at_start=True)
        first = await self._poll(1, 10 * _POLL_MS)
        if not first:
            raise Unavailable("Kafka does not give the ledger's first record")
        reader.take(first[0].offset, first[0].value)
        if reader.ledger_id != standing.ledger_id:
            raise InvariantBroken(
                f"the rows of partition {self._place.partition} are of ledger {standing.ledger_id}, "
                f"Kafka has ledger {reader.ledger_id}"
            )

    async def _poll(self, records: int, timeout_ms: int) -> Sequence[Any]:
        found = await self._sink.consumer.getmany(self._place, timeout_ms=timeout_ms, max_records=records)
        taken: Sequence[Any] = found.get(self._place, ())
        return taken

    async def _store(self, ledger_id: str, records: Sequence[tuple[int, LedgerRecord]]) -> None:
        block = await self._sink.in_thread(partial(encode, ledger_id, records))
        attempt = 0
        while True:
            try:
                await put(self._sink, block, doubtful=attempt > 0)
                if attempt:
                    self._sink.serves(self._place, True)
                return
            except Unavailable as error:
                log.warning("block %s waits: %s", block.token, error)
                self._sink.serves(self._place, False)
                await _pause(attempt)
                attempt += 1

    async def _hint(self, offset: int) -> None:
        """Commits how far it is, so that others can see the lag; nothing leans on it."""
        if offset > self._committed:
            self._committed = offset
            await self._sink.commit(self._place, offset)


class DeadLetterLane:
    """Follows one partition of a dead letter topic from the group's offset on."""

    def __init__(self, sink: Sink, place: TopicPartition) -> None:
        self._sink = sink
        self._place = place

    async def run(self) -> None:
        """Serves until cancelled."""
        attempt = 0
        records: Sequence[Any] = ()
        self._sink.serves(self._place, True)
        while not self._sink.stopping():
            try:
                if not records:
                    found = await self._sink.consumer.getmany(
                        self._place, timeout_ms=_POLL_MS, max_records=DEAD_LETTERS_AT_ONCE
                    )
                    records = found.get(self._place, ())
                if records:
                    insert = partial(self._sink.rows.insert_into, dead_letters.TABLE, dead_letters.encode(records), {})
                    await self._sink.in_thread(insert)
                    await self._sink.commit(self._place, records[-1].offset + 1)
                    records, attempt = (), 0
            except (Unavailable, KafkaError) as error:
                log.warning("%s[%d] waits: %s", self._place.topic, self._place.partition, error)
                await _pause(attempt)
                attempt += 1
        await asyncio.Event().wait()


async def _pause(attempt: int) -> None:
    await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])


async def run(settings: Settings, tell: Callable[[bool], None]) -> int:
    """Runs one sink of a deployment, whose addresses are filled in, until SIGTERM; the exit code.

    `tell` hears whether it serves. Errors: InvariantBroken.
    """
    assert settings.kafka_bootstrap is not None
    assert settings.clickhouse_url is not None
    sink = Sink(settings.kafka_bootstrap, settings.clickhouse_url, tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, sink.stop)
    await sink.run()
    return 0
