"""The journal of holds, `holds.journal`: what was granted, extended and released, for the day Redis loses it.

A record is written after the fact, with acks=all, and nobody waits for it. What a ledger entry ends is not in it: the
ledger tells. Keyed by customer like everything, so the owner of a partition reads the one of its number. A record is a
MessagePack array, format 1; fields are only appended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from aiokafka import TopicPartition

from ingest.accept import Record
from schemas.errors import InvariantBroken, Unavailable
from schemas.topics import HOLDS_JOURNAL
from streams.admission.outbox import Outbox
from streams.admission.values import Hold
from streams.ledger import committed_consumer

JOURNAL_FORMAT: Final = 1
POLL_MS: Final = 500
PATIENCE_POLLS: Final = 20


class Line(msgspec.Struct, array_like=True, frozen=True):
    """One record of the journal."""

    format: int
    account: str
    """Account key."""
    hold_id: str
    hold: Hold | None
    """As it was granted or extended; None: its holder ended it."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Line).decode


class HoldJournal:
    """The journal as a process writes it."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def opened(self, partition: int, account: str, hold_id: str, hold: Hold) -> None:
        """A hold was granted or extended."""
        self._write(account, hold_id, hold)

    def ended(self, partition: int, account: str, hold_id: str) -> None:
        """A hold was ended by its holder."""
        self._write(account, hold_id, None)

    def _write(self, account: str, hold_id: str, hold: Hold | None) -> None:
        value = _encode(Line(JOURNAL_FORMAT, account, hold_id, hold))
        self._outbox.put(Record(HOLDS_JOURNAL, customer_of(account).encode(), value))


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
                    yield _line(record.value)


async def journal_ends(bootstrap: str, partitions: list[int]) -> dict[int, int]:
    """Where each partition of the journal ends. Errors: Unavailable."""
    async with committed_consumer(bootstrap) as consumer:
        places = [TopicPartition(HOLDS_JOURNAL, partition) for partition in partitions]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        return {place.partition: offset for place, offset in ends.items()}


def _line(value: bytes) -> Line:
    try:
        line = _decode(value)
    except msgspec.DecodeError as error:
        raise InvariantBroken(f"a line of the journal of holds cannot be read: {error}") from error
    if line.format > JOURNAL_FORMAT:
        raise InvariantBroken(f"format {line.format} of the journal of holds is not known")
    return line
