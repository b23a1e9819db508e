"""Faults on a real deployment: workers as processes that are kept alive, a seeded load, and an audit at the end.

A `Scene` owns one tenant of the load, its workers and its auditor. It audits what lies beyond the offsets at which it
began, so that scenes can follow one another on the same Kafka. Everything that it starts ends with it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2
from redis.asyncio import Redis

from backing import native
from console.supervisor import is_ready
from schemas.account import account_key, unpack_account
from schemas.catalog import parse
from schemas.errors import Unavailable
from schemas.ledger import rows
from schemas.settings import PREFIX, Settings
from streams import catalogue, ledger
from streams.accounts.redis import RedisAccounts
from tests.deployment import ROOT, settings_in
from tests.faults.auditor import Auditor
from tests.faults.load import ACCOUNT, CATALOG, USAGE, Load, Record

DRAINED_WITHIN_SECONDS = 180.0


class Processes:
    """Workers and sink as processes, each started again when it dies, as the supervisor does."""

    def __init__(self, settings: Settings, log: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._environment = {**kept, **settings.environment(), "PYTHONPATH": str(ROOT)}
        self._log = log
        self._data_dir = settings.data_dir
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self.exits: list[tuple[str, int]] = []
        """Names and codes of processes that ended without having been killed or told to."""
        self.killed = 0

    def start(self, name: str, *command: str) -> None:
        """Starts a process and keeps it alive. `name` is its role and a number of its own; without a command it is the
        role's subcommand of `tollgate`."""
        role = name.rstrip("0123456789")
        self._keepers[name] = asyncio.create_task(self._keep(name, command or ("-m", "console.main", role)))

    async def stop(self, name: str) -> int | None:
        """SIGTERM, and the code it ends with; what does not drain within 30 s is killed (None)."""
        self._keepers.pop(name).cancel()
        process = self._running.pop(name, None)
        if process is None:
            return None
        for number in (signal.SIGCONT, signal.SIGTERM):
            with suppress(ProcessLookupError):
                process.send_signal(number)
        try:
            return await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
            await process.wait()
            return None

    async def close(self) -> list[int | None]:
        """Stops all; the codes they ended with."""
        return list(await asyncio.gather(*(self.stop(name) for name in list(self._keepers))))

    def last_words(self) -> str:
        """What the processes said before they ended, and why."""
        lines = self._log.read_text(errors="replace").splitlines()
        ends = [at for at, line in enumerate(lines) if "CRITICAL" in line or "leaving: " in line]
        return "\n".join(line for at in ends for line in lines[max(at - 5, 0) : at + 40])

    async def ready(self, *names: str) -> None:
        """Waits until workers are members of the group and all their lanes are open."""
        deadline = time.monotonic() + DRAINED_WITHIN_SECONDS
        while not all(name in self._running and is_ready(self._data_dir, self._running[name].pid) for name in names):
            assert time.monotonic() < deadline, f"{names} did not become ready; ended: {self.exits[-20:]}"
            await asyncio.sleep(0.1)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signals a process if it runs."""
        process = self._running.get(name)
        if process is None:
            return
        if number == signal.SIGKILL:
            self.killed += 1
        with suppress(ProcessLookupError):
            process.send_signal(number)

    async def _keep(self, name: str, command: tuple[str, ...]) -> None:
        while True:
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *command,
                    cwd=ROOT,
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )
            self._running[name] = process
            code = await process.wait()
            self._running.pop(name, None)
            if code != -signal.SIGKILL:
                self.exits.append((name, code))
            await asyncio.sleep(0.2)


class Scene:
    """Made by `scene`."""

    def __init__(self, settings: Settings, seed: int, customers: int) -> None:
        assert settings.kafka_bootstrap is not None
        assert settings.redis_url is not None
        assert settings.clickhouse_url is not None
        self.settings = settings
        self.bootstrap = settings.kafka_bootstrap
        self.seed = seed
        self.log = settings.data_dir / f"processes-{seed}.log"
        self.tenant = f"t{seed}-{time.time_ns() % 10**9}"
        self.load = Load(seed, customers, self.tenant)
        self.processes = Processes(settings, self.log)
        self.rows = ClickHouseRows(settings.clickhouse_url)
        self.services = {service.name: service for service in native.services(settings_in(settings.data_dir))}
        self.sent = 0
        self.partitions = 0
        self._redis_url = settings.redis_url
        self._starts: dict[TopicPartition, int] = {}
        self._firsts: dict[TopicPartition, int] = {}
        self._ledger_starts: dict[int, tuple[int, int | None]] = {}

    async def begin(self) -> None:
        """Notes where everything stands."""
        self.partitions = await ledger.partition_count(self.bootstrap)
        async with self._consumer() as consumer:
            places = [TopicPartition(topic, number) for topic in (USAGE, ACCOUNT) for number in range(self.partitions)]
            self._starts = await consumer.end_offsets(places)
        self._firsts = dict(self._starts)
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
        accounts = RedisAccounts(self._redis_url)
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
                    # What was sent to another partition than its customer's comes a second time, at home.
                    missing = self.sent + self.auditor.astray - len(self.auditor.expected)
                    waiting = [f"{missing} records to be read"] if missing else await self._undecided(accounts)
                    if not waiting:
                        return time.monotonic() - begun
                    if time.monotonic() - begun > within_seconds:
                        raise AssertionError(
                            f"seed {self.seed}: not decided within {within_seconds} s: {waiting}; "
                            f"ended: {self.processes.exits[-20:]}; see {self.log}"
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

    async def restart(self, name: str, *, away_seconds: float = 0.0, crash: bool = False) -> None:
        """Stops a store, or kills it, and starts it again after a while."""
        service = self.services[name]
        await asyncio.to_thread(service.kill if crash else service.stop)
        await asyncio.sleep(away_seconds)
        await asyncio.to_thread(service.start)

    async def set_redis_back(self, seconds: float) -> None:
        """Gives Redis the data it had so many seconds before."""
        redis = self.services["redis"]
        data, copy = redis.folder / "data", redis.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(data, copy)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(redis.kill)
        shutil.rmtree(data)
        copy.rename(data)
        await asyncio.to_thread(redis.start)

    async def flush_redis(self) -> None:
        """Takes all from Redis."""
        redis = Redis.from_url(self._redis_url)
        await redis.flushall()
        await redis.aclose()

    async def settled(self, within_seconds: float = DRAINED_WITHIN_SECONDS) -> float:
        """Waits until all that was sent is decided, applied and in ClickHouse, and audits it. Fails the test with what
        differs; answers the seconds until it was there."""
        begun = time.monotonic()
        await self.drained(within_seconds)
        while (found := await self._projected()) < len(self.auditor.expected):
            if time.monotonic() - begun > within_seconds:
                raise AssertionError(
                    f"seed {self.seed}: {found} of {len(self.auditor.expected)} outcomes in ClickHouse after "
                    f"{within_seconds} s; ended: {self.processes.exits[-20:]}; see {self.log}"
                )
            await asyncio.sleep(0.5)
        took = time.monotonic() - begun
        faults = await self.audit() + await self._audit_rows()
        assert faults == [], f"seed {self.seed}: " + "\n".join(faults)
        print(f"seed {self.seed}: {dict(self.auditor.outcomes)}, settled after {took:.1f} s")
        return took

    def _ours(self) -> str:
        """A condition on rows: from where this scene began."""
        return " OR ".join(
            f"(topic = '{place.topic}' AND partition = {place.partition} AND offset >= {first})"
            for place, first in self._firsts.items()
        )

    async def _projected(self) -> int:
        try:
            ((found,),) = await self.rows.ask(f"SELECT count() FROM tollgate.event_outcomes WHERE {self._ours()}")
            ((letters,),) = await self.rows.ask(f"SELECT count() FROM tollgate.dead_letters WHERE {self._ours()}")
        except OSError:  # it is away
            return -1
        return int(found) if int(letters) >= self.auditor.outcomes["dead_letter"] else -1

    async def _audit_rows(self) -> list[str]:
        """Every difference between what must be and what ClickHouse shows."""
        ask = self.rows.ask
        faults: list[str] = []
        outcomes = await ask(
            f"SELECT topic, partition, offset, outcome, reason FROM tollgate.event_outcomes WHERE {self._ours()}"
        )
        found = [
            ((topic, int(number), int(offset)), outcome, reason) for topic, number, offset, outcome, reason in outcomes
        ]
        must = [(place, expected.outcome, expected.reason) for place, expected in self.auditor.expected.items()]
        if sorted(found) != sorted(must):
            faults.append(f"event_outcomes: {sorted(set(found) ^ set(must))[:5]}, {len(found)} rows, not {len(must)}")
        letters = await ask(f"SELECT topic, partition, offset, reason FROM tollgate.dead_letters WHERE {self._ours()}")
        dead = sorted(((topic, int(number), int(offset)), reason) for topic, number, offset, reason in letters)
        if dead != sorted((place, reason) for place, outcome, reason in must if outcome == "dead_letter"):
            faults.append(f"dead_letters: {len(dead)} rows differ from {self.auditor.outcomes['dead_letter']}")
        charges: dict[tuple[str, str], tuple[int, int]] = {}
        for expected in self.auditor.expected.values():
            for _, price, quantity, amount in expected.charges:
                before = charges.get((expected.customer, price), (0, 0))
                charges[expected.customer, price] = (before[0] + quantity, before[1] + amount)
        rated = await ask(
            "SELECT customer, price_id, sum(quantity), sum(amount) FROM tollgate.rated_usage "
            f"WHERE tenant = '{self.tenant}' GROUP BY customer, price_id"
        )
        summed = {(customer, price): (nanos(quantity), nanos(amount)) for customer, price, quantity, amount in rated}
        faults += [
            f"rated_usage of {key}: {summed.get(key)}, must be {charges.get(key)}"
            for key in sorted(charges.keys() | summed.keys())
            if charges.get(key) != summed.get(key)
        ][:5]
        wallets = await ask(
            f"SELECT customer, sum(amount) FROM tollgate.ledger WHERE tenant = '{self.tenant}' GROUP BY customer"
        )
        sums = {customer: nanos(amount) for customer, amount in wallets}
        faults += [
            f"ledger of {customer}: {sums.get(customer, 0)}, must be {balance}"
            for customer, balance in self.auditor.balances.items()
            if customer and sums.get(customer, 0) != balance
        ][:5]
        return faults

    async def reconciled(self) -> int:
        """The exit code of `tollgate reconcile`; 0 says that every equation holds."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "console.main",
                "reconcile",
                cwd=ROOT,
                env={**kept, **self.settings.environment()},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return await process.wait()

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
        accounts = RedisAccounts(self._redis_url)
        try:
            for customer in self.auditor.balances:
                _, packed_now = await accounts.peek(self.home_of(customer), account_key(self.tenant, customer))
                balances[customer] = unpack_account(packed_now).balance if packed_now is not None else None
        finally:
            await accounts.close()
        return faults[:10] + self.auditor.compare(entries, balances)


class ClickHouseRows:
    """Asks ClickHouse over plain HTTP, as an analyst does. OSError where it does not answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._url = f"{parts.scheme}://{parts.hostname}:{parts.port}/"
        secret = f"{unquote(parts.username or 'default')}:{unquote(parts.password or '')}"
        self._authorization = "Basic " + base64.b64encode(secret.encode()).decode()

    async def ask(self, query: str) -> list[list[str]]:
        """The rows, as texts."""
        return await asyncio.to_thread(self._ask, query)

    def _ask(self, query: str) -> list[list[str]]:
        secret = {"Authorization": self._authorization}
        body = f"{query} FORMAT TabSeparated".encode()
        asked = Request(self._url, body, secret, method="POST")  # noqa: S310 - the deployment's own http address
        with urlopen(asked, timeout=60) as answer:  # noqa: S310 - as above
            return [line.split("\t") for line in answer.read().decode().splitlines()]


def nanos(decimal: str) -> int:
    """Decimal text of at most nine places, in nanos."""
    whole, _, fraction = decimal.lstrip("-").partition(".")
    assert len(fraction.rstrip("0")) <= 9
    value = int(whole) * 10**9 + int(fraction[:9].ljust(9, "0"))
    return -value if decimal.startswith("-") else value


@asynccontextmanager
async def scene(
    settings: Settings, *, seed: int, customers: int = 200, workers: int = 2, sinks: int = 1
) -> AsyncIterator[Scene]:
    """A scene with a catalogue, running workers and a sink. Prints its seed."""
    made = Scene(settings, seed, customers)
    print(f"seed {seed}, tenant {made.tenant}, processes log to {made.log}")
    await made.begin()
    await catalogue.apply(made.bootstrap, parse(CATALOG), made.tenant, time.time_ns() // 1000)
    for number in range(workers):
        made.processes.start(f"worker{number}")
    for number in range(sinks):
        made.processes.start(f"sink{number}")
    try:
        yield made
    finally:
        await made.processes.close()
