"""What a sink does with each partition it was given: blocks of the ledger, or single records, into ClickHouse.

Neither lane gives up: an Unavailable store is waited for with what is in hand, which is a block at most. A lane ends by
being cancelled, or with InvariantBroken for a ledger or rows that are not what they must be, which ends the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import InvariantBroken, Unavailable
from schemas.ledger_packed import PackedRecord
from schemas.topics import AUDIT_LOG, DENIALS
from streams import audit_rows, dead_letters, denial_rows
from streams.blocks import Block, Gathering, encode
from streams.ledger import LedgerReader
from streams.rows import Standing, Superseded, put

if TYPE_CHECKING:
    from streams.sink import Sink

RECORDS_AT_ONCE: Final = 16
"""Ledger records decoded between two looks at the other partitions."""
RECORDS_OF_ONE_INSERT: Final = 200
"""Dead letters or audit entries."""
BEHIND_OFFSETS: Final = 50
"""A lane this far behind the ledger's end looks at once."""
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Between attempts while a store is away; the last for ever."""

_POLL_MS: Final = 1_000

log = logging.getLogger(__name__)


class LedgerLane:
    """Follows one partition of the ledger."""

    def __init__(self, sink: Sink, place: TopicPartition) -> None:
        self._sink = sink
        self._place = place
        self._committed = -1
        self._failed = 0
        """Attempts that failed since something went well."""

    async def run(self) -> None:
        """Serves until cancelled. Errors: InvariantBroken."""
        while True:
            try:
                await self._follow()
            except Superseded as ahead:
                log.info("%s; going on from there", ahead)
            except (Unavailable, KafkaError) as error:
                log.warning("%s[%d] waits: %s", self._place.topic, self._place.partition, error)
                self._sink.serves(self._place, False)
                await pause(self._failed)
                self._failed += 1

    async def _follow(self) -> None:
        partition, consumer = self._place.partition, self._sink.consumer
        standing = await self._sink.in_thread(partial(self._sink.rows.standing, partition))
        if standing is None:
            reader = LedgerReader(partition, at_start=True)
            consumer.seek(self._place, 0)
        else:
            await self._recognize(standing)
            reader = LedgerReader(partition, at_start=False, next_seq=standing.next_seq)
            consumer.seek(self._place, standing.last_offset + 1)
        gathering = None if standing is None else Gathering(standing.ledger_id, standing.next_seq)
        ledger_id = "" if standing is None else standing.ledger_id
        self._sink.serves(self._place, True)
        while not self._sink.stopping():
            records = await self._poll(RECORDS_AT_ONCE, _POLL_MS)
            self._failed = 0
            for record in records:
                taken = reader.take_packed(record.offset, record.value)
                if gathering is None:
                    ledger_id = reader.ledger_id
                    gathering = Gathering(ledger_id, 0)
                block = gathering.add(record.offset, taken)
                if block is not None:
                    await self._store(ledger_id, block)
                    await self._hint(block[-1][0] + 1)
                    if self._sink.stopping():
                        break
            if not records and gathering is not None and not gathering.entries:
                await self._hint(await consumer.position(self._place))
        await asyncio.Event().wait()

    async def _recognize(self, standing: Standing) -> None:
        """Compares the ledger's name in Kafka with that of the rows."""
        self._sink.consumer.seek(self._place, 0)
        reader = LedgerReader(self._place.partition, at_start=True)
        first = await self._poll(1, 10 * _POLL_MS)
        if not first:
            raise Unavailable("Kafka does not give the ledger's first record")
        reader.take(first[0].offset, first[0].value)
        if reader.ledger_id != standing.ledger_id:
            raise InvariantBroken(
                f"the rows of partition {self._place.partition} are of ledger {standing.ledger_id}, "
                f"Kafka has ledger {reader.ledger_id}"
            )

    async def _poll(self, records: int, timeout_ms: int) -> Sequence[Any]:
        consumer = self._sink.consumer
        found = await consumer.getmany(self._place, timeout_ms=timeout_ms, max_records=records)
        end = consumer.last_stable_offset(self._place)
        if end is not None:
            self._sink.measures.behind(self._place.partition, max(0, end - await consumer.position(self._place)))
        taken: Sequence[Any] = found.get(self._place, ())
        return taken

    async def _store(self, ledger_id: str, records: Sequence[tuple[int, PackedRecord]]) -> None:
        block = await self._sink.in_thread(partial(encode, ledger_id, records))
        attempt = 0
        while True:
            try:
                await put(self, block, doubtful=attempt > 0)
                self._sink.measures.stored(block.next_seq - block.first_seq)
                if attempt:
                    self._sink.serves(self._place, True)
                return
            except Unavailable as error:
                log.warning("block %s waits: %s", block.token, error)
                self._sink.serves(self._place, False)
                await self._tell_lag(records[0][0])
                await pause(attempt)
                attempt += 1

    async def _tell_lag(self, stored: int) -> None:
        """How much of the ledger lies behind what is stored. Nothing is fetched meanwhile, so Kafka is asked."""
        try:
            end = (await self._sink.consumer.end_offsets([self._place]))[self._place]
        except KafkaError:
            return
        self._sink.measures.behind(self._place.partition, max(0, end - stored))

    async def extent(self, partition: int) -> tuple[int, int]:
        """As `Rows` says; soon where others may ask too, at once where much waits behind this block."""
        consumer = self._sink.consumer
        end, position = consumer.last_stable_offset(self._place), await consumer.position(self._place)
        behind = end is not None and end - position > BEHIND_OFFSETS
        return (await self._sink.extents(at_once=behind)).get(partition, (0, 0))

    async def insert(self, block: Block, token: str) -> None:
        """As `Rows` says."""

        def insert() -> None:
            with self._sink.measures.timed("insert"):
                self._sink.rows.insert(block, token)

        await self._sink.in_thread(insert)

    async def _hint(self, offset: int) -> None:
        """Commits how far it is, so that others can see the lag; nothing leans on it."""
        if offset > self._committed:
            self._committed = offset
            await self._sink.commit(self._place, offset)


class RecordLane:
    """Follows one partition of a dead letter topic, or of the audit log, from the group's offset on."""

    def __init__(self, sink: Sink, place: TopicPartition) -> None:
        self._sink = sink
        self._place = place
        self._rows = {AUDIT_LOG: audit_rows, DENIALS: denial_rows}.get(place.topic, dead_letters)

    async def run(self) -> None:
        """Serves until cancelled."""
        attempt = 0
        records: Sequence[Any] = ()
        self._sink.serves(self._place, True)
        while not self._sink.stopping():
            try:
                if not records:
                    found = await self._sink.consumer.getmany(
                        self._place, timeout_ms=_POLL_MS, max_records=RECORDS_OF_ONE_INSERT
                    )
                    records = found.get(self._place, ())
                if records:
                    insert = partial(self._insert, self._rows.encode(records))
                    await self._sink.in_thread(insert)
                    if self._rows is dead_letters:
                        self._sink.measures.dead_letters(len(records))
                    await self._sink.commit(self._place, records[-1].offset + 1)
                    records, attempt = (), 0
            except (Unavailable, KafkaError) as error:
                log.warning("%s[%d] waits: %s", self._place.topic, self._place.partition, error)
                await pause(attempt)
                attempt += 1
        await asyncio.Event().wait()

    def _insert(self, data: bytes) -> None:
        with self._sink.measures.timed("insert_records"):
            self._sink.rows.insert_into(self._rows.TABLE, data, {})


async def pause(attempt: int) -> None:
    """Waits before the next attempt."""
    await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
