"""`tollgate rebuild`: all of Redis that comes from the ledger is forgotten and folded from the ledger again.

One partition after the other, also while traffic runs: its owner notices that its position is gone, waits until the old
values are, and folds the ledger from its beginning. Meanwhile the partition's events wait, and its balances answer 503;
no other partition is touched. Holds are not the ledger's and stay.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

import click
import orjson

from backing.launch import attach
from schemas.errors import Unavailable
from schemas.settings import Settings
from streams import ledger
from streams.accounts.redis import RedisAccounts

SERVED_SECONDS: Final = 30.0
"""A partition that no worker serves is not cleared: nobody would fold it again."""

FOLDED_SECONDS: Final = 3_600.0
BEAT_SECONDS: Final = 5.0
"""An owner that lives says so more often."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a partition.")
def rebuild(as_json: bool) -> None:
    """Recompute all of Redis from the ledger, also while traffic runs."""
    asyncio.run(_rebuild(attach(Settings.from_environment(), ("kafka", "redis")), as_json))


async def _rebuild(settings: Settings, as_json: bool) -> None:
    assert settings.kafka_bootstrap is not None
    assert settings.redis_url is not None
    accounts = RedisAccounts(settings.redis_url, timeout_seconds=10.0)
    try:
        for partition in range(await ledger.partition_count(settings.kafka_bootstrap)):
            begun = time.monotonic()
            forgotten = await _partition(settings.kafka_bootstrap, accounts, partition)
            seconds = round(time.monotonic() - begun, 3)
            if as_json:
                told = {"partition": partition, "forgotten": forgotten, "seconds": seconds}
                click.echo(orjson.dumps(told))
            else:
                click.echo(f"partition {partition}: {forgotten} values forgotten, folded again in {seconds} s")
    finally:
        await accounts.close()


async def _partition(bootstrap: str, accounts: RedisAccounts, partition: int) -> int:
    end = await ledger.tail(bootstrap, partition)
    if end.last is None:
        return 0  # nobody ever opened it
    await _served(accounts, partition, 0, SERVED_SECONDS)
    forgotten = await accounts.clear(partition)
    await _served(accounts, partition, end.last_offset + 1, FOLDED_SECONDS)
    return forgotten


async def _served(accounts: RedisAccounts, partition: int, offset: int, bound_seconds: float) -> None:
    """Returns once a living owner serves the partition and has applied the ledger up to an offset."""
    deadline = time.monotonic() + bound_seconds
    while True:
        standing = await accounts.standing(partition)
        beat_age = time.time() - standing.beat / 1_000
        reached = standing.position is not None and standing.position.offset >= offset
        if standing.serving and reached and beat_age < BEAT_SECONDS:
            return
        if time.monotonic() >= deadline:
            raise Unavailable(f"no worker serves partition {partition}: start one, it folds what Redis lacks")
        if sys.stderr.isatty() and standing.position is not None:
            print(f"\rpartition {partition}: at offset {standing.position.offset}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(0.1)
