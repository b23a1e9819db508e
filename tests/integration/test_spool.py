"""A producer's spool while Kafka is away: nothing is lost with its process, and everything counts once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ingest.breaker import State
from ingest.spooled import SpooledPublisher
from schemas.errors import Unavailable
from schemas.settings import Settings
from tests.deployment import ROOT, until
from tests.integration.test_ingest_outage import bootstrap, record, stopped
from tests.integration.topic_reader import topic_from_now

_PRODUCER = """
import asyncio, sys
from pathlib import Path
from ingest.accept import Record
from ingest.spooled import SpooledPublisher

async def main(bootstrap, folder, start, count):
    async with SpooledPublisher(bootstrap, Path(folder)) as publisher:
        for number in range(int(start), int(start) + int(count)):
            await publisher.put(Record("usage.events", b"c-%d" % (number % 17), b"%d" % number))
            print(number, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_spool_outlives_its_process(kafka: Settings, tmp_path: Path) -> None:
    """Kafka is away, the process is killed in the middle of its writing; the next one sends whatever was acknowledged,
    in order, behind those the first had sent."""
    folder = tmp_path / "spool"
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with SpooledPublisher(bootstrap(kafka), folder) as first:
            for number in range(100):
                await first.put(record(number))
            await first.flush(60)
        with stopped(kafka):
            log = tmp_path / "acknowledged"
            with log.open("wb") as output:
                producer = subprocess.Popen(  # noqa: ASYNC220  # nothing else waits on this loop meanwhile
                    [sys.executable, "-c", _PRODUCER, bootstrap(kafka), str(folder), "100", "1000000"],
                    cwd=ROOT,
                    stdout=output,
                )
            until(lambda: log.read_text().count("\n") > 500 or producer.poll() is not None)
            os.kill(producer.pid, signal.SIGKILL)
            assert producer.wait() == -signal.SIGKILL
        acknowledged = [int(line) for line in log.read_text().split("\n")[:-1]]
        last = 2_000_000
        async with SpooledPublisher(bootstrap(kafka), folder) as publisher:
            await publisher.put(record(last))
            await publisher.flush(60)
            assert publisher.state.waiting_bytes == 0
        found = await reader.read()
    # What the killed process may have had on its way is sent again, with the same bytes: its identity counts once.
    for records in found.values():
        seen = list(dict.fromkeys(int(one.value) for one in records))
        assert seen == sorted(seen)
    arrived = {int(one.value) for records in found.values() for one in records}
    # One more may have been on the disk and not acknowledged any more.
    unsure = {acknowledged[-1] + 1}
    assert arrived - unsure == {*range(100), *acknowledged, last}


async def test_sending_does_not_wait_for_kafka_and_a_full_spool_says_so(kafka: Settings, tmp_path: Path) -> None:
    """An outage is shown, what fits is taken, and all of it arrives once Kafka is back, without a hand."""
    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with SpooledPublisher(bootstrap(kafka), tmp_path, max_bytes=20_000, wait_seconds=0.5) as publisher:
            await publisher.put(record(0))
            await publisher.flush(60)
            taken = 1
            with stopped(kafka):
                while publisher.state.waiting_bytes < 20_000:
                    await publisher.put(record(taken))
                    taken += 1
                with pytest.raises(Unavailable, match="full"):
                    await publisher.put(record(taken))
                with pytest.raises(Unavailable, match="wait for Kafka"):
                    await publisher.flush(0.1)
                assert publisher.state.waiting_bytes >= 20_000
            await publisher.flush(90)
            assert publisher.state.kafka == State.CLOSED
        found = await reader.read()
    assert sorted({int(one.value) for records in found.values() for one in records}) == list(range(taken))


async def test_many_senders_share_a_wait_for_the_disk(kafka: Settings, tmp_path: Path) -> None:
    """Each in its own order, none waiting for all the others."""
    source = uuid.uuid4().hex

    def event(number: int, sender: int) -> dict[str, object]:
        data = {"meter": "m", "quantity": number}
        subject = f"{source}-{sender}"
        return {
            "specversion": "1.0", "id": f"{sender}/{number}", "source": source, "type": "usage.reported",
            "subject": subject, "data": data,
        }  # fmt: skip

    async with topic_from_now(bootstrap(kafka), "usage.events", kafka.partitions) as reader:
        async with SpooledPublisher(bootstrap(kafka), tmp_path) as publisher:

            async def sender(name: int) -> None:
                for number in range(20):
                    await publisher.send(event(number, name))

            await asyncio.gather(*(sender(name) for name in range(50)))
            await publisher.flush(60)
        found = await reader.read()
    assert sum(len(records) for records in found.values()) == 1_000
