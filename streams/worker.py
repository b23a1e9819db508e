"""The rating worker: a Faust app whose one agent hands each batch to the lane of its partition.

Faust reads `usage.events` and shares its partitions among the workers of the group; a partition that is assigned
opens a lane at once, so that a quiet one serves its accounts too, and the lane reads `account.events` of the same
number itself. The agent only dispatches: nothing is decided in it, so nothing is lost if it fails.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import faust
from prometheus_client import CollectorRegistry

from rating.book import PriceBook
from schemas.errors import InvariantBroken, Unavailable
from schemas.kafka import security_of, tls_context
from schemas.settings import Settings
from schemas.topics import RATING_GROUP, USAGE_EVENTS
from streams import garbage, heap
from streams.accounts.redis import RedisAccounts
from streams.admission.keeper import HoldKeeper
from streams.admission.store import HoldStore
from streams.catalogue import keep_up
from streams.lane import Delivery, Lane, Surroundings
from streams.ledger import partition_count
from streams.measures import Measures
from streams.rehearsal import rehearse
from streams.transport import BATCH_MAX_RECORDS, Batch, BatchSchema, install
from streams.watchdog import Watchdog

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 8.0
"""After SIGTERM a lane has this long to finish its batch; what it does not finish was never fact and is read again."""

EXIT_INVARIANT: Final = 70
"""A promise of ours is broken: the supervisor's back-off and an alert, not a quiet restart, is what is wanted."""

EXIT_STUCK: Final = 75

RESERVED_MEBIBYTES: Final = 128
"""For the values of batches; twice as much saved hardly more."""
GC_THRESHOLD: Final = 200_000
"""Values made before the collector looks for cycles among the youngest: some ten batches."""
WATCH_SECONDS: Final = 5.0
TEND_SECONDS: Final = 1.0
COUNT_ROUNDS: Final = 10
"""Open holds are counted in one of so many rounds: a look at each customer who has some."""
HOLDS_SECONDS: Final = 2.0
"""How long a call about holds may take."""


class Lanes:
    """The lanes of the partitions this worker is assigned."""

    def __init__(self, surroundings: Surroundings, leave: Callable[[int, str], None]) -> None:
        self._around = surroundings
        self._leave = leave
        self._lanes: dict[int, tuple[Lane, asyncio.Task[None]]] = {}

    def assigned(self, partitions: set[int]) -> None:
        """Exactly these are ours now; called with every assignment, after `revoked` of what went."""
        for partition in sorted(partitions - self._lanes.keys()):
            lane = Lane(partition, self._around, partial(self._lanes.__contains__, partition))
            task = asyncio.create_task(lane.run(), name=f"lane-{partition}")
            task.add_done_callback(self._ended)
            self._lanes[partition] = (lane, task)

    async def revoked(self, partitions: set[int]) -> None:
        """They are not ours any more: their lanes end with the batch at hand, or are cut off."""
        ending = [self._lanes.pop(partition) for partition in sorted(partitions & self._lanes.keys())]
        for lane, _ in ending:
            lane.stop()
        if not ending:
            return
        _, late = await asyncio.wait([task for _, task in ending], timeout=DRAIN_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def deliver(self, partition: int, delivery: Delivery) -> None:
        """Hands a batch to its lane; without one it is dropped, and will be read again by whoever owns it."""
        ours = self._lanes.get(partition)
        if ours is not None:
            await ours[0].deliver(delivery)

    def __len__(self) -> int:
        return len(self._lanes)

    def open(self) -> list[Lane]:
        """The lanes that serve."""
        return [lane for lane, _ in self._lanes.values() if lane.serving]

    async def close(self) -> None:
        """Ends all lanes."""
        await self.revoked(set(self._lanes))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s: %r", task.get_name(), error, exc_info=error)
            self._leave(EXIT_INVARIANT if isinstance(error, InvariantBroken) else 1, repr(error))


def build_app(bootstrap: str, data_dir: Path) -> faust.App:
    """The Faust app, its settings each for a reason given in `transport` or the design of exactly-once."""
    app = faust.App(
        RATING_GROUP,
        broker=f"kafka://{bootstrap.replace(',', ';kafka://')}",
        broker_credentials=_credentials(bootstrap),
        datadir=str(data_dir / "faust"),
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        value_serializer="raw",
        key_serializer="raw",
        stream_buffer_maxsize=2,  # of batches: what waits here is memory and no speed
        stream_wait_empty=False,
        stream_ack_cancelled_tasks=False,
        broker_commit_interval=1.0,
        broker_max_poll_records=BATCH_MAX_RECORDS,
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        agent_supervisor="mode.CrashingSupervisor",
        broker_session_timeout=10,
        broker_heartbeat_interval=2,
        broker_rebalance_timeout=20,
        broker_request_timeout=20,
        consumer_max_fetch_size=2 * 1024 * 1024,
    )
    install(app)
    return app


def _credentials(bootstrap: str) -> Any:
    """What `schemas.kafka` says of an address, as Faust wants to hear it; None where there is nothing to say."""
    security = security_of(bootstrap)
    context = tls_context(security) if security.has_tls else None
    if security.has_login:
        return faust.SASLCredentials(
            username=security.username,
            password=security.password,
            ssl_context=context,
            mechanism=security.mechanism,
        )
    return faust.SSLCredentials(context=context) if context is not None else None


class Worker:
    """One rating worker process: runs until SIGTERM or SIGINT, drains, and says with which code to exit."""

    def __init__(
        self,
        *,
        bootstrap: str,
        redis_url: str,
        partitions: int,
        data_dir: Path,
        max_future: int,
        registry: CollectorRegistry,
        tell: Callable[[bool], None],
    ) -> None:
        self._bootstrap, self._redis_url = bootstrap, redis_url
        self._tell = tell
        self._accounts = RedisAccounts(redis_url)
        self._holds = HoldKeeper(bootstrap, HoldStore(redis_url, HOLDS_SECONDS), partitions)
        self.measures = Measures(registry)
        self._stop = asyncio.Event()
        self._exit_code = 0
        self._joined = False
        self.book = PriceBook()
        self._catalogue_known = asyncio.Event()
        self.lanes = Lanes(
            Surroundings(
                bootstrap=bootstrap,
                partitions=partitions,
                max_future=max_future,
                identity_directory=data_dir / "identity",
                accounts=self._accounts,
                holds=self._holds,
                book=self.book,
                catalogue_known=self._catalogue_known,
                measures=self.measures,
                now=lambda: time.time_ns() // 1_000,
            ),
            self.leave,
        )
        self._app = build_app(bootstrap, data_dir)
        self._declare(self._app)

    def leave(self, code: int, why: str) -> None:
        """Ends the process as soon as its lanes are closed."""
        if not self._stop.is_set():
            self._exit_code = code
            log.info("leaving: %s", why)
            self._stop.set()

    async def run(self) -> int:
        """Serves until told to stop; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.leave, 0, signal.Signals(number).name)
        following = asyncio.create_task(
            keep_up(self._bootstrap, self._redis_url, self.book, self._catalogue_known), name="catalogue"
        )
        watching = asyncio.create_task(self._watch(), name="watchdog")
        self._app.finalize()
        starting = asyncio.create_task(self._app.maybe_start(), name="faust")
        tending = asyncio.create_task(self._tend(), name="holds")
        for task in (following, watching, starting, tending):
            task.add_done_callback(self._ended)
        telling = asyncio.create_task(self._tell_serving(), name="telling")
        await self._stop.wait()
        telling.cancel()
        self._tell(False)
        await self.lanes.close()
        tasks = (following, watching, starting, tending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await asyncio.wait_for(self._app.stop(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("faust did not stop in %s s; its group notices by its session", DRAIN_SECONDS)
        await self._holds.close()
        await self._accounts.close()
        return self._exit_code

    def _declare(self, app: faust.App) -> None:
        topic = app.topic(USAGE_EVENTS, schema=BatchSchema())

        @app.agent(topic, concurrency=1)
        async def rate(stream: Any) -> None:
            stream.enable_acks = False
            async for batch in stream:
                await self._dispatch(stream.current_event, batch)

        @app.on_partitions_assigned.connect(weak=False)
        async def assigned(sender: Any, assigned: Any, **_: Any) -> None:
            self.lanes.assigned({tp.partition for tp in assigned if tp.topic == USAGE_EVENTS})
            self._joined = True

        @app.on_partitions_revoked.connect(weak=False)
        async def revoked(sender: Any, revoked: Any, **_: Any) -> None:
            await self.lanes.revoked({tp.partition for tp in revoked if tp.topic == USAGE_EVENTS})

    async def _dispatch(self, event: Any, batch: Batch) -> None:
        if batch.generation != self._app.consumer_generation_id:
            return  # read before a rebalance: its partition's owner reads it again
        await self.lanes.deliver(batch.partition, Delivery(batch.generation, batch.after, batch.records, event.ack))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """None of the tasks beside the lanes may end by itself, but Faust's start, and that not by an error."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s: %r", task.get_name(), error, exc_info=error)
            self.leave(EXIT_INVARIANT if isinstance(error, InvariantBroken) else 1, repr(error))

    async def _tell_serving(self) -> None:
        """Ready means: a member of the group, and every lane of ours is open."""
        while True:
            self._tell(self._joined and len(self.lanes.open()) == len(self.lanes))
            await asyncio.sleep(0.2)

    async def _tend(self) -> None:
        """Ends holds that expired in our partitions; whoever asks for their customer meanwhile does so too."""
        rounds = 0
        while True:
            await asyncio.sleep(TEND_SECONDS)
            try:
                partitions = [lane.partition for lane in self.lanes.open()]
                self.measures.holds_expired(await self._holds.tend(partitions))
                if rounds % COUNT_ROUNDS == 0:
                    self.measures.holds_open(await self._holds.count_open(partitions))
                rounds += 1
            except Unavailable as away:
                log.warning("holds: %s", away)

    async def _watch(self) -> None:
        """Leaves when Faust crashed or no longer delivers."""
        watchdog = Watchdog(self._bootstrap)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._app.crashed or self._app.should_stop:
                self.leave(1, f"faust stopped: {self._app.crash_reason!r}")
            try:
                stuck = await watchdog.undelivered(self.lanes.open())
            except Unavailable as away:
                log.warning("watchdog: %s", away)
                continue
            if stuck:
                self.leave(EXIT_STUCK, f"records of partitions {stuck} are not delivered")


async def run(settings: Settings, tell: Callable[[bool], None], registry: CollectorRegistry) -> int:
    """Runs one worker of a deployment, whose addresses are filled in; the exit code. `tell` hears whether it serves,
    its metrics are in `registry`."""
    bootstrap, redis_url = settings.kafka_bootstrap, settings.redis_url
    assert bootstrap is not None
    assert redis_url is not None
    heap.keep()
    heap.reserve(RESERVED_MEBIBYTES)
    rehearse()
    # What is loaded by now stays; a batch makes hundreds of thousands of values and hardly a cycle among them.
    garbage.spare(GC_THRESHOLD)
    worker = Worker(
        bootstrap=bootstrap,
        redis_url=redis_url,
        partitions=await _await_partitions(bootstrap),
        data_dir=settings.data_dir,
        max_future=settings.max_future // timedelta(microseconds=1),
        registry=registry,
        tell=tell,
    )
    return await worker.run()


async def _await_partitions(bootstrap: str) -> int:
    """How many partitions there are; waits for Kafka and the topic for as long as it takes."""
    while True:
        try:
            return await partition_count(bootstrap)
        except Unavailable as away:
            log.warning("%s: waiting", away)
            await asyncio.sleep(1)


def exit_process(code: int) -> None:
    """Leaves at once, whatever threads a library has left: everything that counts is in the log."""
    os._exit(code)
