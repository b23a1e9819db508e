"""What the routes work with, put together once for a process, and how a route gets it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from api.balances import AccountReader, Balances
from api.measures import Measures
from api.readiness import Kafka, Readiness
from api.rows import Rows
from api.tokens import TokenReader
from ingest.accept import Record
from rating.book import PriceBook
from schemas.catalog import Catalog


class Publisher(Protocol):
    """Puts records into Kafka."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has all with acks=all. Else Unavailable: it may have some, and takes them again."""

    async def close(self) -> None:
        """Gives connections back."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that answers; fakes in unit tests."""

    tokens: TokenReader
    publisher: Publisher
    accounts: AccountReader
    rows: Rows
    kafka: Kafka
    book: PriceBook
    keep_up: Callable[[], Awaitable[None]]
    """Keeps the book up to date until it is cancelled."""
    apply_catalogue: Callable[[Catalog, str, int], Awaitable[int]]
    """Catalogue, tenant, now: the version it became. Errors: Unavailable, Doubt."""
    max_future: int
    """Microseconds."""
    now: Callable[[], int]
    """Microseconds since the epoch."""


class Application:
    """The parts, and what is made of them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.measures = Measures()
        self.balances = Balances(parts.accounts, parts.kafka.partitions)
        self.readiness = Readiness(parts.kafka, parts.rows, parts.accounts, lambda: parts.book.position > 0, parts.now)


async def application_of(request: Request) -> Application:
    """The application that a request came to."""
    application: Application = request.app.state.application
    return application


Tollgate = Annotated[Application, Depends(application_of)]
