"""A Redis of the tests' own, and a partition in it that serves, without a worker: tests are the ledger."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from backing import launch
from backing.service import silent
from rating.book import PriceBook
from schemas.account import Account, account_key, pack_account
from schemas.catalog import CatalogVersion, from_document
from schemas.settings import Settings
from streams.accounts.port import HoldEnd, Position
from streams.accounts.redis import RedisAccounts
from streams.admission.client import Admission
from streams.admission.store import HoldStore
from tests.deployment import settings_in

CATALOGUE = {
    "currency": "USD",
    "meters": [
        {
            "id": "input_tokens",
            "event_type": "session.tokens_used",
            "quantity": "data.input_tokens",
            "dimensions": ["model"],
        },
        {
            "id": "output_tokens",
            "event_type": "session.tokens_used",
            "quantity": "data.output_tokens",
            "dimensions": ["model"],
        },
        {"id": "tiered", "event_type": "usage.reported"},
        {"id": "ai_chat", "event_type": "usage.reported"},
        {"id": "token", "event_type": "usage.reported"},
    ],
    "prices": [
        {"id": "in", "meter": "input_tokens", "model": "per_unit", "unit_amount": "0.000002"},
        {"id": "out", "meter": "output_tokens", "model": "per_unit", "unit_amount": "0.00001"},
        {"id": "token", "meter": "token", "model": "per_unit", "unit_amount": "0.01"},
        {
            "id": "tiered",
            "meter": "tiered",
            "model": "graduated",
            "tiers": [{"up_to": 100, "unit_amount": "0.01"}, {"up_to": None, "unit_amount": "0.02"}],
        },
    ],
    "plans": [
        {
            "id": "pro",
            "interval": "month",
            "amount": "20.00",
            "features": {"ai_chat": 10, "devices_open": 2, "sso": True},
            "quotas": [{"spend": "5.00", "window": "day", "mode": "hard"}],
        }
    ],
}

_partitions = itertools.count()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of the module's own."""
    data_dir: Path = tmp_path_factory.mktemp("redis")
    settings: Settings = settings_in(data_dir)
    try:
        found = launch.up(settings, backend="native", only=["redis"]).redis_url
        assert found is not None
        yield found
    finally:
        launch.down(settings, purge=True, report=silent)


def book_of(document: dict[str, object] | None = None) -> PriceBook:
    """A book with one catalogue for all."""
    book = PriceBook()
    book.add(CatalogVersion(1, None, 0, from_document(document or CATALOGUE)))
    return book


@dataclass
class Ledger:
    """What a worker is to one partition: it applies accounts and moves the position."""

    accounts: RedisAccounts
    offset: int = 0
    values: dict[str, Account] = field(default_factory=dict)

    async def apply(self, *accounts: Account, endings: Sequence[HoldEnd] = ()) -> None:
        """Applies values and ends holds, or beats."""
        packed = {}
        for account in accounts:
            key = account_key(account.tenant, account.customer)
            self.values[key] = account
            packed[key] = pack_account(account)
        before, self.offset = self.offset, self.offset + (1 if accounts or endings else 0)
        await self.accounts.apply(0, before, Position("ledger", self.offset, self.offset), packed, True, {}, endings)


@dataclass
class Place:
    """Admission beside a ledger, in one partition of a Redis that has no other."""

    ledger: Ledger
    admission: Admission
    redis: Redis


async def place_of(redis_url: str, timeout_seconds: float = 2.0) -> Place:
    """A partition that serves and is trusted, in an emptied Redis."""
    store = HoldStore(redis_url, timeout_seconds)
    redis = Redis.from_url(redis_url)
    await redis.flushall()
    ledger = Ledger(RedisAccounts(redis_url))
    await ledger.apply()
    admission = Admission(store, 1, book_of(), patience_seconds=0.0)
    return Place(ledger, admission, redis)
