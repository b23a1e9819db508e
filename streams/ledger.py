"""The one reader of the ledger (`usage.rated`): in order, committed records alone, and not one missing or repeated.

Whoever reads the ledger reads it here, because a skipped entry is money. `LedgerReader` is the pure check of one
partition's records in order; `read` and `tail` bring the records from Kafka. An offset is Kafka's: it may jump, where
transaction markers or aborted records lie. A seq may not.

Refuses: a gap or a repeat in seq, a ledger that does not begin with its genesis or has a second one, columns that do
not fit their count, block borders that do not join, decided input positions that go back, an offset the topic no longer
holds: InvariantBroken. A Kafka that does not answer is Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.errors import InvariantBroken, Unavailable
from schemas.kafka import connection
from schemas.ledger import LedgerRecord, RecordKind
from schemas.ledger_packed import PackedRecord, decode_packed, unpacked
from schemas.topics import LARGEST_BATCH_BYTES, USAGE_RATED

PATIENCE_MS: Final = 30_000
"""A read that is to reach an offset gives up when nothing at all has come for this long."""

STOP_SECONDS: Final = 3.0

_POLL_MS: Final = 500
_REQUEST_TIMEOUT_MS: Final = 15_000
_TAIL_FIRST_LOOK: Final = 16
"""Offsets looked at behind the end for the last record; the very last ones are transaction markers."""


class LedgerReader:
    """Checks the records of one partition one after the other.

    `at_start`: the first record given is the topic's first and has to be the genesis. Otherwise reading begins in the
    middle, at the entry `next_seq` where that is known, anywhere where it is None.
    """

    __slots__ = ("_at_start", "_block_seq", "_offset", "_positions", "ledger_id", "next_seq", "partition")

    def __init__(self, partition: int, *, at_start: bool, next_seq: int | None = None) -> None:
        self.partition = partition
        self.next_seq = 0 if at_start else next_seq
        self.ledger_id = ""
        """The ledger's name, once its genesis was read."""
        self._at_start = at_start
        self._offset = -1
        self._block_seq: int | None = None
        self._positions = (0, 0)

    def take(self, offset: int, value: bytes) -> LedgerRecord:
        """The record at an offset, decoded and found to follow the one before. InvariantBroken if it does not."""
        return unpacked(self.take_packed(offset, value))

    def take_packed(self, offset: int, value: bytes) -> PackedRecord:
        """As `take`, its columns as they travel."""
        if offset <= self._offset:
            raise self._broken(offset, f"comes after offset {self._offset}")
        record = decode_packed(value)
        if record.partition != self.partition:
            raise self._broken(offset, f"says it is of partition {record.partition}")
        self._check_kind(offset, record)
        if self.next_seq is not None and record.first_seq != self.next_seq:
            lack = "a gap" if record.first_seq > self.next_seq else "a repeat"
            raise self._broken(offset, f"begins at seq {record.first_seq}, expected {self.next_seq}: {lack}")
        if self._block_seq is not None and record.block_seq != self._block_seq:
            raise self._broken(offset, f"belongs to block {record.block_seq}, expected {self._block_seq}")
        positions = (record.usage_next, record.account_next)
        if positions[0] < self._positions[0] or positions[1] < self._positions[1]:
            raise self._broken(offset, f"takes the decided positions back from {self._positions} to {positions}")
        self._offset = offset
        self._positions = positions
        self.next_seq = record.next_seq
        self._block_seq = record.next_seq if record.closes_block else record.block_seq
        return record

    def _check_kind(self, offset: int, record: PackedRecord) -> None:
        if record.kind == RecordKind.GENESIS:
            if self._offset >= 0 or not record.ledger_id:
                raise self._broken(
                    offset, "begins the ledger again" if record.ledger_id else "is a genesis without a name"
                )
            self.ledger_id = record.ledger_id
        elif self._at_start and self._offset < 0:
            raise self._broken(offset, "is not the ledger's genesis")
        if record.kind == RecordKind.ENTRIES:
            if not record.fits():
                raise self._broken(offset, f"has columns that do not hold its {record.count} entries")
        elif record.kind not in (RecordKind.GENESIS, RecordKind.BLOCK_END):
            raise self._broken(offset, f"has kind {record.kind}, which is not known")
        elif record.count or record.entries is not None:
            raise self._broken(offset, "has entries, and its kind has none")
        if record.kind == RecordKind.BLOCK_END and not record.closes_block:
            raise self._broken(offset, "is a block's end and does not close it")
        if record.block_seq > record.first_seq:
            raise self._broken(offset, f"begins at seq {record.first_seq}, before its block {record.block_seq}")

    def _broken(self, offset: int, fault: str) -> InvariantBroken:
        return InvariantBroken(f"{USAGE_RATED}[{self.partition}]: the record at offset {offset} {fault}")


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a partition of the ledger ends."""

    end_offset: int
    """The offset after the last committed record or marker; reads up to here see all that is decided."""
    last_offset: int
    """Offset of the last record; -1 where there is none."""
    last: LedgerRecord | None
    """None: the partition has no genesis yet."""
    ledger_id: str
    """From the genesis; empty where there is none."""


@asynccontextmanager
async def committed_consumer(bootstrap: str, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer without a group, of committed records alone, with no place to fall back to."""
    consumer = AIOKafkaConsumer(
        **connection(bootstrap),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=LARGEST_BATCH_BYTES,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        **settings,
    )
    try:
        await consumer.start()
        yield consumer
    except OffsetOutOfRangeError as error:
        raise InvariantBroken(f"the topic does not hold the offset asked for: {error}") from error
    except KafkaError as error:
        raise Unavailable(f"Kafka at {bootstrap}: {error!r}") from error
    finally:
        # aiokafka loses a stop that comes while it drops the fetches of a former assignment; cancelled, it asks again.
        with suppress(TimeoutError):
            await asyncio.wait_for(consumer.stop(), STOP_SECONDS)


async def partition_count(bootstrap: str) -> int:
    """How many partitions the ledger has. Unavailable if Kafka does not answer or has no ledger."""
    async with committed_consumer(bootstrap) as consumer:
        first = TopicPartition(USAGE_RATED, 0)
        # A consumer knows of the topics it reads.
        consumer.assign([first])
        await consumer.end_offsets([first])
        return len(consumer.partitions_for_topic(USAGE_RATED))


async def read(
    bootstrap: str,
    partition: int,
    from_offset: int,
    to_offset: int | None = None,
    *,
    next_seq: int | None = None,
    patience_ms: int = PATIENCE_MS,
) -> AsyncGenerator[tuple[int, LedgerRecord], None]:
    """The committed records of a partition with offsets in [from_offset, to_offset), or for ever if that is None.

    Whoever leaves it before its end closes it (`contextlib.aclosing`): it holds a consumer.
    From offset 0 the genesis has to come first. Beyond it, `next_seq` is the seq the first record must have.
    Errors: InvariantBroken as the module says; Unavailable if nothing came for `patience_ms` before `to_offset`.
    """
    reader = LedgerReader(partition, at_start=from_offset == 0, next_seq=next_seq)
    if to_offset is not None and from_offset >= to_offset:
        return
    async with committed_consumer(bootstrap) as consumer:
        place = TopicPartition(USAGE_RATED, partition)
        consumer.assign([place])
        consumer.seek(place, from_offset)
        async for offset, value in _values(consumer, place, to_offset, patience_ms):
            yield offset, reader.take(offset, value)


async def tail(bootstrap: str, partition: int, *, patience_ms: int = PATIENCE_MS) -> Tail:
    """The end of a partition, its last record and its name. Errors: InvariantBroken, Unavailable.

    What a transaction still open hides is not in it: a writer starts its own producer first, which ends that.
    """
    async with committed_consumer(bootstrap) as consumer:
        place = TopicPartition(USAGE_RATED, partition)
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, 0)
        first = await anext(_values(consumer, place, end, patience_ms), None)
        if first is None:
            return Tail(end, -1, None, "")
        ledger_id = LedgerReader(partition, at_start=True).take(*first).ledger_id
        back = _TAIL_FIRST_LOOK
        while True:
            start = max(0, end - back)
            consumer.seek(place, start)
            reader = LedgerReader(partition, at_start=start == 0)
            last_offset, last = -1, None
            async for offset, value in _values(consumer, place, end, patience_ms):
                last_offset, last = offset, reader.take(offset, value)
            if last is not None:
                return Tail(end, last_offset, last, ledger_id)
            if start == 0:
                raise InvariantBroken(f"{USAGE_RATED}[{partition}] had a genesis and now has no record")
            back *= 8


async def _values(
    consumer: AIOKafkaConsumer, place: TopicPartition, to_offset: int | None, patience_ms: int
) -> AsyncIterator[tuple[int, bytes]]:
    """Records from the consumer's place on: up to an offset, of which markers may be the last, or without end."""
    quiet_ms = 0
    while True:
        position = await consumer.position(place)
        if to_offset is not None and position >= to_offset:
            return
        records = (await consumer.getmany(place, timeout_ms=_POLL_MS)).get(place, ())
        for record in records:
            if to_offset is not None and record.offset >= to_offset:
                return
            yield record.offset, record.value
        quiet_ms = 0 if await consumer.position(place) > position else quiet_ms + _POLL_MS
        if to_offset is not None and quiet_ms >= patience_ms:
            raise Unavailable(f"{place.topic}[{place.partition}] stays at offset {position}; {to_offset} was to come")
