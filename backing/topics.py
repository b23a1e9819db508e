"""Creates Kafka's topics and waits until the cluster can do what workers will ask of it.

Refuses to go on where a topic has another number of partitions than the deployment: customers would change
partitions. Errors: InvalidInput for that, Unavailable if Kafka does not come to it in time.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any, Final

from backing.probe import complete
from schemas.errors import InvalidInput, Unavailable
from schemas.kafka import connection
from schemas.topics import RATING_GROUP, TOPICS

_POLL_S: Final = 0.1
_REQUEST_MS: Final = 10_000
_PROBE_TRANSACTION: Final = "tollgate-up"


def create(bootstrap: str, *, partitions: int, replication: int, bound: timedelta) -> None:
    """Every topic exists with a leader for each partition; groups and transactions have their coordinators."""
    complete(_create(bootstrap, partitions, replication, bound))


async def _create(bootstrap: str, partitions: int, replication: int, bound: timedelta) -> None:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    deadline = time.monotonic() + bound.total_seconds()
    while True:
        admin = AIOKafkaAdminClient(**connection(bootstrap), request_timeout_ms=_REQUEST_MS)
        try:
            async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
                await admin.start()
                await _create_missing(admin, partitions, replication)
                await admin.find_coordinator(RATING_GROUP)
                await _begin_transactions(bootstrap)
                return
        except (KafkaError, OSError, TimeoutError) as error:
            if time.monotonic() >= deadline:
                reason = str(error) or type(error).__name__
                raise Unavailable(f"Kafka at {bootstrap}: topics could not be created: {reason}") from None
        finally:
            await admin.close()
        await asyncio.sleep(_POLL_S)


async def _create_missing(admin: Any, partitions: int, replication: int) -> None:
    from aiokafka.admin import NewTopic
    from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

    there = set(await admin.list_topics())
    wanted = [
        NewTopic(
            topic.name,
            num_partitions=topic.partition_count(partitions),
            replication_factor=replication,
            topic_configs=dict(topic.configs),
        )
        for topic in TOPICS
        if topic.name not in there
    ]
    if wanted:
        answer = await admin.create_topics(wanted)
        for name, code, *message in answer.topic_errors:
            error = for_code(code)
            if error is not None and code and error is not TopicAlreadyExistsError:
                raise Unavailable(f"Kafka refused to create {name}: {message[0] if message else error.__name__}")
    described = {entry["topic"]: entry for entry in await admin.describe_topics([topic.name for topic in TOPICS])}
    for topic in TOPICS:
        entry = described.get(topic.name)
        if entry is None or entry["error_code"] or any(part["leader"] < 0 for part in entry["partitions"]):
            raise KafkaError(f"{topic.name} has no leader yet")
        found, expected = len(entry["partitions"]), topic.partition_count(partitions)
        if found != expected:
            raise InvalidInput(
                "partitions",
                f"{topic.name} has {found} partitions and this deployment {expected}; the number is fixed when topics "
                f"are created: set TOLLGATE_PARTITIONS={found}, or use another Kafka",
            )


async def _begin_transactions(bootstrap: str) -> None:
    """A transactional producer that starts shows that the broker writes, syncs and coordinates."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(
        **connection(bootstrap), transactional_id=_PROBE_TRANSACTION, request_timeout_ms=_REQUEST_MS
    )
    try:
        await producer.start()
    finally:
        await producer.stop()
