"""The producers' client with a spool: an event is safe on this machine's disk before Kafka has it.

    async with SpooledPublisher("127.0.0.1:9092", Path("/var/spool/chat")) as publisher:
        await publisher.send(event)        # judged, and on the disk for good
        await publisher.flush()            # Kafka has all

Events go to Kafka in the order they were sent in, as soon as it answers. A process that is killed leaves the folder to
the next one, which sends what waits there first. What may have arrived before the crash is sent once more, with the
same identity, and so counts once. The spool is bounded: while it is full `send` waits, and then raises Unavailable.

Refuses with InvalidInput what `ingest.accept` refuses. Unavailable: the disk, or a spool that stays full.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ingest.accept import Record, judge
from ingest.breaker import Breaker, State
from ingest.publish import RECORD_MAX_BYTES, Bounds, Publisher, json_of_event
from ingest.spool import Spool
from schemas.errors import InvalidInput, TollgateError, Unavailable
from schemas.event import DEFAULT_TENANT

SEND_BYTES: Final = 1024 * 1024
"""Of the spool, sent and confirmed at a time."""
RETRY_SECONDS: Final = 1.0
CONFIRM_SECONDS: Final = 10.0
"""How long Kafka may take to confirm what was sent before it counts as away."""

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class SpoolState:
    """How it stands."""

    waiting_bytes: int
    """On the disk and not confirmed by Kafka."""
    kafka: State
    """`closed`: it takes what it is sent."""


class SpooledPublisher:
    """One event loop; any number of tasks. `max_bytes`: of disk."""

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        *,
        max_bytes: int = 1024 * 1024 * 1024,
        wait_seconds: float = 60.0,
        tenant: str = DEFAULT_TENANT,
        max_future: int = 3_600_000_000,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """`wait_seconds`: how long `send` waits for room. `max_future`: microseconds an event's time may lie ahead."""
        self._publisher = Publisher(bootstrap, tenant=tenant, bounds=Bounds(timeout_s=CONFIRM_SECONDS))
        self._folder, self._max_bytes, self._wait_seconds = folder, max_bytes, wait_seconds
        self._tenant, self._max_future, self._now = tenant, max_future, now
        self._breaker = Breaker("kafka", open_seconds=RETRY_SECONDS)
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")  # one call at a time, in order
        self._spool: Spool
        self._appending: list[tuple[Record, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None]
        self._more = asyncio.Event()
        self._confirmed = asyncio.Condition()
        self._failure: TollgateError | None = None
        """Why nothing is sent any more: a damaged segment, or a disk that cannot be read."""

    @property
    def state(self) -> SpoolState:
        """For whoever watches the producer."""
        return SpoolState(self._spool.waiting_bytes, self._breaker.state)

    async def __aenter__(self) -> Self:
        self._spool = await self._on_disk(lambda: Spool.open(self._folder))
        self._sender = asyncio.create_task(self._keep_sending(), name="spool")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, event: bytes | str | Mapping[str, Any]) -> None:
        """Judges one CloudEvent as a worker will; it is on the disk for good when this returns."""
        if isinstance(event, Mapping):
            raw = json_of_event(event)
        else:
            raw = event.encode() if isinstance(event, str) else event
        _, record = judge(raw, self._tenant, self._now(), self._max_future)
        await self.put(record)

    async def put(self, record: Record) -> None:
        """As `send`, for a record that is judged already."""
        if len(record.key) + len(record.value) > RECORD_MAX_BYTES:
            raise InvalidInput("too_large", f"a record has at most {RECORD_MAX_BYTES} bytes with its key")
        await self._await_room()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._appending.append((record, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await written

    async def flush(self, timeout_seconds: float | None = None) -> None:
        """Returns once Kafka has all; Unavailable after `timeout_seconds` (None: waits as long as it takes)."""
        try:
            async with asyncio.timeout(timeout_seconds), self._confirmed:
                await self._confirmed.wait_for(self._is_flushed)
        except TimeoutError:
            raise Unavailable(f"{self._spool.waiting_bytes} bytes of the spool wait for Kafka") from None

    def _is_flushed(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return self._spool.waiting_bytes == 0 and not self._appending

    async def close(self) -> None:
        """Ends without waiting for Kafka: what waits is on the disk, for the next process."""
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._publisher.close()
        await self._on_disk(self._spool.close)
        self._disk.shutdown()

    async def _write(self) -> None:
        """Many senders share one wait for the disk."""
        while self._appending:
            batch, self._appending = self._appending, []
            try:
                await self._on_disk(partial(self._spool.append, [record for record, _ in batch]))
            except Unavailable as error:
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
                continue
            for _, written in batch:
                if not written.done():
                    written.set_result(None)
            self._more.set()

    async def _keep_sending(self) -> None:
        try:
            await self._send_in_order()
        except TollgateError as error:
            log.critical("the spool in %s is sent no further: %s", self._folder, error)
            self._failure = error
            async with self._confirmed:
                self._confirmed.notify_all()

    async def _send_in_order(self) -> None:
        while True:
            self._more.clear()
            if not self._spool.has_unread:
                await self._more.wait()
            records, place = await self._on_disk(lambda: self._spool.read(SEND_BYTES))
            try:
                with self._breaker.guarded():
                    await self._publisher.publish(records)
            except Unavailable as away:
                log.debug("spool: %s", away)
                await self._on_disk(self._spool.again)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await self._on_disk(partial(self._spool.confirm, place))
            async with self._confirmed:
                self._confirmed.notify_all()

    async def _await_room(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._spool.waiting_bytes < self._max_bytes:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds), self._confirmed:
                await self._confirmed.wait_for(lambda: self._spool.waiting_bytes < self._max_bytes)
                return
        raise Unavailable(f"the spool is full: {self._spool.waiting_bytes} bytes wait for Kafka in {self._folder}")

    async def _on_disk(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call)
