"""Stores as the API sees them, in memory, each with a switch to be away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from api.queries import Query
from ingest.accept import Record
from schemas.errors import Unavailable
from schemas.ledger import LedgerRecord
from streams.accounts.port import Position, Standing
from streams.resolving import Place, Resolved


class FakePublisher:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.away = False

    async def publish(self, records: Sequence[Record]) -> None:
        if self.away:
            raise Unavailable("kafka: away")
        self.records.extend(records)

    async def close(self) -> None:
        pass


class FakeAccounts:
    """Partitions that stand as they are told to; every look at one that is served finds a new beat, unless `still`."""

    def __init__(self) -> None:
        self.packed: dict[str, bytes] = {}
        self.bodies: dict[str, bytes] = {}
        """Documents, by their keys."""
        self.positions: dict[int, Position] = {}
        self.serving = True
        self.beat = 1_000
        self.still = False
        self.away = False

    def _standing(self, partition: int) -> Standing:
        if self.away:
            raise Unavailable("redis: away")
        if not self.still:
            self.beat += 1
        return Standing(self.positions.get(partition, Position("ledger", 7, 3)), self.serving, self.beat)

    async def standing(self, partition: int) -> Standing:
        return self._standing(partition)

    async def peek(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        return self._standing(partition), self.packed.get(key)

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        if self.away:
            raise Unavailable("redis: away")
        return [self.bodies.get(key) for key in keys]

    async def close(self) -> None:
        pass


class FakeRows:
    """Answers by a function of the query, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[Query] = []
        self.answer: Callable[[Query], list[list[Any]]] = lambda query: []
        self.away = False

    async def fetch(self, query: Query) -> list[list[Any]]:
        if self.away:
            raise Unavailable("clickhouse: away")
        self.asked.append(query)
        return self.answer(query)

    async def close(self) -> None:
        pass


class FakeLetters:
    """Dead letters end as they are told to, once."""

    def __init__(self) -> None:
        self.ended: dict[Place, Resolved] = {}
        self.notes: list[str] = []

    async def retry(self, places: Sequence[Place]) -> list[Resolved]:
        return [self._end(place, "retried") for place in places]

    async def drop(self, places: Sequence[Place], note: str) -> list[Resolved]:
        self.notes.append(note)
        return [self._end(place, "dropped") for place in places]

    def _end(self, place: Place, resolution: str) -> Resolved:
        earlier = self.ended.get(place)
        if earlier is not None:
            return earlier._replace(now=False)
        self.ended[place] = Resolved(place, resolution, 1_800_000_000_000_000, True)
        return self.ended[place]


class FakeRecords:
    """Single records, by their place."""

    def __init__(self) -> None:
        self.ledgers: dict[tuple[int, int], LedgerRecord] = {}
        self.values: dict[tuple[str, int, int], bytes] = {}

    async def ledger(self, partition: int, offset: int) -> LedgerRecord | None:
        return self.ledgers.get((partition, offset))

    async def value(self, topic: str, partition: int, offset: int) -> bytes | None:
        return self.values.get((topic, partition, offset))


class FakeKafka:
    """Answers, or does not."""

    def __init__(self) -> None:
        self.away = False

    async def answers(self) -> None:
        if self.away:
            raise Unavailable("kafka: away")

    async def partitions(self) -> int:
        return 2

    async def close(self) -> None:
        pass
