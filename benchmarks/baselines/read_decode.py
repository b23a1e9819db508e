"""Reading and decoding alone: aiokafka and orjson in one process, every record of `usage.events`, and nothing else.

python -m benchmarks.baselines.read_decode KAFKA EVENTS
"""

from __future__ import annotations

import json
import sys
import time

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import LARGEST_BATCH_BYTES, USAGE_EVENTS


async def run(bootstrap: str, events: int) -> dict[str, float]:
    """Reads `events` records."""
    consumer = AIOKafkaConsumer(
        USAGE_EVENTS,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=5_000,
        max_partition_fetch_bytes=LARGEST_BATCH_BYTES,
    )
    await consumer.start()
    await consumer.seek_to_beginning(*(TopicPartition(*place) for place in consumer.assignment()))
    started, cpu, read = time.perf_counter(), time.process_time(), 0
    while read < events:
        for records in (await consumer.getmany(timeout_ms=1_000)).values():
            for record in records:
                orjson.loads(record.value)
            read += len(records)
    took = time.perf_counter() - started
    cpu = time.process_time() - cpu
    await consumer.stop()
    return {"events": read, "seconds": took, "cpu_seconds": cpu}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2])))))
