"""What `up` made of Kafka, Redis and ClickHouse holds what the rest of Tollgate relies on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import clickhouse_connect
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.errors import MessageSizeTooLargeError
from redis import Redis

from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, INPUTS, LARGEST_BATCH_BYTES, TOPICS, USAGE_DLQ, USAGE_EVENTS, USAGE_RATED
from tests.deployment import Tollgate, running

_BATCH_OVERHEAD_BYTES = 1024


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Services of these tests' own: what they write is no event."""
    with running(tmp_path_factory.mktemp("topics")) as settings:
        yield settings


async def test_topics_are_as_declared(services: Settings) -> None:
    """Kafka's own word on partitions and configs of every topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=services.kafka_bootstrap)
    await admin.start()
    try:
        described = {entry["topic"]: entry for entry in await admin.describe_topics([topic.name for topic in TOPICS])}
        wanted = [ConfigResource("TOPIC", topic.name, {key: None for key, _ in topic.configs}) for topic in TOPICS]
        answers = [resource for answer in await admin.describe_configs(wanted) for resource in answer.resources]
    finally:
        await admin.close()
    configs = {answer[3]: {entry[0]: entry[1] for entry in answer[4]} for answer in answers}
    for topic in TOPICS:
        assert len(described[topic.name]["partitions"]) == topic.partition_count(services.partitions)
        assert configs[topic.name] == dict(topic.configs)


@pytest.mark.parametrize("topic", INPUTS)
async def test_inputs_are_stamped_by_the_broker(services: Settings, topic: str) -> None:
    """A producer's own time, a year ago, is not the record's."""
    before_ms = int(time.time() * 1000)
    year_ago_ms = before_ms - 365 * 24 * 60 * 60 * 1000
    async with AIOKafkaProducer(bootstrap_servers=services.kafka_bootstrap) as producer:
        sent = await producer.send_and_wait(topic, b"{}", partition=0, timestamp_ms=year_ago_ms)
    async with AIOKafkaConsumer(bootstrap_servers=services.kafka_bootstrap) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, sent.offset)
        record = await consumer.getone(partition)
    # Both clocks are this machine's.
    assert record.timestamp >= before_ms


async def test_the_largest_dead_letter_fits_and_can_be_read(services: Settings) -> None:
    """A record of nearly 5 MiB that does not compress is taken by the dead-letter topic, and not by an input."""
    largest = os.urandom(LARGEST_BATCH_BYTES - _BATCH_OVERHEAD_BYTES)
    async with AIOKafkaProducer(
        bootstrap_servers=services.kafka_bootstrap, max_request_size=8 * 1024 * 1024, request_timeout_ms=10_000
    ) as producer:
        sent = await producer.send_and_wait(USAGE_DLQ, largest, partition=0)
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(ACCOUNT_EVENTS, largest, partition=0)
    async with AIOKafkaConsumer(bootstrap_servers=services.kafka_bootstrap) as consumer:
        partition = TopicPartition(USAGE_DLQ, 0)
        consumer.assign([partition])
        consumer.seek(partition, sent.offset)
        record = await consumer.getone(partition)
    assert record.value == largest


async def test_transactions_and_compression_work(services: Settings) -> None:
    """A committed lz4 record is read, an aborted one is never seen by a reader of what is committed."""
    # The last partition: readers of the ledger in other tests have partitions of their own.
    partition = TopicPartition(USAGE_RATED, services.partitions - 1)
    async with AIOKafkaConsumer(
        bootstrap_servers=services.kafka_bootstrap, isolation_level="read_committed"
    ) as consumer:
        consumer.assign([partition])
        (end,) = (await consumer.end_offsets([partition])).values()
        consumer.seek(partition, end)
        producer = AIOKafkaProducer(
            bootstrap_servers=services.kafka_bootstrap, transactional_id="test-backing-topics", compression_type="lz4"
        )
        await producer.start()
        try:
            # Not a ledger record: aborted, so that nobody ever reads it.
            await producer.begin_transaction()
            await producer.send_and_wait(USAGE_RATED, b"aborted", partition=partition.partition)
            await producer.abort_transaction()
            await producer.begin_transaction()
            sent = await producer.send_and_wait(USAGE_EVENTS, b"{}" * 1000, partition=partition.partition)
            await producer.commit_transaction()
        finally:
            await producer.stop()
        assert await consumer.getmany(partition, timeout_ms=500) == {}
        read = TopicPartition(USAGE_EVENTS, partition.partition)
        consumer.assign([read])
        consumer.seek(read, sent.offset)
        assert (await consumer.getone(read)).value == b"{}" * 1000


def test_redis_keeps_what_it_is_told(services: Settings) -> None:
    """Appends are logged and nothing is evicted."""
    assert services.redis_url is not None
    redis = Redis.from_url(services.redis_url)
    said = {name: redis.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy", "save")}
    assert said == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}


def test_the_command_line_runs_against_the_shared_services(tollgate: Tollgate, services: Settings) -> None:
    """`tollgate status` of these services, as a process of its own, finds them ready."""
    assert "does not answer" not in tollgate("status").stdout
    assert clickhouse_connect.get_client(dsn=services.clickhouse_url).command("SELECT 1") == 1
