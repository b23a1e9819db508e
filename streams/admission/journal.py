"""The journal of holds, `holds.journal`: what was granted, extended and released, for the day Redis loses it.

A line is written after the fact, with acks=all, and nobody waits for it. What a ledger entry ends is not in it: the
ledger tells. A line is a MessagePack array, format 1; fields are only appended. A record of Kafka's holds the lines of
one partition that waited together, `[2, [line...]]`, keyed by the customer of the first, so that the owner of a
partition reads the one of its number; of format 1 it is a line alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
from aiokafka import TopicPartition

from ingest.accept import Record
from schemas.errors import InvariantBroken, Unavailable
from schemas.topics import HOLDS_JOURNAL
from streams.admission.outbox import Outbox
from streams.admission.values import Hold
from streams.ledger import committed_consumer

LINE_FORMAT: Final = 1
SHEET_FORMAT: Final = 2
POLL_MS: Final = 500
PATIENCE_POLLS: Final = 20


class Line(msgspec.Struct, array_like=True, frozen=True):
    """What is said of one hold."""

    format: int
    account: str
    """Account key."""
    hold_id: str
    hold: Hold | None
    """As it was granted or extended; None: its holder ended it."""


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """How every record begins."""

    format: int


class _Sheet(_Head, frozen=True):
    lines: list[Line]


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_line = msgspec.msgpack.Decoder(Line).decode
_decode_sheet = msgspec.msgpack.Decoder(_Sheet).decode


def sheet_of(lines: Sequence[bytes]) -> bytes:
    """One record of many lines."""
    return _encode((SHEET_FORMAT, [msgspec.Raw(line) for line in lines]))


class HoldJournal:
    """The journal as a process writes it."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def opened(self, partition: int, account: str, hold_id: str, hold: bytes) -> None:
        """A hold was granted or extended."""
        self._write(partition, account, hold_id, msgspec.Raw(hold))

    def ended(self, partition: int, account: str, hold_id: str) -> None:
        """A hold was ended by its holder."""
        self._write(partition, account, hold_id, None)

    def _write(self, partition: int, account: str, hold_id: str, hold: msgspec.Raw | None) -> None:
        value = _encode((LINE_FORMAT, account, hold_id, hold))
        self._outbox.put(Record(HOLDS_JOURNAL, customer_of(account).encode(), value), partition)


def customer_of(account: str) -> str:
    """The customer in an account key."""
    length, _, rest = account.partition(":")
    return rest[int(length) + 1 :]


def tenant_of(account: str) -> str:
    """The tenant in an account key."""
    length, _, rest = account.partition(":")
    return rest[: int(length)]


async def read_journal(bootstrap: str, partition: int, start: int | None, end: int) -> AsyncIterator[Line]:
    """The lines of a partition from an offset (None: the first there is) up to `end`. Errors: Unavailable."""
    async with committed_consumer(bootstrap) as consumer:
        place = TopicPartition(HOLDS_JOURNAL, partition)
        consumer.assign([place])
        first = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, first if start is None else max(start, first))
        quiet = 0
        while await consumer.position(place) < end:
            records = (await consumer.getmany(place, timeout_ms=POLL_MS)).get(place, ())
            quiet = 0 if records else quiet + 1
            if quiet > PATIENCE_POLLS:
                raise Unavailable(f"nothing of {HOLDS_JOURNAL}[{partition}] came")
            for record in records:
                if record.offset < end:
                    for line in lines_of(record.value):
                        yield line


async def journal_ends(bootstrap: str, partitions: list[int]) -> dict[int, int]:
    """Where each partition of the journal ends. Errors: Unavailable."""
    async with committed_consumer(bootstrap) as consumer:
        places = [TopicPartition(HOLDS_JOURNAL, partition) for partition in partitions]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        return {place.partition: offset for place, offset in ends.items()}


def lines_of(value: bytes) -> list[Line]:
    """The lines of a record. Errors: InvariantBroken."""
    try:
        newest = _decode_head(value).format
        if newest == LINE_FORMAT:
            return [_decode_line(value)]
        lines = _decode_sheet(value).lines if newest == SHEET_FORMAT else []
    except msgspec.DecodeError as error:
        raise InvariantBroken(f"a record of the journal of holds cannot be read: {error}") from error
    newest = next((line.format for line in lines if line.format != LINE_FORMAT), newest)
    if newest != SHEET_FORMAT:
        raise InvariantBroken(f"format {newest} of the journal of holds is not known")
    return lines
