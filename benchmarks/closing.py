"""How long a close takes and how much memory, beside a plain GROUP BY over the same rows.

    tollgate bench closing [--events 210000] [--customers 1000] [--json]

210,000 events of the canonical workload are some 500,000 charges of 1,000 customers, all in the month that ended last.
`tollgate invoices close` drafts their invoices, as a process of its own, whose peak of resident memory is read; run
again it must find nothing to do. Beside it, in the same run: the sums by customer and price that ClickHouse makes of
the same rows in one query, which is what a close cannot do without. It counts only if the usage lines of all invoices
are, to the nano, what those sums are, and both what plain integers made of the seed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from benchmarks import workload
from benchmarks.machine import machine
from benchmarks.pipeline import Inexact, prepared
from benchmarks.stage import Report, Rows, fill, grant, own_services
from console.running import deployment
from schemas.catalog import from_document
from schemas.clickhouse import connect
from schemas.money import format_nanos
from schemas.settings import Settings
from streams import catalogue

EVENTS: Final = 210_000
CUSTOMERS: Final = 1_000
WORKERS: Final = 1
_KIB: Final = 1024
_LOOK_SECONDS: Final = 0.02

_GROUP_BY: Final = (
    "SELECT count(), sum(charges), sum(amount) FROM (SELECT tenant, customer, price_id, currency, count() AS charges, "
    "sum(rated_usage.quantity) AS quantity, sum(rated_usage.amount) AS amount FROM tollgate.rated_usage "
    "GROUP BY tenant, customer, price_id, currency)"
)
_INVOICED: Final = (
    "SELECT count(), sum(arrayCount(line -> JSONExtractString(line, 'kind') = 'usage', lines)), "
    "sum(arraySum(arrayMap(line -> if(JSONExtractString(line, 'kind') = 'usage', "
    "toDecimal128(JSONExtractString(line, 'exact_amount'), 9), toDecimal128(0, 9)), lines))) "
    "FROM (SELECT JSONExtractArrayRaw(body, 'lines') AS lines FROM tollgate.documents WHERE kind = 'invoice')"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run measured."""

    charges: int
    customers: int
    lines: int
    exact: bool
    close_seconds: float
    again_seconds: float
    """The second close, which finds all as it should be."""
    group_by_seconds: float
    peak_mib: float
    """Resident memory of the closing process."""
    ratio: float
    """Close over GROUP BY."""
    machine: dict[str, str | int]

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run(events: int, customers: int, workers: int, report: Report) -> Result:
    """Runs it all. Errors: Inexact."""
    with own_services(report) as settings:
        return asyncio.run(_run(settings, events, customers, workers, report))


async def _run(settings: Settings, events: int, customers: int, workers: int, report: Report) -> Result:
    bootstrap, url = settings.kafka_bootstrap, settings.clickhouse_url
    assert bootstrap is not None
    assert url is not None
    month = datetime.now(UTC).replace(day=1) - timedelta(days=1)
    then = month.replace(day=15, hour=12, minute=0, second=0, microsecond=0)
    await catalogue.apply(bootstrap, from_document(workload.catalogue()), None, time.time_ns() // 1_000)
    names, expected = workload.customers(customers), workload.Expected()
    for name in names:
        expected.grant(name)
    rows = Rows(url)
    with deployment(settings, report, prepared, workers):
        await grant(bootstrap, workload.grants(names, then))
        report(f"charging {events:,} events of {customers:,} customers")
        await fill(bootstrap, _taken(expected, workload.usage(names, events, then)))
        await rows.reach(customers + events)
        report("closing the month")
        first, first_seconds, peak_mib = _close(settings, f"{then:%Y-%m}")
        again, again_seconds, _ = _close(settings, f"{then:%Y-%m}")
        client = connect(url)
        try:
            began = time.perf_counter()
            ((_, charges, summed),) = client.query(_GROUP_BY).result_rows
            group_by_seconds = time.perf_counter() - began
            invoices, lines, invoiced = await _invoiced(client, first["drafted"])
        finally:
            client.close()
    meant = Decimal(format_nanos(expected.amount))
    if not (charges == expected.charges and summed == invoiced == meant):
        raise Inexact(f"{charges} charges of {expected.charges}; {summed} charged, {invoiced} invoiced, {meant} meant")
    if again["drafted"] or again["unchanged"] != first["drafted"] or invoices != first["drafted"]:
        raise Inexact(f"closed again: {again}; first {first}; {invoices} invoices")
    return Result(
        charges=charges,
        customers=customers,
        lines=lines,
        exact=True,
        close_seconds=round(first_seconds, 2),
        again_seconds=round(again_seconds, 2),
        group_by_seconds=round(group_by_seconds, 3),
        peak_mib=round(peak_mib, 1),
        ratio=round(first_seconds / group_by_seconds, 1),
        machine=machine(),
    )


def _taken(expected: workload.Expected, events: Iterator[workload.Sent]) -> Iterator[workload.Sent]:
    for sent in events:
        expected.take(sent)
        yield sent


async def _invoiced(client: Any, wanted: int) -> tuple[int, int, Decimal]:
    """Invoices, their usage lines and what these come to, once all are visible."""
    while True:
        ((invoices, lines, amount),) = client.query(_INVOICED).result_rows
        if invoices >= wanted:
            return invoices, lines, amount
        await asyncio.sleep(0.2)


def _close(settings: Settings, month: str) -> tuple[dict[str, Any], float, float]:
    """What a close says, its seconds, and the most memory its process had, MiB."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "console.main", "invoices", "close", "--period", month, "--json"]
    process = subprocess.Popen(command, env=settings.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak_kib = 0
    while process.poll() is None:
        peak_kib = max(peak_kib, _peak_kib(process.pid))
        time.sleep(_LOOK_SECONDS)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise Inexact(f"the close ended with status {process.returncode}")
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.read())
    return found, seconds, peak_kib / _KIB


def _peak_kib(pid: int) -> int:
    """The most resident memory a process has had; 0 once it is gone. What wait() tells begins with its parent's."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
