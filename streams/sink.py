"""The sink: brings blocks of the ledger, dead letters with their originals and the audit log into ClickHouse.

A consumer group shares the partitions out among sinks and is trusted for nothing else. Whoever was given a partition of
the ledger asks ClickHouse how far its rows go, reads on from there, and inserts each block the ledger delimits as one
insert. Any doubt ends in the same way: forget all, ask ClickHouse, go on. While a store is away the block at hand is
retried in place, without end; nothing more is fetched meanwhile, so memory stays at a block a partition.

Dead letters and audit entries have no rows to count: their position is the group's offset, committed after the insert,
and a row that is inserted twice replaces itself.

Raises InvariantBroken, which ends the process, for a ledger or rows that are not what they must be.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from prometheus_client import CollectorRegistry

from schemas.errors import Unavailable
from schemas.kafka import connection
from schemas.settings import Settings
from schemas.topics import AUDIT_LOG, DEAD_LETTERS, DENIALS, LARGEST_BATCH_BYTES, SINK_GROUP, USAGE_RATED
from streams import garbage, heap
from streams.measures import SinkMeasures
from streams.patience import FETCH_WAIT_MS, be_patient
from streams.projecting import LedgerLane, RecordLane, pause
from streams.rows import ClickHouseRows

INSERTS_AT_ONCE: Final = 2
GC_THRESHOLD: Final = 50_000
"""Values made before the collector looks for cycles among the youngest: those of some five ledger records."""
DRAIN_SECONDS: Final = 10
"""A sink that is to stop ends the inserts at hand, but waits no longer than this: the next one finds out."""
LOOK_SECONDS: Final = 0.05
"""Lanes that inserted within this time share one look at what is there: a query costs as much as 1,000 rows."""

_NEVER_MS: Final = 2**31 - 1

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Sink:
    """One member of the group. `run` serves until `stop` is called; `tell` hears whether all it was given is served."""

    def __init__(
        self, bootstrap: str, clickhouse_url: str, tell: Callable[[bool], None], registry: CollectorRegistry
    ) -> None:
        self.rows = ClickHouseRows(clickhouse_url)
        self.measures = SinkMeasures(registry)
        self.consumer = AIOKafkaConsumer(
            **connection(bootstrap),
            group_id=SINK_GROUP,
            isolation_level="read_committed",
            enable_auto_commit=False,
            # A place to begin for partitions nobody committed; a lane of the ledger seeks its own.
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=LARGEST_BATCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
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
        self._look_now = asyncio.Event()
        self._looking: asyncio.Task[dict[int, tuple[int, int]]] | None = None

    async def run(self) -> None:
        """Serves what the group gives it. Errors: InvariantBroken."""
        await self._join()
        self.consumer.subscribe([USAGE_RATED, *DEAD_LETTERS.values(), AUDIT_LOG, DENIALS], listener=_Rebalance(self))
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

    async def extents(self, *, at_once: bool) -> dict[int, tuple[int, int]]:
        """How far the rows of each partition go, by a query that begins after this call and that others may share."""
        if self._looking is None:
            self._look_now = asyncio.Event()
            self._looking = asyncio.create_task(self._look(self._look_now))
        if at_once:
            self._look_now.set()
        return await asyncio.shield(self._looking)

    async def _look(self, now: asyncio.Event) -> dict[int, tuple[int, int]]:
        with suppress(TimeoutError):
            await asyncio.wait_for(now.wait(), LOOK_SECONDS)
        self._looking = None  # whoever asks from here on needs a later look
        return await self.in_thread(self._extents)

    def _extents(self) -> dict[int, tuple[int, int]]:
        with self.measures.timed("extents"):
            return self.rows.extents()

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
            lane = LedgerLane if place.topic == USAGE_RATED else RecordLane
            task = asyncio.create_task(lane(self, place).run(), name=f"{place.topic}[{place.partition}]")
            task.add_done_callback(self._ended)
            self._lanes[place] = task
        self._tell(self._serving.issuperset(self._lanes))

    async def end(self, places: Iterable[TopicPartition]) -> None:
        """Ends the lanes of partitions taken away. What a thread still inserts is harmless: its token names it."""
        ended = []
        for place in list(places):
            self._serving.discard(place)
            if place.topic == USAGE_RATED:
                self.measures.given_up(place.partition)
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
                be_patient(self.consumer._fetcher)
                return
            except KafkaError as error:
                log.warning("Kafka does not answer, trying again: %r", error)
                await pause(attempt)
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


async def run(settings: Settings, tell: Callable[[bool], None], registry: CollectorRegistry) -> int:
    """Runs one sink of a deployment, whose addresses are filled in, until SIGTERM; the exit code.

    `tell` hears whether it serves, its metrics are in `registry`. Errors: InvariantBroken.
    """
    assert settings.kafka_bootstrap is not None
    assert settings.clickhouse_url is not None
    heap.keep()
    # What is loaded by now stays; a block is made of many values and hardly a cycle among them.
    garbage.spare(GC_THRESHOLD)
    sink = Sink(settings.kafka_bootstrap, settings.clickhouse_url, tell, registry)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, sink.stop)
    await sink.run()
    return 0
