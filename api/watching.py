"""What the API looks at from time to time, asked or not, so that Prometheus and its alerts can: dependencies, lag.

It goes on whatever is away: a worker that is gone cannot say so itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from api.balances import AccountReader
from api.measures import Measures
from api.readiness import Kafka, Readiness
from ingest.breaker import Breaker, State
from schemas.cancellation import end_if_cancelled
from schemas.errors import TollgateError, Unavailable
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS
from streams.lag import Lag

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 5.0


class Lags(Protocol):
    """Errors: Unavailable."""

    async def measure(self, decided: Mapping[tuple[str, int], int], now: int) -> Sequence[Lag]:
        """How far each partition of `decided` is behind."""

    async def close(self) -> None:
        """Gives connections back."""


class Watch:
    """One look after the other, until it is cancelled."""

    def __init__(
        self,
        measures: Measures,
        readiness: Readiness,
        kafka: Kafka,
        accounts: AccountReader,
        lags: Lags,
        breakers: Mapping[str, Breaker],
        now: Callable[[], int],
    ) -> None:
        self._measures = measures
        self._readiness = readiness
        self._kafka = kafka
        self._accounts = accounts
        self._lags = lags
        self._breakers = breakers
        self._now = now
        self._decided: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        """Looks for ever."""
        try:
            while True:
                try:
                    await self.look()
                except Unavailable as away:
                    log.debug("watch: %s", away)  # the gauge of the dependency says so
                except TollgateError as error:
                    log.error("watch: %s", error)
                end_if_cancelled()
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            await self._lags.close()

    async def look(self) -> None:
        """Once. Errors: Unavailable; what could be seen is measured."""
        report = await self._readiness.report()
        for name, matter in report.dependencies.items():
            self._measures.dependency(name, ready=matter is None)
        for store, breaker in self._breakers.items():
            self._measures.breaker(store, is_open=breaker.state != State.CLOSED)
        self._measures.unserved(len(report.unserved))
        if report.dependencies["redis"] is None:
            await self._positions()
        # Without Redis nothing is decided: the positions are where they were, and the lag grows.
        for lag in await self._lags.measure(self._decided, self._now()):
            self._measures.lag(lag.topic, lag.partition, lag.events, lag.seconds)

    async def _positions(self) -> None:
        for partition in range(await self._kafka.partitions()):
            position = (await self._accounts.standing(partition)).position
            self._decided[USAGE_EVENTS, partition] = position.usage_next if position is not None else 0
            self._decided[ACCOUNT_EVENTS, partition] = position.account_next if position is not None else 0
