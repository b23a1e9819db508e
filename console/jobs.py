"""`tollgate scheduler`, and `tollgate jobs`: the periodic jobs, when they last ran, and one of them run now."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import click
import orjson
import uvloop
from prometheus_client import CollectorRegistry

from backing.launch import attach
from console.exposition import expose
from console.serve import BEHIND, begin
from console.supervisor import say_ready
from invoicing.scheduler import BY_NAME, JOBS, Table, assembled, run, run_job
from schemas.errors import InvalidInput
from schemas.settings import Settings


@click.command()
def scheduler() -> int:
    """Run the periodic jobs; of several one leads, the others wait."""
    settings = begin(nice=BEHIND)
    code: int = uvloop.run(run(settings, partial(say_ready, settings.data_dir), expose(settings)))
    return code


@click.group()
def jobs() -> None:
    """List the periodic jobs, or run one now."""


@jobs.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(as_json: bool) -> None:
    """List the periodic jobs with their last run, its duration and result."""
    ran = asyncio.run(_ran(attach(Settings.from_environment())))
    listed = [
        {"name": job.name, "every_seconds": job.every_seconds, "what": job.sentence, **ran.get(job.name, {})}
        for job in JOBS
    ]
    if as_json:
        click.echo(orjson.dumps(listed))
        return
    for one in listed:
        last = (
            f"{one['last_run']}  {one['seconds']:>8} s  {one['status']:<7} {one['result']} {one['detail']}"
            if "last_run" in one
            else "has not run"
        )
        click.echo(f"{one['name']:<22} every {one['every_seconds']:>6} s  {last}".rstrip())


@jobs.command("run")
@click.argument("name")
def run_command(name: str) -> int:
    """Run one job now, whoever leads; it does what is due, and nothing twice."""
    job = BY_NAME.get(name)
    if job is None:
        raise InvalidInput("unknown_job", f"there is no job {name!r}; there are {', '.join(BY_NAME)}")

    async def once(settings: Settings) -> dict[str, Any]:
        table = Table(str(settings.redis_url))
        try:
            async with assembled(settings, CollectorRegistry()) as parts:
                return await run_job(job, parts, table)
        finally:
            await table.close()

    told = asyncio.run(once(attach(Settings.from_environment())))
    click.echo(f"{name}: {told['status']}, {told['result']} done in {told['seconds']} s {told['detail']}".rstrip())
    return 0 if told["status"] == "done" else 1


async def _ran(settings: Settings) -> dict[str, dict[str, Any]]:
    table = Table(str(settings.redis_url))
    try:
        return await table.read()
    finally:
        await table.close()
