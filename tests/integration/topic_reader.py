"""What is in a topic from where it ended when a test began."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

PATIENCE_S = 60


@dataclass
class TopicReader:
    """One topic, from a position on, read committed."""

    consumer: AIOKafkaConsumer
    partitions: list[TopicPartition]
    found: dict[int, list[Any]] = field(default_factory=dict)

    async def read(self) -> dict[int, list[Any]]:
        """All records since then, by partition, in their order."""
        ends = await self.consumer.end_offsets(self.partitions)
        async with asyncio.timeout(PATIENCE_S):
            for partition in self.partitions:
                while await self.consumer.position(partition) < ends[partition]:
                    for records in (await self.consumer.getmany(timeout_ms=200)).values():
                        for record in records:
                            self.found.setdefault(record.partition, []).append(record)
        return self.found


@asynccontextmanager
async def topic_from_now(bootstrap: str, topic: str, partitions: int) -> AsyncIterator[TopicReader]:
    """A reader of what comes from now on."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=5 * 1024 * 1024,
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(places)
        for place, offset in (await consumer.end_offsets(places)).items():
            consumer.seek(place, offset)
        yield TopicReader(consumer, places)
    finally:
        await consumer.stop()
