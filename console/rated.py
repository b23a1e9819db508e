"""`tollgate rated tail`: the ledger's entries as JSON lines, as they are decided or from the beginning.

Amounts and quantities are decimal text, times RFC 3339: the ledger as people and scripts read it. The lines of one
partition come in the order of seq; those of several are interleaved. With `--until-end` it prints what is there and
ends, else it follows until it is interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from contextlib import aclosing
from typing import Any

import click
import orjson

from backing.launch import attach
from schemas.ledger import rows
from schemas.money import format_nanos
from schemas.period import format_time
from schemas.settings import Settings
from streams.ledger import partition_count, read, tail


@click.group()
def rated() -> None:
    """Follow the ledger."""


@rated.command("tail")
@click.option("--from-beginning", is_flag=True, help="Begin with the first entry, not with the next one.")
@click.option("--until-end", is_flag=True, help="End where the ledger ends now.")
@click.option("--partition", type=click.IntRange(0), default=None, help="One partition alone.")
def tail_command(from_beginning: bool, until_end: bool, partition: int | None) -> None:
    """Print entries of the ledger as JSON lines."""
    bootstrap = attach(Settings.from_environment()).kafka_bootstrap
    assert bootstrap is not None
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_tail(bootstrap, from_beginning, until_end, partition))


async def _tail(bootstrap: str, from_beginning: bool, until_end: bool, partition: int | None) -> None:
    partitions = await partition_count(bootstrap)
    if partition is not None and partition >= partitions:
        raise click.BadParameter(f"the ledger has {partitions} partitions, from 0", param_hint="--partition")
    chosen = range(partitions) if partition is None else [partition]
    await asyncio.gather(*(_print(bootstrap, one, from_beginning, until_end) for one in chosen))


async def _print(bootstrap: str, partition: int, from_beginning: bool, until_end: bool) -> None:
    start, next_seq, end = 0, None, None
    if until_end or not from_beginning:
        found = await tail(bootstrap, partition)
        end = found.end_offset if until_end else None
        if not from_beginning and found.last is not None:
            start, next_seq = found.last_offset + 1, found.last.next_seq
    async with aclosing(read(bootstrap, partition, start, end, next_seq=next_seq)) as records:
        async for _, record in records:
            lines = b"".join(orjson.dumps(_shown(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows(record))
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("occurred_at", "received_at", "rated_at"):
        row[name] = format_time(row[name])
    for charge in row["charges"]:
        for name in ("quantity", "quantity_before", "amount"):
            charge[name] = format_nanos(charge[name])
    for posting in row["postings"]:
        for name in ("amount", "balance_after"):
            posting[name] = format_nanos(posting[name])
        posting["burnt"] = [
            {"credit_id": credit, "amount": format_nanos(amount)} for credit, amount in posting["burnt"]
        ]
    return row
