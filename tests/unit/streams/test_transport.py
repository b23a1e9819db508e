"""The batch transport: the private names of faust-streaming it leans on, what it delivers, and what it commits."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.errors import IllegalStateError
from aiokafka.structs import ConsumerRecord
from faust.events import Event
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from schemas.ledger import USAGE
from streams.fetched import is_in_columns
from streams.patience import FETCH_WAIT_MS
from streams.transport import UNKNOWN, Batch, BatchConsumer, BatchSchema, BatchTransport
from streams.worker import build_app
from tests.fakes.partition import record_at

PLACE = TP("usage.events", 3)
OTHER = TP("usage.events", 4)


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (driver.Consumer, "_new_consumer_thread", ["self"]),
        (driver.Consumer, "getmany", ["self", "timeout"]),
        (driver.Consumer, "_getmany", ["self", "active_partitions", "timeout"]),
        (driver.Consumer, "_wait_next_records", ["self", "timeout"]),
        (driver.Consumer, "perform_seek", ["self"]),
        (driver.Consumer, "highwater", ["self", "tp"]),
        (driver.Consumer, "on_buffer_full", ["self", "tp"]),
        (driver.Consumer, "_add_gap", ["self", "tp", "offset_from", "offset_to"]),
        (driver.Consumer, "_new_offset", ["self", "tp"]),
        (driver.Consumer, "ack", ["self", "message"]),
        (driver.Consumer, "commit", ["self", "topics", "start_new_transaction"]),
        (driver.Consumer, "on_partitions_revoked", ["self", "revoked"]),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
        (
            driver.AIOKafkaConsumerThread,
            "_fetch_records",
            ["self", "consumer", "active_partitions", "timeout", "max_records"],
        ),
        (faust.Schema, "compile", ["self", "app", "on_key_decode_error", "on_value_decode_error", "default_propagate"]),
        (Event, "__init__", ["self", "app", "key", "value", "headers", "message"]),
    ],
)
def test_what_it_overrides_and_calls_is_as_it_was(owner: type, name: str, parameters: list[str]) -> None:
    """Another faust-streaming that renames or reshapes one of these must not be taken without a look."""
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_the_version_it_was_written_against_is_pinned() -> None:
    """The names above are private: only this very version is known to mean by them what the transport does."""
    assert version("faust-streaming") == "0.15.3"


def test_the_attributes_it_reads_are_there() -> None:
    """State of Faust's consumer that the transport reads and writes exists with the types it expects."""
    consumer = made()
    assert isinstance(consumer._acked, defaultdict)
    assert isinstance(consumer._acked_index, defaultdict)
    assert isinstance(consumer._committed_offset, defaultdict)
    assert isinstance(consumer._read_offset, defaultdict)
    assert consumer._read_offset[PLACE] is None
    assert isinstance(consumer._buffered_partitions, set)
    assert consumer.flow_active is True
    assert hasattr(consumer, "_unacked_messages")
    assert hasattr(consumer.app, "consumer_generation_id")
    assert consumer.app.monitor.track_tp_end_offset
    fields = list(inspect.signature(ConsumerMessage.__init__).parameters)
    assert fields[1:13] == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "timestamp_type",
        "headers",
        "key",
        "value",
        "checksum",
        "serialized_key_size",
        "serialized_value_size",
        "tp",
    ]
    assert fields[-1] == "generation_id"


def test_fausts_loop_still_drops_by_the_read_offset_alone() -> None:
    """Faust delivers what lies at or beyond its read offset, sets that to what it delivered, and asks for no more."""
    source = inspect.getsource(faust_consumer.Consumer._drain_messages)
    assert "if r_offset is None or offset >= r_offset" in source
    assert "set_read_offset(tp, offset)" in source


def test_the_consumer_reads_committed_records_alone_and_waits_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Faust configures, isolation level and patience of the consumer in its thread are ours."""

    class Driver:
        _isolation_level = "read_uncommitted"
        _fetch_max_wait_ms = 1_500

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_create_worker_consumer", lambda self, transport: Driver())
    made_so = made()._new_consumer_thread()._create_worker_consumer(None)
    assert (made_so._isolation_level, made_so._fetch_max_wait_ms) == ("read_committed", FETCH_WAIT_MS)
    from aiokafka import AIOKafkaConsumer

    for name in ("isolation_level", "fetch_max_wait_ms"):
        assert f"self._{name}" in inspect.getsource(AIOKafkaConsumer.__init__)
        assert f"{name}=self._{name}" in inspect.getsource(AIOKafkaConsumer)


class Scripted(BatchConsumer):
    """Gives out polls that a test wrote down, instead of Kafka's; generation and flow are the test's."""

    polls: deque[dict[TP, list[Any]]]

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        return (self.polls.popleft() if self.polls else {}), None

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        self.between()
        return {}

    def between(self) -> None:
        """What happens while a batch is gathered."""

    def highwater(self, tp: TP) -> int:
        return 0

    async def perform_seek(self) -> None:
        raise IllegalStateError("no assignment any more")


class ScriptedTransport(BatchTransport):
    """Makes the consumer above."""

    Consumer = Scripted


def made(*polls: dict[TP, list[Any]]) -> Scripted:
    app = build_app("localhost:1", Path("unused"))
    app.transport = ScriptedTransport(app.conf.broker_consumer, app, loop=None)
    consumer = app.consumer
    assert isinstance(consumer, Scripted)
    app.consumer_generation_id = 7  # type: ignore[attr-defined]
    consumer.polls = deque(polls)
    return consumer


def records(*offsets: int, place: TP = PLACE) -> list[Any]:
    return [
        ConsumerRecord(place.topic, place.partition, offset, 5_000, 1, b"k", b"v", None, 1, 1, ()) for offset in offsets
    ]


async def delivered(messages: AsyncIterator[Any]) -> list[tuple[TP, Batch]]:
    return [(tp, message.value) async for tp, message in messages]


async def take(consumer: Scripted) -> list[tuple[int, int, list[int]]]:
    """Partition, `after` and offsets of what the next poll delivers."""
    return [
        (tp.partition, batch.after, [record.offset for record in batch.records])
        for tp, batch in await delivered(consumer.getmany(0.0))
    ]


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch waits for one further poll, by a clock that goes on each time it is looked at."""
    monkeypatch.setattr("streams.transport.monotonic", functools.partial(next, itertools.count()))
    monkeypatch.setattr("streams.transport.BATCH_LINGER_SECONDS", 1.5)


async def test_a_poll_is_one_batch_a_partition_and_batches_chain() -> None:
    """Each batch names the last offset delivered before it in its partition, also over holes of markers."""
    consumer = made({PLACE: records(0, 1), OTHER: records(5, place=OTHER)}, {PLACE: records(3, 4)})
    assert await take(consumer) == [(3, UNKNOWN, [0, 1]), (4, UNKNOWN, [5])]
    assert await take(consumer) == [(3, 1, [3, 4])]


async def test_another_generation_begins_a_new_chain() -> None:
    """After a rebalance nothing is known of what came before."""
    consumer = made({PLACE: records(0)}, {PLACE: records(1)})
    await take(consumer)
    consumer.app.consumer_generation_id = 8
    assert await take(consumer) == [(3, UNKNOWN, [1])]


async def test_what_is_dropped_breaks_the_chain() -> None:
    """Records taken from the fetcher while the flow stopped are not delivered, and the next batch says that it does not
    know what was before it; a seek that a rebalance overtook does not end the consumer."""
    consumer = made({PLACE: records(0)}, {PLACE: records(1)}, {PLACE: records(2)})
    await take(consumer)
    consumer.between = consumer.stop_flow  # type: ignore[method-assign]
    assert await take(consumer) == []
    consumer.between = lambda: None  # type: ignore[method-assign]
    consumer.resume_flow()
    assert await take(consumer) == [(3, UNKNOWN, [2])]


async def test_a_generation_that_changes_while_gathering_drops_the_batch() -> None:
    """It is read again by whoever owns its partition now."""
    consumer = made({PLACE: records(0, 1)}, {PLACE: records(0, 1)})

    def rebalance() -> None:
        consumer.app.consumer_generation_id = 8

    consumer.between = rebalance  # type: ignore[method-assign]
    assert await take(consumer) == []
    assert await take(consumer) == [(3, UNKNOWN, [0, 1])]


async def test_partitions_that_are_not_active_are_dropped_and_their_chain_is_broken() -> None:
    """Whoever is paused or gone gets nothing, and later no batch that looks as if nothing was missing."""
    consumer = made({PLACE: records(0)}, {PLACE: records(1)}, {PLACE: records(2)})
    await take(consumer)

    async def nobody(timeout: float) -> Any:
        return consumer.polls.popleft(), set()

    everyone, consumer._wait_next_records = consumer._wait_next_records, nobody  # type: ignore[method-assign]
    assert await take(consumer) == []
    consumer._wait_next_records = everyone  # type: ignore[method-assign]
    assert await take(consumer) == [(3, UNKNOWN, [2])]


async def test_what_was_delivered_before_is_not_delivered_again() -> None:
    """Records below the read offset fall away; nothing but them is no batch."""
    consumer = made({PLACE: records(3, 4, 5)}, {PLACE: records(1, 2)})
    consumer._read_offset[PLACE] = 5
    assert await take(consumer) == [(3, UNKNOWN, [5])]
    assert await take(consumer) == []


async def batches(consumer: Scripted, count: int) -> list[Any]:
    consumer.polls.extend({PLACE: records(2 * number, 2 * number + 1)} for number in range(count))
    found = []
    for _ in range(count):
        found += [message async for _, message in consumer.getmany(0.0)]
    return found


def acknowledge(consumer: Scripted, message: Any) -> bool:
    consumer.app.topics.acks_enabled_for = lambda topic: True
    return consumer.ack(message)


async def test_only_the_prefix_that_is_acknowledged_is_committed() -> None:
    """A batch acknowledged before its elders waits for them; each is committed once."""
    consumer = made()
    first, second, third, fourth = await batches(consumer, 4)
    assert consumer._new_offset(PLACE) is None
    acknowledge(consumer, second)
    acknowledge(consumer, third)
    assert consumer._new_offset(PLACE) is None
    acknowledge(consumer, first)
    assert consumer._new_offset(PLACE) == 6
    assert consumer._new_offset(PLACE) is None
    acknowledge(consumer, fourth)
    assert consumer._new_offset(PLACE) == 8
    assert not consumer._inflight[PLACE]
    assert not consumer._acked_index[PLACE]


async def test_the_one_batch_at_the_head_is_not_committed_over() -> None:
    """Stock Faust commits over one unacknowledged event at the head; here nothing is."""
    consumer = made()
    _, second = await batches(consumer, 2)
    acknowledge(consumer, second)
    assert consumer._new_offset(PLACE) is None


async def test_an_acknowledgement_of_an_older_generation_is_forgotten() -> None:
    """What was read before a rebalance commits nothing in the next generation."""
    consumer = made()
    (old,) = await batches(consumer, 1)
    consumer.app.consumer_generation_id = 8
    assert not acknowledge(consumer, old)
    assert consumer._new_offset(PLACE) is None


async def test_a_revoked_partition_is_committed_and_then_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its acknowledged prefix is committed first; nothing of it is left for when it comes back."""
    consumer = made()
    (message, _) = await batches(consumer, 2)
    acknowledge(consumer, message)
    seen = []

    async def commit(*args: Any, **kwargs: Any) -> bool:
        seen.append(consumer._new_offset(PLACE))
        return True

    async def revoked(self: Any, partitions: Any) -> None:
        seen.append("revoked")

    monkeypatch.setattr(consumer, "commit", commit)
    monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", revoked)
    await consumer.on_partitions_revoked({PLACE})
    assert seen == [2, "revoked"]
    assert PLACE not in consumer._inflight
    assert PLACE not in consumer._acked


async def test_the_agent_gets_the_batch_as_it_is() -> None:
    """The schema decodes nothing."""
    batch = Batch(PLACE.partition, 1, UNKNOWN, record_at(0))

    class Message:
        value = batch

    event = await BatchSchema().compile(None)(Message())
    assert event.value is batch
    assert event.key is None


async def test_a_poll_beyond_the_bound_is_several_batches_that_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of about one size; each is acknowledged by itself."""
    monkeypatch.setattr("streams.transport.BATCH_MAX_RECORDS", 4)
    consumer = made({PLACE: records(*range(9))}, {PLACE: records(9)})
    assert await take(consumer) == [(3, UNKNOWN, [0, 1, 2]), (3, 2, [3, 4, 5]), (3, 5, [6, 7, 8])]
    assert list(consumer._inflight[PLACE]) == [2, 5, 8]
    assert await take(consumer) == [(3, 8, [9])]


async def test_a_rebalance_between_parts_of_a_poll_drops_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns the partition next reads it again."""
    monkeypatch.setattr("streams.transport.BATCH_MAX_RECORDS", 2)
    consumer = made({PLACE: records(0, 1, 2, 3)}, {PLACE: records(2, 3)})
    first = []
    async for _, message in consumer.getmany(0.0):
        first.append(message.value.records.offsets.tolist())
        consumer.app.consumer_generation_id = 8
    assert first == [[0, 1]]
    assert await take(consumer) == [(3, UNKNOWN, [2, 3])]


async def test_what_came_in_columns_and_what_came_before_are_one_batch() -> None:
    """aiokafka's own objects of what was fetched before it was told, and columns after."""
    consumer = made({PLACE: records(0, 1)})
    more = deque([{PLACE: [record_at(2, 3), record_at(4)]}, {PLACE: []}])

    async def getmany(active_partitions: Any, timeout: float) -> Any:
        return more.popleft() if more else {}

    consumer._getmany = getmany  # type: ignore[method-assign]
    (batch,) = [batch async for _, batch in as_batches(consumer)]
    assert [record.offset for record in batch.records] == [0, 1, 2, 3, 4]
    assert {(record.input, record.key, record.value) for record in batch.records} == {(USAGE, b"k", b"v")}
    assert batch.records[0].received_at == 5_000_000


async def as_batches(consumer: Scripted) -> AsyncIterator[tuple[TP, Batch]]:
    async for tp, message in consumer.getmany(0.0):
        yield tp, message.value


async def test_what_is_fetched_comes_in_columns_and_patiently_from_the_first_call_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fetcher is told once; what is asked of it is what Faust asks."""
    asked: list[Any] = []

    async def fetched(self: Any, consumer: Any, *given: Any, **named: Any) -> dict[str, str]:
        asked.append((consumer, given, named))
        return {"records": "all"}

    class Fetcher:
        async def _proc_fetch_request(self) -> None:
            """Nothing."""

        def _get_actions_per_node(self) -> None:
            """Nothing."""

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetched)
    thread = made()._new_consumer_thread()
    consumer = SimpleNamespace(_fetcher=Fetcher())
    told = set()
    for _ in range(2):
        assert await thread._fetch_records(consumer, {PLACE}, timeout=1.0, max_records=5) == {"records": "all"}
        assert is_in_columns(consumer._fetcher)
        told.add((consumer._fetcher._proc_fetch_request.__func__, consumer._fetcher._get_actions_per_node))
    assert len(told) == 1
    assert asked == 2 * [(consumer, ({PLACE},), {"timeout": 1.0, "max_records": 5})]
