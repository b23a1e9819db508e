"""How a dead letter ends: its original is sent to its own topic again, or it is dropped for a reason. Once.

Both are one transaction of a producer that belongs to the dead letters' partition: the original on its way and the
record that says so become fact together or not at all. Whoever resolves starts that producer first, which fences any
other that is at it, and then looks what is resolved already: in ClickHouse, and, beyond what is shown there, in the
topic itself. So it does not matter how often, by how many, or how soon after one another a letter is resolved.

Errors: Unavailable where a store does not answer; Doubt where a transaction's outcome is not known: asked again, what
was sent is found and not sent twice.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby, islice
from typing import Any, Final, NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import Doubt, Unavailable
from schemas.kafka import connection
from schemas.topics import DEAD_LETTERS, INPUTS, LARGEST_BATCH_BYTES
from streams.dead_letters import DROPPED, RESOLUTION, RETRIED
from streams.ledger import STOP_SECONDS, committed_consumer

LETTERS_AT_ONCE: Final = 200
"""Letters of one transaction; originals are small, and nobody waits for those of others for long."""

TRANSACTION_TIMEOUT_MS: Final = 10_000
REQUEST_TIMEOUT_MS: Final = 15_000

SHOWN_SECONDS: Final = 20.0
"""How long the topic may take to give what is written in it: another's open transaction ends within ten."""


class Place(NamedTuple):
    """Of the input record that became a dead letter."""

    topic: str
    partition: int
    offset: int

    @property
    def id(self) -> str:
        """As people write it."""
        return f"{self.topic}-{self.partition}-{self.offset}"


_ID: Final = re.compile(rf"({'|'.join(re.escape(topic) for topic in INPUTS)})-(\d{{1,9}})-(\d{{1,18}})", re.ASCII)


def place_of(letter_id: str) -> Place | None:
    """The place that a dead letter's id names; None for what is no such id."""
    match = _ID.fullmatch(letter_id)
    return Place(match[1], int(match[2]), int(match[3])) if match is not None else None


class Letter(NamedTuple):
    """A dead letter as ClickHouse has it."""

    place: Place
    seq: int
    tenant: str
    customer: str
    source: str
    event_id: str
    event_type: str
    reason: str
    detail: str
    key: bytes
    original: bytes
    received_at: int
    resolution: str
    """Empty: open."""
    resolved_at: int


class Resolved(NamedTuple):
    """How a letter ended, by this call or an earlier one."""

    place: Place
    resolution: str
    resolved_at: int
    now: bool
    """By this call."""


class Letters(Protocol):
    """Dead letters as ClickHouse shows them. Errors: Unavailable."""

    async def shown_to(self, topic: str, partition: int) -> int:
        """The greatest offset of the dead letter topic that is shown, of letters from a partition of an input topic;
        all below it are shown too. -1: none."""

    async def load(self, places: Sequence[Place]) -> list[Letter]:
        """The letters of one partition, in the order of their offsets, without those that are not there."""


class Resolver:
    """Retries and drops dead letters of a deployment."""

    def __init__(self, bootstrap: str, letters: Letters, now: Callable[[], int]) -> None:
        """`now`: microseconds."""
        self._bootstrap = bootstrap
        self._letters = letters
        self._now = now

    async def retry(self, places: Iterable[Place]) -> list[Resolved]:
        """Sends originals again. What was resolved before is left as it is, what is not there is left out."""
        return await _resolve(self._bootstrap, self._letters, places, RETRIED, self._now(), "")

    async def drop(self, places: Iterable[Place], note: str) -> list[Resolved]:
        """Gives letters up, for the reason in `note`; their originals stay where they are."""
        return await _resolve(self._bootstrap, self._letters, places, DROPPED, self._now(), note)


async def _resolve(
    bootstrap: str, letters: Letters, places: Iterable[Place], resolution: str, now: int, note: str
) -> list[Resolved]:
    resolved: list[Resolved] = []
    for (topic, partition), group in groupby(sorted(set(places)), key=lambda place: place[:2]):
        if topic not in DEAD_LETTERS:
            continue
        async with _owner(bootstrap, DEAD_LETTERS[topic], partition) as producer:
            shown = await letters.shown_to(topic, partition)
            since = await _resolved_since(bootstrap, topic, partition, shown)
            for some in _batched(group, LETTERS_AT_ONCE):
                open_ones: list[Letter] = []
                for letter in await letters.load(some):
                    earlier = since.get(letter.place) or _earlier(letter)
                    if earlier is None:
                        open_ones.append(letter)
                    else:
                        resolved.append(earlier)
                if open_ones:
                    await _commit(producer, open_ones, resolution, now, note)
                resolved += [Resolved(letter.place, resolution, now, True) for letter in open_ones]
    return resolved


def _batched(places: Iterable[Place], size: int) -> Iterator[Sequence[Place]]:
    pending = iter(places)
    while some := list(islice(pending, size)):
        yield some


def _earlier(letter: Letter) -> Resolved | None:
    return Resolved(letter.place, letter.resolution, letter.resolved_at, False) if letter.resolution else None


@asynccontextmanager
async def _owner(bootstrap: str, topic: str, partition: int) -> AsyncIterator[AIOKafkaProducer]:
    """The one producer that resolves letters of a partition; another that was at it can commit no more."""
    producer = AIOKafkaProducer(
        **connection(bootstrap),
        transactional_id=f"tollgate-{topic}-{partition}",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        acks="all",
        compression_type="zstd",
        max_request_size=LARGEST_BATCH_BYTES + 1024 * 1024,
        linger_ms=0,
    )
    try:
        await producer.start()
    except (KafkaError, TimeoutError, OSError) as error:
        await _stop(producer)
        raise Unavailable(f"kafka: no producer for {topic}[{partition}]: {error!r}") from error
    try:
        yield producer
    finally:
        await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), STOP_SECONDS)
    except (KafkaError, TimeoutError, OSError):  # what it could not say any more, the next one's start says
        return


async def _commit(producer: AIOKafkaProducer, letters: Sequence[Letter], resolution: str, now: int, note: str) -> None:
    sent: list[asyncio.Future[Any]] = []
    try:
        await producer.begin_transaction()
        for letter in letters:
            topic, partition, _ = letter.place
            key = letter.key or None
            if resolution == RETRIED:
                sent.append(await producer.send(topic, letter.original, key, partition=partition))
            headers = _headers(letter, resolution, now, note)
            sent.append(
                await producer.send(DEAD_LETTERS[topic], letter.original, key, partition=partition, headers=headers)
            )
        await asyncio.gather(*sent)
        await producer.commit_transaction()
    except (KafkaError, TimeoutError, OSError) as error:
        raise Doubt(f"kafka: whether {len(letters)} dead letters were {resolution} is not known: {error!r}") from error
    finally:
        asyncio.gather(*sent, return_exceptions=True)  # what failed beside the first is the same failure


def _headers(letter: Letter, resolution: str, now: int, note: str) -> list[tuple[str, bytes]]:
    """The dead letter's own, so that its row can be replaced, and how it ended."""
    texts = {
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.place.topic,
        "partition": str(letter.place.partition),
        "offset": str(letter.place.offset),
        "seq": str(letter.seq),
        "tenant": letter.tenant,
        "customer": letter.customer,
        "source": letter.source,
        "event_id": letter.event_id,
        "event_type": letter.event_type,
        "received_at": str(letter.received_at),
        RESOLUTION: resolution,
        "resolved_at": str(now),
        "note": note,
    }
    return [(name, text.encode("utf-8", "replace")) for name, text in texts.items()]


async def _resolved_since(bootstrap: str, topic: str, partition: int, shown: int) -> dict[Place, Resolved]:
    """What the topic says was resolved, beyond what ClickHouse shows."""
    place = TopicPartition(DEAD_LETTERS[topic], partition)
    found: dict[Place, Resolved] = {}
    async with committed_consumer(bootstrap) as consumer:
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        consumer.seek(place, max(begin, shown + 1))
        end = await _written_to(bootstrap, place)
        deadline = time.monotonic() + SHOWN_SECONDS
        while await consumer.position(place) < end:
            if time.monotonic() >= deadline:
                raise Unavailable(f"{place.topic}[{partition}] does not give what lies before offset {end}")
            for record in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
                said = {name: value.decode("utf-8", "replace") for name, value in record.headers}
                if RESOLUTION in said:
                    where = Place(said["topic"], int(said["partition"]), int(said["offset"]))
                    found[where] = Resolved(where, said[RESOLUTION], int(said["resolved_at"]), False)
    return found


async def _written_to(bootstrap: str, place: TopicPartition) -> int:
    """The offset behind everything in the topic, committed or not: behind another's open transaction may lie what an
    earlier resolver committed."""
    consumer = AIOKafkaConsumer(**connection(bootstrap), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await consumer.start()
        consumer.assign([place])
        end: int = (await consumer.end_offsets([place]))[place]
    except KafkaError as error:
        raise Unavailable(f"Kafka at {bootstrap}: {error!r}") from error
    finally:
        await consumer.stop()
    return end
