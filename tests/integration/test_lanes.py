"""Lanes on real Kafka and Redis: one owner a partition, and nothing that an owner may forget, lose or repeat."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from rating.book import PriceBook
from schemas.account import account_key, unpack_account
from schemas.catalog import parse
from schemas.errors import InvariantBroken
from schemas.ids import partition_of
from schemas.ledger import USAGE, RecordKind, rows
from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS, USAGE_RATED
from streams import catalogue, ledger
from streams.accounts.port import Position
from streams.accounts.redis import RedisAccounts
from streams.deciding import received_from
from streams.inputs import read_range
from streams.lane import BEAT_SECONDS, Delivery, Lane, Surroundings
from streams.measures import Measures
from streams.transaction import PartitionWriter
from streams.transport import UNKNOWN
from streams.watchdog import Watchdog
from tests.fakes.holds import NoHolds
from tests.fakes.partition import CATALOG, granted, tokens

_numbers = itertools.count()


class Bench:
    """A partition of the shared services, a tenant of its own, and lanes on them."""

    def __init__(self, settings: Settings, tmp_path: Path, partition: int) -> None:
        assert settings.kafka_bootstrap is not None
        assert settings.redis_url is not None
        self.bootstrap = settings.kafka_bootstrap
        self.partitions = settings.partitions
        self.partition = partition
        self.tenant = f"lanes-{time.time_ns()}"
        self.accounts = RedisAccounts(settings.redis_url)
        self.redis = Redis.from_url(settings.redis_url)
        self.book = PriceBook()
        self.customer = next(
            name for name in (f"c{number}" for number in itertools.count()) if self.home_of(name) == partition
        )
        self.stray = next(
            name for name in (f"c{number}" for number in itertools.count()) if self.home_of(name) != partition
        )
        self.acknowledged: list[int] = []
        self._tmp_path = tmp_path
        self._sent: list[int] = []

    def home_of(self, customer: str) -> int:
        return partition_of(customer, self.partitions)

    def event(self, number: object, taken: int = 1, **changes: Any) -> dict[str, Any]:
        made: dict[str, Any] = tokens(number, taken, **{"subject": self.customer, "tenantid": self.tenant, **changes})
        return made

    def grant(self, number: object, amount: str) -> dict[str, Any]:
        made: dict[str, Any] = granted(number, amount, subject=self.customer, tenantid=self.tenant)
        return made

    async def send(self, *values: dict[str, Any] | bytes, topic: str = USAGE_EVENTS) -> list[Any]:
        """Sends to the partition; the records as Faust would deliver them."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        await producer.start()
        try:
            offsets = []
            for value in values:
                raw = value if isinstance(value, bytes) else json.dumps(value).encode()
                offsets.append((await producer.send_and_wait(topic, raw, b"key", partition=self.partition)).offset)
        finally:
            await producer.stop()
        return await read_range(self.bootstrap, topic, self.partition, offsets[0], offsets[-1] + 1)

    def delivery(self, records: list[Any], *, after: int = UNKNOWN) -> Delivery:
        """A batch; its acknowledgement is noted by its last offset."""
        return Delivery(1, after, received_from(records, USAGE), lambda: self.acknowledged.append(records[-1].offset))

    async def decided(self, records: list[Any]) -> None:
        """Waits until a batch is acknowledged."""

        async def acknowledged() -> bool:
            return records[-1].offset in self.acknowledged

        await until(acknowledged)

    @asynccontextmanager
    async def lane(self, *, directory: str = "identity", partition: int | None = None) -> AsyncIterator[Lane]:
        """A running lane; what ends it early fails the test."""
        known = asyncio.Event()
        known.set()
        made = Lane(
            self.partition if partition is None else partition,
            Surroundings(
                bootstrap=self.bootstrap,
                partitions=self.partitions,
                max_future=3_600 * 10**6,
                identity_directory=self._tmp_path / directory,
                accounts=self.accounts,
                holds=NoHolds(),
                book=self.book,
                catalogue_known=known,
                measures=Measures(CollectorRegistry()),
                now=lambda: time.time_ns() // 1_000,
            ),
            lambda: True,
        )
        running = asyncio.create_task(made.run())
        try:

            async def settled() -> bool:
                return made.serving or running.done()

            await until(settled)
            if running.done():
                await running
            yield made
        finally:
            made.stop()
            await asyncio.wait_for(running, 30)

    async def entries(self) -> list[dict[str, Any]]:
        """This tenant's entries in the ledger, whose reader checks the rest."""
        stands = await self.accounts.position(self.partition)

        async def shown() -> bool:
            """A transaction is known to be committed a moment before it is read."""
            return stands is None or (await ledger.tail(self.bootstrap, self.partition)).end_offset >= stands.offset

        await until(shown)
        end = (await ledger.tail(self.bootstrap, self.partition)).end_offset
        found = []
        async for _, record in ledger.read(self.bootstrap, self.partition, 0, end):
            found += [row for row in rows(record) if row["tenant"] == self.tenant]
        return found

    async def balance(self) -> int:
        """The customer's balance in Redis."""
        standing, packed = await self.accounts.peek(self.partition, account_key(self.tenant, self.customer))
        assert standing.serving
        assert packed is not None
        return unpack_account(packed).balance


@pytest.fixture
async def bench(services: Settings, tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench with a catalogue of its tenant; each test takes the next partition."""
    made = Bench(services, tmp_path, next(_numbers) % services.partitions)
    await catalogue.apply(made.bootstrap, parse(CATALOG), made.tenant, 0)
    for version in await catalogue.read_all(made.bootstrap):
        made.book.add(version)
    yield made
    await made.accounts.close()
    await made.redis.aclose()


def became(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["outcome"], row["reason"]) for row in rows]


async def until(condition: Callable[[], Any], bound_s: float = 60) -> None:
    """Returns once the condition, awaited, holds."""
    deadline = time.monotonic() + bound_s
    while not await condition():
        assert time.monotonic() < deadline, f"{condition.__name__} did not come to hold"
        await asyncio.sleep(0.02)


async def test_a_batch_becomes_fact_and_its_values_stand_in_redis(bench: Bench) -> None:
    """A delivered batch is acknowledged when its entries are in the ledger and its account is applied; the block it is
    in closes by itself."""
    async with bench.lane() as lane:
        records = await bench.send(bench.event(1, 3), bench.event(2, 4))
        await lane.deliver(bench.delivery(records))
        await bench.decided(records)
        assert became(await bench.entries()) == [("rated", "")] * 2
        assert await bench.balance() == -7_000_000

        async def closed() -> bool:
            last = (await ledger.tail(bench.bootstrap, bench.partition)).last
            return last is not None and last.kind == RecordKind.BLOCK_END

        await until(closed)


async def test_account_events_are_read_by_the_lane_itself(bench: Bench) -> None:
    """Without any usage delivered, money arrives."""
    async with bench.lane():
        await bench.send(bench.grant(1, "5"), topic=ACCOUNT_EVENTS)

        async def granted_now() -> bool:
            return became(await bench.entries()) == [("rated", "")]

        await until(granted_now)
        assert await bench.balance() == 5 * 10**9


async def test_what_is_delivered_again_is_decided_once(bench: Bench) -> None:
    """The same batch twice, in another cut, and to the next owner: one entry for each record; all are acknowledged."""
    records = await bench.send(*(bench.event(number) for number in range(6)))
    async with bench.lane() as lane:
        for part in (records[:4], records, records[2:3]):
            bench.acknowledged.clear()
            await lane.deliver(bench.delivery(part))
            await bench.decided(part)
    async with bench.lane() as lane:
        bench.acknowledged.clear()
        await lane.deliver(bench.delivery(records))
        await bench.decided(records)
    assert became(await bench.entries()) == [("rated", "")] * 6
    assert await bench.balance() == -6_000_000


async def test_what_was_not_delivered_is_read(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A batch that does not chain to the last one decided brings what lies between from Kafka; markers are no hole."""
    records = await bench.send(*(bench.event(number) for number in range(9)))
    async with bench.lane() as lane:
        await lane.deliver(bench.delivery(records[:2]))
        await lane.deliver(bench.delivery(records[5:7]))
        await lane.deliver(bench.delivery(records[7:], after=records[6].offset))
        await bench.decided(records)
    assert became(await bench.entries()) == [("rated", "")] * 9
    assert "3 records were not delivered and are read" in caplog.text
    assert caplog.text.count("were not delivered") == 1


async def test_the_next_owner_fences_the_one_before(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The former owner's write is refused; whoever of the two decides, each record has one entry and no seq is lost."""
    caplog.set_level(logging.WARNING)
    records = await bench.send(*(bench.event(number) for number in range(4)))
    async with bench.lane() as former:
        await former.deliver(bench.delivery(records[:1]))
        await bench.decided(records[:1])
        async with bench.lane(directory="elsewhere") as owner:
            await owner.deliver(bench.delivery(records[:3]))
            await bench.decided(records[:3])
            bench.acknowledged.clear()
            await former.deliver(bench.delivery(records))
            await bench.decided(records)
    assert became(await bench.entries()) == [("rated", "")] * 4
    assert await bench.balance() == -4_000_000
    assert "opening again" in caplog.text


async def test_writes_that_redis_lost_come_back_before_anything_is_built_on_them(bench: Bench) -> None:
    """Lost while quiet, the beat finds it; lost under traffic, the next batch does."""
    async with bench.lane() as lane:
        records = await bench.send(*(bench.event(number) for number in range(4)))
        await lane.deliver(bench.delivery(records[:2]))
        await bench.decided(records[:2])
        stood = await bench.accounts.position(bench.partition)
        await bench.redis.delete(*await bench.redis.keys(f"{{{bench.partition}}}:*"))

        async def back() -> bool:
            position = await bench.accounts.position(bench.partition)
            return position is not None and stood is not None and position.offset >= stood.offset

        await until(back)
        assert await bench.balance() == -2_000_000
        await bench.redis.delete(*await bench.redis.keys(f"{{{bench.partition}}}:*"))
        await lane.deliver(bench.delivery(records[2:], after=records[1].offset))
        await bench.decided(records)
        await until(back)
    assert await bench.balance() == -4_000_000
    assert became(await bench.entries()) == [("rated", "")] * 4


async def test_duplicates_are_known_without_the_index_that_knew_them(bench: Bench) -> None:
    """An owner with an empty disk folds the ledger: identities of before are duplicates, conflicts are conflicts."""
    async with bench.lane() as lane:
        records = await bench.send(bench.event(1))
        await lane.deliver(bench.delivery(records))
        await bench.decided(records)
    async with bench.lane(directory="empty disk") as lane:
        again = await bench.send(bench.event(1), bench.event(1, 9))
        await lane.deliver(bench.delivery(again))
        await bench.decided(again)
    assert became(await bench.entries()) == [
        ("rated", ""),
        ("duplicate", "same_identity"),
        ("dead_letter", "conflict"),
    ]


async def test_a_stray_record_and_a_dead_letter_travel_in_the_transaction(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """The stray one lies in its own partition, the broken one in the dead letter topic, byte for byte; a log line says
    what its producer must do."""
    home = bench.home_of(bench.stray)
    stray, broken = bench.event(1, subject=bench.stray), b"\xff no event"
    async with bench.lane() as lane:
        records = await bench.send(stray, broken)
        end = (await _ends(bench, USAGE_EVENTS, home), await _ends(bench, "usage.dlq", bench.partition))
        await lane.deliver(bench.delivery(records))
        await bench.decided(records)

        async def arrived() -> bool:
            return (
                await _ends(bench, USAGE_EVENTS, home) > end[0]
                and await _ends(bench, "usage.dlq", bench.partition) > end[1]
            )

        await until(arrived)
    (sent_on,) = await read_range(bench.bootstrap, USAGE_EVENTS, home, end[0], end[0] + 1)
    (letter,) = await read_range(bench.bootstrap, "usage.dlq", bench.partition, end[1], end[1] + 1)
    assert "murmur2" in caplog.text
    assert (json.loads(sent_on.value), letter.value, letter.key) == (stray, broken, b"key")
    assert dict(letter.headers)["offset"] == str(records[1].offset).encode()
    assert became(await bench.entries()) == [("ignored", "rerouted")]


async def _ends(bench: Bench, topic: str, partition: int) -> int:
    from aiokafka import TopicPartition

    async with ledger.committed_consumer(bench.bootstrap) as consumer:
        place = TopicPartition(topic, partition)
        return int((await consumer.end_offsets([place]))[place])


async def test_accounts_of_another_ledger_stop_the_owner(bench: Bench) -> None:
    """A ledger that was replaced is not built on, whatever its positions say."""
    async with bench.lane():
        pass
    await bench.redis.delete(f"{{{bench.partition}}}:m")
    await bench.accounts.apply(bench.partition, 0, Position("another ledger", 1, 1), {}, serving=True)
    try:
        with pytest.raises(InvariantBroken, match="another ledger"):
            async with bench.lane():
                pytest.fail("it opened")
    finally:
        await bench.redis.delete(f"{{{bench.partition}}}:m")


async def test_accounts_ahead_of_the_ledger_stop_the_owner(bench: Bench) -> None:
    """A ledger that ends before what was applied has lost what was promised."""
    async with bench.lane():
        pass
    stands = await bench.accounts.position(bench.partition)
    assert stands is not None
    ahead = Position(stands.ledger_id, stands.offset + 10**6, stands.seq)
    await bench.accounts.apply(bench.partition, stands.offset, ahead, {}, serving=True)
    try:
        with pytest.raises(InvariantBroken, match="ends at"):
            async with bench.lane():
                pytest.fail("it opened")
    finally:
        await bench.redis.delete(f"{{{bench.partition}}}:m")


async def test_what_a_stopped_owner_left_open_is_ended_by_the_next(bench: Bench) -> None:
    """A transaction that was begun and never ended is no fact, and hides nothing once there is a new owner."""
    async with bench.lane():
        pass
    before = await ledger.tail(bench.bootstrap, bench.partition)
    stopped = PartitionWriter(bench.bootstrap, bench.partition)
    await stopped.start()
    await stopped._producer.begin_transaction()
    await stopped._producer.send_and_wait(USAGE_RATED, b"never committed", partition=bench.partition)
    try:
        async with bench.lane() as lane:
            records = await bench.send(bench.event(1))
            await lane.deliver(bench.delivery(records))
            await bench.decided(records)
    finally:
        await stopped.stop()
    # The reader would stop at what was never committed.
    assert became(await bench.entries()) == [("rated", "")]
    after = await ledger.tail(bench.bootstrap, bench.partition)
    assert before.last is not None
    assert after.last is not None
    assert after.last.next_seq > before.last.next_seq


async def test_a_lane_waits_for_the_catalogue_that_its_ledger_names(bench: Bench) -> None:
    """An owner that has not yet read a version that was rated by does not rate by an older one."""
    async with bench.lane() as lane:
        records = await bench.send(bench.event(1))
        await lane.deliver(bench.delivery(records))
        await bench.decided(records)
    newest, bench.book = bench.book, PriceBook()
    versions = await catalogue.read_all(bench.bootstrap)
    for version in versions[:-1]:
        bench.book.add(version)
    assert newest.position > bench.book.position
    waiting = asyncio.create_task(_open_and_close(bench))
    await asyncio.sleep(4 * BEAT_SECONDS)
    assert not waiting.done()
    bench.book.add(versions[-1])
    await asyncio.wait_for(waiting, 60)


async def _open_and_close(bench: Bench) -> None:
    async with bench.lane():
        pass


async def test_the_watchdog_sees_records_that_are_not_delivered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A serving lane with committed records that nobody gave it, however long they wait, is stuck; one whose partition
    holds markers alone, that was given all, or whose records have just come, is not."""
    monkeypatch.setattr("streams.watchdog.QUIET_SECONDS", 0.0)
    watchdog = Watchdog(bench.bootstrap)
    async with bench.lane() as lane:
        pending = await read_range(
            bench.bootstrap,
            USAGE_EVENTS,
            bench.partition,
            lane.usage_next,
            await _ends(bench, USAGE_EVENTS, bench.partition),
        )
        if pending:
            await lane.deliver(bench.delivery(pending))
            await bench.decided(pending)
        assert await watchdog.undelivered([lane]) == []
        producer = AIOKafkaProducer(bootstrap_servers=bench.bootstrap, transactional_id=f"test-{bench.tenant}")
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(USAGE_EVENTS, b"aborted", partition=bench.partition)
        await producer.abort_transaction()
        await producer.stop()
        assert await watchdog.undelivered([lane]) == []
        records = await bench.send(bench.event(1))
        assert await watchdog.undelivered([lane]) == []  # they may be on their way
        assert await watchdog.undelivered([lane]) == [bench.partition]
        await lane.deliver(bench.delivery(records))
        await bench.decided(records)
        assert await watchdog.undelivered([lane]) == []
