"""Whether the processes stay as small as they begin: memory of workers, sink and API while millions of events flow.

    tollgate bench memory [--events 5000000] [--json]

Events of the canonical workload are sent as fast as they are decided, never more than BACKLOG ahead, and again and
again the resident memory of each process is noted. `growth_mib` is what the largest of a role's processes gained from
the end of the first fifth, when caches are full, to the end; beside it stands what the identity index must gain (its
filter, 2.125 bytes an event, lies in memory). Outcomes and the sum of amounts must be exact, else it does not count.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks import workload
from benchmarks.machine import machine, owners, resident_bytes, services
from benchmarks.pipeline import Inexact, last_words, prepared
from benchmarks.stage import Report, Rows, grant, own_services
from console.running import deployment
from ingest.accept import Record
from ingest.publish import Publisher
from schemas.catalog import from_document
from schemas.clickhouse import connect
from schemas.settings import Settings
from schemas.topics import USAGE_EVENTS
from streams import catalogue

EVENTS: Final = 5_000_000
WORKERS: Final = 2
BACKLOG: Final = 200_000
SAMPLES: Final = 50
SETTLED: Final = 0.2
"""The part of the run after which caches are full."""

FILTER_BYTES: Final = 2.125
"""Of the identity index, an event."""

ROLES: Final = ("worker", "sink", "api")
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory when so many rows were visible; of a role's processes, the largest."""

    rows: int
    mib: dict[str, float]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run measured."""

    events: int
    exact: bool
    seconds: float
    samples: list[Sample]
    growth_mib: dict[str, float]
    index_filter_mib: float
    """What the identity index gained by design in the same part of the run, over all workers."""
    machine: dict[str, str | int]

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run(events: int, customers: int, workers: int, report: Report) -> Result:
    """Runs it all. Errors: Inexact."""
    with own_services(report) as settings:
        return asyncio.run(_run(settings, events, customers, workers, report))


async def _run(settings: Settings, events: int, customers: int, workers: int, report: Report) -> Result:
    bootstrap, clickhouse_url = settings.kafka_bootstrap, settings.clickhouse_url
    assert bootstrap is not None
    assert clickhouse_url is not None
    now = datetime.now(UTC).replace(microsecond=0)
    await catalogue.apply(bootstrap, from_document(workload.catalogue()), None, time.time_ns() // 1_000)
    names = workload.customers(customers)
    expected = workload.Expected()
    for name in names:
        expected.grant(name)
    await grant(bootstrap, workload.grants(names, now))
    samples: list[Sample] = []
    with deployment(settings, report, prepared, workers):
        rows = Rows(clickhouse_url)
        await rows.reach(customers)
        owned = owners(settings)
        watched = {
            f"{role}-{number}": [pid]
            for role, pids in owned.items()
            if role in ROLES
            for number, pid in enumerate(pids)
        }
        started = time.perf_counter()
        async with Publisher(bootstrap) as publisher:
            for number, sent in enumerate(workload.usage(names, events, now), 1):
                expected.take(sent)
                await publisher.put(Record(USAGE_EVENTS, sent.customer.encode(), sent.value), number)
                if number % max(1, events // SAMPLES) == 0:
                    await publisher.flush()
                    await rows.reach(customers + max(0, number - BACKLOG))
                    samples.append(_sample(number, watched))
                    report(f"{number:,} events: " + _said(samples[-1]))
        await rows.reach(customers + events)
        seconds = time.perf_counter() - started
        samples.append(_sample(events, watched))
        rows.close()
        if owners(settings) != owned:
            raise Inexact(f"a process ended and was started again: {last_words(settings)}")
    _check(clickhouse_url, expected)
    settled = next(sample for sample in samples if sample.rows >= SETTLED * events)
    return Result(
        events=events,
        exact=True,
        seconds=round(seconds, 1),
        samples=samples,
        growth_mib={role: round(samples[-1].mib[role] - settled.mib[role], 1) for role in settled.mib},
        index_filter_mib=round((events - settled.rows) * FILTER_BYTES / _MIB, 1),
        machine={**machine(), **services(settings)},
    )


def _sample(number: int, watched: dict[str, list[int]]) -> Sample:
    mib: dict[str, float] = {}
    for name, resident in resident_bytes(watched).items():
        role = name.partition("-")[0]
        mib[role] = max(mib.get(role, 0.0), round(resident / _MIB, 1))
    return Sample(number, mib)


def _said(sample: Sample) -> str:
    return ", ".join(f"{role} {mib:.0f} MiB" for role, mib in sample.mib.items())


def _check(clickhouse_url: str, expected: workload.Expected) -> None:
    client = connect(clickhouse_url)
    try:
        outcomes = dict(
            client.query("SELECT outcome, count() FROM tollgate.event_outcomes GROUP BY outcome").result_rows
        )
        ((amount,),) = client.query("SELECT toInt64(sum(amount) * 1000000000) FROM tollgate.rated_usage").result_rows
    finally:
        client.close()
    if (outcomes, amount) != (dict(expected.outcomes), expected.amount):
        raise Inexact(f"{outcomes} and {amount} nanos, not {dict(expected.outcomes)} and {expected.amount}")
