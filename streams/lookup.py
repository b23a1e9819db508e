"""One record of a topic by its offset: a ledger record for an explanation, the event that it is about.

Errors: Unavailable where Kafka does not answer; InvariantBroken for a ledger record that cannot be read.
"""

from __future__ import annotations

from typing import Any, Final

from aiokafka import TopicPartition

from schemas.ledger import LedgerRecord
from schemas.ledger_packed import decode_record
from schemas.topics import USAGE_RATED
from streams.ledger import committed_consumer

WAIT_MS: Final = 5_000


class Records:
    """Reads from one Kafka."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def ledger(self, partition: int, offset: int) -> LedgerRecord | None:
        """The ledger record at an offset; None if there is none."""
        record = await self._at(USAGE_RATED, partition, offset)
        return decode_record(record.value) if record is not None else None

    async def value(self, topic: str, partition: int, offset: int) -> bytes | None:
        """The bytes of a record; None if it has none, or the topic no longer holds it."""
        record = await self._at(topic, partition, offset)
        return record.value if record is not None else None

    async def _at(self, topic: str, partition: int, offset: int) -> Any:
        place = TopicPartition(topic, partition)
        async with committed_consumer(self._bootstrap) as consumer:
            consumer.assign([place])
            begin = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
            if not begin <= offset < end:
                return None
            consumer.seek(place, offset)
            found = (await consumer.getmany(place, timeout_ms=WAIT_MS, max_records=1)).get(place, [])
        return found[0] if found and found[0].offset == offset else None
