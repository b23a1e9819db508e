"""`tollgate events`: sends events to Kafka as they are, and makes them from real traces."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import click

from ingest.traces import NAMES, from_trace
from schemas.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.publish import Publisher

CHUNK_BYTES: Final = 1024 * 1024
PROGRESS_S: Final = 0.2


@click.group()
def events() -> None:
    """Send events, or make them from a trace."""


@events.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--timeout", type=click.IntRange(1, 86_400), default=120, show_default=True, help="Seconds to wait for Kafka."
)
def send(file: str, timeout: int) -> None:
    """Send FILE (- is standard input): one CloudEvent a line, unchanged and unjudged, in its order.

    A line goes to the topic of its type, with its customer as the key; one that is no JSON goes to usage.events with
    an empty key. Empty lines are skipped. Exits with 0 only when Kafka has all.
    """
    from backing.launch import attach
    from ingest.publish import Bounds, Publisher
    from schemas.settings import Settings

    bootstrap = attach(Settings.from_environment(), ["kafka"]).kafka_bootstrap
    assert bootstrap is not None

    async def run(source: IO[bytes]) -> None:
        async with Publisher(bootstrap, bounds=Bounds(timeout_s=timeout)) as publisher:
            await _send_lines(source, publisher)

    with _opened(file) as source:
        asyncio.run(run(source))


@events.command("from-trace")
@click.argument("trace", type=click.Choice(NAMES))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--customers", type=click.IntRange(1), default=100, show_default=True, help="How many customers share it."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides which row is whose.")
@click.option("--tenant", help="Written into each event; without it the events name none.")
def from_trace_command(trace: str, file: str, customers: int, seed: int, tenant: str | None) -> None:
    """Print a trace's events, one CloudEvent a line, by time; the same for the same file, customers and seed."""
    with _opened(file) as source:
        try:
            made = from_trace(trace, io.TextIOWrapper(source, "utf-8", newline=""), customers, seed, tenant)
        except UnicodeDecodeError as error:
            raise InvalidInput("trace", f"{file} is not UTF-8: {error}") from None
    out = sys.stdout.buffer
    for event in made.events:
        out.write(event + b"\n")
    out.flush()
    if made.left_out:
        click.echo(f"{len(made.events)} events; {made.left_out} rows left out: never scheduled", err=True)


async def _send_lines(source: IO[bytes], publisher: Publisher) -> None:
    from ingest.accept import Record
    from schemas.event import peek, topic_of

    progress = _Progress()
    refused: InvalidInput | None = None
    number = 0
    async for lines in _lines(source):
        for line in lines:
            number += 1
            if not line.strip():
                continue
            names = peek(line)
            record = Record(topic_of(names.type), names.customer.encode(), line)
            try:
                await publisher.put(record, f"line {number}")
            except InvalidInput as error:
                refused = refused or error
                continue
            progress.sent += 1
        progress.show()
    await publisher.flush()
    progress.end()
    if refused is not None:
        raise refused


async def _lines(source: IO[bytes]) -> AsyncIterator[list[bytes]]:
    """Lines as they come, without their line feeds."""
    rest: list[bytes] = []
    descriptor = source.fileno()
    while chunk := await _read(descriptor):
        *whole, last = chunk.split(b"\n")
        if whole:
            whole[0] = b"".join((*rest, whole[0]))
            rest = []
            yield whole
        rest.append(last)
    if any(rest):
        yield [b"".join(rest)]


async def _read(descriptor: int) -> bytes:
    """What comes next, empty at the end. A slow writer holds nothing up, nor does one that says nothing: waiting for it
    can be interrupted, as a thread that reads can not."""
    loop, there = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, there.set)
    except PermissionError:  # a file on a disk, which is never waited for
        return await asyncio.to_thread(os.read, descriptor, CHUNK_BYTES)
    try:
        await there.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)


class _Progress:
    """Counts what is sent; says so on a terminal."""

    def __init__(self) -> None:
        self.sent = 0
        self._begun = self._shown = time.monotonic()

    def show(self) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown >= PROGRESS_S:
            self._shown = now
            click.echo(f"\r{self._text(now)}", err=True, nl=False)

    def end(self) -> None:
        start = "\r" if sys.stderr.isatty() else ""
        click.echo(f"{start}{self._text(time.monotonic())}: Kafka has all", err=True)

    def _text(self, now: float) -> str:
        return f"{self.sent:,} events sent, {self.sent / max(now - self._begun, 0.001):,.0f}/s"


def standard_input() -> IO[bytes]:
    """What is piped in. InvalidInput where it is closed."""
    if sys.stdin is None:
        raise InvalidInput("no_input", "standard input is closed")
    return sys.stdin.buffer


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield standard_input()
        return
    try:
        opened = open(file, "rb")  # noqa: SIM115  # closed below; an error of the body is not one of opening
    except OSError as error:
        raise InvalidInput("file", f"{file} cannot be read: {error.strerror}") from None
    with opened:
        yield opened
