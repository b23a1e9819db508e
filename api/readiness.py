"""Whether requests can be served: each dependency asked, each partition looked at.

Ready is: Kafka, Redis and ClickHouse answer, there is a catalogue, and every partition of the accounts is served, which
is that its owner says so and its beat is younger than BEAT_MAX_AGE_SECONDS. The answer is kept for KEPT_SECONDS, since
anybody may ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError

from api import queries
from api.balances import AccountReader
from api.rows import Rows
from ingest.breaker import Breaker
from schemas.errors import TollgateError, Unavailable
from schemas.kafka import connection
from schemas.topics import TOPICS, USAGE_EVENTS

BEAT_MAX_AGE_SECONDS: Final = 5.0
KEPT_SECONDS: Final = 1.0
CHECK_SECONDS: Final = 3.0
"""What has not answered by then is not ready."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    dependencies: dict[str, str | None]
    """By name: None if it is ready, else what is the matter."""
    partitions: int
    unserved: dict[int, str]
    """By partition: why."""

    @property
    def ready(self) -> bool:
        return not self.unserved and not any(self.dependencies.values())


class Kafka(Protocol):
    """What is asked of Kafka itself. Errors: Unavailable."""

    async def answers(self) -> None:
        """Returns if it does, and has our topics."""

    async def partitions(self) -> int:
        """How many partitions the deployment has: fixed with its topics, so asked once."""

    async def close(self) -> None:
        """Gives connections back."""


class KafkaMetadata:
    """Asks Kafka for its topics, on a connection of its own."""

    def __init__(self, bootstrap: str, breaker: Breaker) -> None:
        """With the breaker of those who write to Kafka: to be asked here finds out when it is back."""
        self._bootstrap = bootstrap
        self._breaker = breaker
        self._client: AIOKafkaClient | None = None
        self._partitions: int | None = None
        self._asking = asyncio.Lock()

    async def answers(self) -> None:
        """Kafka answers and our topics are there, else Unavailable."""
        with self._breaker.guarded(always=True):
            metadata = await self._metadata()
        missing = [topic.name for topic in TOPICS if topic.name not in metadata.topics(exclude_internal_topics=False)]
        if missing:
            raise Unavailable(f"kafka: there are no topics {', '.join(missing)}")
        self._partitions = len(metadata.partitions_for_topic(USAGE_EVENTS))

    async def partitions(self) -> int:
        """As many as the input topic has, whatever a setting says."""
        if self._partitions is None:
            await self.answers()
            assert self._partitions is not None
        return self._partitions

    async def close(self) -> None:
        """Gives connections back."""
        if self._client is not None:
            await self._client.close()

    async def _metadata(self) -> ClusterMetadata:
        try:
            async with self._asking:
                if self._client is None:
                    self._client = await self._connect()
                return await self._client.fetch_all_metadata()
        except (KafkaError, OSError) as error:
            raise Unavailable(f"kafka: {error!r}") from error

    async def _connect(self) -> AIOKafkaClient:
        client = AIOKafkaClient(
            **connection(self._bootstrap),
            client_id="tollgate-ready",
            request_timeout_ms=int(CHECK_SECONDS * 1000),
        )
        try:
            await client.bootstrap()
        except BaseException:
            await client.close()
            raise
        return client


class Readiness:
    """Asks all of them."""

    def __init__(
        self,
        kafka: Kafka,
        rows: Rows,
        accounts: AccountReader,
        has_catalogue: Callable[[], bool],
        now: Callable[[], int],
    ) -> None:
        self._kafka = kafka
        self._rows = rows
        self._accounts = accounts
        self._has_catalogue = has_catalogue
        self._now = now
        self._asking = asyncio.Lock()
        self._kept: tuple[float, Report] | None = None

    async def report(self) -> Report:
        """How it stands, at most KEPT_SECONDS ago."""
        async with self._asking:
            if self._kept is not None and time.monotonic() - self._kept[0] < KEPT_SECONDS:
                return self._kept[1]
            report = await self._ask()
            self._kept = (time.monotonic(), report)
            return report

    async def _ask(self) -> Report:
        kafka, clickhouse = await asyncio.gather(
            _matter(self._kafka.answers), _matter(lambda: self._rows.fetch(queries.answers()))
        )
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                partitions = await self._kafka.partitions()
        except (Unavailable, TimeoutError):
            partitions = 0  # nobody knows them before Kafka was seen once
        unserved: dict[int, str] = {}

        async def look() -> None:
            unserved.update(await self._unserved(range(partitions)))

        redis = await _matter(look if partitions else lambda: self._accounts.standing(0))
        if redis is not None:
            unserved = dict.fromkeys(range(partitions), "redis does not answer")
        catalogue = None if self._has_catalogue() else "none is applied yet"
        named = {"kafka": kafka, "redis": redis, "clickhouse": clickhouse, "catalogue": catalogue}
        return Report(named, partitions, unserved)

    async def _unserved(self, numbers: range) -> dict[int, str]:
        standings = await asyncio.gather(*(self._accounts.standing(number) for number in numbers))
        found: dict[int, str] = {}
        for number, standing in zip(numbers, standings, strict=True):
            age_seconds = self._now() / 1e6 - standing.beat / 1e3
            if standing.position is None:
                found[number] = "no worker has opened it"
            elif not standing.serving:
                found[number] = "a worker is bringing it up"
            elif age_seconds > BEAT_MAX_AGE_SECONDS:
                found[number] = "its worker does not beat"
        return found


async def _matter(ask: Callable[[], Awaitable[object]]) -> str | None:
    """What is the matter with a dependency, in words that give away nothing of where it is."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await ask()
    except TollgateError as error:
        return "does not answer" if isinstance(error, Unavailable) else "answers wrongly"
    except TimeoutError:
        return f"has not answered within {CHECK_SECONDS:g} s"
    return None
