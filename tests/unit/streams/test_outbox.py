"""What nobody waits for comes to Kafka all the same, also when Kafka was away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from ingest.accept import Record
from schemas.errors import InvalidInput, Unavailable
from streams.admission import outbox
from streams.admission.outbox import Outbox


class Kafka:
    """Takes records; away, it buffers what it is given and confirms none of it, or takes nothing at all."""

    def __init__(self) -> None:
        self.has: list[bytes] = []
        self.away = False
        self.full = False
        self.confirms = 10**9
        """So many more, then it is away."""

    async def put(self, record: Record, label: object) -> Any:
        if self.full:
            raise Unavailable("the buffer is full")
        if record.value == b"too large":
            raise InvalidInput("too_large", "too large")
        return Confirmation(self, record)

    def hand_over(self, topic: str) -> None:
        assert topic == "holds.journal"

    async def confirm(self, record: Record) -> None:
        if self.away or self.confirms == 0:
            raise Unavailable("kafka: away")
        self.confirms -= 1
        self.has.append(record.value)


class Confirmation:
    """Of one record, for who waits for it."""

    def __init__(self, kafka: Kafka, record: Record) -> None:
        self._kafka, self._record = kafka, record

    def __await__(self) -> Generator[Any, None, None]:
        return self._kafka.confirm(self._record).__await__()


def line(number: int) -> Record:
    return Record("holds.journal", b"c", str(number).encode())


async def sent(box: Outbox) -> None:
    async with asyncio.timeout(10):
        while box.waiting:  # noqa: ASYNC110 - an outbox tells nobody that it is empty
            await asyncio.sleep(0.001)
    await box.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(outbox, "GATHER_SECONDS", 0.001)
    monkeypatch.setattr(outbox, "SOON_SECONDS", 0.001)


@pytest.mark.parametrize("how", ["away", "full"])
async def test_what_is_not_confirmed_is_sent_again(how: str) -> None:
    """A hold that is granted while Kafka is away is in the journal afterwards."""
    kafka = Kafka()
    setattr(kafka, how, True)
    box = Outbox(kafka, b"+".join)
    for number in range(3):
        box.put(line(number))
    await asyncio.sleep(0.05)
    assert kafka.has == []
    setattr(kafka, how, False)
    await sent(box)
    assert kafka.has == [b"0", b"1", b"2"]
    assert box.lost == 0


async def test_what_comes_again_comes_before_what_followed_it() -> None:
    """The last that is said of a hold must be the last that is read of it."""
    kafka = Kafka()
    kafka.confirms = 2
    box = Outbox(kafka, b"+".join)
    for number in range(5):
        box.put(line(number))
    async with asyncio.timeout(10):
        while len(kafka.has) < 2:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
    assert kafka.has == [b"0", b"1"]
    kafka.confirms = 10**9
    await sent(box)
    assert kafka.has == [b"0", b"1", b"2", b"3", b"4"]


async def test_what_kafka_can_never_take_holds_nothing_up() -> None:
    """It is counted."""
    kafka = Kafka()
    box = Outbox(kafka, b"+".join)
    for record in (line(0), Record("holds.journal", b"c", b"too large"), line(1)):
        box.put(record)
    await sent(box)
    assert kafka.has == [b"0", b"1"]
    assert box.lost == 1


async def test_what_waits_together_of_one_sheet_goes_as_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which it came, what is of no sheet alone, and never more than a record may hold."""
    monkeypatch.setattr(outbox, "SHEET_MAX_BYTES", 4)
    kafka = Kafka()
    box = Outbox(kafka, b"+".join)
    for number, sheet in enumerate([1, 2, 1, None, 2, 1, 1, 1, 1]):
        box.put(line(number), sheet)
    box.put(line(1_000_000), 2)
    await sent(box)
    assert kafka.has == [b"0+2+5+6", b"1+4", b"3", b"7+8", b"1000000"]
    assert box.lost == 0


async def test_what_comes_after_a_pause_goes_soon_and_what_follows_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold now and then is in the journal at once; of many, those of a while go together."""
    monkeypatch.setattr(outbox, "GATHER_SECONDS", 3_600)
    kafka = Kafka()
    box = Outbox(kafka, b"+".join)
    box.put(line(0))
    async with asyncio.timeout(10):
        while not kafka.has:  # noqa: ASYNC110 - as in `sent`
            await asyncio.sleep(0.001)
    box.put(line(1))
    box.put(line(2))
    await asyncio.sleep(3 * outbox.SOON_SECONDS)
    assert kafka.has == [b"0"]
    await box.close()
    assert kafka.has == [b"0", b"1", b"2"]
