"""The closer on real stores, for the command line, the scheduler and the API alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from ingest.publish import Bounds, Publisher
from invoicing.close import Closer
from invoicing.settling import LedgerEnds
from invoicing.stores import Commanding, Reader
from invoicing.usage_rows import UsageRows
from rating.book import PriceBook
from schemas.settings import Settings
from streams import catalogue
from streams.accounts.redis import RedisAccounts
from streams.commands import Commands
from streams.ledger import partition_count, tail

PUBLISH_SECONDS: Final = 10.0
LOCK: Final = "invoices"
"""The lock of who closes periods."""


def ledger_ends(bootstrap: str) -> LedgerEnds:
    """Asks the ledger's partitions for the seq after their last entry."""

    async def ends(partitions: Sequence[int]) -> Mapping[int, int]:
        found = await asyncio.gather(*(tail(bootstrap, partition) for partition in partitions))
        return {
            partition: end.last.next_seq
            for partition, end in zip(partitions, found, strict=True)
            if end.last is not None
        }

    return ends


def now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1_000


@asynccontextmanager
async def opened(settings: Settings, book: PriceBook | None = None) -> AsyncIterator[Closer]:
    """A closer with connections of its own, and with all catalogue versions of now where no `book` is given.

    `settings` with the addresses filled in. Errors: Unavailable.
    """
    bootstrap, redis_url, url = settings.kafka_bootstrap, settings.redis_url, settings.clickhouse_url
    assert bootstrap is not None
    assert redis_url is not None
    assert url is not None
    if book is None:
        book = PriceBook()
        for version in await catalogue.read_all(bootstrap):
            book.add(version)
    partitions = await partition_count(bootstrap)
    accounts = RedisAccounts(redis_url, timeout_seconds=10.0)
    rows = await asyncio.to_thread(UsageRows, url)

    async def archived(tenant: str, kind: str, name: str) -> bytes | None:
        found = await asyncio.to_thread(
            rows.documents, kind, "tenant = {tenant:String} AND id = {id:String}", {"tenant": tenant, "id": name}
        )
        return found[0][3].encode() if found else None

    async def count() -> int:
        return partitions

    publisher = Publisher(bootstrap, bounds=Bounds(timeout_s=PUBLISH_SECONDS))
    try:
        commands = Commands(publisher, accounts, count, archived)
        yield Closer(rows, accounts, commands, book, partitions, ledger_ends(bootstrap), now)
    finally:
        await publisher.close()
        await accounts.close()


class Lazily:
    """The closer of a process that has the other parts already; it connects to ClickHouse when it is first asked."""

    def __init__(
        self,
        bootstrap: str,
        clickhouse_url: str,
        reader: Reader,
        commands: Commanding,
        book: PriceBook,
        partitions: Callable[[], Awaitable[int]],
    ) -> None:
        self._bootstrap = bootstrap
        self._url = clickhouse_url
        self._reader = reader
        self._commands = commands
        self._book = book
        self._partitions = partitions
        self._made: Closer | None = None

    async def __call__(self) -> Closer:
        """The closer. Errors: Unavailable."""
        if self._made is None:
            rows = await asyncio.to_thread(UsageRows, self._url)
            ends = ledger_ends(self._bootstrap)
            count = await self._partitions()
            self._made = Closer(rows, self._reader, self._commands, self._book, count, ends, now)
        return self._made
