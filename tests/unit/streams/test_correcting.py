"""Pending corrections are looked for only where there can be some: a look walks through all documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ingest.accept import Record
from schemas.topics import ACCOUNT_EVENTS
from streams.correcting import PATIENCE, Corrections

NOW = 1_795_000_000_000_000
RATED = ("device.released", NOW, "", "", "d", "", ["m"], ["p"], [1], ["2"], ["USD"], [{}], [3], [0], [6])


class FakeClient:
    """A ClickHouse of corrections alone."""

    def __init__(self) -> None:
        self.written = 0
        self.pending: list[tuple[Any, ...]] = []
        self.rated: set[str] = set()
        self.looks = 0

    def query(self, query: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """See clickhouse-connect."""
        return SimpleNamespace(result_rows=self._answer(query, parameters or {}))

    def _answer(self, query: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if "count()" in query:
            return [(self.written,)]
        if "tollgate.documents" in query:
            self.looks += 1
            return list(self.pending)
        return [RATED] if parameters["event_id"] in self.rated else []

    def ask(self, name: str) -> None:
        """Somebody asks to correct an event."""
        self.written += 1
        self.pending.append(("t", "c", name, "s", name, NOW))

    def settle(self) -> None:
        """What was asked for became of it."""
        self.written += len(self.pending)
        self.pending = []


async def test_corrections_are_looked_for_while_some_wait_and_when_another_was_written() -> None:
    """And not again once none is pending, until one is written."""
    client, sent = FakeClient(), list[Record]()

    async def publish(records: Sequence[Record]) -> None:
        sent.extend(records)

    corrections = Corrections("", publish, lambda _: client)
    looks = []

    async def resolve(now: int = NOW) -> int:
        found = await corrections.resolve(now)
        looks.append(client.looks)
        return found

    assert [await resolve(), await resolve()] == [0, 0]  # the first says that none is pending
    client.ask("early")
    assert [await resolve(), await resolve()] == [0, 0]  # its event has not come: each looks
    client.rated.add("early")
    assert [await resolve(), await resolve()] == [1, 1]  # until it is seen that it was sent
    client.settle()
    assert [await resolve(), await resolve()] == [0, 0]
    client.ask("never")
    assert [await resolve(), await resolve(NOW + PATIENCE + 1)] == [0, 1]
    assert looks == [1, 1, 2, 3, 4, 5, 6, 6, 7, 8]
    assert {record.topic for record in sent} == {ACCOUNT_EVENTS}
