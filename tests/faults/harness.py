"""Faults on a real deployment: workers as processes that are kept alive, a seeded load, and an audit at the end.

A `Scene` owns one tenant of the load, its workers and its auditor. It audits what lies beyond the offsets at which it
began, so that scenes can follow one another on the same Kafka. Everything that it starts ends with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from schemas.account import account_key, unpack_account
from schemas.catalog import parse
from schemas.errors import Unavailable
from schemas.ledger import rows
from streams import catalogue, ledger
from streams.accounts.redis import RedisAccounts
from streams.worker import partition_count
from tests.faults.auditor import Auditor
from tests.faults.load import ACCOUNT, CATALOG, USAGE, Load, Record

DRAINED_WITHIN_SECONDS = 180.0


class Workers:
    """Rating workers as processes, each started again when it dies, as the supervisor does."""

    def __init__(self, data_dir: Path, environment: dict[str, str], log: Path) -> None:
        self._environment = {**os.environ, **environment, "TOLLGATE_DATA_DIR": str(data_dir)}
        self._log = log
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self.exits: list[int] = []
        """Codes of processes that ended without having been told to."""
        self.killed = 0

    def start(self, number: int) -> None:
        """Starts a worker and keeps it alive."""
        self._keepers[number] = asyncio.create_task(self._keep(number))

    async def stop(self, number: int) -> int | None:
        """SIGTERM, and the code it ends with; whoever does not drain within 30 s is killed (None)."""
        self._keepers.pop(number).cancel()
        process = self._running.pop(number, None)
        if process is None:
            return None
        for name in (signal.SIGCONT, signal.SIGTERM):
            with suppress(ProcessLookupError):
                process.send_signal(name)
        try:
            return await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()
            return None

    async def close(self) -> list[int | None]:
        """Stops all; the codes they ended with."""
        return list(await asyncio.gather(*(self.stop(number) for number in list(self._keepers))))

    def signal(self, number: int, name: signal.Signals) -> bool:
        """Signals a worker if it runs."""
        process = self._running.get(number)
        if process is None:
            return False
        if name == signal.SIGKILL:
            self.killed += 1
        with suppress(ProcessLookupError):
            process.send_signal(name)
        return True

    async def _keep(self, number: int) -> None:
        while True:
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "console.main",
                    "worker",
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )
            self._running[number] = process
            code = await process.wait()
            del self._running[number]
            if code != -signal.SIGKILL:
                self.exits.append(code)
            await asyncio.sleep(0.2)


class Scene:
    """Made by `scene`."""

    def __init__(self, bootstrap: str, redis_url: str, data_dir: Path, seed: int, customers: int, log: Path) -> None:
        self.bootstrap = bootstrap
        self.redis_url = redis_url
        self.seed = seed
        self.tenant = f"t{seed}-{time.time_ns() % 10**9}"
        self.load = Load(seed, customers, self.tenant)
        self.workers = Workers(
            data_dir,
            {
                "TOLLGATE_KAFKA_BOOTSTRAP": bootstrap,
                "TOLLGATE_REDIS_URL": redis_url,
                "TOLLGATE_CLICKHOUSE_URL": "http://127.0.0.1:9",
            },
            log,
        )
        self.sent = 0
        self.partitions = 0
        self._starts: dict[TopicPartition, int] = {}
        self._ledger_starts: dict[int, tuple[int, int | None]] = {}

    async def begin(self) -> None:
        """Notes where everything stands."""
        self.partitions = await partition_count(self.bootstrap)
        async with self._consumer() as consumer:
            places = [TopicPartition(topic, number) for topic in (USAGE, ACCOUNT) for number in range(self.partitions)]
            self._starts = await consumer.end_offsets(places)
        self.auditor = Auditor(self.home_of)
        for number in range(self.partitions):
            tail = await ledger.tail(self.bootstrap, number)
            self._ledger_starts[number] = (tail.end_offset, tail.last.next_seq if tail.last is not None else None)

    def home_of(self, customer: str) -> int:
        """The partition of a customer, by aiokafka's own murmur2."""
        return int(murmur2(customer.encode()) & 0x7FFFFFFF) % self.partitions

    async def send(self, count: int, per_second: float = 0.0) -> None:
        """Sends the next records of the load, at most so many a second."""
        async with self.producer() as producer:
            await self.send_records(producer, self.load.records(count), per_second)

    async def send_records(
        self, producer: AIOKafkaProducer, records: Iterable[Record], per_second: float = 0.0
    ) -> None:
        """Sends records and waits until Kafka has all of them."""
        begun, unconfirmed, count = time.monotonic(), [], 0
        for record in records:
            self.auditor.told(record.value, record.meaning)
            home = self.home_of(record.customer)
            partition = (home + 1) % self.partitions if record.astray else home
            unconfirmed.append(
                await producer.send(record.topic, record.value, record.customer.encode(), partition=partition)
            )
            count += 1
            if len(unconfirmed) >= 500:
                await asyncio.gather(*unconfirmed)
                unconfirmed = []
                if per_second:
                    await asyncio.sleep(max(0.0, begun + count / per_second - time.monotonic()))
        await asyncio.gather(*unconfirmed)
        self.sent += count

    @asynccontextmanager
    async def producer(self, **settings: Any) -> AsyncIterator[AIOKafkaProducer]:
        """An idempotent producer that waits for Kafka as long as a fault may take it away."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            enable_idempotence=True,
            acks="all",
            max_request_size=4 * 1024 * 1024,
            request_timeout_ms=150_000,
            linger_ms=5,
            **settings,
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=5 * 1024 * 1024,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def drained(self, within_seconds: float = DRAINED_WITHIN_SECONDS) -> float:
        """Reads the inputs into the auditor until every record of them is decided and applied; the seconds it took."""
        begun = time.monotonic()
        accounts = RedisAccounts(self.redis_url)
        try:
            async with self._consumer() as consumer:
                consumer.assign(list(self._starts))
                for place, offset in self._starts.items():
                    consumer.seek(place, offset)
                while True:
                    while batches := await consumer.getmany(timeout_ms=300):
                        for place, records in batches.items():
                            for record in records:
                                self.auditor.take(place.topic, place.partition, record.offset, record.value)
                                self._starts[place] = record.offset + 1
                    waiting = await self._undecided(accounts)
                    if not waiting:
                        return time.monotonic() - begun
                    if time.monotonic() - begun > within_seconds:
                        raise AssertionError(
                            f"seed {self.seed}: not decided within {within_seconds} s: {waiting}; "
                            f"workers ended with {self.workers.exits}"
                        )
        finally:
            await accounts.close()

    async def _undecided(self, accounts: RedisAccounts) -> list[str]:
        waiting = []
        for place, end in self._starts.items():
            try:
                position = await accounts.position(place.partition)
            except Unavailable as away:
                return [str(away)]
            reached = 0
            if position is not None:
                reached = position.usage_next if place.topic == USAGE else position.account_next
            if reached < end:
                waiting.append(f"{place.topic}[{place.partition}] {reached} of {end}")
        return waiting

    async def audit(self) -> list[str]:
        """Every difference between what must be and what the ledger and the accounts hold; empty if all is well."""
        entries: dict[tuple[str, int, int], dict[str, Any]] = {}
        faults: list[str] = []
        told: dict[str, int] = {}
        for number, (offset, seq) in self._ledger_starts.items():
            end = (await ledger.tail(self.bootstrap, number)).end_offset
            async for _, record in ledger.read(self.bootstrap, number, offset, end, next_seq=seq):
                for row in rows(record):
                    place = (row["topic"], number, row["offset"])
                    if place in entries:
                        faults.append(f"two entries for {place}")
                    entries[place] = row
                    for posting in row["postings"]:
                        balance = told.get(row["customer"], 0) + posting["amount"]
                        told[row["customer"]] = balance
                        if posting["balance_after"] != balance:
                            faults.append(f"{place}: balance after {posting['balance_after']}, the sum is {balance}")
                for packed in record.accounts.values():
                    account = unpack_account(packed)
                    if told.get(account.customer, 0) != account.balance:
                        faults.append(f"{account.customer}: {account.balance} after seq {record.next_seq}")
        balances: dict[str, int | None] = {}
        accounts = RedisAccounts(self.redis_url)
        try:
            for customer in self.auditor.balances:
                _, packed_now = await accounts.peek(self.home_of(customer), account_key(self.tenant, customer))
                balances[customer] = unpack_account(packed_now).balance if packed_now is not None else None
        finally:
            await accounts.close()
        return faults[:10] + self.auditor.compare(entries, balances)


@asynccontextmanager
async def scene(
    bootstrap: str, redis_url: str, data_dir: Path, *, seed: int, customers: int = 200, workers: int = 2
) -> AsyncIterator[Scene]:
    """A scene with a catalogue and running workers. Prints its seed."""
    log = data_dir / f"workers-{seed}.log"
    made = Scene(bootstrap, redis_url, data_dir, seed, customers, log)
    print(f"seed {seed}, tenant {made.tenant}, workers log to {log}")
    await made.begin()
    await catalogue.apply(bootstrap, parse(CATALOG), made.tenant, time.time_ns() // 1000)
    for number in range(workers):
        made.workers.start(number)
    try:
        yield made
    finally:
        await made.workers.close()
