"""ClickHouse behind a circuit breaker and a clock: what the API's routes ask.

Errors: as of the port; Unavailable at once while the breaker is open.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

from api import queries
from api.measures import Measures
from api.queries import Query
from api.rows import Rows
from ingest.breaker import Breaker
from schemas.errors import Unavailable

_LOOK: Final = queries.answers().sql


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
