"""`tollgate bench`: the benchmarks by name; without a name the canonical workload.

A result that is not exact does not count: the command says what differs and exits 1.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click
import orjson

RESULTS: Final = Path(__file__).parent.parent / "benchmarks" / "results"
SMALLEST: Final = 1_000
PIPELINE: Final = "pipeline"
MEMORY: Final = "memory"
CLOSING: Final = "closing"
ADMISSION: Final = "admission"

# Programs of their own, and what says how much they measure.
ALONE: Final = {"identity": "--identities", "rating": "--events"}
NAMES: Final = (PIPELINE, MEMORY, CLOSING, ADMISSION, *ALONE)


@click.command()
@click.argument("name", type=click.Choice(NAMES), default=PIPELINE)
@click.option("--events", type=click.IntRange(min=SMALLEST), help="How many; each benchmark has its own default.")
@click.option("--customers", type=click.IntRange(1, 1_000_000), help="Of pipeline and memory; 10,000.")
@click.option("--workers", type=click.IntRange(1, 64), help="Of pipeline and memory; 2.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--save", is_flag=True, help="Keep the result in benchmarks/results/ too.")
def bench(name: str, events: int | None, customers: int | None, workers: int | None, as_json: bool, save: bool) -> int:
    """Run the benchmark NAME, or the canonical workload: Kafka to ClickHouse with every total checked."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if name in ALONE:
        if customers is not None or workers is not None:
            raise click.UsageError(f"{name} has neither customers nor workers")
        return _alone(name, events, as_json, save)
    from benchmarks import admission, closing, memory, pipeline, workload

    chosen = (customers or workload.CUSTOMERS, workers or pipeline.WORKERS)
    try:
        if name == MEMORY:
            document = memory.run(events or memory.EVENTS, *chosen, _say).document()
        elif name == CLOSING:
            customers = customers or closing.CUSTOMERS
            document = closing.run(events or closing.EVENTS, customers, workers or closing.WORKERS, _say).document()
        elif name == ADMISSION:
            customers = customers or admission.CUSTOMERS
            document = admission.run(
                events or admission.EVENTS, customers, workers or admission.WORKERS, _say
            ).document()
        else:
            document = pipeline.run(events or pipeline.EVENTS, *chosen, _say).document()
    except pipeline.Inexact as wrong:
        raise click.ClickException(f"not exact, so it does not count: {wrong}") from None
    if save:
        _save(name, orjson.dumps(document, option=orjson.OPT_INDENT_2))
    if as_json:
        click.echo(orjson.dumps(document))
    elif name == MEMORY:
        _show_memory(document)
    elif name == CLOSING:
        _show_closing(document)
    elif name == ADMISSION:
        _show_admission(document)
    else:
        _show_pipeline(document)
    return 0


def _alone(name: str, events: int | None, as_json: bool, save: bool) -> int:
    arguments = [sys.executable, "-m", f"benchmarks.{name}"]
    if events is not None:
        arguments += [ALONE[name], str(events)]
    if not save:
        return subprocess.run([*arguments, *(["--json"] if as_json else [])], check=False).returncode
    done = subprocess.run([*arguments, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode == 0:
        _save(name, orjson.dumps(orjson.loads(done.stdout), option=orjson.OPT_INDENT_2))
        click.echo(done.stdout, nl=False)
    return done.returncode


def _save(name: str, document: bytes) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_bytes(document + b"\n")


def _show_closing(document: dict[str, Any]) -> None:
    click.echo(
        f"{document['charges']:,} charges of {document['customers']:,} customers closed in "
        f"{document['close_seconds']} s ({document['lines']:,} usage lines), again in {document['again_seconds']} s; "
        f"GROUP BY {document['group_by_seconds']} s; peak {document['peak_mib']} MiB"
    )


def _show_admission(document: dict[str, Any]) -> None:
    click.echo(_machine(document))
    for where in ("in_process", "under_load", "http"):
        for kind, told in document[where].items():
            click.echo(f"{where:>12} {kind:<6} " + ", ".join(f"{name} {value:,}" for name, value in told.items()))
    click.echo("ratios: " + ", ".join(f"{name} {value:g}" for name, value in document["ratios"].items()))


def _show_pipeline(document: dict[str, Any]) -> None:
    ran = document["workload"]
    click.echo(_machine(document))
    click.echo(
        f"{document['events_per_s']:,} events/s from usage.events to rows visible in ClickHouse: {ran['events']:,} "
        f"events of {ran['customers']:,} customers, {ran['charges']:,} charges, {ran['workers']} workers, "
        f"{document['seconds']} s; outcomes, amounts and balances exact"
    )
    for baseline, ratio in document["ratios"].items():
        click.echo(f"  {ratio:>8g} of {baseline} ({document['baselines'][baseline]:,} events/s)")
    told = ", ".join(f"{name} {cpu:g}" for name, cpu in document["cpu_us"].items())
    click.echo(f"CPU, microseconds an event: {told}; {sum(document['cpu_us'].values()):.1f} in all")
    told = ", ".join(f"{name} {cpu:g}" for name, cpu in document["baseline_cpu_us"].items())
    click.echo(f"CPU of the baselines' own processes: {told}")


def _show_memory(document: dict[str, Any]) -> None:
    click.echo(_machine(document))
    for sample in document["samples"]:
        told = ", ".join(f"{role} {mib:.1f}" for role, mib in sample["mib"].items())
        click.echo(f"{sample['rows']:>12,} events  MiB resident: {told}")
    grown = ", ".join(f"{role} {mib:+.1f}" for role, mib in document["growth_mib"].items())
    click.echo(
        f"{document['events']:,} events in {document['seconds']:,.0f} s, exact; since a fifth of them MiB: {grown}; "
        f"of that the identity index by design {document['index_filter_mib']}"
    )


def _machine(document: dict[str, Any]) -> str:
    about = document["machine"]
    versions = ("backend", "kafka", "java", "redis", "clickhouse", "aiokafka", "faust-streaming")
    told = ", ".join(f"{name} {about[name]}" for name in versions if name in about)
    return f"{about['cores']} x {about['cpu']}, {about['memory_mib']} MiB, Python {about['python']}; {told}"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
