"""`tollgate up`, `down`, `status` and `settings`."""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec

from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS

_PLAIN = msgspec.json.Encoder(decimal_format="number")


def report(message: str) -> None:
    """One line of progress."""
    print(message, file=sys.stderr, flush=True)


@click.command()
@click.option(
    "--backend",
    type=click.Choice(["auto", "external", "docker", "native"]),
    help="Where the services come from; auto takes external, docker or native, in that order.",
)
def up(backend: str | None) -> None:
    """Start the backing services, or attach to those that run; wait until each answers; print the URLs."""
    from backing import launch

    ready = launch.up(Settings.from_environment(), backend=backend, report=report)
    click.echo(f"kafka       {ready.kafka_bootstrap}")
    click.echo(f"redis       {ready.redis_url}")
    click.echo(f"clickhouse  {ready.clickhouse_url}")


@click.command()
@click.option("--purge", is_flag=True, help="Remove the data too.")
def down(purge: bool) -> None:
    """Stop what `up` started."""
    from backing import launch
    from backing.status import processes

    settings = Settings.from_environment()
    for process in processes(settings):
        if process.role == "supervisor":
            report(f"`tollgate serve` (pid {process.pid}) goes on without its services; SIGTERM ends it")
    launch.down(settings, purge=purge, report=report)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    """Show services, processes, and how far the rating is behind."""
    from backing.status import Status
    from backing.status import status as ask

    found: Status = ask(Settings.from_environment(), _decided)
    if as_json:
        click.echo(_PLAIN.encode(found))
        return
    for name, service in found.services.items():
        if service.url is None:
            click.echo(f"{name:<12}not started")
            continue
        answer = "ready" if service.ready else "does not answer"
        click.echo(f"{name:<12}{answer:<17}{service.url}{_pid(service.pid)}")
    for entry in found.processes:
        click.echo(f"{entry.role:<12}{'ready' if entry.ready else 'not ready':<17}{_pid(entry.pid).lstrip()}")
        for name, seen in (entry.dependencies or {}).items():
            if not seen.ready or seen.breaker not in (None, "closed"):
                asked = f", breaker {seen.breaker}" if seen.breaker is not None else ""
                click.echo(f"{'':<12}{name}: {seen.detail or 'ready'}{asked}")
    for behind in found.lag:
        waited = f", {behind.seconds} s" if behind.seconds else ""
        click.echo(f"{behind.topic}[{behind.partition}]: {behind.events} events behind{waited}")


def _decided(bootstrap: str) -> dict[tuple[str, int], int]:
    """The input positions that the ledger's last records name, 0 where a partition has none yet."""
    from streams.ledger import partition_count, tail

    async def ask() -> dict[tuple[str, int], int]:
        tails = await asyncio.gather(*(tail(bootstrap, each) for each in range(await partition_count(bootstrap))))
        found: dict[tuple[str, int], int] = {}
        for partition, end in enumerate(tails):
            found[USAGE_EVENTS, partition] = end.last.usage_next if end.last is not None else 0
            found[ACCOUNT_EVENTS, partition] = end.last.account_next if end.last is not None else 0
        return found

    return asyncio.run(ask())


def _pid(pid: int | None) -> str:
    return f"  (pid {pid})" if pid is not None else ""


@click.command()
def settings() -> None:
    """Print every setting with its default and meaning, as a Markdown table."""
    from schemas.settings import table

    click.echo(table())
