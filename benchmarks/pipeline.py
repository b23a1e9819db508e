"""The canonical benchmark: from `usage.events` to rows visible in ClickHouse, beside three baselines, in one run.

    tollgate bench [--events 600000] [--workers N] [--json]

Everything runs on this machine: Kafka, Redis, ClickHouse, the workers, the sink and the API, started by the benchmark.
First customers get their credits and some events flow, so that Kafka's compiler has done its work before anything is
timed. With the pipeline's processes stopped the topic is filled behind a gate (see `stage`), and reading and decoding
alone is timed. Then the processes start, and once they are ready and idle the gate opens: from there the clock runs
until the last row is visible. With the processes stopped again the baselines take the same topic, one after the other.
Reading and decoding is timed before, between and after and counts with its mean, for a shared machine's speed drifts;
stock Faust rates a sample, as it is slow.

A run counts only if all is exact: what was decided, the charges, their sum and every customer's balance, in ClickHouse
and in Redis, equal to what plain integers made of the same seed; and the sums of the baselines that charge.

Two workers are the default: deciding takes more than one of two cores, and Kafka, Redis, sink and ClickHouse together
less than the other.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from backing.process import tail
from benchmarks import workload
from benchmarks.baselines.handwritten_loop import OUT
from benchmarks.machine import cpu_seconds, machine, owners, services
from benchmarks.stage import Report, Rows, create_topic, fill, gate, grant, own_services
from console.running import deployment
from schemas.account import account_key, unpack_account
from schemas.catalog import from_document
from schemas.clickhouse import connect
from schemas.ids import partition_of
from schemas.settings import Settings
from streams import catalogue
from streams.accounts.redis import RedisAccounts

EVENTS: Final = 600_000
WARM_UP_EVENTS: Final = 50_000
WORKERS: Final = 2
FAUST_SAMPLE: Final = 20_000
FAUST_TAKE: Final = 1_000
"""Stock Faust is given its faster form: `take`, one Redis script for a thousand events. Event by event it is slower."""

BASELINE_SECONDS: Final = 600
_BALANCES_AT_ONCE: Final = 1_000


class Inexact(Exception):
    """What was produced is not what the seed says: the run does not count."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run measured; rates in events a second, CPU in microseconds an event."""

    events_per_s: int
    exact: bool
    baselines: dict[str, int]
    ratios: dict[str, float]
    machine: dict[str, str | int]
    workload: dict[str, int]
    seconds: float
    cpu_us: dict[str, float]
    """Of each process of the pipeline."""
    baseline_cpu_us: dict[str, float]

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run(events: int, customers: int, workers: int, report: Report) -> Result:
    """Runs it all. Errors: Inexact."""
    with own_services(report) as settings:
        return asyncio.run(_run(settings, events, customers, workers, report))


def prepared(settings: Settings) -> None:
    """The catalogue is applied already."""


def last_words(settings: Settings) -> str:
    """What the processes said last."""
    return tail(settings.data_dir / "logs" / "serve.log", 12)


class _Meant:
    """What the events must come to, taken down while they are sent."""

    def __init__(self, partitions: int) -> None:
        self.expected = workload.Expected()
        self.amounts: list[list[int]] = [[] for _ in range(partitions)]
        """By partition, in the order of its records: what each charges."""

    def taking(self, events: Iterator[workload.Sent]) -> Iterator[workload.Sent]:
        for sent in events:
            self.expected.take(sent)
            self.amounts[partition_of(sent.customer, len(self.amounts))].append(sent.amount)
            yield sent


async def _run(settings: Settings, events: int, customers: int, workers: int, report: Report) -> Result:
    bootstrap, redis_url, clickhouse_url = settings.kafka_bootstrap, settings.redis_url, settings.clickhouse_url
    assert bootstrap is not None
    assert redis_url is not None
    assert clickhouse_url is not None
    now = datetime.now(UTC).replace(microsecond=0)
    await catalogue.apply(bootstrap, from_document(workload.catalogue()), None, time.time_ns() // 1_000)
    names = workload.customers(customers)
    warm_up = min(WARM_UP_EVENTS, events // 2)
    meant = _Meant(settings.partitions)
    for name in names:
        meant.expected.grant(name)
    sending = meant.taking(workload.usage(names, warm_up + events, now))
    rows = Rows(clickhouse_url)
    baselines = _Baselines(settings, warm_up + events, report)
    with deployment(settings, report, prepared, workers):
        await grant(bootstrap, workload.grants(names, now))
        await fill(bootstrap, islice(sending, warm_up))
        await rows.reach(customers + warm_up)
    async with gate(bootstrap, settings.partitions) as closed:
        report(f"filling usage.events with {events:,} events of {customers:,} customers")
        await fill(bootstrap, sending, closed)
        baselines.read_decode()
        with deployment(settings, report, prepared, workers):
            owned = owners(settings)
            before = cpu_seconds(owned)
            started = time.perf_counter()
            await closed.open()
            seconds = await rows.reach(customers + warm_up + events) - started
            after = cpu_seconds(owned)
            if owners(settings) != owned:
                raise Inexact(f"a process ended and was started again: {last_words(settings)}")
    rows.close()
    cpu_us = {name: round((after[name] - before[name]) / events * 1e6, 2) for name in owned}
    report(f"pipeline: {events / seconds:,.0f} events/s; CPU, microseconds an event: {cpu_us}")
    await _check(settings, meant.expected)
    baselines.read_decode()
    await create_topic(bootstrap, OUT, settings.partitions)
    baselines.handwritten_loop(meant.expected.amount)
    baselines.stock_faust(meant.amounts)
    baselines.read_decode()
    rate, rates = events / seconds, baselines.rates()
    return Result(
        events_per_s=round(rate),
        exact=True,
        baselines={name: round(value) for name, value in rates.items()},
        ratios={name: round(rate / value, 3) for name, value in rates.items()},
        machine={**machine(), **services(settings)},
        workload={
            "events": events,
            "warm_up_events": warm_up,
            "customers": customers,
            "charges": meant.expected.charges,
            "partitions": settings.partitions,
            "workers": workers,
            "stock_faust_events": baselines.events("stock_faust"),
        },
        seconds=round(seconds, 3),
        cpu_us=cpu_us,
        baseline_cpu_us=baselines.cpu_us(),
    )


class _Baselines:
    """Runs the programs of `benchmarks.baselines` and keeps what they say."""

    def __init__(self, settings: Settings, events: int, report: Report) -> None:
        self._settings = settings
        self._events = events
        self._report = report
        self._said: dict[str, list[dict[str, Any]]] = {}

    def read_decode(self) -> None:
        self._run("read_decode", str(self._events))

    def handwritten_loop(self, amount: int) -> None:
        said = self._run("handwritten_loop", f"{self._settings.redis_url}/1", str(self._events))
        if said["amount"] != amount:
            raise Inexact(f"handwritten_loop: charged {said['amount']}, not {amount}")

    def stock_faust(self, amounts: list[list[int]]) -> None:
        sample = min(FAUST_SAMPLE, self._events)
        folder = str(self._settings.data_dir / "stock-faust")
        said = self._run("stock_faust", f"{self._settings.redis_url}/2", str(sample), str(FAUST_TAKE), folder)
        amount = sum(sum(told[:taken]) for told, taken in zip(amounts, said["partitions"], strict=True))
        if said["amount"] != amount:
            raise Inexact(f"stock_faust: charged {said['amount']}, not {amount}")

    def rates(self) -> dict[str, float]:
        return {
            name: sum(said["events"] for said in told) / sum(said["seconds"] for said in told)
            for name, told in self._said.items()
        }

    def cpu_us(self) -> dict[str, float]:
        return {
            name: round(sum(said["cpu_seconds"] for said in told) / sum(said["events"] for said in told) * 1e6, 2)
            for name, told in self._said.items()
        }

    def events(self, name: str) -> int:
        return int(self._said[name][-1]["events"])

    def _run(self, name: str, *arguments: str) -> dict[str, Any]:
        assert self._settings.kafka_bootstrap is not None
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.baselines.{name}", self._settings.kafka_bootstrap, *arguments],
            stdout=subprocess.PIPE,
            timeout=BASELINE_SECONDS,
            check=True,
        )
        said: dict[str, Any] = json.loads(done.stdout)
        self._said.setdefault(name, []).append(said)
        self._report(f"{name}: {said['events'] / said['seconds']:,.0f} events/s")
        return said


async def _check(settings: Settings, expected: workload.Expected) -> None:
    """Inexact unless the stores hold exactly what was meant."""
    client = connect(settings.clickhouse_url or "")
    try:
        outcomes = dict(
            client.query("SELECT outcome, count() FROM tollgate.event_outcomes GROUP BY outcome").result_rows
        )
        ((charges, amount),) = client.query(
            "SELECT count(), toInt64(sum(amount) * 1000000000) FROM tollgate.rated_usage"
        ).result_rows
        balances = dict(
            client.query(
                "SELECT customer, toInt64(sum(amount) * 1000000000) FROM tollgate.ledger GROUP BY customer"
            ).result_rows
        )
    finally:
        client.close()
    for what, found, meant in (
        ("outcomes", outcomes, dict(expected.outcomes)),
        ("charges", charges, expected.charges),
        ("sum of amounts", amount, expected.amount),
        ("balances in ClickHouse", balances, expected.balances),
        ("balances in Redis", await _accounts(settings, list(expected.balances)), expected.balances),
    ):
        if found != meant:
            raise Inexact(f"{what}: {_difference(found, meant)}")


async def _accounts(settings: Settings, names: list[str]) -> dict[str, int]:
    assert settings.redis_url is not None
    homes: dict[int, list[str]] = {}
    for name in names:
        homes.setdefault(partition_of(name, settings.partitions), []).append(name)
    accounts = RedisAccounts(settings.redis_url)
    found: dict[str, int] = {}
    try:
        for home, living in homes.items():
            for start in range(0, len(living), _BALANCES_AT_ONCE):
                part = living[start : start + _BALANCES_AT_ONCE]
                _, values = await accounts.snapshot(home, [account_key(workload.TENANT, name) for name in part])
                found.update(
                    (name, unpack_account(value).balance)
                    for name, value in zip(part, values, strict=True)
                    if value is not None
                )
    finally:
        await accounts.close()
    return found


def _difference(found: Any, meant: Any) -> str:
    if not isinstance(found, dict) or len(meant) < 10:
        return f"{found}, not {meant}"
    wrong = [name for name in meant.keys() | found.keys() if found.get(name) != meant.get(name)]
    return f"{len(wrong)} of {len(meant)} are wrong, {wrong[0]} among them: {found.get(wrong[0])}"
