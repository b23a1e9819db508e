"""ClickHouse and Kafka behind circuit breakers: what the API's routes ask, and what they write to.

Errors: as of the ports; Unavailable at once while a breaker is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final, Protocol

from api import queries
from api.measures import Measures
from api.queries import Query
from api.rows import Rows
from ingest.accept import Record
from ingest.breaker import Breaker
from ingest.delivery import Delivery
from schemas.errors import Unavailable

_LOOK: Final = queries.answers().sql


class Sender(Protocol):
    """Puts records into Kafka. Errors: Unavailable."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has all."""

    async def put(self, record: Record, label: object) -> Delivery:
        """Buffers one record."""

    async def close(self) -> None:
        """Gives connections back."""


class GuardedPublisher:
    """A publisher on another. Whoever waits for Kafka in vain waits for at most the other's time-out, and after a few
    of them nobody does."""

    def __init__(self, publisher: Sender, breaker: Breaker, measures: Measures) -> None:
        self._publisher = publisher
        self._breaker = breaker
        self._measures = measures

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has all with acks=all."""
        with self._breaker.guarded(), self._measured():
            await self._publisher.publish(records)

    async def put(self, record: Record, label: object) -> Delivery:
        """Returns once Kafka has the record: one that is only buffered does not tell whether Kafka is there."""
        with self._breaker.guarded(), self._measured():
            delivery = await self._publisher.put(record, label)
            await delivery
        return delivery

    async def close(self) -> None:
        """See the port."""
        await self._publisher.close()

    @contextmanager
    def _measured(self) -> Iterator[None]:
        begun = perf_counter()
        try:
            yield
        except Unavailable:
            self._measures.store_away("kafka")
            raise
        self._measures.store_answered("kafka", "publish", perf_counter() - begun)


class GuardedRows:
    """The port `Rows` on another."""

    def __init__(self, rows: Rows, breaker: Breaker, measures: Measures) -> None:
        self._rows = rows
        self._breaker = breaker
        self._measures = measures

    async def fetch(self, query: Query) -> list[list[Any]]:
        """See the port."""
        begun = perf_counter()
        # The readiness probe asks in any case: it finds out when ClickHouse is back.
        with self._breaker.guarded(always=query.sql == _LOOK):
            try:
                found = await self._rows.fetch(query)
            except Unavailable:
                self._measures.store_away("clickhouse")
                raise
        self._measures.store_answered("clickhouse", "query", perf_counter() - begun)
        return found

    async def close(self) -> None:
        """See the port."""
        await self._rows.close()
