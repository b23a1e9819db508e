"""How far behind the inputs are, asked of a real Kafka."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid

from aiokafka import AIOKafkaProducer
from aiokafka.consumer.fetcher import PartitionRecords

from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS
from streams.lag import Lag, LagWatch
from streams.ledger import committed_consumer


def now() -> int:
    return time.time_ns() // 1_000


async def ends(bootstrap: str, topic: str, partition: int) -> int:
    from aiokafka import TopicPartition

    async with committed_consumer(bootstrap) as consumer:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        return int((await consumer.end_offsets([place]))[place])


async def found(watch: LagWatch, place: tuple[str, int], position: int, at: int) -> Lag:
    """The first look in which Kafka gave the record at the position: what comes late is looked for again."""
    async with asyncio.timeout(30):
        while not (lag := (await watch.measure({place: position}, at))[0]).seconds:
            assert lag.events
    return lag


async def test_lag_counts_events_and_the_age_of_the_oldest(kafka: Settings) -> None:
    """Nothing waits, three wait, one waits: at each the events, and seconds since Kafka received the first of them."""
    bootstrap = str(kafka.kafka_bootstrap)
    start = await ends(bootstrap, USAGE_EVENTS, 0)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    watch = LagWatch(bootstrap)
    try:
        place = (USAGE_EVENTS, 0)
        assert await watch.measure({place: start}, now()) == [Lag(USAGE_EVENTS, 0, 0, 0.0)]
        sent = [await producer.send_and_wait(USAGE_EVENTS, b"{}", b"k", partition=0) for _ in range(3)]
        three = await found(watch, place, start, sent[0].timestamp * 1_000 + 5_000_000)
        assert (three.events, three.seconds) == (3, 5.0)
        one = await found(watch, place, start + 2, sent[2].timestamp * 1_000 + 7_000_000)
        assert (one.events, one.seconds) == (1, 7.0)
        assert (await watch.measure({place: start + 3}, now()))[0].events == 0
    finally:
        await watch.close()
        await producer.stop()


async def test_a_look_keeps_nothing_of_what_it_fetched(kafka: Settings) -> None:
    """Without the collector of cycles, which comes seldom in a process that serves."""
    bootstrap = str(kafka.kafka_bootstrap)
    start = await ends(bootstrap, USAGE_EVENTS, 1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    watch = LagWatch(bootstrap)
    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(*[await producer.send(USAGE_EVENTS, b"{}", b"k", partition=1) for _ in range(20)])
        for position in range(start, start + 20):
            assert (await found(watch, (USAGE_EVENTS, 1), position, now() + 10**6)).events == start + 20 - position
        kept = [one for one in gc.get_objects() if isinstance(one, PartitionRecords)]
        assert len(kept) <= 2  # what the last look left with the fetcher
    finally:
        gc.enable()
        await watch.close()
        await producer.stop()


async def test_markers_of_transactions_are_no_lag(kafka: Settings) -> None:
    """A partition that ends in a marker has nothing that waits to be decided."""
    bootstrap = str(kafka.kafka_bootstrap)
    start = await ends(bootstrap, ACCOUNT_EVENTS, 1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=uuid.uuid4().hex)
    await producer.start()
    watch = LagWatch(bootstrap)
    try:
        async with producer.transaction():
            await producer.send_and_wait(ACCOUNT_EVENTS, b"{}", b"k", partition=1)
        # The broker writes the marker after it has answered the commit.
        async with asyncio.timeout(30):
            while await ends(bootstrap, ACCOUNT_EVENTS, 1) < start + 2:
                pass
        place = (ACCOUNT_EVENTS, 1)
        assert (await watch.measure({place: start}, now()))[0].events == 2
        async with asyncio.timeout(30):
            while (at_marker := (await watch.measure({place: start + 1}, now()))[0]).events:
                assert at_marker.events == 1
        assert at_marker.seconds == 0.0
    finally:
        await watch.close()
        await producer.stop()
