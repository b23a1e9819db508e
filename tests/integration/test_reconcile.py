"""`tollgate reconcile` on the real stores: exactly zero when all is well, also under traffic; each damage by its name.

Every partition of one deployment is damaged in ways of its own, by one unit, so that one run names them all: what is
expected of each partition is exactly the equations that its damages break, and no other.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

import console.demo
from schemas.account import account_key, new_account, pack_account
from schemas.ids import partition_of
from schemas.ledger_packed import encode_record
from schemas.topics import USAGE_DLQ, USAGE_EVENTS, USAGE_RATED
from streams import ledger
from tests.deployment import Tollgate, running
from tests.served import Served

TENANT = "books"
PARTITIONS = 14
CUSTOMERS = {partition_of(f"c{number}", PARTITIONS): f"c{number}" for number in range(600)}
"""One for each partition."""

ACCOUNTS = "ledger accounts = accounts in Redis"
BALANCES = "ledger balances = balances in Redis"
ROWS = "ledger entries = rows"
CHARGED, REPEATED = "length(charge.amount) > 0", "outcome = 'duplicate'"
ORDER = "ledger records that break its order = none"


def event(number: int, customer: str, **changed: Any) -> bytes:
    data = {"session_id": "s", "model": "gpt-4o", "input_tokens": 100 + number, "output_tokens": 7}
    whole = {
        "specversion": "1.0",
        "id": f"{customer}-{number}",
        "source": "test",
        "type": "session.tokens_used",
        "subject": customer,
        "tenantid": TENANT,
        "time": "2026-03-05T12:00:00Z",
        "data": data,
    }
    return json.dumps({**whole, **changed}).encode()


def lines(first: int, count: int) -> list[bytes]:
    """Of every customer: events in two months, some twice, and one that no one can charge."""
    made: list[bytes] = []
    for customer in CUSTOMERS.values():
        made += [event(number, customer) for number in range(first, first + count)]
        made += [event(first + count, customer, time="2026-04-01T00:00:00Z"), event(first, customer)]
        made.append(event(first + count + 1, customer, data={"session_id": "s", "model": "m", "input_tokens": -1}))
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A deployment of this module's own: what is done to it cannot be undone."""
    folder: Path = tmp_path_factory.mktemp("reconcile")
    with running(folder / "data", partitions=PARTITIONS) as settings:
        yield Served(settings, folder / "serve.log")


@pytest.fixture(scope="module")
def settled(served: Served) -> Served:
    """With events of every outcome in every partition, and nobody at work."""
    served.apply(console.demo.CATALOGUE, TENANT)
    with served.serving():
        first = lines(0, 5)
        served.send(first)
        served.await_outcomes(TENANT, len(first))
        under_traffic(served, len(first))
    return served


def under_traffic(served: Served, sent: int) -> None:
    """Reconciles while events flow: the difference is exactly zero each time."""
    enough = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        flowing = pool.submit(flow, served, enough)
        try:
            for _ in range(3):
                before = sum(served.outcomes(TENANT).values())
                assert served.reconcile() == (0, {})
                assert sum(served.outcomes(TENANT).values()) > before
        finally:
            enough.set()
        sent += flowing.result()
    served.await_outcomes(TENANT, sent)


def flow(served: Served, enough: threading.Event) -> int:
    sent, number = 0, 0
    while not enough.wait(0.2):
        number += 1
        some = lines(1_000 * number, 20)
        served.send(some)
        sent += len(some)
    return sent


def by_partition(wrong: dict[str, tuple[Any, Any]]) -> dict[int, set[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for name in wrong:
        equation, _, partition = name.removesuffix("]").rpartition(" [")
        found[int(partition)].add(equation.partition(" (")[0])
    return dict(found)


def test_all_is_well(settled: Served) -> None:
    """In all, and for a month alone, whose charges are then a part of the whole."""
    april = json.loads(settled.tollgate("reconcile", "--period", "2026-04", "--json").stdout)
    assert april["ok"]
    ((charged,),) = settled.ask(
        "SELECT sum(amount) FROM tollgate.rated_usage WHERE toStartOfMonth(occurred_at) = '2026-04-01'"
    )
    amounts = [each["left"] for each in april["equations"] if each["name"].startswith("ledger amount = rows' amount")]
    assert sum(map(Decimal, amounts)) == charged
    assert charged > 0
    shown = settled.tollgate("reconcile")
    assert "equations hold, every difference is 0" in shown.stdout
    refused = settled.tollgate("reconcile", "--period", "2026-13", check=False)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


class Damage:
    """What can be done to the stores by one unit; `partition` is the one that it is done to."""

    def __init__(self, served: Served) -> None:
        assert served.settings.redis_url is not None
        self._served = served
        self._redis = Redis.from_url(served.settings.redis_url)

    def balance(self, partition: int) -> None:
        """An account has a nano more."""
        name = self._account(partition)
        stood = self._redis.get(name)
        assert isinstance(stood, bytes)
        account = msgspec.msgpack.decode(stood)
        account[4] += 1
        self._redis.set(name, msgspec.msgpack.encode(account))

    def account_lost(self, partition: int) -> None:
        """An account is not there."""
        assert self._redis.delete(self._account(partition)) == 1

    def account_too_many(self, partition: int) -> None:
        """There is an account that no event ever named."""
        name = f"{{{partition}}}:a:{account_key(TENANT, 'nobody')}"
        self._redis.set(name, pack_account(new_account(TENANT, "nobody")))

    def position(self, partition: int, field: str, by: int) -> None:
        """The accounts say that they have come less far, or farther."""
        self._redis.hincrby(f"{{{partition}}}:m", field, by)

    def position_lost(self, partition: int) -> None:
        """The accounts do not say how far they have come."""
        assert self._redis.delete(f"{{{partition}}}:m") == 1

    def accounts_of_another_ledger(self, partition: int) -> None:
        """The accounts say that they follow another ledger."""
        self._redis.hset(f"{{{partition}}}:m", "ledger", "another")

    def seq(self, partition: int, where: str, which: str = "min") -> int:
        """The first or last row of a kind."""
        query = f"SELECT {which}(seq), count() FROM tollgate.ledger_entries WHERE partition = {partition} AND {where}"
        ((seq, count),) = self._served.ask(query)
        assert count
        return int(seq)

    def row(self, partition: int, column: str, value: str, seq: int) -> None:
        """A row in ClickHouse is another."""
        self._rewrite(partition, f"REPLACE (if(seq = {seq}, {value}, `{column}`) AS `{column}`)")

    def number(self, partition: int, column: str, by: int = 1, which: str = "min") -> None:
        """The first number of a nested column is another, in one row."""
        value = f"arrayMap((x, i) -> if(i = 1, x + ({by}), x), `{column}`, arrayEnumerate(`{column}`))"
        self.row(partition, column, value, self.seq(partition, CHARGED, which))

    def amounts_that_cancel_out(self, partition: int) -> None:
        """A row has a nano more and another one less."""
        self.number(partition, "charge.amount")
        self.number(partition, "charge.amount", -1, "max")

    def row_of_another_ledger(self, partition: int) -> None:
        """A row says that it is of another ledger."""
        self.row(partition, "ledger_id", "'another'", self.seq(partition, CHARGED))

    def row_lost(self, partition: int) -> None:
        """A row in ClickHouse is not there."""
        self._rewrite(partition, "", f"seq != {self.seq(partition, REPEATED)}")

    def dead_letter_lost(self, partition: int) -> None:
        """A row of an original is not there."""
        self._served.command("CREATE TABLE tollgate.letters AS tollgate.dead_letter_records")
        self._served.command(
            "INSERT INTO tollgate.letters SELECT * FROM tollgate.dead_letter_records WHERE (partition, seq) != "
            f"({partition}, (SELECT min(seq) FROM tollgate.dead_letter_records WHERE partition = {partition}))"
        )
        self._served.command("EXCHANGE TABLES tollgate.letters AND tollgate.dead_letter_records")

    def row_forged(self, partition: int, beyond: int = 0) -> None:
        """There is a row more: one twice, or one that no ledger entry stands behind."""
        seq = self.seq(partition, REPEATED)
        self._served.command(
            f"INSERT INTO tollgate.ledger_entries SELECT * REPLACE (seq + {beyond} AS seq) "
            f"FROM (SELECT * FROM tollgate.ledger_entries WHERE partition = {partition} AND seq = {seq})"
        )

    def _rewrite(self, partition: int, change: str, where: str = "1") -> None:
        """Puts other rows in the place of a partition's: mutations take their time."""
        self._served.command("CREATE OR REPLACE TABLE tollgate.changed AS tollgate.ledger_entries")
        self._served.command(
            f"INSERT INTO tollgate.changed SELECT * {change} "
            f"FROM (SELECT * FROM tollgate.ledger_entries WHERE partition = {partition} AND {where})"
        )
        self._served.command(
            f"ALTER TABLE tollgate.ledger_entries REPLACE PARTITION ({partition}, 0) FROM tollgate.changed"
        )

    def record(self, topic: str, partition: int, value: bytes) -> None:
        """There is a record more in Kafka."""
        asyncio.run(self._send(topic, partition, value))

    def ledger(self, partition: int, gap: int) -> None:
        """There is a ledger record more: the last one again, as if it followed, or leaving entries out."""
        asyncio.run(self._forge(partition, gap))

    async def _forge(self, partition: int, gap: int) -> None:
        bootstrap = self._served.settings.kafka_bootstrap
        assert bootstrap is not None
        end = await ledger.tail(bootstrap, partition)
        last = end.last
        assert last is not None
        forged = None
        async for _, record in ledger.read(bootstrap, partition, 0, end.end_offset):
            forged = record if record.count else forged
        assert forged is not None
        forged.first_seq = last.next_seq + gap
        forged.block_seq = last.next_seq if last.closes_block else last.block_seq
        forged.usage_next, forged.account_next = last.usage_next, last.account_next
        await self._send(USAGE_RATED, partition, encode_record(forged))

    async def _send(self, topic: str, partition: int, value: bytes) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._served.settings.kafka_bootstrap) as producer:
            await producer.send_and_wait(topic, value, partition=partition)

    def _account(self, partition: int) -> str:
        return f"{{{partition}}}:a:{account_key(TENANT, CUSTOMERS[partition])}"


Case = tuple[Callable[[int], object], set[str]]
"""What is done to a partition, and the equations that then do not hold."""


def test_each_damage_is_named_by_its_own_equation(settled: Served) -> None:
    """By one unit, in Redis, ClickHouse and Kafka; what is only not decided yet is no difference."""
    damage = Damage(settled)
    offset, seq = "ledger offset = accounts' offset", "ledger next seq = accounts' next seq"
    duplicates = "ledger duplicate = rows duplicate"
    in_redis: list[Case] = [
        (damage.balance, {ACCOUNTS, BALANCES}),
        (damage.account_lost, {ACCOUNTS, BALANCES}),
        (damage.account_too_many, {"accounts in Redis that the ledger lacks = none"}),
        (lambda at: damage.position(at, "seq", -1), {seq}),
        (lambda at: damage.position(at, "seq", 1), {seq}),
        (lambda at: damage.position(at, "offset", -1), {offset}),
        (lambda at: damage.position(at, "offset", 1), {offset}),
        (lambda at: damage.position(at, "offset", 1_000_000), {offset}),
        (damage.position_lost, {offset, seq}),
        (damage.accounts_of_another_ledger, {"accounts of another ledger = none"}),
    ]
    in_clickhouse: list[Case] = [
        (
            lambda at: damage.number(at, "charge.amount"),
            {"ledger amount = rows' amount", "ledger amount by seq = rows' amount by seq"},
        ),
        (damage.amounts_that_cancel_out, {"ledger amount by seq = rows' amount by seq"}),
        (lambda at: damage.number(at, "charge.quantity_nanos"), {"ledger quantity = rows' quantity"}),
        (
            lambda at: damage.number(at, "posting.amount"),
            {"ledger posted = rows' posted", "ledger posted by seq = rows' posted by seq"},
        ),
        (lambda at: damage.number(at, "posting.balance_after"), {"ledger balances after = rows' balances after"}),
        (damage.row_lost, {ROWS, duplicates}),
        (damage.row_forged, {ROWS, duplicates}),
        (lambda at: damage.row_forged(at, 1_000_000), {"rows beyond the ledger's end = none"}),
        (damage.row_of_another_ledger, {"rows of another ledger = none"}),
        (damage.dead_letter_lost, {"dead letters = rows of originals"}),
    ]
    in_kafka: list[Case] = [
        (lambda at: damage.record(USAGE_DLQ, at, b"forged"), {"dead letters = originals kept"}),
        (lambda at: damage.ledger(at, 1), {ORDER}),
        (lambda at: damage.record(USAGE_RATED, at, b"no ledger record"), {ORDER}),
        (lambda at: damage.record(USAGE_EVENTS, at, event(10**6, CUSTOMERS[at])), set()),
    ]
    # Rows and accounts are independent of one another: a partition takes one damage of each. The ledger is of neither.
    expected: defaultdict[int, set[str]] = defaultdict(set)
    kafka = range(len(in_redis), PARTITIONS)
    for partition, (do, names) in [*enumerate(in_redis), *enumerate(in_clickhouse), *zip(kafka, in_kafka, strict=True)]:
        do(partition)
        expected[partition] |= names
    # Seen by everything that follows the ledger: the last entries once more, as if they were the next.
    twice = expected.popitem()[0]
    damage.ledger(twice, 0)

    code, wrong = settled.reconcile()
    found = by_partition(wrong)
    assert code == 1
    assert found.pop(twice) >= {
        "usage.events records = outcomes",
        "usage.events outcomes = distinct records",
        ROWS,
        offset,
        seq,
    }
    assert found == expected


@pytest.mark.parametrize(
    "away",
    [
        {"kafka_bootstrap": "127.0.0.1:1"},
        {"redis_url": "redis://127.0.0.1:1"},
        {"clickhouse_url": "http://127.0.0.1:1"},
    ],
)
def test_a_store_that_is_away_is_exit_3(served: Served, away: dict[str, Any]) -> None:
    """One line says which; nothing is claimed."""
    tollgate = Tollgate(dataclasses.replace(served.settings, **away))
    done = tollgate("reconcile", "--json", check=False, timeout_s=120)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)
