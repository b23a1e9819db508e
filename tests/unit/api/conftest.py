"""The API on stores in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.parts import Parts
from api.tokens import TokenFile, TokenReader
from rating.book import PriceBook
from schemas.catalog import Catalog, CatalogVersion, parse
from tests.fakes.api import FakeAccounts, FakeKafka, FakeLetters, FakePublisher, FakeRecords, FakeRows
from tests.fakes.commands import FakeCommands

NOW = 1_800_000_000_000_000

CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, aggregation: sum}
prices:
  - {id: p, meter: input_tokens, model: per_unit, unit_amount: "0.0000025"}
"""


@dataclass
class World:
    """The API and what it stands on."""

    tokens: TokenFile
    publisher: FakePublisher = field(default_factory=FakePublisher)
    commands: FakeCommands = field(default_factory=FakeCommands)
    accounts: FakeAccounts = field(default_factory=FakeAccounts)
    rows: FakeRows = field(default_factory=FakeRows)
    kafka: FakeKafka = field(default_factory=FakeKafka)
    letters: FakeLetters = field(default_factory=FakeLetters)
    records: FakeRecords = field(default_factory=FakeRecords)
    book: PriceBook = field(default_factory=PriceBook)
    app: Any = None
    client: httpx.AsyncClient = None  # type: ignore[assignment]

    def token(self, *scopes: str, tenant: str = "acme") -> dict[str, str]:
        """The headers of a token of these scopes, all without any."""
        _, text = self.tokens.issue(tenant, scopes, None, NOW)
        return {"Authorization": f"Bearer {text}"}

    async def apply(self, catalogue: Catalog, tenant: str | None, now: int) -> tuple[int, bool]:
        if self.publisher.away:
            await self.publisher.publish([])
        self.book.add(CatalogVersion(self.book.position + 1, tenant, now, catalogue))
        return self.book.position, True


async def _never() -> None:
    return


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Ready: a catalogue is applied and all stores answer. Its clock stands."""
    path = tmp_path / "tokens.json"
    world = World(TokenFile(path))
    world.accounts.beat = NOW // 1_000
    world.accounts.bodies = world.commands.partition.documents
    await world.apply(parse(CATALOGUE), None, NOW)
    ticks = iter(range(1_000_000))
    world.app = create_app(
        Parts(
            tokens=TokenReader(path, lambda: float(next(ticks))),
            publisher=world.publisher,
            commands=world.commands,
            accounts=world.accounts,
            rows=world.rows,
            kafka=world.kafka,
            letters=world.letters,
            records=world.records,
            book=world.book,
            keep_up=_never,
            apply_catalogue=world.apply,
            max_future=3_600_000_000,
            stripe_webhook_secrets=("whsec_1",),
            now=lambda: NOW,
        )
    )
    transport = httpx.ASGITransport(world.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tollgate") as client:
        world.client = client
        yield world
