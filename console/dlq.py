"""`tollgate dlq`: what could not be taken, and how it ends: sent again after what was at fault is mended, or dropped.

A letter is named by topic, partition and offset of its record, as in `usage.events-3-120`. Each ends once: a second
`retry` of the same letter sends nothing. Exit 2 where a letter that was named is not there; the others are ended.
"""

from __future__ import annotations

import asyncio
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import click
import orjson

from api import queries
from api.queries import DEAD_LETTER_KEY, Page, Span
from api.rows import ClickHouseRows
from api.shaping import dead_letter_fields
from backing.launch import attach
from schemas.errors import InvalidInput
from schemas.period import format_time, parse_time
from schemas.settings import Settings
from streams.letter_rows import ClickHouseLetters
from streams.resolving import Place, Resolved, Resolver, place_of

ROWS_AT_ONCE: Final = 500

Command = TypeVar("Command", bound=Callable[..., Any])


def _choosing(command: Command) -> Command:
    """The options that choose letters."""
    for option in (
        click.option("--reason", help="Letters of this reason alone."),
        click.option("--since", metavar="TIME", help="Letters that Kafka received then or later (RFC 3339)."),
        click.option("--tenant", help="Letters of this tenant alone."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ):
        command = option(command)
    return command


@click.group()
def dlq() -> None:
    """List, show, retry and drop dead letters."""


@dlq.command()
@click.option("--open", "unresolved", is_flag=True, help="Without those that were retried or dropped.")
@_choosing
def ls(reason: str | None, since: str | None, tenant: str | None, unresolved: bool, as_json: bool) -> None:
    """List dead letters by the time Kafka received them, with how they ended."""
    found = asyncio.run(_listed(_span(since), reason, tenant, unresolved))
    if as_json:
        click.echo(orjson.dumps(found))
        return
    for letter in found:
        click.echo(_line(letter))


@dlq.command()
@click.argument("letter", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the original as text and as base64.")
def show(letter: str, as_json: bool) -> None:
    """Show one dead letter with its original."""
    row = asyncio.run(_row(_place(letter)))
    if row is None:
        raise _absent([letter])
    *fields, encoded = row
    shown = dead_letter_fields(fields)
    original = b64decode(encoded)
    try:
        text = original.decode()
    except UnicodeDecodeError:
        text = None
    if as_json:
        click.echo(orjson.dumps({**shown, "original": text, "original_base64": encoded}))
        return
    for name, value in shown.items():
        if value is not None:
            click.echo(f"{name}: {value}")
    click.echo(f"original: {text if text is not None else encoded + ' (base64)'}")


@dlq.command()
@click.argument("letters", metavar="[ID]...", nargs=-1)
@_choosing
def retry(letters: Sequence[str], reason: str | None, since: str | None, tenant: str | None, as_json: bool) -> None:
    """Send originals to their topics again, by id, or all open ones (of a reason, a tenant, from a time on)."""
    places = _chosen(letters, reason, since)
    asyncio.run(_end(places, reason, _span(since), tenant, as_json, lambda desk, some: desk.retry(some)))


@dlq.command()
@click.argument("letters", metavar="[ID]...", nargs=-1)
@click.option("--note", default="", help="Why they are given up; of letters named by id --reason says it too.")
@_choosing
def drop(
    letters: Sequence[str], note: str, reason: str | None, since: str | None, tenant: str | None, as_json: bool
) -> None:
    """Give letters up, by id, or all open ones (of a reason, a tenant, from a time on); their originals stay."""
    if letters:
        note, reason = note or reason or "", None
    elif reason is None and since is None and tenant is None:
        raise click.UsageError("name letters by id, or choose them by --reason, --since or --tenant")
    places = _chosen(letters, reason, since)
    asyncio.run(_end(places, reason, _span(since), tenant, as_json, lambda desk, some: desk.drop(some, note)))


def _chosen(letters: Sequence[str], reason: str | None, since: str | None) -> list[Place]:
    """The letters that are named; none: all open ones that the options choose."""
    if letters and (reason is not None or since is not None):
        raise click.UsageError("name letters by id, or choose them by --reason and --since")
    return [_place(letter) for letter in letters]


def _place(letter: str) -> Place:
    place = place_of(letter)
    if place is None:
        raise click.UsageError(f"{letter} is no dead letter's id; they read like usage.events-3-120")
    return place


def _span(since: str | None) -> Span:
    return Span(parse_time(since, "/since")) if since is not None else Span()


async def _end(
    places: list[Place],
    reason: str | None,
    span: Span,
    tenant: str | None,
    as_json: bool,
    end: Callable[[Resolver, Sequence[Place]], Any],
) -> None:
    settings = attach(Settings.from_environment(), ("kafka", "clickhouse"))
    assert settings.kafka_bootstrap is not None
    assert settings.clickhouse_url is not None
    if not places:
        places = [place async for place in _open_places(settings.clickhouse_url, span, reason, tenant)]
        named: set[Place] = set()
    else:
        named = set(places)
    letters = ClickHouseLetters(settings.clickhouse_url)
    desk = Resolver(settings.kafka_bootstrap, letters, lambda: time.time_ns() // 1_000)
    try:
        ended: list[Resolved] = []
        for start in range(0, len(places), ROWS_AT_ONCE):
            ended += await end(desk, places[start : start + ROWS_AT_ONCE])
            _progress(f"{min(start + ROWS_AT_ONCE, len(places))} of {len(places)}")
    finally:
        letters.close()
    _told(ended, as_json)
    if missing := named - {one.place for one in ended}:
        raise _absent([place.id for place in sorted(missing)])


def _absent(letters: Sequence[str]) -> InvalidInput:
    return InvalidInput("not_found", f"there is no dead letter {', '.join(letters)}")


def _told(ended: Sequence[Resolved], as_json: bool) -> None:
    if as_json:
        shown = [
            {
                "id": one.place.id,
                "resolution": one.resolution,
                "resolved_at": format_time(one.resolved_at),
                "now": one.now,
            }
            for one in ended
        ]
        click.echo(orjson.dumps(shown))
        return
    for one in ended:
        earlier = "" if one.now else f" before, at {format_time(one.resolved_at)}"
        click.echo(f"{one.place.id}: {one.resolution}{earlier}")
    click.echo(f"{sum(one.now for one in ended)} of {len(ended)} letters ended now")


async def _listed(span: Span, reason: str | None, tenant: str | None, unresolved: bool) -> list[dict[str, Any]]:
    async with _rows() as rows:
        return [dead_letter_fields(row) async for row in _pages(rows, span, reason, tenant, unresolved=unresolved)]


async def _open_places(url: str, span: Span, reason: str | None, tenant: str | None) -> AsyncIterator[Place]:
    async with _rows(url) as rows:
        async for row in _pages(rows, span, reason, tenant, unresolved=True):
            place = place_of(dead_letter_fields(row)["id"])
            if place is not None:  # what no worker of ours wrote has no topic of its own to go back to
                yield place


async def _pages(
    rows: ClickHouseRows, span: Span, reason: str | None, tenant: str | None, *, unresolved: bool
) -> AsyncIterator[list[Any]]:
    after: tuple[Any, ...] | None = None
    while True:
        query = queries.dead_letters(tenant, reason, None, span, Page(after, ROWS_AT_ONCE), unresolved=unresolved)
        found = await rows.fetch(query)
        for row in found[:ROWS_AT_ONCE]:
            yield row
        if len(found) <= ROWS_AT_ONCE:
            return
        after = tuple(kind(part) for kind, part in zip(DEAD_LETTER_KEY, found[ROWS_AT_ONCE - 1], strict=False))


async def _row(place: Place) -> list[Any] | None:
    async with _rows() as rows:
        found = await rows.fetch(queries.dead_letter(None, *place))
    return found[0] if found else None


@asynccontextmanager
async def _rows(url: str | None = None) -> AsyncIterator[ClickHouseRows]:
    url = url or attach(Settings.from_environment(), ("clickhouse",)).clickhouse_url
    assert url is not None
    rows = ClickHouseRows(url)
    try:
        yield rows
    finally:
        await rows.close()


def _line(letter: dict[str, Any]) -> str:
    ended = "open"
    for how in ("retried", "dropped"):
        if letter[f"{how}_at"] is not None:
            ended = f"{how} {letter[f'{how}_at']}"
    named = f"{letter['source']}/{letter['event_id']}" if letter["event_id"] else "unreadable"
    return (
        f"{letter['id']}  {letter['received_at']}  {letter['reason']}  {letter['customer'] or '-'}  {named}  {ended}\n"
        f"    {letter['detail']}"
    )


def _progress(message: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{message}", end="", file=sys.stderr, flush=True)
