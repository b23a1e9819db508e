"""The loop that people write: read a poll, rate it, one Redis script for all balances, one batch out a poll, commit.

    python -m benchmarks.baselines.handwritten_loop KAFKA REDIS EVENTS

It decodes without checking, counts an id once as long as Redis remembers it, rates by the very prices of the pipeline,
and writes no rows. A crash between any two of its effects loses money or takes it twice.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from benchmarks.baselines.rating import Rater
from schemas.topics import LARGEST_BATCH_BYTES, USAGE_EVENTS

OUT = "bench.rated"
SCRIPT = """
local answers = {}
for i = 1, #ARGV, 3 do
  if redis.call('SET', 'id:' .. ARGV[i], 1, 'NX') then
    answers[#answers + 1] = redis.call('HINCRBY', 'balances', ARGV[i + 1], '-' .. ARGV[i + 2])
  else
    answers[#answers + 1] = false
  end
end
return answers
"""


async def run(bootstrap: str, redis_url: str, events: int) -> dict[str, float]:
    """Rates `events` records."""
    redis = Redis.from_url(redis_url)
    charge = redis.register_script(SCRIPT)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=4 * 2**20, max_request_size=4 * 2**20)
    consumer = AIOKafkaConsumer(
        USAGE_EVENTS,
        bootstrap_servers=bootstrap,
        group_id="bench-handwritten-loop",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=5_000,
        max_partition_fetch_bytes=LARGEST_BATCH_BYTES,
    )
    await producer.start()
    await consumer.start()
    while not consumer.assignment():  # noqa: ASYNC110 - aiokafka tells of it in no other way
        await asyncio.sleep(0.05)
    started, cpu, read, total, rater = time.perf_counter(), time.process_time(), 0, 0, Rater()
    while read < events:
        arguments: list[str | int] = []
        rated = []
        for records in (await consumer.getmany(timeout_ms=1_000)).values():
            for record in records:
                event = orjson.loads(record.value)
                charges = rater.charges(event["type"], event["data"])
                if charges is not None:
                    amount = sum(part["amount"] for part in charges)
                    arguments += (event["id"], event["subject"], amount)
                    rated.append((record.key, event, charges, amount))
            read += len(records)
        if not rated:
            continue
        batch = producer.create_batch()
        for (key, event, charges, amount), balance in zip(rated, await charge(args=arguments), strict=True):
            if balance is not None:
                value = {"id": event["id"], "source": event["source"], "customer": event["subject"], "charges": charges}
                batch.append(
                    timestamp=None, key=key, value=orjson.dumps(value | {"amount": amount, "balance": balance})
                )
                total += amount
        await (await producer.send_batch(batch, OUT, partition=read % 8))
        await consumer.commit()
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    await consumer.stop()
    await producer.stop()
    await redis.aclose()
    return {"events": read, "seconds": took, "cpu_seconds": cpu, "amount": total}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
