"""The producers' client on real Kafka: judged, in order, where the Java client would put it, within its bounds."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest
from aiokafka.partitioner import murmur2

from ingest.accept import Record
from ingest.publish import RECORD_MAX_BYTES, Bounds, Position, Publisher
from schemas.errors import InvalidInput, Unavailable
from schemas.settings import Settings
from tests.integration.topic_reader import topic_from_now


def usage(number: int, source: str, **fields: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": source,
        "type": "usage.reported",
        "subject": f"cust-{number % 23}",
        "data": {"meter": "m", "quantity": number, **fields},
    }


def bootstrap(kafka: Settings) -> str:
    assert kafka.kafka_bootstrap is not None
    return kafka.kafka_bootstrap


async def test_events_keep_their_order_in_the_partition_that_java_gives_their_customer(kafka: Settings) -> None:
    """Across batches, with the tenant of the client, under the customer's key."""
    source = uuid.uuid4().hex
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka), tenant="acme", bounds=Bounds(batch_bytes=4096)) as publisher:
            deliveries = [await publisher.send(usage(number, source)) for number in range(2_000)]
            await publisher.flush()
            assert all(delivery.done() for delivery in deliveries)
            positions = [await delivery for delivery in deliveries]
        found = await reader.read()
    offsets = {(record.partition, record.offset): record for records in found.values() for record in records}
    for number, position in enumerate(positions):
        record = offsets[position.partition, position.offset]
        made = json.loads(record.value)
        assert (made["id"], made["tenantid"]) == (f"e-{number}", "acme")
        assert record.key == made["subject"].encode()
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % kafka.partitions
    for records in found.values():
        numbers = [json.loads(record.value)["data"]["quantity"] for record in records]
        assert numbers == sorted(numbers)


async def test_an_event_is_delivered_without_a_flush(kafka: Settings) -> None:
    """A batch leaves after its linger; awaiting the delivery tells where it lies, as often as one likes."""
    async with Publisher(bootstrap(kafka)) as publisher:
        delivery = await publisher.send(json.dumps(usage(1, uuid.uuid4().hex)))
        position = await delivery
        assert isinstance(position, Position)
        assert await delivery == position


async def test_what_is_handed_over_does_not_linger(kafka: Settings) -> None:
    """What of one topic is buffered leaves at once; that of another waits for more."""
    async with Publisher(bootstrap(kafka), bounds=Bounds(linger_s=3600)) as publisher:
        delivery = await publisher.send(usage(1, uuid.uuid4().hex))
        publisher.hand_over("account.events")
        assert publisher.in_flight.events == 1
        publisher.hand_over("usage.events")
        assert isinstance(await delivery, Position)


async def test_what_is_broken_is_refused_before_it_is_sent(kafka: Settings) -> None:
    """With the decoder's reason; and NaN, which encoders would make a null."""
    source = uuid.uuid4().hex
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka), tenant="acme") as publisher:
            for broken, reason in (
                (usage(1, source, quantity=-1), "out_of_range"),
                (usage(1, source, quantity=float("nan")), "not_json"),
                (usage(1, source, quantity=[Decimal("Infinity")]), "not_json"),
                (usage(1, source, quantity=object()), "not_json"),
                (usage(1, source) | {"tenantid": "other"}, "tenant_mismatch"),
                (b"{", "not_json"),
            ):
                with pytest.raises(InvalidInput) as refused:
                    await publisher.send(broken)
                assert refused.value.reason == reason
            with pytest.raises(InvalidInput, match="line 7"):
                await publisher.put(Record("usage.events", b"", b"x" * 5_000_000), "line 7")
        assert await reader.read() == {}


async def test_the_buffer_is_bounded_and_fills_again_as_kafka_confirms(kafka: Settings) -> None:
    """Never more events in flight than the bound, however fast they come; all arrive."""
    source = uuid.uuid4().hex
    bounds = Bounds(max_events=50, max_bytes=20_000)
    highest = 0
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka), bounds=bounds) as publisher:
            for number in range(1_000):
                await publisher.send(usage(number, source))
                assert publisher.in_flight.events <= 50
                assert publisher.in_flight.bytes <= 20_000
                highest = max(highest, publisher.in_flight.events)
        found = await reader.read()
    assert highest > 10
    assert sum(len(records) for records in found.values()) == 1_000


async def test_many_tasks_share_one_publisher(kafka: Settings) -> None:
    """Each waits for its own; nothing is lost or doubled."""
    source = uuid.uuid4().hex
    async with topic_from_now(bootstrap(kafka), "account.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka)) as publisher:

            async def send(task: int) -> None:
                records = [
                    Record("account.events", f"c{task}".encode(), f"{source} {task} {number}".encode())
                    for number in range(20)
                ]
                await publisher.publish(records)

            await asyncio.gather(*(send(task) for task in range(30)))
        found = await reader.read()
    values = [record.value for records in found.values() for record in records]
    assert sorted(values) == sorted(f"{source} {task} {number}".encode() for task in range(30) for number in range(20))


async def test_the_largest_record_that_is_let_through_is_taken(kafka: Settings) -> None:
    """To the byte, also where it can not be compressed; one byte more is refused here and not by the broker."""
    value = random.Random(1).randbytes(RECORD_MAX_BYTES)
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka)) as publisher:
            await (await publisher.put(Record("usage.events", b"", value), "large"))
            with pytest.raises(InvalidInput) as refused:
                await publisher.put(Record("usage.events", b"", value + b"x"), "larger")
        assert refused.value.reason == "too_large"
        (records,) = (await reader.read()).values()
    assert [record.value for record in records] == [value]


async def test_a_topic_that_is_not_there_is_told_in_time(kafka: Settings) -> None:
    """Topics are made by `tollgate up`, never by sending."""
    publisher = Publisher(bootstrap(kafka), bounds=Bounds(timeout_s=1))
    try:
        with pytest.raises(Unavailable, match=r"no\.such"):
            await publisher.put(Record("no.such", b"", b"x"), "x")
    finally:
        await publisher.close()


async def test_without_kafka_a_publisher_says_so_at_once() -> None:
    """And a closed one sends nothing more."""
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer"):
        async with Publisher("127.0.0.1:1"):
            pass
    publisher = Publisher("127.0.0.1:1")
    await publisher.close()
    with pytest.raises(Unavailable, match="closed"):
        await publisher.put(Record("usage.events", b"", b"x"), "x")
