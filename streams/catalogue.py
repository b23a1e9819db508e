"""The topic `catalog.versions`: applying a catalogue, reading all versions, keeping a price book up to date.

One partition, so that versions have one order; a version's number is its offset plus one. A record that `apply` did
not write is skipped with an error in the log: all readers skip the same. One of a later format, or damaged, is
InvariantBroken: to go on without it would be to rate by a catalogue that is not the newest.

Errors: Unavailable where Kafka does not answer; Doubt where it is not known whether a version was applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from rating.book import PriceBook
from schemas.cancellation import end_if_cancelled
from schemas.catalog import Catalog, CatalogVersion, decode, encode
from schemas.errors import Doubt, InvalidInput, Unavailable
from schemas.kafka import connection
from schemas.limits import INPUT_RECORD_MAX_BYTES
from schemas.topics import CATALOG_VERSIONS
from streams.followers import TELL_SECONDS, Followers
from streams.ledger import committed_consumer
from streams.patience import IDLE_FETCH_MS

log = logging.getLogger(__name__)

_PLACE: Final = TopicPartition(CATALOG_VERSIONS, 0)
_POLL_MS: Final = 1_000
_AGAIN_SECONDS: Final = 1.0
_REQUEST_TIMEOUT_MS: Final = 20_000


async def apply(bootstrap: str, catalog: Catalog, tenant: str | None, now: int) -> int:
    """Makes the catalogue the newest of a tenant (None: the common one); its version, once Kafka has it with acks=all.

    `now`: microseconds.
    """
    producer = AIOKafkaProducer(
        **connection(bootstrap),
        acks="all",
        enable_idempotence=True,
        max_request_size=INPUT_RECORD_MAX_BYTES,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        compression_type="lz4",
    )
    try:
        await producer.start()
        try:
            metadata = await producer.send_and_wait(
                CATALOG_VERSIONS, encode(catalog, tenant, now), key=(tenant or "").encode(), partition=_PLACE.partition
            )
        except KafkaError as error:
            raise Doubt(
                f"Kafka did not say if it took the version: {error!r}; `tollgate catalog show` tells"
            ) from error
    except KafkaError as error:
        raise Unavailable(f"Kafka at {bootstrap}: {error!r}") from error
    finally:
        await producer.stop()
    return int(metadata.offset) + 1


async def apply_everywhere(
    bootstrap: str, redis_url: str, catalog: Catalog, tenant: str | None, now: int
) -> tuple[int, bool]:
    """As `apply`, and waits until every process that follows the catalogue has the version, so that what is sent from
    now on is rated by it; False if one does not come to it in time, or Redis does not answer."""
    version = await apply(bootstrap, catalog, tenant, now)
    followers = Followers(redis_url)
    try:
        return version, await followers.have(version)
    except Unavailable as away:
        log.warning("who has version %d of the catalogue is not known: %s", version, away)
        return version, False
    finally:
        await followers.close()


async def read_all(bootstrap: str) -> list[CatalogVersion]:
    """Every version applied so far, in order."""
    async with aclosing(_batches(bootstrap, 0)) as batches:
        return await anext(batches)


async def keep_up(bootstrap: str, redis_url: str | None, book: PriceBook, known: asyncio.Event) -> None:
    """Keeps a book up to date until it is cancelled. Sets `known` once all versions of the start are in it and there is
    one. Who gives Redis is waited for by whoever applies a version (`streams.followers`).

    While Kafka is away the book stays as it is, and the reading goes on where it was. Redis is not waited for.
    """
    async with _telling(redis_url, book) as tell:
        while True:
            try:
                async with aclosing(_batches(bootstrap, book.position)) as batches:
                    async for versions in batches:
                        if versions and known.is_set():
                            # A version that comes while others are rated by must not hold them up.
                            await asyncio.to_thread(book.prepare, versions[-1])
                        for version in versions:
                            book.add(version)
                            log.info("catalogue version %d of %s", version.version, version.tenant or "all tenants")
                        if book.position:
                            known.set()
                        tell()
            except Unavailable as away:
                log.warning("catalogue versions: %s; version %d stays in force", away, book.position)
                await asyncio.sleep(_AGAIN_SECONDS)


@asynccontextmanager
async def _telling(redis_url: str | None, book: PriceBook) -> AsyncIterator[Callable[[], None]]:
    """Says what the book has: before anything is read, so that a version which is applied meanwhile is either waited
    for or read at once; from time to time; and whenever what this gives is called."""
    news = asyncio.Event()
    if redis_url is None:
        yield news.set
        return
    followers = Followers(redis_url)
    await _said(followers.tell(book.position))
    telling = asyncio.create_task(_keep_telling(followers, book, news), name="catalogue told")
    try:
        yield news.set
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await _said(followers.leave())
        await followers.close()


async def _keep_telling(followers: Followers, book: PriceBook, news: asyncio.Event) -> None:
    while True:
        end_if_cancelled()
        with suppress(TimeoutError):
            async with asyncio.timeout(TELL_SECONDS):
                await news.wait()
        news.clear()
        await _said(followers.tell(book.position))


async def _said(telling: Coroutine[None, None, None]) -> None:
    """Who applies a version then waits for us in vain, and is told so; nothing else depends on it."""
    try:
        await telling
    except Unavailable as away:
        log.warning("what this process has of the catalogue could not be told: %s", away)


async def _batches(bootstrap: str, position: int) -> AsyncGenerator[list[CatalogVersion], None]:
    """The versions after a position: first all that there are by now, be it none, then more as they come."""
    async with committed_consumer(bootstrap, fetch_max_wait_ms=IDLE_FETCH_MS) as consumer:
        consumer.assign([_PLACE])
        consumer.seek(_PLACE, position)
        end = (await consumer.end_offsets([_PLACE]))[_PLACE]
        caught_up: list[CatalogVersion] = []
        while await consumer.position(_PLACE) < end:
            records = (await consumer.getmany(_PLACE, timeout_ms=_POLL_MS)).get(_PLACE, [])
            caught_up += _decoded(records)
        yield caught_up
        while True:
            records = (await consumer.getmany(_PLACE, timeout_ms=_POLL_MS)).get(_PLACE, [])
            if versions := _decoded(records):
                yield versions


def _decoded(records: list[Any]) -> list[CatalogVersion]:
    versions = []
    for record in records:
        try:
            versions.append(decode(record.value or b"", record.offset))
        except InvalidInput as error:
            log.error("catalogue version %d is skipped: %s", record.offset + 1, error)
    return versions
