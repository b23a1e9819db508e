"""Kafka behind a circuit breaker: nobody waits again and again for one that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from api.guarded import GuardedPublisher
from api.measures import Measures
from api.readiness import KafkaMetadata
from ingest.accept import Record
from ingest.breaker import FAILURES, Breaker, State
from ingest.publish import Bounds, Publisher
from schemas.errors import InvalidInput, Unavailable
from schemas.limits import INPUT_RECORD_MAX_BYTES
from schemas.topics import USAGE_EVENTS

NOWHERE = "127.0.0.1:1"
RECORD = Record(USAGE_EVENTS, b"c", b"{}")


class Counted(Publisher):
    """Tells how often it was asked for anything."""

    asked = 0

    async def publish(self, records: Sequence[Record]) -> None:
        self.asked += 1
        await super().publish(records)


async def test_after_some_failures_kafka_is_not_asked_any_more() -> None:
    """Whoever publishes and whoever waits for a place are refused at once, as the API's own commands are."""
    publisher = Counted(NOWHERE, bounds=Bounds(timeout_s=0.1))
    breaker = Breaker("kafka")
    measures = Measures()
    guarded = GuardedPublisher(publisher, breaker, measures)
    for _ in range(FAILURES - 1):
        with pytest.raises(Unavailable):
            await guarded.publish([RECORD])
    assert breaker.state == State.CLOSED
    with pytest.raises(Unavailable):
        await guarded.put(RECORD, "label")
    assert breaker.state == State.OPEN
    with pytest.raises(Unavailable, match="not asked now"):
        await guarded.publish([RECORD])
    with pytest.raises(Unavailable, match="not asked now"):
        await guarded.put(RECORD, "label")
    assert publisher.asked == FAILURES - 1
    assert measures.registry.get_sample_value("tollgate_store_unavailable_total", {"store": "kafka"}) == FAILURES
    await guarded.close()


async def test_a_look_at_kafka_counts_too() -> None:
    """The readiness probe finds it away before any sender does, and is itself never refused."""
    breaker = Breaker("kafka")
    metadata = KafkaMetadata(NOWHERE, breaker)
    for _ in range(FAILURES + 1):
        with pytest.raises(Unavailable, match="kafka"):
            await metadata.answers()
    assert breaker.state == State.OPEN


async def test_a_record_that_kafka_cannot_take_says_nothing_of_kafka() -> None:
    """It was refused before Kafka was asked."""
    breaker = Breaker("kafka", failures=1)
    async with asyncio.timeout(30):
        guarded = GuardedPublisher(Publisher(NOWHERE), breaker, Measures())
        with pytest.raises(InvalidInput):
            await guarded.put(Record(USAGE_EVENTS, b"c", b"x" * INPUT_RECORD_MAX_BYTES), "label")
    assert breaker.state == State.CLOSED
