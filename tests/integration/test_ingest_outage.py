"""What a producer sees while Kafka is away: a bounded wait, an error that names its events, and nothing lost or doubled
once Kafka is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from backing import launch, state
from ingest.accept import Record
from ingest.publish import Bounds, Publisher
from schemas.errors import Unavailable
from schemas.settings import Settings
from tests.deployment import halted, settings_in
from tests.integration.topic_reader import topic_from_now


def bootstrap(kafka: Settings) -> str:
    assert kafka.kafka_bootstrap is not None
    return kafka.kafka_bootstrap


def pid_of(kafka: Settings) -> int:
    pid = state.read(kafka.data_dir).services["kafka"].pid
    assert pid is not None
    return pid


@contextlib.contextmanager
def stopped(kafka: Settings) -> Iterator[None]:
    """Kafka answers nothing, and refuses nothing."""
    with halted(pid_of(kafka)):
        yield


def restart(kafka: Settings) -> None:
    launch.up(settings_in(kafka.data_dir), backend="native", only=["kafka"])


def record(number: int) -> Record:
    return Record("usage.events", f"c-{number % 17}".encode(), b"%d" % number)


async def test_an_unconfirmed_event_is_named_and_may_still_arrive(kafka: Settings) -> None:
    """The delivery and the flush say so in time; when Kafka goes on it is written once, and the publisher goes on."""
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka), bounds=Bounds(timeout_s=5)) as publisher:
            await (await publisher.put(record(0), "first"))
            with stopped(kafka):
                delivery = await publisher.put(record(1), "chat/e-1")
                with pytest.raises(Unavailable, match="chat/e-1"):
                    await delivery
                with pytest.raises(Unavailable, match="chat/e-1"):
                    await publisher.flush()
            async with asyncio.timeout(60):
                while not delivery.done():  # noqa: ASYNC110  # a delivery tells nobody but its awaiters, in time
                    await asyncio.sleep(0.05)
            await delivery
            await (await publisher.put(record(2), "last"))
        found = await reader.read()
    assert sorted(int(one.value) for records in found.values() for one in records) == [0, 1, 2]


async def test_a_full_buffer_waits_and_then_says_so(kafka: Settings) -> None:
    """What it holds is sent when Kafka is back."""
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka), bounds=Bounds(max_events=10, timeout_s=5)) as publisher:
            await (await publisher.put(record(0), 0))
            with stopped(kafka):
                for number in range(1, 11):
                    await publisher.put(record(number), number)
                with pytest.raises(Unavailable, match="buffer is full"):
                    await publisher.put(record(11), 11)
            await publisher.put(record(12), 12)
        found = await reader.read()
    assert sorted(int(one.value) for records in found.values() for one in records) == [*range(11), 12]


async def test_leaving_while_kafka_is_away_takes_a_bounded_time(
    kafka: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The block ends with the events that are not known to be written, and leaves no task behind."""
    before = asyncio.all_tasks()
    with contextlib.ExitStack() as stack:

        async def leave() -> None:
            async with asyncio.timeout(60), Publisher(bootstrap(kafka), bounds=Bounds(timeout_s=5)) as publisher:
                await (await publisher.put(record(0), 0))
                stack.enter_context(stopped(kafka))
                await publisher.put(record(9), "chat/e-9")

        with pytest.raises(Unavailable, match="chat/e-9"):
            await leave()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert "destroyed" not in caplog.text


async def test_kafka_killed_in_the_middle_loses_nothing_and_doubles_nothing(kafka: Settings) -> None:
    """kill -9, a restart on the same data: every record is there once, each partition in the order of sending."""
    count, source = 60_000, uuid.uuid4().hex
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with Publisher(bootstrap(kafka), bounds=Bounds(batch_bytes=8192, timeout_s=120)) as publisher:
            for number in range(count):
                await publisher.put(record(number), f"{source}/{number}")
                if number == count // 3:
                    os.kill(pid_of(kafka), signal.SIGKILL)
                    restarted = asyncio.create_task(asyncio.to_thread(restart, kafka))
            await restarted
            await publisher.flush()
        found = await reader.read()
    numbers = {partition: [int(one.value) for one in records] for partition, records in found.items()}
    assert all(inside == sorted(inside) for inside in numbers.values())
    assert sorted(number for inside in numbers.values() for number in inside) == list(range(count))
