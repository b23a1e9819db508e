"""`tollgate serve` and the processes it supervises, each of which also runs alone."""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from typing import Final

import click
import uvloop

from backing.launch import attach
from console.exposition import expose
from console.logs import log_to_stderr
from console.supervisor import Role, end_with_supervisor, say_metrics, say_ready, supervise
from schemas.settings import Settings

BEHIND: Final = 5
"""How nice what works through a backlog is to what somebody waits for: checks and holds are answered first."""


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Rating workers.")
def serve(workers: int) -> int:
    """Run API, rating workers, sink and scheduler under one supervisor, in the foreground."""
    end_with_supervisor()  # the demo's, when it is one
    log_to_stderr()
    settings = attach(Settings.from_environment())  # what is not there is said at once, not by every child
    roles = [Role("worker", number) for number in range(workers)] + [
        Role("sink", 0),
        Role("api", 0),
        Role("scheduler", 0),
    ]
    return supervise(settings, roles, expose(settings))


@click.command()
def worker() -> int:
    """Run one rating worker."""
    settings = begin(nice=BEHIND)
    module = import_module("streams.worker")
    code: int = uvloop.run(module.run(settings, partial(say_ready, settings.data_dir), expose(settings)))
    module.exit_process(code)
    return code


@click.command()
def api() -> int:
    """Run the HTTP API."""
    settings = begin()
    code: int = import_module("api.server").run(
        settings,
        settings.kafka_bootstrap,
        settings.redis_url,
        settings.clickhouse_url,
        partial(say_ready, settings.data_dir),
        partial(say_metrics, settings.data_dir),
    )
    return code


@click.command()
def sink() -> int:
    """Run the sink that writes the ledger into ClickHouse."""
    settings = begin(nice=BEHIND)
    tell = partial(say_ready, settings.data_dir)
    code: int = uvloop.run(import_module("streams.sink").run(settings, tell, expose(settings)))
    return code


def begin(nice: int = 0) -> Settings:
    """What every process of ours begins with; its settings have the addresses filled in. `nice` as of nice(1)."""
    end_with_supervisor()
    os.nice(nice)
    log_to_stderr()
    return attach(Settings.from_environment())
