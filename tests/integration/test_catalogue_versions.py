"""Catalogue versions on real Kafka: applied from the command line, followed by a running reader."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from rating.book import PriceBook
from schemas.catalog import from_document, parse
from schemas.settings import Settings
from schemas.topics import CATALOG_VERSIONS
from streams.catalogue import apply, keep_up, read_all
from tests.deployment import Tollgate

PATIENCE_SECONDS = 30
CATALOG = {"currency": "USD", "meters": [{"id": "m", "event_type": "e", "quantity": "data.n"}]}


def catalog_text(amount: str) -> str:
    price = {"id": "p", "meter": "m", "model": "per_unit", "unit_amount": amount}
    return json.dumps({**CATALOG, "prices": [price]})


@asynccontextmanager
async def kept_up(services: Settings) -> AsyncIterator[tuple[PriceBook, asyncio.Event]]:
    """A book that a running reader keeps up to date."""
    book, known = PriceBook(), asyncio.Event()
    task = asyncio.create_task(keep_up(bootstrap(services), str(services.redis_url), book, known))
    try:
        yield book, known
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def bootstrap(services: Settings) -> str:
    assert services.kafka_bootstrap is not None
    return services.kafka_bootstrap


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not reached():  # noqa: ASYNC110  # a price book is plain values and tells nobody
            await asyncio.sleep(0.01)


async def test_a_running_reader_sees_what_is_applied_from_the_command_line(
    services: Settings, tollgate: Tollgate, tmp_path: Path
) -> None:
    """A version is in force, for its tenant, with the checksum that was printed, once the command has ended."""
    tenant = f"catalogue-{uuid.uuid4().hex}"
    file = tmp_path / "catalog.yaml"
    file.write_text(catalog_text("1"))
    command = ("catalog", "apply", str(file), "--tenant", tenant, "--json")
    first = json.loads((await asyncio.to_thread(tollgate, *command)).stdout)
    async with kept_up(services) as (book, known):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await known.wait()
        assert book.position >= first["version"]
        file.write_text(catalog_text("2"))
        second = json.loads((await asyncio.to_thread(tollgate, *command)).stdout)
        assert second["version"] > first["version"]
        assert second["picked_up"]
        assert book.position >= second["version"]  # at once: the command has waited for it
        for applied in (first, second):
            found = book.catalogue(tenant, applied["version"])
            assert found is not None
            assert (found.version, found.catalog.checksum) == (applied["version"], applied["checksum"])


async def test_show_prints_what_is_in_force_and_diff_what_changed(services: Settings, tollgate: Tollgate) -> None:
    """What `show` prints can be applied again; versions are compared by their numbers."""
    tenant = f"catalogue-{uuid.uuid4().hex}"
    catalogs = [parse(catalog_text(amount)) for amount in ("1", "2")]
    versions = [await apply(bootstrap(services), catalog, tenant, now=0) for catalog in catalogs]
    assert parse(tollgate("catalog", "show", "--tenant", tenant).stdout) == catalogs[1]
    assert parse(tollgate("catalog", "show", "--version", str(versions[0])).stdout) == catalogs[0]
    assert tollgate("catalog", "diff", *map(str, versions)).stdout == '~ prices[p].unit_amount: "1" -> "2"\n'


async def test_what_is_not_committed_or_no_version_is_skipped_by_every_reader(services: Settings) -> None:
    """An aborted transaction, its marker and foreign bytes make no version and hold nothing up."""
    tenant = f"catalogue-{uuid.uuid4().hex}"
    before = await apply(bootstrap(services), from_document(CATALOG), tenant, now=0)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap(services), transactional_id=tenant)
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(CATALOG_VERSIONS, b"never committed", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(CATALOG_VERSIONS, b"no catalogue", partition=0)
    finally:
        await producer.stop()
    after = await apply(bootstrap(services), from_document(CATALOG), tenant, now=0)
    read: list[int] = []
    while after not in read:  # it is known to be committed a moment before it is read
        read = [version.version for version in await read_all(bootstrap(services)) if version.tenant == tenant]
    assert read == [before, after]
    async with kept_up(services) as (book, _):
        await until(lambda: book.position >= after)
        assert [version.version for version in book._versions[tenant]] == [before, after]
