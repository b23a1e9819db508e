"""The rating worker: a Faust app whose one agent hands each batch to the lane of its partition.

Faust reads `usage.events` and shares its partitions among the workers of the group; a partition that is assigned opens a
lane at once, so that a quiet one serves its accounts too, and the lane reads `account.events` of the same number itself.
The agent only dispatches: nothing is decided in it, so nothing is lost if it fails.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import faust
from prometheus_client import CollectorRegistry

from rating.book import PriceBook
from schemas.errors import InvariantBroken
from schemas.topics import RATING_GROUP, USAGE_EVENTS
from streams.accounts.redis import RedisAccounts
from streams.catalogue import follow
from streams.lane import Delivery, Lane, Surroundings
from streams.measures import Measures
from streams.transport import BATCH_MAX_RECORDS, Batch, BatchSchema, install

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 8.0
"""After SIGTERM a lane has this long to finish its batch; what it does not finish was never fact and is read again."""

EXIT_INVARIANT: Final = 70
"""A promise of ours is broken: the supervisor's back-off and an alert, not a quiet restart, is what is wanted."""

EXIT_STUCK: Final = 75


class Lanes:
    """The lanes of the partitions this worker is assigned."""

    def __init__(self, surroundings: Surroundings, leave: Callable[[int, str], None]) -> None:
        self._around = surroundings
        self._leave = leave
        self._lanes: dict[int, tuple[Lane, asyncio.Task[None]]] = {}

    def assigned(self, partitions: set[int]) -> None:
        """Exactly these are ours now; called with every assignment, after `revoked` of what went."""
        for partition in sorted(partitions - self._lanes.keys()):
            lane = Lane(partition, self._around, lambda partition=partition: partition in self._lanes)  # type: ignore[misc]
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

    def serving(self) -> list[int]:
        """Partitions whose lane is open."""
        return sorted(partition for partition, (lane, _) in self._lanes.items() if lane.serving)

    def oldest_busy(self) -> float:
        """Monotonic seconds since which a lane works on one batch; now if none does."""
        return min((lane.busy_since for lane, _ in self._lanes.values() if lane.busy_since), default=time.monotonic())

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
        datadir=str(data_dir / "faust"),
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        value_serializer="raw",
        key_serializer="raw",
        stream_buffer_maxsize=16,
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
        consumer_max_fetch_size=4 * 1024 * 1024,
    )
    install(app)
    return app


class Worker:
    """One rating worker process: runs until SIGTERM or SIGINT, drains, and says with which code to exit."""

    def __init__(
        self, *, bootstrap: str, redis_url: str, partitions: int, data_dir: Path, max_future: int, registry: CollectorRegistry
    ) -> None:
        self._bootstrap = bootstrap
        self._accounts = RedisAccounts(redis_url)
        self.measures = Measures(registry)
        self._stop = asyncio.Event()
        self._exit_code = 0
        self.book = PriceBook()
        self._catalogue_known = asyncio.Event()
        self.lanes = Lanes(
            Surroundings(
                bootstrap=bootstrap,
                partitions=partitions,
                max_future=max_future,
                identity_directory=data_dir / "identity",
                accounts=self._accounts,
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
        following = asyncio.create_task(self._follow_catalogue(), name="catalogue")
        watching = asyncio.create_task(self._watch(), name="watchdog")
        self._app.finalize()
        starting = asyncio.create_task(self._app.maybe_start(), name="faust")
        starting.add_done_callback(self._faust_started)
        await self._stop.wait()
        await self.lanes.close()
        for task in (following, watching, starting):
            task.cancel()
        await asyncio.gather(following, watching, starting, return_exceptions=True)
        try:
            await asyncio.wait_for(self._app.stop(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("faust did not stop in %s s; its group notices by its session", DRAIN_SECONDS)
        await self._accounts.close()
        return self._exit_code

    def _declare(self, app: faust.App) -> None:
        topic = app.topic(USAGE_EVENTS, schema=BatchSchema())

        @app.agent(topic, concurrency=1)
        async def rate(stream: Any) -> None:
            stream.enable_acks = False
            async for batch in stream:
                await self._dispatch(stream.current_event, batch)

        @app.on_partitions_assigned.connect(weak=False)  # type: ignore[untyped-decorator]
        async def assigned(sender: Any, assigned: Any, **_: Any) -> None:
            self.lanes.assigned({tp.partition for tp in assigned if tp.topic == USAGE_EVENTS})

        @app.on_partitions_revoked.connect(weak=False)  # type: ignore[untyped-decorator]
        async def revoked(sender: Any, revoked: Any, **_: Any) -> None:
            await self.lanes.revoked({tp.partition for tp in revoked if tp.topic == USAGE_EVENTS})

    async def _dispatch(self, event: Any, batch: Batch) -> None:
        if batch.generation != self._app.consumer_generation_id:
            return  # read before a rebalance: its partition's owner reads it again
        await self.lanes.deliver(
            batch.records[0].partition, Delivery(batch.generation, batch.after, batch.records, event.ack)
        )

    async def _follow_catalogue(self) -> None:
        async for version in follow(self._bootstrap):
            self.book.add(version)
            self._catalogue_known.set()

    def _faust_started(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("faust did not start: %r", task.exception())
            self.leave(1, "faust did not start")

    async def _watch(self) -> None:
        """The watchdog: leaves when Faust crashed, or when a lane hangs on one batch beyond any store's patience."""
        while not self._stop.is_set():
            await asyncio.sleep(1)
            if self._app.crashed or self._app.should_stop:
                self.leave(1, f"faust stopped: {self._app.crash_reason!r}")


def exit_process(code: int) -> None:
    """Leaves at once, whatever threads a library has left: everything that counts is in the log."""
    os._exit(code)
