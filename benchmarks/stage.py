"""Where a benchmark plays: services of its own in a temporary folder, a topic filled behind a gate, rows waited for.

The gate is a transaction. The first record of every partition of `usage.events` is sent in it and it stays open while
the topic is filled behind them, so that no reader of committed records sees any of the events before it is committed.
Processes that are up and idle then have all of them before them at one moment: that is when a clock starts.
"""

from __future__ import annotations

import asyncio
import http.client
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from backing import launch
from benchmarks.workload import Sent
from ingest.accept import Record
from ingest.publish import Publisher
from schemas.errors import Unavailable
from schemas.ids import partition_of_key
from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS

GATE_MS: Final = 900_000
"""The longest transaction that a broker allows unasked; filling and starting must fit into it."""

STALLED_SECONDS: Final = 120.0
"""Without one more row in this time a run has failed."""

POLL_SECONDS: Final = 0.25
LAST_POLL_SECONDS: Final = 0.01
"""Between two looks, once nearly all rows are there: the end is known to about so much."""

Report = Callable[[str], None]


@contextmanager
def own_services(report: Report, only: Collection[str] | None = None) -> Iterator[Settings]:
    """Kafka, Redis and ClickHouse of a benchmark alone, gone afterwards. No variable of the environment has a say."""
    folder = Path(tempfile.mkdtemp(prefix="tollgate-bench-"))
    settings = Settings.from_environment({}, data_dir=folder)
    try:
        yield launch.up(settings, only=only, report=report)
    finally:
        launch.down(settings, purge=True)
        shutil.rmtree(folder, ignore_errors=True)


class Gate:
    """Made by `gate`."""

    def __init__(self, producer: AIOKafkaProducer, partitions: int) -> None:
        self._producer = producer
        self._closed = set(range(partitions))
        self._partitions = partitions

    async def hold(self, key: bytes, value: bytes) -> bool:
        """Takes a record if it is the first of its partition."""
        partition = partition_of_key(key, self._partitions)
        if partition not in self._closed:
            return False
        self._closed.remove(partition)
        await self._producer.send_and_wait(USAGE_EVENTS, value, key, partition=partition)
        return True

    async def open(self) -> None:
        """Everything behind the gate can be read from now on."""
        await self._producer.commit_transaction()


@asynccontextmanager
async def gate(bootstrap: str, partitions: int) -> AsyncIterator[Gate]:
    """A closed gate."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id="tollgate-bench-gate", transaction_timeout_ms=GATE_MS
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        yield Gate(producer, partitions)
    finally:
        await producer.stop()


async def grant(bootstrap: str, grants: Iterable[tuple[str, bytes]]) -> None:
    """Sends credits."""
    async with Publisher(bootstrap) as publisher:
        await publisher.publish([Record(ACCOUNT_EVENTS, customer.encode(), value) for customer, value in grants])


async def fill(bootstrap: str, events: Iterable[Sent], closed: Gate | None = None) -> None:
    """Sends events as producers do, through the producers' client; behind a gate if one is given."""
    async with Publisher(bootstrap) as publisher:
        for number, sent in enumerate(events):
            key = sent.customer.encode()
            if closed is None or not await closed.hold(key, sent.value):
                await publisher.put(Record(USAGE_EVENTS, key, sent.value), number)


async def create_topic(bootstrap: str, name: str, partitions: int) -> None:
    """A topic for what baselines write."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        await admin.close()


class Rows:
    """How many entries are visible in ClickHouse: one cheap question over one connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or 8123, timeout=30)
        self._headers = {
            "X-ClickHouse-User": unquote(parts.username or "default"),
            "X-ClickHouse-Key": unquote(parts.password or ""),
        }

    def count(self) -> int:
        """Entries of the ledger that a query sees now."""
        self._connection.request("POST", "/", b"SELECT count() FROM tollgate.ledger_entries", self._headers)
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status != http.client.OK:
            raise Unavailable(f"ClickHouse: {text[:200]}")
        return int(text)

    async def reach(self, expected: int, progress: Callable[[int], None] = lambda seen: None) -> float:
        """Waits until `expected` are visible; the monotonic time of that. Errors: Unavailable if they stop coming."""
        seen, since = -1, time.perf_counter()
        while True:
            found = await asyncio.to_thread(self.count)
            now = time.perf_counter()
            if found >= expected:
                return now
            if found != seen:
                seen, since = found, now
                progress(found)
            elif now - since > STALLED_SECONDS:
                raise Unavailable(
                    f"{found} of {expected} rows are visible, and no more came in {STALLED_SECONDS:.0f} s"
                )
            await asyncio.sleep(LAST_POLL_SECONDS if found >= 0.97 * expected else POLL_SECONDS)

    def close(self) -> None:
        """Gives the connection back."""
        self._connection.close()
