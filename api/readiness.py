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
from aiokafka.errors import KafkaError

from api import queries
from api.balances import AccountReader
from api.rows import Rows
from schemas.errors import TollgateError, Unavailable
from schemas.topics import TOPICS

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


class Answering(Protocol):
    """Something that can be asked whether it is there. Errors: Unavailable."""

    async def answers(self) -> None:
        """Returns if it is."""

    async def close(self) -> None:
        """Gives connections back."""


class KafkaMetadata:
    """Asks Kafka for its topics, on a connection of its own."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._client: AIOKafkaClient | None = None

    async def answers(self) -> None:
        """Kafka answers and our topics are there, else Unavailable."""
        try:
            if self._client is None:
                client = AIOKafkaClient(bootstrap_servers=self._bootstrap, client_id="tollgate-ready")
                try:
                    await client.bootstrap()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            metadata = await self._client.fetch_all_metadata()
        except (KafkaError, OSError) as error:
            raise Unavailable(f"kafka: {error!r}") from error
        missing = [topic.name for topic in TOPICS if topic.name not in metadata.topics(exclude_internal_topics=False)]
        if missing:
            raise Unavailable(f"kafka: there are no topics {', '.join(missing)}")

    async def close(self) -> None:
        """Gives connections back."""
        if self._client is not None:
            await self._client.close()


class Readiness:
    """Asks all of them."""

    def __init__(
        self,
        kafka: Answering,
        rows: Rows,
        accounts: AccountReader,
        partitions: int,
        has_catalogue: Callable[[], bool],
        now: Callable[[], int],
    ) -> None:
        self._kafka = kafka
        self._rows = rows
        self._accounts = accounts
        self._partitions = partitions
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
        unserved: dict[int, str] = {}

        async def partitions() -> None:
            unserved.update(await self._unserved())

        kafka, clickhouse, redis = await asyncio.gather(
            _matter(self._kafka.answers), _matter(lambda: self._rows.fetch(queries.answers())), _matter(partitions)
        )
        if redis is not None:
            unserved = dict.fromkeys(range(self._partitions), "redis does not answer")
        catalogue = None if self._has_catalogue() else "none is applied yet"
        named = {"kafka": kafka, "redis": redis, "clickhouse": clickhouse, "catalogue": catalogue}
        return Report(named, self._partitions, unserved)

    async def _unserved(self) -> dict[int, str]:
        numbers = range(self._partitions)
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
