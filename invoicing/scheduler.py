"""The scheduler: one leader runs the periodic jobs, each when it is due; others wait to take over.

A job is a name, how often, and a function that does what is due by now; it may run twice, late or half. When a job last
ran, how long and with what result stands in Redis, where it can be lost: then all run at once, which costs a look. A
job whose time went by while nobody led runs as soon as somebody does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.accept import Record
from ingest.publish import Bounds, Publisher
from invoicing import evidence
from invoicing.close import Closer
from invoicing.flows.follow import follow
from invoicing.flows.handlers import Around
from invoicing.flows.http_services import HttpServices
from invoicing.flows.plans import KnownPlans
from invoicing.jobs import Due, Jobs
from invoicing.opening import LOCK, PUBLISH_SECONDS, now, opened
from invoicing.overage import bill_overage
from invoicing.reconcile import drift_of
from invoicing.stripe.gateway import StripeGateway
from invoicing.stripe.mirror import Tenant, mirror
from invoicing.usage_rows import UsageRows
from rating.book import PriceBook
from schemas import commands as wallet
from schemas import metrics
from schemas.commands import Command
from schemas.errors import Conflict, Doubt, TollgateError, Unavailable
from schemas.period import SECOND, format_time, parse_time
from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS
from streams import catalogue
from streams.accounts.redis import RedisAccounts
from streams.correcting import Corrections
from streams.expiring import expire_allocations
from streams.healing import heal
from streams.ledger import partition_count
from streams.letter_rows import ClickHouseLetters
from streams.lock import Lock
from streams.resolving import Resolver

log = logging.getLogger(__name__)

TABLE: Final = "tollgate:jobs"
LEADER: Final = "scheduler"
LOOK_SECONDS: Final = 1.0
AWAY_SECONDS: Final = 60
"""After so long at most a job runs again that failed for a store that was away."""
HOUR: Final = 3_600
RECONCILE: Final = "reconcile"
FOLLOWERS_LOOK_SECONDS: Final = 2.0


class Meters:
    """What jobs measure."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.runs = metrics.JOBS.on(registry)
        self.seconds = metrics.JOB_SECONDS.on(registry)
        self.drift = metrics.DRIFT.on(registry)
        self.reconciled_at = metrics.RECONCILED_AT.on(registry)


@dataclass(frozen=True, slots=True)
class Parts:
    """What jobs work with."""

    settings: Settings
    jobs: Jobs
    closer: Closer
    due: Due
    rows: UsageRows
    accounts: RedisAccounts
    publisher: Publisher
    corrections: Corrections
    book: PriceBook
    partitions: int
    meters: Meters

    async def send(self, command: Command) -> None:
        """A command into the log."""
        await self.publisher.publish([Record(ACCOUNT_EVENTS, command.customer.encode(), command.encoded())])


Run = Callable[[Parts], Awaitable[int]]
"""Does what is due; how much it was."""


@dataclass(frozen=True, slots=True)
class Job:
    """A periodic job."""

    name: str
    every_seconds: int
    sentence: str
    run: Run


async def _renew(parts: Parts) -> int:
    return await parts.jobs.renew(await parts.due.subscriptions(now()), now())


async def _close(parts: Parts) -> int:
    lock = Lock(str(parts.settings.redis_url), LOCK)
    try:
        async with lock.held() as fence:
            return await parts.jobs.close(now()) if fence is not None else 0
    finally:
        await lock.close()


async def _finalize(parts: Parts) -> int:
    return await parts.jobs.finalize(await parts.due.invoices(["draft"], now()))


async def _collect(parts: Parts) -> int:
    return await parts.jobs.collect(await parts.due.invoices(["open", "overdue"], now()))


async def _orders(parts: Parts) -> int:
    return await parts.jobs.expire_orders(await parts.due.orders(now()), now())


async def _credits(parts: Parts) -> int:
    found = await parts.due.expiring(now())
    for account in found:
        name = f"tick:{account.customer}"[:160] + f":{account.next_expiry()}"
        await parts.send(Command(account.tenant, account.customer, wallet.CUSTOMER_TICK, name, {}))
    return len(found)


async def _allocations(parts: Parts) -> int:
    url = str(parts.settings.clickhouse_url)
    return await expire_allocations(url, parts.accounts, parts.partitions, parts.publisher.publish, now())


async def _corrections(parts: Parts) -> int:
    return await parts.corrections.resolve(now())


async def _letters(parts: Parts) -> int:
    book = parts.book

    def newest_for(tenant: str) -> int:
        compiled = book.catalogue(tenant, book.position)
        return compiled.version if compiled is not None else 0

    letters = ClickHouseLetters(str(parts.settings.clickhouse_url))
    resolver = Resolver(str(parts.settings.kafka_bootstrap), letters, now)
    return await heal(letters, resolver, book.position, newest_for)


async def _stripe(parts: Parts) -> int:
    settings = parts.settings
    if not settings.stripe_api_key:
        return 0
    tenants: dict[str, Tenant] = {}
    for kind in ("customer", "invoice", "payment"):
        for tenant, _, name, body in await asyncio.to_thread(parts.rows.documents, kind, "1", {}):
            of = tenants.setdefault(tenant, Tenant(tenant, {}, {}, {}))
            listed: Any = getattr(of, f"{kind}s")
            listed[name] = orjson.loads(body)
    async with StripeGateway(settings.stripe_api_key, settings.stripe_api_base) as gateway:
        summaries = [await mirror(gateway, tenant, parts.send) for tenant in tenants.values()]
    return sum(getattr(summary, "sent", 0) for summary in summaries)


async def _reconcile(parts: Parts) -> int:
    equations = await evidence.gather(parts.settings)
    for name, difference in drift_of(equations).items():
        parts.meters.drift.labels(name).set(difference)
    parts.meters.reconciled_at.set(time.time())
    wrong = [equation.name for equation in equations if equation.difference]
    if wrong:
        raise Conflict("drift", f"{len(wrong)} equations do not hold: {', '.join(wrong[:5])}")
    return len(equations)


JOBS: Final[tuple[Job, ...]] = (
    Job("correct-usage", 3, "Send what pending corrections of usage wait for", _corrections),
    Job("renew-subscriptions", 15, "Renew subscriptions, end them, grant their recurring credits", _renew),
    Job("orders", 30, "Expire orders that were not paid in time", _orders),
    Job("expire-credits", 60, "Take out what expired credits have left", _credits),
    Job("expire-allocations", 60, "End device allocations whose time is over", _allocations),
    Job("retry-dead-letters", 60, "Send dead letters again that a newer catalogue may have healed", _letters),
    Job("collect", 60, "Try unpaid invoices again after 1, 3, 5 and 7 days; overdue, uncollectible", _collect),
    Job("stripe", 60, "Keep Stripe a mirror of invoices and payment intents", _stripe),
    Job("finalize", 300, "Finalize drafts whose grace is over", _finalize),
    Job("close", HOUR, "Draft the invoices of billing periods that have ended", _close),
    Job(RECONCILE, 24 * HOUR, "Prove every equation and measure the drift", _reconcile),
)
BY_NAME: Final = {job.name: job for job in JOBS}


class Table:
    """When jobs last ran, in Redis. Errors: Unavailable."""

    def __init__(self, redis_url: str) -> None:
        self._redis: Redis = Redis.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=2.0)

    async def read(self) -> dict[str, dict[str, Any]]:
        """The last run of each job that has run."""
        try:
            found: Any = await self._redis.execute_command("HGETALL", TABLE)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise Unavailable(f"redis: {error}") from error
        return {name.decode(): orjson.loads(told) for name, told in found.items()}

    async def write(self, name: str, told: dict[str, Any]) -> None:
        """A job has run."""
        try:
            await self._redis.execute_command("HSET", TABLE, name, orjson.dumps(told))  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise Unavailable(f"redis: {error}") from error

    async def close(self) -> None:
        """Gives the connection back."""
        await self._redis.aclose()


@contextlib.asynccontextmanager
async def assembled(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[Parts]:
    """What jobs work with, connected. Errors: Unavailable."""
    bootstrap, redis_url, url = settings.kafka_bootstrap, settings.redis_url, settings.clickhouse_url
    assert bootstrap is not None
    assert redis_url is not None
    assert url is not None
    book = PriceBook()
    for version in await catalogue.read_all(bootstrap):
        book.add(version)
    keeping_up = asyncio.create_task(catalogue.keep_up(bootstrap, None, book, asyncio.Event()), name="catalogue")
    accounts = RedisAccounts(redis_url, timeout_seconds=10.0)
    publisher = Publisher(bootstrap, bounds=Bounds(timeout_s=PUBLISH_SECONDS))
    corrections = Corrections(url, publisher.publish)
    try:
        rows = await asyncio.to_thread(UsageRows, url)
        async with opened(settings, book) as closer:
            yield Parts(
                settings,
                Jobs(closer),
                closer,
                Due(rows, accounts),
                rows,
                accounts,
                publisher,
                corrections,
                book,
                await partition_count(bootstrap),
                Meters(registry),
            )
    finally:
        keeping_up.cancel()
        await asyncio.gather(keeping_up, return_exceptions=True)
        corrections.close()
        await publisher.close()
        await accounts.close()


async def run_job(job: Job, parts: Parts, table: Table) -> dict[str, Any]:
    """Runs a job once and writes down how it went."""
    begun, away = now(), False
    try:
        done, status, detail = await job.run(parts), "done", ""
    except TollgateError as failure:
        done, status, detail = 0, "failed", str(failure)
        away = isinstance(failure, Unavailable | Doubt)
        log.warning("job %s: %s", job.name, failure)
    seconds = (now() - begun) / 1_000_000
    parts.meters.runs.labels(job.name, status).inc()
    parts.meters.seconds.labels(job.name).observe(seconds)
    told = {
        "last_run": format_time(begun),
        "seconds": f"{seconds:.3f}",
        "status": status,
        "result": done,
        "detail": detail,
        "away": away,
    }
    await table.write(job.name, told)
    return told


async def run(settings: Settings, tell: Callable[[bool], None], registry: CollectorRegistry) -> int:
    """Runs one scheduler of a deployment, whose addresses are filled in, until SIGTERM; the exit code."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with assembled(settings, registry) as parts:
        following = asyncio.create_task(_flows(parts), name="flows")
        leading = asyncio.create_task(_lead(parts, stopping), name="leader")
        tell(True)
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait((following, leading, waiting), return_when=asyncio.FIRST_COMPLETED)
        stopped = waiting.done()
        stopping.set()
        tell(False)
        for task in (following, leading):
            if stopped or not task.done():
                task.cancel()
        waiting.cancel()
        ended = await asyncio.gather(following, leading, return_exceptions=True)
        for failure in ended:
            if isinstance(failure, Exception):
                raise failure
    return 0


async def _lead(parts: Parts, stopping: asyncio.Event) -> None:
    """Waits to lead, and leads until told to stop or another has taken over."""
    lock, table = Lock(str(parts.settings.redis_url), LEADER), Table(str(parts.settings.redis_url))
    try:
        while not stopping.is_set():
            try:
                async with lock.held() as fence:
                    if fence is not None:
                        log.info("leading the periodic jobs, number %d", fence)
                        await _run_due(parts, table, lock, stopping)
            except Unavailable as away:
                log.warning("scheduler: %s: waiting", away)
            await asyncio.sleep(FOLLOWERS_LOOK_SECONDS)
    finally:
        await lock.close()
        await table.close()


async def _run_due(parts: Parts, table: Table, lock: Lock, stopping: asyncio.Event) -> None:
    measured = False
    while not stopping.is_set() and await lock.is_held():
        ran = await table.read()
        if not measured and ran.get(RECONCILE, {}).get("status") == "failed":
            del ran[RECONCILE]  # what it found is to be told by who leads now: its gauges are gone with who led
        measured = True
        for job in JOBS:
            if stopping.is_set():
                return
            if is_due(job, ran.get(job.name), now()):
                await run_job(job, parts, table)
        await asyncio.sleep(LOOK_SECONDS)


def is_due(job: Job, last: dict[str, Any] | None, at: int) -> bool:
    """Whether a job's time has come again, by when it last ran."""
    if last is None:
        return True
    every_seconds = min(job.every_seconds, AWAY_SECONDS) if last.get("away") else job.every_seconds
    return parse_time(last["last_run"]) + every_seconds * SECOND <= at


async def _flows(parts: Parts) -> None:
    """Follows our own events with the services around us."""

    async def partitions() -> int:
        return parts.partitions

    services = HttpServices(parts.settings)
    try:
        around = Around(
            services.services,
            KnownPlans(parts.book, parts.accounts, partitions, now),
            partial(bill_overage, parts.closer),
        )
        await follow(str(parts.settings.kafka_bootstrap), around, parts.send)
    finally:
        await services.close()
