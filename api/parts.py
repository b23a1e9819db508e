"""What the routes work with, put together once for a process, and how a route gets it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Protocol

from fastapi import Depends, Request

from api.audit import AuditLog
from api.balances import AccountReader, Balances
from api.documents import Documents
from api.guarded import GuardedRows
from api.measures import Measures
from api.readiness import Kafka, Readiness
from api.rows import Rows
from api.sources import Records
from api.tokens import TokenReader
from api.watching import Lags, Watch
from ingest.accept import Record
from ingest.breaker import Breaker
from invoicing.close import Closer
from invoicing.reconcile import Equation
from invoicing.seller import Seller
from rating.admission import wallet_room
from rating.book import PriceBook
from schemas.account import Account
from schemas.catalog import Catalog
from schemas.commands import Command
from schemas.errors import Unavailable
from schemas.period import Period
from streams.admission.client import Admission
from streams.admission.outbox import Outbox
from streams.admission.settlement import Settlements
from streams.commands import Operation
from streams.resolving import Place, Resolved

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Puts records into Kafka."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has all with acks=all. Else Unavailable: it may have some, and takes them again."""

    async def close(self) -> None:
        """Gives connections back."""


class Letters(Protocol):
    """Ends dead letters, each once. Errors: Unavailable, Doubt."""

    async def retry(self, places: Sequence[Place]) -> list[Resolved]:
        """Sends originals again; how each ended, by this call or an earlier one."""

    async def drop(self, places: Sequence[Place], note: str) -> list[Resolved]:
        """Gives letters up."""


class Commanding(Protocol):
    """Carries commands out. Errors: Unavailable."""

    async def run(self, command: Command) -> Operation:
        """Sends a command, unless its id has a final outcome, and waits for a while for what becomes of it."""

    async def known(self, command: Command) -> Operation | None:
        """The final outcome that a command's id has already, if it is kept."""

    async def find(self, tenant: str, operation_id: str, partition: int = -1, offset: int = -1) -> Operation | None:
        """What became of a command, or that it is pending; None: nothing is known of it."""


async def never_closing() -> Closer:
    """Of a process that has nothing to close periods with."""
    raise Unavailable("billing periods cannot be closed here")


async def never_reconciling(period: Period | None) -> list[Equation]:
    """Of a process that does not read all stores."""
    raise Unavailable("the stores cannot be reconciled here")


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that answers; fakes in unit tests."""

    tokens: TokenReader
    publisher: Publisher
    commands: Commanding
    accounts: AccountReader
    rows: Rows
    kafka: Kafka
    book: PriceBook
    keep_up: Callable[[], Coroutine[None, None, None]]
    """Keeps the book up to date until it is cancelled."""
    apply_catalogue: Callable[[Catalog, str, int], Awaitable[tuple[int, bool]]]
    """Catalogue, tenant, now: the version it became, and whether all that follow catalogues have it. Errors:
    Unavailable, Doubt."""
    letters: Letters
    records: Records
    max_future: int
    """Microseconds."""
    now: Callable[[], int]
    """Microseconds since the epoch."""
    rate_limit: tuple[int, int] = (0, 0)
    """Cost units a second that a token may ask for, and how many at once; 0: without limit."""
    measures: Measures = field(default_factory=Measures)
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    """By store: those that `accounts` and `publisher` ask through."""
    audit: AuditLog | None = None
    """Where changes are written down; None: nowhere."""
    lags: Lags | None = None
    """Asked from time to time; None: nobody watches."""
    closing: Callable[[], Awaitable[Closer]] = never_closing
    """What closes billing periods; it connects when it is first asked for. Errors: Unavailable."""
    reconcile: Callable[[Period | None], Awaitable[list[Equation]]] = never_reconciling
    """All equations, of one month's charges alone if it is given. Errors: Unavailable."""
    admission_on_error: str = "deny"
    """`deny` or `allow`: what an admission check answers where it cannot know."""
    admission: Admission | None = None
    """Checks and holds; None: there are none here."""
    outbox: Outbox | None = None
    """What admission tells Kafka and nobody waits for; None: it tells nothing."""
    stripe_webhook_secrets: tuple[str, ...] = ()
    """Any of them may have signed a delivery; none: there is no Stripe."""
    seller: Seller = field(default_factory=Seller)
    """Who bills."""


class Application:
    """The parts, and what is made of them."""

    def __init__(self, parts: Parts) -> None:
        self.measures = parts.measures
        self.breakers = {"clickhouse": Breaker("clickhouse"), **parts.breakers}
        """By store: whether it is asked."""
        parts = replace(parts, rows=GuardedRows(parts.rows, self.breakers["clickhouse"], self.measures))
        self.parts = parts
        self._catalogue_is_followed = True
        self.reconciling = asyncio.Lock()
        """Whoever reads all of the stores waits for who does so already."""
        self.balances = Balances(parts.accounts, parts.kafka.partitions)
        self.documents = Documents(parts.accounts, parts.rows, parts.kafka.partitions)
        self._admission = parts.admission
        self._settlements = Settlements(parts.admission, parts.commands) if parts.admission is not None else None
        self.readiness = Readiness(parts.kafka, parts.rows, parts.accounts, self._has_catalogue, parts.now)

    @property
    def admission(self) -> Admission:
        """Checks and holds. Errors: Unavailable where this process has none."""
        if self._admission is None:
            raise Unavailable("admission is not served here")
        return self._admission

    async def wallet(self, tenant: str, customer: str) -> tuple[Account | None, int, int]:
        """A customer's account, what open holds hold of its wallet, and what is available, all of one moment; nanos.

        Errors: Unavailable."""
        if self._admission is not None:
            return await self._admission.held(tenant, customer)
        account = await self.balances.account(tenant, customer)
        return account, 0, wallet_room(account)

    @property
    def settlements(self) -> Settlements:
        """Settles holds. Errors: as `admission`."""
        if self._settlements is None:
            raise Unavailable("admission is not served here")
        return self._settlements

    async def watch(self) -> None:
        """Measures dependencies and lag until it is cancelled."""
        parts = self.parts
        if parts.lags is not None:
            watch = Watch(
                self.measures, self.readiness, parts.kafka, parts.accounts, parts.lags, self.breakers, parts.now
            )
            await watch.run()

    async def drain_audit(self) -> None:
        """Brings what commands noted into the audit log, until it is cancelled."""
        if self.parts.audit is not None:
            await self.parts.audit.keep_draining()

    def catalogue_followed(self, ended: asyncio.Future[None]) -> None:
        """The reading of catalogue versions ended. By itself it does so only where a version cannot be understood."""
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.critical("catalogue versions are no longer followed: %s", error, exc_info=error)
            self._catalogue_is_followed = False

    def _has_catalogue(self) -> bool:
        return self.parts.book.position > 0 and self._catalogue_is_followed


async def application_of(request: Request) -> Application:
    """The application that a request came to."""
    application: Application = request.app.state.application
    return application


Tollgate = Annotated[Application, Depends(application_of)]
