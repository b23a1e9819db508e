"""What a check and a hold cost, in process and over HTTP, beside a bare Redis script call and bare FastAPI routes.

    tollgate bench admission [--events 40000] [--customers 1000] [--workers 1] [--json]

Everything is asked in one run on the same services, in turns, so that whatever slows the machine slows all of it:

- in process, one call after the other: a bare script call by redis-py, a check and a hold by the in-process client;
- over HTTP, 16 connections at once: a FastAPI route that does nothing, one with one bare script call, and the checks
  and holds of the API itself, each server one process with the same uvicorn;
- in process again while the pipeline charges events of the same customers at half of the rate it had just before.

Its answers count only if they are right: every call is allowed, and in the end what customers have held is just what
the granted holds hold. Latencies are microseconds, CPU microseconds of the server's process a request.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import orjson
import uvloop
from redis.asyncio import Redis

from api.client.in_process import InProcessClient, in_process
from api.tokens import TokenFile
from backing.status import processes
from benchmarks import workload
from benchmarks.baselines.bare import BareCall
from benchmarks.machine import cpu_seconds, machine, owners, services
from benchmarks.pipeline import Inexact, prepared
from benchmarks.requests import percentile
from benchmarks.stage import Report, Rows, fill, grant, own_services
from console.running import deployment
from ingest.accept import Record
from ingest.publish import Publisher
from schemas.catalog import from_document
from schemas.settings import Settings
from schemas.topics import USAGE_EVENTS
from streams import catalogue

EVENTS: Final = 40_000
CUSTOMERS: Final = 1_000
WORKERS: Final = 1
CONNECTIONS: Final = 16
ROUNDS: Final = 5
CALLS: Final = 1_000
"""Of each kind in a round; fewer with few events."""
ROUTE_SECONDS: Final = 2.0
"""How long a route is asked in a round; shorter with few events."""
TTL_SECONDS: Final = 3_600
"""No hold expires while the benchmark runs."""

EVENT: Final[dict[str, Any]] = {
    "type": "session.tokens_used",
    "data": {"model": "gpt-4o", "input_tokens": 1_000, "cached_input_tokens": 0, "output_tokens": 400},
}
HOLD_NANOS: Final = 1_000 * workload.TOKENS["gpt-4o"][0] // 10 + 400 * workload.TOKENS["gpt-4o"][2] // 10
GRANT: Final = "100000"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run measured."""

    exact: bool
    in_process: dict[str, dict[str, float]]
    http: dict[str, dict[str, float]]
    under_load: dict[str, dict[str, float]]
    """In process, while the pipeline works."""
    ratios: dict[str, float]
    events_per_s: dict[str, int]
    """Of the pipeline: all it could just before, and what it had while it was asked."""
    holds: int
    machine: dict[str, str | int]

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run(events: int, customers: int, workers: int, report: Report) -> Result:
    """Runs it all. Errors: Inexact."""
    with own_services(report) as settings:
        return uvloop.run(_run(settings, events, customers, workers, report))


async def _run(settings: Settings, events: int, customers: int, workers: int, report: Report) -> Result:
    bootstrap, redis_url = settings.kafka_bootstrap, settings.redis_url
    assert bootstrap is not None
    assert redis_url is not None
    assert settings.clickhouse_url is not None
    now = datetime.now(UTC).replace(microsecond=0)
    await catalogue.apply(bootstrap, from_document(workload.catalogue()), None, time.time_ns() // 1_000)
    names = workload.customers(customers)
    usage = workload.usage(names, 3 * events, now)
    rows = Rows(settings.clickhouse_url)
    _, token = TokenFile(settings.tokens_file).issue(workload.TENANT, (), None, time.time_ns() // 1_000)
    in_process, under_load, http = Timings(), Timings(), Answers(min(ROUTE_SECONDS, events / 20_000))
    count = min(CALLS, events // 40)
    with deployment(settings, report, prepared, workers):
        await grant(bootstrap, _grants(names, now))
        await fill(bootstrap, islice(usage, events))
        await rows.reach(len(names) + events)
        async with calling(settings, names) as calls:
            with routes(redis_url) as bare:
                api = next(one for one in processes(settings) if one.role == "api")
                assert api.metrics is not None
                ours = Server(api.metrics.removesuffix("/metrics"), api.pid)
                for number in range(ROUNDS):
                    report(f"in process and over HTTP, {number + 1} of {ROUNDS}")
                    await calls.each(in_process, count)
                    await http.take("empty", bare, "/empty", _body(), names, token)
                    await http.take("bare", bare, "/bare", _body(), names, token)
                    await http.take("check", ours, "/v1/quota/check", _body(), names, token)
                    calls.granted += await http.take(
                        "hold", ours, "/v1/holds", _body(ttl_seconds=TTL_SECONDS), names, token, 201
                    )
            report("the pipeline alone, as fast as it can")
            begun = time.perf_counter()
            await fill(bootstrap, islice(usage, events))
            rate = events / (await rows.reach(len(names) + 2 * events) - begun)
            report(f"{rate:,.0f} events/s; in process, while it works at half of that")
            begun = time.perf_counter()
            sending = asyncio.create_task(_paced(bootstrap, usage, rate / 2))
            while not sending.done():
                await calls.each(under_load, count // 10)
            await sending
            sent_rate = events / (await rows.reach(len(names) + 3 * events) - begun)
            await calls.check()
            holds = calls.granted
    rows.close()
    return Result(
        exact=True,
        in_process=in_process.document(),
        http=http.document(),
        under_load=under_load.document(),
        ratios=_ratios(in_process.document(), under_load.document(), http.document()),
        events_per_s={"alone": round(rate), "while_asked": round(sent_rate)},
        holds=holds,
        machine={**machine(), **services(settings)},
    )


def _ratios(
    in_process: dict[str, dict[str, float]], under_load: dict[str, dict[str, float]], http: dict[str, dict[str, float]]
) -> dict[str, float]:
    """In process: times of ours over that of the bare call; over HTTP: requests/s of ours over those of the route with
    the bare call."""
    found: dict[str, float] = {}
    for kind in ("check", "hold"):
        for what in ("p50_us", "p99_us"):
            found[f"in_process_{kind}_{what[:3]}"] = round(in_process[kind][what] / in_process["bare"][what], 2)
            found[f"under_load_{kind}_{what[:3]}"] = round(under_load[kind][what] / under_load["bare"][what], 2)
        found[f"in_process_{kind}_cpu"] = round(_cpu(in_process[kind]) / _cpu(in_process["bare"]), 2)
        found[f"http_{kind}"] = round(http[kind]["per_s"] / http["bare"]["per_s"], 3)
        found[f"http_{kind}_cpu"] = round(http[kind]["cpu_us"] / http["bare"]["cpu_us"], 3)
    return found


def _cpu(told: dict[str, float]) -> float:
    return told["cpu_us"] + told["redis_cpu_us"]


@dataclass
class Timings:
    """How long calls took, by kind, and the CPU of this process and of Redis."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    redis_cpu_seconds: dict[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, dict[str, float]]:
        """Microseconds."""
        return {
            kind: {
                "calls": len(took),
                "p50_us": round(percentile(sorted(took), 50) * 1e6, 1),
                "p99_us": round(percentile(sorted(took), 99) * 1e6, 1),
                "cpu_us": round(self.cpu_seconds[kind] / len(took) * 1e6, 1),
                "redis_cpu_us": round(self.redis_cpu_seconds[kind] / len(took) * 1e6, 1),
            }
            for kind, took in self.seconds.items()
        }


@dataclass
class Calls:
    """The in-process client beside the bare call."""

    bare: BareCall
    client: InProcessClient
    names: list[str]
    redis_pids: list[int]
    granted: int = 0
    asked: int = 0

    async def each(self, timings: Timings, count: int) -> None:
        """So many calls of each kind in turns. Errors: Inexact."""
        for kind, call in (("bare", self._bare), ("check", self._check), ("hold", self._hold)):
            took = timings.seconds.setdefault(kind, [])
            cpu, redis_cpu = time.process_time(), self._redis_cpu()
            for _ in range(count):
                customer = self.names[self.asked % len(self.names)]
                self.asked += 1
                begun = time.perf_counter()
                await call(customer)
                took.append(time.perf_counter() - begun)
            for total, since in (
                (timings.cpu_seconds, time.process_time() - cpu),
                (timings.redis_cpu_seconds, self._redis_cpu() - redis_cpu),
            ):
                total[kind] = total.get(kind, 0.0) + since

    async def check(self) -> None:
        """Inexact unless what is held is what was granted."""
        held = int(sum([await self.client.held(name) for name in self.names]) * 10**9)
        if held != self.granted * HOLD_NANOS:
            raise Inexact(f"{held} nanos are held by {self.granted} holds of {HOLD_NANOS}")

    def _redis_cpu(self) -> float:
        return cpu_seconds({"redis": self.redis_pids})["redis"]

    async def _bare(self, _: str) -> None:
        await self.bare()

    async def _check(self, customer: str) -> None:
        answer = await self.client.check(customer, event=EVENT)
        if not answer.allowed:
            raise Inexact(f"{answer}")

    async def _hold(self, customer: str) -> None:
        await self.client.hold(customer, event=EVENT, ttl_seconds=TTL_SECONDS)
        self.granted += 1


@asynccontextmanager
async def calling(settings: Settings, names: list[str]) -> AsyncIterator[Calls]:
    """The in-process client beside a bare call."""
    assert settings.kafka_bootstrap is not None
    assert settings.redis_url is not None
    redis: Redis = Redis.from_url(settings.redis_url)
    async with in_process(
        workload.TENANT, kafka=settings.kafka_bootstrap, redis=settings.redis_url, timeout_seconds=10.0
    ) as client:
        yield Calls(BareCall(redis), client, names, owners(settings)["redis"])
    await redis.aclose()


@dataclass(frozen=True, slots=True)
class Server:
    """Who answers."""

    url: str
    pid: int


@contextmanager
def routes(redis_url: str) -> Iterator[Server]:
    """The bare FastAPI routes."""
    serving = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.baselines.routes", redis_url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        yield Server(serving.stdout.readline().strip(), serving.pid)
    finally:
        serving.terminate()
        serving.wait()


@dataclass
class Answers:
    """What came of requests, by kind, over all rounds."""

    seconds: float
    """Of each round."""
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    async def take(
        self,
        kind: str,
        server: Server,
        path: str,
        body: dict[str, Any],
        names: list[str],
        token: str,
        status: int = 200,
    ) -> int:
        """Asks for a while; how many were answered. Errors: Inexact for an answer that is not the one."""
        plan = {
            "connections": CONNECTIONS,
            "seconds": self.seconds,
            "headers": {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            "path": path,
            "bodies": [orjson.dumps({"customer": name, **body}).decode() for name in names],
            "statuses": [status],
        }
        before = cpu_seconds({"server": [server.pid]})["server"]
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.requests", server.url, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await asking.communicate(orjson.dumps(plan))
        told: dict[str, Any] = json.loads(out)
        told["server_cpu_seconds"] = cpu_seconds({"server": [server.pid]})["server"] - before
        if told["unplanned"]:
            raise Inexact(f"{path} was answered {told['unplanned']}")
        self.told.setdefault(kind, []).append(told)
        return int(told["answered"])

    def document(self) -> dict[str, dict[str, float]]:
        """Requests a second over all rounds; of times the median of the rounds."""
        found = {}
        for kind, told in self.told.items():
            answered = sum(one["answered"] for one in told)
            found[kind] = {
                "answered": answered,
                "per_s": round(answered / sum(one["seconds"] for one in told), 1),
                "cpu_us": round(sum(one["server_cpu_seconds"] for one in told) / answered * 1e6, 1),
                "p50_us": sorted(one["p50_us"] for one in told)[len(told) // 2],
                "p99_us": sorted(one["p99_us"] for one in told)[len(told) // 2],
            }
        return found


def _body(**more: Any) -> dict[str, Any]:
    return {"event": EVENT, **more}


def _grants(names: list[str], now: datetime) -> Iterator[tuple[str, bytes]]:
    """More than all that is held and charged here."""
    for name, value in workload.grants(names, now):
        event = orjson.loads(value)
        event["data"]["amount"] = GRANT
        yield name, orjson.dumps(event)


async def _paced(bootstrap: str, usage: Iterator[workload.Sent], per_second: float) -> None:
    """Sends what is left of the usage at a rate."""
    async with Publisher(bootstrap) as publisher:
        begun = time.perf_counter()
        for number, sent in enumerate(usage):
            await publisher.put(Record(USAGE_EVENTS, sent.customer.encode(), sent.value), number)
            if number % 100 == 0:
                await asyncio.sleep(max(begun + number / per_second - time.perf_counter(), 0))
