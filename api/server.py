"""The HTTP server process: puts the parts together on real stores, serves until SIGTERM or SIGINT, drains.

It starts whether stores answer or not: /healthz says that it lives, /readyz what is missing. Nothing is written to
standard output. SIGTERM ends it with code 0 once the requests at hand are answered, or after DRAIN_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import uvicorn
import uvloop

from api.app import create_app
from api.audit import AuditLog
from api.audit_file import FILE as AUDIT_FILE
from api.documents import Documents
from api.guarded import GuardedPublisher
from api.measures import Measures
from api.one_write import OneWrite
from api.parts import Parts
from api.readiness import KafkaMetadata
from api.rows import ClickHouseRows
from api.tokens import TokenReader
from ingest.breaker import Breaker
from ingest.publish import Bounds, Publisher
from invoicing.evidence import gather
from invoicing.opening import Lazily
from invoicing.reconcile import Equation
from invoicing.seller import seller_of
from rating.book import PriceBook
from schemas.errors import Unavailable
from schemas.period import MICROSECOND, Period
from schemas.settings import Settings
from streams import catalogue, garbage
from streams.accounts.redis import RedisAccounts
from streams.admission.client import Admission, OnError
from streams.admission.denials import DenialLog
from streams.admission.journal import HoldJournal, sheet_of
from streams.admission.outbox import Outbox
from streams.admission.store import HoldStore
from streams.commands import Commands
from streams.lag import LagWatch
from streams.letter_rows import ClickHouseLetters
from streams.lookup import Records
from streams.resolving import Resolver

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10
PUBLISH_SECONDS: Final = 4.0
"""How long a request waits for Kafka before it is answered 503: longer than a partition takes to find another leader,
shorter than callers wait (5 s are usual, the device scheduler has 8), and less than DRAIN_SECONDS, so that a drain is
clean."""

REDIS_SECONDS: Final = 0.5
"""A look at an account takes a millisecond: whoever waits longer waits for a Redis that is not there."""

ADMISSION_SECONDS: Final = 0.5
"""How long a check or hold waits for Redis; whoever asks is waiting too."""

GC_THRESHOLD: Final = 20_000
"""Values made before the collector looks for cycles among the youngest: those of some hundreds of requests at once."""

BACKLOG: Final = 1_024
KEEP_ALIVE_SECONDS: Final = 75
"""Longer than usual proxies keep theirs, so that they and not we close a connection they may be about to use."""

assert PUBLISH_SECONDS < DRAIN_SECONDS


def run(
    settings: Settings,
    kafka: str,
    redis: str,
    clickhouse: str,
    say_ready: Callable[[bool], None] = lambda ready: None,
    say_metrics: Callable[[str], None] = lambda url: None,
) -> int:
    """Serves until told to stop; the exit code. The addresses are of the stores, with credentials. `say_metrics` hears
    where /metrics is once it is known."""

    def started(url: str) -> None:
        say_metrics(f"{url}/metrics")
        say_ready(True)

    code = uvloop.run(_serve(settings, kafka, redis, clickhouse, started))
    say_ready(False)
    return code


def assemble(settings: Settings, kafka: str, redis: str, clickhouse: str) -> Parts:
    """The parts on real stores. Connects to none of them yet."""
    book = PriceBook()
    breakers = {"redis": Breaker("redis"), "kafka": Breaker("kafka")}
    reader = settings.clickhouse_reader_url or clickhouse
    unguarded = Publisher(kafka, bounds=Bounds(timeout_s=PUBLISH_SECONDS))
    measures = Measures()
    publisher = GuardedPublisher(unguarded, breakers["kafka"], measures)
    accounts, rows, metadata = (
        RedisAccounts(redis, REDIS_SECONDS, breakers["redis"]),
        ClickHouseRows(reader),
        KafkaMetadata(kafka, breakers["kafka"]),
    )
    documents = Documents(accounts, rows, metadata.partitions)
    on_error: OnError = "allow" if settings.admission_on_error == "allow" else "deny"
    outbox = Outbox(unguarded, sheet_of)  # nobody waits for it
    admission = Admission(
        HoldStore(redis, ADMISSION_SECONDS),
        metadata.partitions,
        book,
        journal=HoldJournal(outbox),
        denials=DenialLog(outbox),
        on_error=on_error,
    )
    return Parts(
        tokens=TokenReader(settings.tokens_file),
        publisher=publisher,
        commands=Commands(publisher, accounts, metadata.partitions, documents.archived),
        accounts=accounts,
        rows=rows,
        kafka=metadata,
        book=book,
        keep_up=lambda: catalogue.keep_up(kafka, redis, book, asyncio.Event()),
        apply_catalogue=partial(catalogue.apply_everywhere, kafka, redis),
        records=Records(kafka),
        letters=Resolver(kafka, ClickHouseLetters(reader), _now),
        max_future=settings.max_future // MICROSECOND,
        now=_now,
        rate_limit=(settings.rate_limit, settings.rate_burst),
        measures=measures,
        breakers=breakers,
        audit=AuditLog(publisher, settings.tokens_file.with_name(AUDIT_FILE)),
        lags=LagWatch(kafka),
        closing=Lazily(
            kafka,
            clickhouse,
            accounts,
            Commands(publisher, accounts, metadata.partitions, documents.archived),
            book,
            metadata.partitions,
        ),
        reconcile=_reconciling(replace(settings, kafka_bootstrap=kafka, redis_url=redis, clickhouse_url=clickhouse)),
        admission=admission,
        outbox=outbox,
        admission_on_error=settings.admission_on_error,
        stripe_webhook_secrets=tuple(filter(None, (settings.stripe_webhook_secret or "").split(","))),
        seller=seller_of(settings),
    )


def _reconciling(settings: Settings) -> Callable[[Period | None], Awaitable[list[Equation]]]:
    """Takes the evidence in a thread of its own: folding the ledger would keep other requests waiting."""

    async def reconcile(period: Period | None) -> list[Equation]:
        return await asyncio.to_thread(asyncio.run, gather(settings, period))

    return reconcile


def _now() -> int:
    return time.time_ns() // 1_000


async def _serve(settings: Settings, kafka: str, redis: str, clickhouse: str, started: Callable[[str], None]) -> int:
    app = create_app(assemble(settings, kafka, redis, clickhouse))
    garbage.spare(GC_THRESHOLD)
    listener = _listener(settings.http_host, settings.http_port)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=OneWrite,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config, lambda: started(_url(listener)))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve(sockets=[listener])
    return 0


class _Server(uvicorn.Server):
    """uvicorn, but a signal that asked it to stop is not raised again once it has."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_started = started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_started()

    def stop(self) -> None:
        """Drains; told twice, it does not wait for requests at hand."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _listener(host: str, port: int) -> socket.socket:
    """Bound before anything is started, so that a taken port is said at once. Errors: Unavailable."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise Unavailable(f"cannot listen on {host} port {port}: {error}") from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("listening on %s", url)
    return url
