"""The topic `catalog.versions`: applying a catalogue, reading all versions, keeping a price book up to date.

One partition, so that versions have one order; a version's number is its offset plus one. A record that `apply` did
not write is skipped with an error in the log: all readers skip the same. One of a later format, or damaged, is
InvariantBroken: to go on without it would be to rate by a catalogue that is not the newest.

Errors: Unavailable where Kafka does not answer; Doubt where it is not known whether a version was applied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from rating.book import PriceBook
from schemas.catalog import Catalog, CatalogVersion, decode, encode
from schemas.errors import Doubt, InvalidInput, Unavailable
from schemas.kafka import connection
from schemas.limits import INPUT_RECORD_MAX_BYTES
from schemas.topics import CATALOG_VERSIONS
from streams.ledger import committed_consumer

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


async def read_all(bootstrap: str) -> list[CatalogVersion]:
    """Every version applied so far, in order."""
    async with aclosing(_batches(bootstrap, 0)) as batches:
        return await anext(batches)


async def keep_up(bootstrap: str, book: PriceBook, known: asyncio.Event) -> None:
    """Keeps a book up to date, for ever. Sets `known` once all versions of the start are in it and there is one.

    While Kafka is away the book stays as it is, and the reading goes on where it was.
    """
    while True:
        try:
            async with aclosing(_batches(bootstrap, book.position)) as batches:
                async for versions in batches:
                    if (
                        versions and known.is_set()
                    ):  # a version that comes while others are rated by must not hold them up
                        await asyncio.to_thread(book.prepare, versions[-1])
                    for version in versions:
                        book.add(version)
                        log.info("catalogue version %d of %s", version.version, version.tenant or "all tenants")
                    if book.position:
                        known.set()
        except Unavailable as away:
            log.warning("catalogue versions: %s; version %d stays in force", away, book.position)
            await asyncio.sleep(_AGAIN_SECONDS)


async def _batches(bootstrap: str, position: int) -> AsyncGenerator[list[CatalogVersion], None]:
    """The versions after a position: first all that there are by now, be it none, then more as they come."""
    async with committed_consumer(bootstrap) as consumer:
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
