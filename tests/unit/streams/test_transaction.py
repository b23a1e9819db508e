"""The transactional writer: its name is the partition's, its bounds are those of recovery, its failures are doubt."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiokafka.errors import IllegalOperation, KafkaTimeoutError, ProducerFenced
from aiokafka.structs import RecordMetadata

from schemas.errors import Doubt, Unavailable
from schemas.limits import DEAD_LETTER_RECORD_MAX_BYTES, LEDGER_RECORD_MAX_BYTES
from streams.transaction import TRANSACTION_TIMEOUT_MS, Fenced, Message, PartitionWriter


async def test_a_partition_has_one_transactional_id_whoever_writes_it() -> None:
    """Two writers of one partition fence one another; those of two partitions never do."""
    writers = [PartitionWriter("localhost:1", partition) for partition in (3, 3, 4)]
    first, same, other = (writer._producer._txn_manager.transactional_id for writer in writers)
    assert first == same == "tollgate-usage.rated-3"
    assert first != other


async def test_a_stopped_writer_is_ended_by_the_broker_in_time() -> None:
    """The broker ends its transaction after 10 s, so that with its check every second nobody waits beyond 12."""
    writer = PartitionWriter("localhost:1", 0)
    assert writer._producer._txn_manager.transaction_timeout_ms == TRANSACTION_TIMEOUT_MS == 10_000


async def test_the_largest_records_fit_one_request() -> None:
    """A dead letter with an original of the largest size that an input takes, and a ledger record, can be sent."""
    writer = PartitionWriter("localhost:1", 0)
    assert writer._producer._max_request_size > DEAD_LETTER_RECORD_MAX_BYTES > LEDGER_RECORD_MAX_BYTES


async def test_without_kafka_it_does_not_start() -> None:
    """Nothing was written: the start may simply be tried again."""
    writer = PartitionWriter("127.0.0.1:1", 0)
    with pytest.raises(Unavailable) as away:
        await writer.start()
    assert not isinstance(away.value, Doubt)


class FailingProducer:
    """A producer that fails at one step."""

    def __init__(self, step: str, error: Exception) -> None:
        self._step = step
        self._error = error
        self.sent: list[str] = []

    async def begin_transaction(self) -> None:
        self._fail("begin")

    async def send(self, topic: str, value: Any, key: Any = None, **_: Any) -> asyncio.Future[Any]:
        self._fail("send")
        self.sent.append(topic)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._step == "delivery":
            future.set_exception(self._error)
        else:
            future.set_result(RecordMetadata(topic, 0, None, 100 + len(self.sent), 0, 0, 0))
        return future

    async def commit_transaction(self) -> None:
        self._fail("commit")

    def _fail(self, step: str) -> None:
        if step == self._step:
            raise self._error


def writing_with(step: str, error: Exception) -> PartitionWriter:
    writer = PartitionWriter("127.0.0.1:1", 0)
    writer._producer = FailingProducer(step, error)
    return writer


@pytest.mark.parametrize("step", ["begin", "send", "delivery", "commit"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [(ProducerFenced(), Fenced), (KafkaTimeoutError(), Doubt), (TimeoutError(), Doubt), (ConnectionError(), Doubt)],
)
async def test_a_commit_that_fails_is_doubt_at_whatever_step(
    step: str, error: Exception, expected: type[Doubt], caplog: pytest.LogCaptureFixture
) -> None:
    """It is never plain absence, which a caller would try again in place; all that failed with it is heard."""
    writer = writing_with(step, error)
    with pytest.raises(Doubt) as doubt:
        await writer.commit([b"x", b"y"], [Message("usage.dlq", 0, None, b"z")])
    assert type(doubt.value) is expected
    await asyncio.sleep(0)
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize(("error", "expected"), [(ProducerFenced(), Fenced), (KafkaTimeoutError(), Doubt)])
async def test_a_transaction_that_is_given_up_while_it_is_filled_is_doubt(
    error: Exception, expected: type[Doubt]
) -> None:
    """aiokafka then refuses the next record by an error that is none of Kafka's; what was sent before says why."""

    class GivenUp(FailingProducer):
        async def send(self, topic: str, value: Any, key: Any = None, **_: Any) -> asyncio.Future[Any]:
            if self.sent:
                raise IllegalOperation("Can't send messages while not in transaction")
            return await super().send(topic, value, key)

    writer = PartitionWriter("127.0.0.1:1", 0)
    writer._producer = GivenUp("delivery", error)
    with pytest.raises(Doubt) as doubt:
        await writer.commit([b"x", b"y"])
    assert type(doubt.value) is expected


async def test_a_commit_answers_the_offsets_of_its_ledger_records_alone() -> None:
    """They go first; what goes to other topics and partitions comes last."""
    writer = writing_with("never", TimeoutError())
    assert await writer.commit([b"x", b"y"], [Message("usage.dlq", 0, None, b"z")]) == [101, 102]
    assert writer._producer.sent == ["usage.rated", "usage.rated", "usage.dlq"]
