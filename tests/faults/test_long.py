"""The long form of the faults, behind `make faults`: hours of bad luck in minutes.

Every test prints its seed and adds a row to benchmarks/results/faults.md. TOLLGATE's settings have no say; the seed of
a run is its own number unless FAULTS_SEED gives another.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from schemas.settings import Settings
from tests.deployment import ROOT
from tests.faults.harness import Scene, scene

pytestmark = pytest.mark.long

SEED = int(os.environ.get("FAULTS_SEED", "3000"))
RESULTS = ROOT / "benchmarks" / "results" / "faults.md"

HEAD = """\
# Faults, long form

`make faults` on {machine}, {cpus} CPUs shared by Kafka, Redis, ClickHouse, the workers, the sink and the load; {date},
with {waiting:.0f} processes on average that wanted a CPU (load average of the last 15 minutes).
Every line: a seeded load with 25 % repeats, conflicts, 30 kinds of broken input and records in the wrong partition; at
its end every input record has exactly one entry, `seq` is dense, and amounts and balances agree to the nano in ledger,
Redis and ClickHouse with an auditor that shares no code with the pipeline. `settled`: seconds from the last record sent
until all of it was decided, applied and visible in ClickHouse.

| fault | seed | records | rated | duplicate | ignored | dead letter | kill -9 | seconds | settled | reconcile |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


class Report:
    """The rows of a run, written when it ends."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def add(self, fault: str, made: Scene, seconds: float, settled: float, reconciled: int) -> None:
        """One fault, survived."""
        found = made.auditor.outcomes
        counts = [found[outcome] for outcome in ("rated", "duplicate", "ignored", "dead_letter")]
        cells = [fault, made.seed, found.total(), *counts, made.processes.killed, f"{seconds:.0f}", f"{settled:.1f}"]
        self.rows.append("| " + " | ".join(map(str, cells)) + f" | exit {reconciled} |\n")


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """Written also if a later test fails: with what was survived until then."""
    kept = Report()
    yield kept
    if kept.rows:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        RESULTS.write_text(
            HEAD.format(machine=machine, cpus=os.cpu_count(), date=date, waiting=os.getloadavg()[2])
            + "".join(kept.rows)
        )


async def _end(made: Scene, fault: str, begun: float, report: Report) -> None:
    settled = await made.settled(600)
    reconciled = await made.reconciled()
    report.add(fault, made, time.monotonic() - begun, settled, reconciled)
    assert reconciled == 0, f"seed {made.seed}: reconcile exits {reconciled}; see {made.log}"


async def test_forty_kills_and_everything_else_while_300_000_events_flow(stage: Settings, report: Report) -> None:
    """Two workers and a sink are killed 40 times; between, one is stopped for 15 s, a third joins and leaves, Redis is
    flushed and set back by 5 s, and each store is restarted."""
    begun = time.monotonic()
    async with scene(stage, seed=SEED, customers=2_000) as made:
        await made.processes.ready("worker0", "worker1")
        chance = random.Random(made.seed)
        sending = asyncio.create_task(made.send(300_000, per_second=900.0))

        async def stopped_worker() -> None:
            made.processes.signal("worker1", signal.SIGSTOP)
            await asyncio.sleep(15)
            made.processes.signal("worker1", signal.SIGCONT)

        async def guest() -> None:
            made.processes.start("worker2")
            await asyncio.sleep(12)
            await made.processes.stop("worker2")

        others = {
            4: stopped_worker,
            8: made.flush_redis,
            12: guest,
            16: lambda: made.set_redis_back(5),
            20: lambda: made.restart("clickhouse", away_seconds=3),
            24: lambda: made.restart("kafka", away_seconds=2),
            28: lambda: made.restart("redis", crash=True),
            31: lambda: made.restart("clickhouse", crash=True),
            34: lambda: made.restart("kafka", crash=True),
            37: made.flush_redis,
        }
        while made.processes.killed < 40:
            await asyncio.sleep(chance.uniform(0.5, 6))
            made.processes.signal(chance.choice(("worker0", "worker1", "worker0", "worker1", "sink0")), signal.SIGKILL)
            if (other := others.pop(made.processes.killed, None)) is not None:
                print(f"{time.monotonic() - begun:.0f} s, {made.processes.killed} kills: {other}")
                await other()
        print(f"{time.monotonic() - begun:.0f} s: 40 kills, everything still flowing: {not sending.done()}")
        await sending
        await _end(made, "40 kills, 15 s stop, join and leave, flush, set back, restarts", begun, report)


@pytest.mark.parametrize(("number", "name"), [(1, "kafka"), (2, "redis"), (3, "clickhouse")])
async def test_a_store_is_away_for_a_minute(stage: Settings, report: Report, number: int, name: str) -> None:
    """Nothing is lost, the rest goes on, and it comes back without a hand."""
    begun = time.monotonic()
    async with scene(stage, seed=SEED + number, customers=500) as made:
        await made.processes.ready("worker0", "worker1")
        sending = asyncio.create_task(made.send(30_000, per_second=400.0))
        await asyncio.sleep(5)
        await made.restart(name, away_seconds=60)
        await sending
        await _end(made, f"{name} away for 60 s", begun, report)


async def test_a_worker_stopped_again_and_again(stage: Settings, report: Report) -> None:
    """Zombies of up to 20 s, each of which finds its partitions taken over."""
    begun = time.monotonic()
    async with scene(stage, seed=SEED + 4, customers=500) as made:
        await made.processes.ready("worker0", "worker1")
        chance = random.Random(made.seed)
        sending = asyncio.create_task(made.send(30_000, per_second=400.0))
        while not sending.done():
            name = chance.choice(("worker0", "worker1", "sink0"))
            made.processes.signal(name, signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(1, 20))
            made.processes.signal(name, signal.SIGCONT)
            await asyncio.sleep(chance.uniform(0, 4))
        await sending
        await _end(made, "stopped for 1 to 20 s, again and again", begun, report)
