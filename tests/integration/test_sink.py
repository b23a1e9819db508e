"""The sink on real Kafka and ClickHouse: each block of the ledger once, whole and exact, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from backing import launch, state
from backing.service import silent
from schemas.clickhouse import connect
from schemas.documents import decode_body
from schemas.errors import Unavailable
from schemas.ledger import LedgerRecord, rows
from schemas.ledger_packed import encode_record
from schemas.settings import Settings
from schemas.topics import LARGEST_BATCH_BYTES, USAGE_DLQ, USAGE_RATED
from tests.deployment import Tollgate, end, halted, running, until
from tests.fakes.ledger import LedgerWriter

PARTITIONS = 2
NANO = Decimal("0.000000001")


class World:
    """A deployment whose ledger is written here, by no worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tollgate = Tollgate(settings)
        self.writers = [LedgerWriter(partition, customers=7) for partition in range(PARTITIONS)]
        for writer in self.writers:
            self.send(writer.partition, [writer.begin()])

    def send(self, partition: int, records: list[LedgerRecord], *, aborted: bool = False) -> None:
        """Writes records in one transaction, as workers do."""
        values: list[tuple[bytes, None, list[Any]]] = [(encode_record(record), None, []) for record in records]
        self.produce(USAGE_RATED, partition, values, aborted=aborted)

    def produce(
        self, topic: str, partition: int, values: Sequence[tuple[bytes, bytes | None, Any]], aborted: bool
    ) -> None:
        """Writes records with keys and headers in one transaction."""

        async def write() -> None:
            async with AIOKafkaProducer(
                bootstrap_servers=self.settings.kafka_bootstrap,
                transactional_id=f"test-{topic}-{partition}",
                max_request_size=LARGEST_BATCH_BYTES,
            ) as producer:
                await producer.begin_transaction()
                for value, key, headers in values:
                    await producer.send_and_wait(topic, value, key=key, partition=partition, headers=headers)
                if aborted:
                    await producer.abort_transaction()
                else:
                    await producer.commit_transaction()

        asyncio.run(write())

    def write_blocks(self, partition: int, blocks: int, *, count: int = 40) -> None:
        """Closed blocks of two records each, and before them one that no reader may see."""
        writer = self.writers[partition]
        unseen = LedgerWriter(partition, seed=99)
        self.send(partition, [unseen.begin(), unseen.entries(3)], aborted=True)
        self.send(partition, list(writer.blocks(blocks, 2, count)))

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        assert self.settings.clickhouse_url is not None
        client = connect(self.settings.clickhouse_url)
        try:
            answer: list[tuple[Any, ...]] = client.query(query).result_rows
            return answer
        finally:
            client.close()

    def entries(self) -> list[dict[str, Any]]:
        """What was written, entry by entry."""
        return [row for writer in self.writers for record in writer.records for row in rows(record)]

    def arrived(self) -> bool:
        """Whether there are as many rows as entries in closed blocks (more is for `check` to find)."""
        return self.count() >= len(self.entries())

    def count(self) -> int:
        """How many rows there are; 0 while ClickHouse is away."""
        try:
            ((count,),) = self.ask("SELECT count() FROM tollgate.event_outcomes")
        except Unavailable:
            return 0
        return int(count)

    def check(self) -> None:
        """Every row is an entry and every entry a row, exactly."""
        compare(self)

    def pid(self, service: str) -> int:
        """The process of a backing service; skips where it is a container's."""
        pid = state.read(self.settings.data_dir).services[service].pid
        if pid is None:
            pytest.skip(f"{service} does not run as a process of this machine")
        return pid


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Services that no worker writes to."""
    with running(tmp_path_factory.mktemp("sink"), partitions=PARTITIONS) as settings:
        yield World(settings)


@pytest.fixture
def sinks(world: World, tmp_path: Path) -> Iterator[ExitStack]:
    """Ends the sinks of a test, and shows what they logged if it failed."""
    with ExitStack() as stack:
        yield stack
    print((tmp_path / "sink.log").read_text() if (tmp_path / "sink.log").exists() else "")


def brought_up(world: World) -> bool:
    """Starts what does not run; a killed service may still hold its port for a moment."""
    try:
        launch.up(world.settings, report=silent)
    except Unavailable:
        return False
    return True


def compare(world: World) -> None:
    """Each view against the records themselves, put together here from plain values."""
    entries = world.entries()
    outcomes = world.ask(
        "SELECT topic, partition, offset, tenant, customer, source, event_id, event_type, outcome, reason, seq, "
        "toUnixTimestamp64Micro(decided_at) FROM tollgate.event_outcomes ORDER BY partition, seq"
    )
    names = ["topic", "partition", "offset", "tenant", "customer", "source", "event_id", "event_type", "outcome"]
    names += ["reason", "seq", "rated_at"]
    assert outcomes == [tuple(entry[name] for name in names) for entry in entries]
    charges = [
        (
            entry["partition"],
            entry["seq"],
            entry["tenant"],
            entry["customer"],
            entry["user_id"],
            entry["event_id"],
            entry["occurred_at"],
            charge["meter"],
            charge["quantity"] * NANO,
            charge["price_id"],
            charge["catalog_version"],
            charge["unit_amount"],
            charge["amount"] * NANO,
            charge["currency"],
            charge["dimensions"],
            entry["session_id"],
            entry["device_id"],
            entry["allocation_id"],
            entry["subscription_id"],
            Decimal(entry["upstream_cost"]) if entry["upstream_cost"] else None,
            entry["flags"] & 1 == 1,
        )
        for entry in entries
        for charge in entry["charges"]
    ]
    found = world.ask(
        "SELECT partition, seq, tenant, customer, user_id, event_id, toUnixTimestamp64Micro(occurred_at), meter, "
        "quantity, price_id, catalog_version, unit_amount, amount, currency, dimensions, session_id, device_id, "
        "allocation_id, subscription_id, upstream_cost, late FROM tollgate.rated_usage"
    )
    assert sorted(found, key=repr) == sorted(charges, key=repr)
    postings = [
        (
            entry["tenant"],
            entry["customer"],
            posting["entry_id"],
            posting["kind"],
            posting["amount"] * NANO,
            posting["balance_after"] * NANO,
            posting["currency"],
            entry["occurred_at"],
            posting["cause"] or entry["event_id"],
            entry["seq"],
        )
        for entry in entries
        for posting in entry["postings"]
    ]
    found = world.ask(
        "SELECT tenant, customer, entry_id, kind, amount, balance_after, currency, "
        "toUnixTimestamp64Micro(occurred_at), cause, seq FROM tollgate.ledger"
    )
    assert sorted(found, key=repr) == sorted(postings, key=repr)
    newest = {
        (entry["tenant"], written["kind"], written["id"]): (entry["customer"], written["body"], entry["seq"])
        for entry in entries
        for written in entry["documents"]
    }
    found = world.ask("SELECT tenant, kind, id, customer, body, seq FROM tollgate.documents")
    assert {row[:3]: (row[3], decode_body(row[4].encode()), row[5]) for row in found} == newest


def test_every_entry_becomes_a_row_and_the_views_are_exact(world: World, sinks: ExitStack, tmp_path: Path) -> None:
    """Several blocks, aborted records between them, amounts and quantities at the edges of their types."""
    for partition in range(PARTITIONS):
        world.write_blocks(partition, 3)
    sink = sinks.enter_context(world.tollgate.started("sink", log=tmp_path / "sink.log"))
    until(world.arrived)
    world.check()
    assert end(sink) == 0


def test_sums_of_the_views_do_not_wrap(world: World) -> None:
    """Windows and sums of amounts beyond 64 bit of nanos are those of plain integers."""
    entries = world.entries()
    amounts: dict[str, int] = {}
    for entry in entries:
        for charge in entry["charges"]:
            amounts[charge["meter"]] = amounts.get(charge["meter"], 0) + charge["amount"]
    for view in ("rated_usage", "usage_hourly", "usage_daily"):
        found = world.ask(f"SELECT meter, sum(amount) FROM tollgate.{view} GROUP BY meter")
        assert dict(found) == {meter: amount * NANO for meter, amount in amounts.items()}
    assert max(map(abs, amounts.values())) > 2**63
    windows = world.ask(
        "SELECT tenant, customer, meter, dimensions, currency, window_start, quantity, amount, events "
        "FROM tollgate.usage_daily"
    )
    assert sum(row[-1] for row in windows) == sum(len(entry["charges"]) for entry in entries)
    sessions = world.ask("SELECT sum(events), sum(amount) FROM tollgate.sessions")
    in_sessions = [entry for entry in entries if entry["session_id"] and entry["outcome"] == "rated"]
    assert sessions == [
        (len(in_sessions), sum(charge["amount"] for entry in in_sessions for charge in entry["charges"]) * NANO)
    ]
    granted = world.ask("SELECT sum(amount) FROM tollgate.credit_grants WHERE kind = 'grant'")
    assert granted == [
        (sum(p["amount"] for entry in entries for p in entry["postings"] if p["kind"] == "grant") * NANO,)
    ]


def test_the_identity_index_can_be_made_from_one_column(world: World) -> None:
    """The fingerprints of every entry stand there byte for byte."""
    written = [
        fingerprint
        for writer in world.writers
        for record in writer.records
        if record.entries is not None
        for fingerprint in record.entries.fingerprints
    ]
    found = world.ask("SELECT lower(hex(fingerprints)) FROM tollgate.ledger_entries ORDER BY partition, seq")
    assert [bytes.fromhex(text) for (text,) in found] == written


def test_a_block_shows_when_it_is_closed_and_then_whole(world: World, sinks: ExitStack, tmp_path: Path) -> None:
    """Its first records alone are not there; the marker brings all of it."""
    before = world.count()
    writer = world.writers[0]
    sinks.enter_context(world.tollgate.started("sink", log=tmp_path / "sink.log"))
    world.send(0, [writer.entries(5), writer.entries(5)])
    world.write_blocks(1, 1)
    until(lambda: world.count() > before)
    assert world.count() == before + 80
    world.send(0, [writer.block_end()])
    until(world.arrived)
    world.check()


def test_sinks_killed_at_any_moment_lose_and_double_nothing(world: World, sinks: ExitStack, tmp_path: Path) -> None:
    """Two sinks share the partitions; one after the other is killed while blocks flow."""
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    log = tmp_path / "sink.log"
    members = [sinks.enter_context(world.tollgate.started("sink", log=log)) for _ in range(2)]
    for round_number in range(4):
        for _ in range(chance.randrange(3, 8)):
            world.write_blocks(chance.randrange(PARTITIONS), 2, count=chance.choice([1, 300]))
        victim = members.pop(0)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        if round_number < 3:
            members.append(sinks.enter_context(world.tollgate.started("sink", log=log)))
    until(world.arrived)
    world.check()


def test_a_sink_that_slept_through_its_succession_does_no_harm(world: World, sinks: ExitStack, tmp_path: Path) -> None:
    """Stopped while blocks flow until another has its partitions, it wakes with old blocks in hand."""
    log = tmp_path / "sink.log"
    sleeper = sinks.enter_context(world.tollgate.started("sink", log=log))
    world.write_blocks(0, 1)
    until(world.arrived)
    world.write_blocks(0, 4, count=300)
    world.write_blocks(1, 4, count=300)
    with halted(sleeper.pid):
        sinks.enter_context(world.tollgate.started("sink", log=log))
        until(world.arrived)
        world.write_blocks(0, 4)
    world.write_blocks(1, 4)
    until(world.arrived)
    world.check()


def test_clickhouse_killed_under_load_is_waited_for(world: World, sinks: ExitStack, tmp_path: Path) -> None:
    """Killed while blocks flow and away for a while: the sink retries in place and goes on by itself."""
    sink = sinks.enter_context(world.tollgate.started("sink", log=tmp_path / "sink.log"))
    world.write_blocks(0, 2)
    until(world.arrived)
    pid = world.pid("clickhouse")
    world.write_blocks(0, 6, count=300)
    os.kill(pid, signal.SIGKILL)
    world.write_blocks(1, 2)
    until(lambda: brought_up(world))
    world.write_blocks(1, 2)
    until(world.arrived)
    world.check()
    assert sink.poll() is None


def test_rows_that_were_lost_come_back_though_their_tokens_are_remembered(
    world: World, sinks: ExitStack, tmp_path: Path
) -> None:
    """An emptied table is filled again from the ledger: the tokens of its blocks are known and their rows are not."""
    world.ask("TRUNCATE TABLE tollgate.ledger_entries")
    sinks.enter_context(world.tollgate.started("sink", log=tmp_path / "sink.log"))
    until(world.arrived)
    world.check()


def test_a_sink_stops_at_rows_that_are_not_the_ledgers(world: World, sinks: ExitStack, tmp_path: Path) -> None:
    """One row too many: the sink says which partition and ends, and inserts nothing on top."""
    log = tmp_path / "sink.log"
    world.ask(
        "INSERT INTO tollgate.ledger_entries "
        "SELECT * FROM tollgate.ledger_entries WHERE partition = 1 AND seq = 0 LIMIT 1"
    )
    sink = sinks.enter_context(world.tollgate.started("sink", log=log))
    assert sink.wait(60) == 1
    assert "partition 1 has" in log.read_text()
    world.ask("TRUNCATE TABLE tollgate.ledger_entries")


def test_dead_letters_are_shown_once_with_their_bytes(world: World, sinks: ExitStack, tmp_path: Path) -> None:
    """Originals of any bytes; read again from the beginning they do not count twice."""
    at = 1_795_000_000_000_123
    originals = [b"\xff\xfe not text", b"", "größe".encode(), b"x" * 300_000]
    headers = [
        {
            "reason": "not_json",
            "detail": "it is größer",
            "topic": "usage.events",
            "partition": "1",
            "offset": str(offset),
            "seq": str(offset + 100),
            "tenant": "acme",
            "customer": "cust-1",
            "source": "chat",
            "event_id": f"event-{offset}",
            "event_type": "session.tokens_used",
            "received_at": str(at),
        }
        for offset in range(len(originals))
    ]
    values = [
        (original, b"cust-1", [(name, value.encode()) for name, value in header.items()])
        for original, header in zip(originals, headers, strict=True)
    ]
    world.produce(USAGE_DLQ, 1, values, aborted=False)
    world.produce(USAGE_DLQ, 1, values, aborted=False)
    sinks.enter_context(world.tollgate.started("sink", log=tmp_path / "sink.log"))
    until(lambda: world.ask("SELECT max(dlq_offset) FROM tollgate.dead_letter_records")[0][0] >= 2 * len(originals))
    found = world.ask(
        "SELECT topic, partition, offset, tenant, customer, source, event_id, reason, detail, hex(original), "
        "toUnixTimestamp64Micro(received_at), retried_at FROM tollgate.dead_letters ORDER BY offset"
    )
    head, said = ("usage.events", 1), ("not_json", "it is größer")
    expected = [
        (*head, offset, "acme", "cust-1", "chat", f"event-{offset}", *said, original.hex().upper(), at, None)
        for offset, original in enumerate(originals)
    ]
    assert found == expected
    assert world.ask("SELECT count() FROM tollgate.dead_letters") == [(len(originals),)]


def test_the_ledger_can_be_followed_as_json_lines(world: World) -> None:
    """`rated tail` prints every entry, amounts as decimal text."""
    done = world.tollgate("rated", "tail", "--from-beginning", "--until-end", "--partition", "0")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    entries = [row for record in world.writers[0].records for row in rows(record)]
    assert [line["seq"] for line in lines] == [entry["seq"] for entry in entries]
    assert [Decimal(charge["amount"]) for line in lines for charge in line["charges"]] == [
        charge["amount"] * NANO for entry in entries for charge in entry["charges"]
    ]
    assert lines[0]["occurred_at"].endswith("Z")
    refused = world.tollgate("rated", "tail", "--partition", "7", check=False)
    assert refused.returncode == 2
    assert "2 partitions" in refused.stderr
