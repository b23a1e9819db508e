"""A Faust transport in which one event is one poll batch of one partition, read committed.

Faust's own transport makes a message object, a stream event and an acknowledgement of every record: 4 to 25 thousand
events a second, and it commits over an event whose agent raised. Here the records of a poll travel in columns, the
agent acknowledges the whole batch once it is decided, and what is committed is the prefix of batches acknowledged in
delivery order.

It leans on private names of faust-streaming 0.15.3 (pinned; `tests/unit/streams/test_transport.py` fails when they
change). Because the position that counts lies in the ledger, the offsets that Faust commits are a hint, and a batch
says which offset was delivered before it: a lane that finds a hole reads it from Kafka itself.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, Final, NamedTuple

import faust
from aiokafka.errors import KafkaError
from faust.events import Event
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from rating.received import RECEIVED_AT, Records
from streams.fetched import in_columns, is_in_columns, records_of
from streams.patience import FETCH_WAIT_MS, be_patient

BATCH_MAX_RECORDS: Final = 40_000
"""A batch of one partition gathers up to this many records..."""

BATCH_LINGER_SECONDS: Final = 0.06
"""...for at most this long after its first: a transaction costs 20 to 40 ms however small it is."""

UNKNOWN: Final = -1
"""`Batch.after` where it is not known what was delivered before."""


class Batch(NamedTuple):
    """What one Faust event carries."""

    partition: int
    generation: int
    """Of the consumer group when it was read; of another generation than the current one it is to be dropped."""
    after: int
    """The last offset delivered before it in this generation, UNKNOWN for the first or if any were dropped."""
    records: Records
    """Of one partition in offset order; never empty."""


class _CommittedThread(driver.AIOKafkaConsumerThread):
    """Reads committed records alone: what a producer aborted was never sent."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust sets it only together with its own exactly-once mode, which commits by other paths.
        consumer._isolation_level = "read_committed"
        # Faust's own is 1.5 s.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def _fetch_records(self, consumer: Any, *asked: Any, **named: Any) -> Any:
        """As Faust does; from the first call on what is fetched comes in columns, and patiently."""
        if not is_in_columns(consumer._fetcher):
            in_columns(consumer._fetcher)
            be_patient(consumer._fetcher)
        return await super()._fetch_records(consumer, *asked, **named)


class BatchConsumer(driver.Consumer):
    """Delivers batches and commits their contiguous prefix."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._inflight: defaultdict[TP, deque[int]] = defaultdict(deque)
        self._delivered: dict[TP, tuple[int, int]] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> _CommittedThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """One poll, gathered: at most one message a partition."""
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not records or self.should_stop:
            return
        gathered = await self._gathered(records, active, generation)
        if not self.flow_active:
            self._break_chains(gathered, generation)
            try:
                await self.perform_seek()
            except (ConsumerNotStarted, KafkaError) as error:  # a rebalance: the next generation seeks
                self.log.info("no seek while the flow is stopped: %r", error)
            return
        for tp, polled in gathered.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                self._break_chains((tp,), generation)
                continue
            if not (active is None or tp in active or tp in self._buffered_partitions):
                self._break_chains((tp,), generation)
                continue
            read = self._read_offset[tp]
            if read is not None:
                polled = polled.since(read)
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            for batch in _parts(polled):
                if self.app.consumer_generation_id != generation:
                    break
                message = self._message(tp, batch, generation)
                self._inflight[message.tp].append(message.offset)
                yield message.tp, message

    def _message(self, tp: TP, records: Records, generation: int) -> ConsumerMessage:
        known, last = self._delivered.get(tp, (generation, UNKNOWN))
        after = last if known == generation else UNKNOWN
        newest = int(records.offsets[-1])
        self._delivered[tp] = (generation, newest)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            newest,
            int(records.columns[RECEIVED_AT, -1]) / 1e6,
            0,
            None,
            None,
            Batch(tp.partition, generation, after, records),  # type: ignore[arg-type]  # BatchSchema hands it on as it is
            None,
            0,
            0,
            TP(tp.topic, tp.partition),
            generation_id=generation,
        )

    async def _gathered(self, first: Mapping[TP, list[Any]], active: Any, generation: int) -> dict[TP, Records]:
        """What was polled, and what comes in a while after it."""
        gathered = {tp: [records_of(polled)] for tp, polled in first.items() if polled}
        deadline = monotonic() + BATCH_LINGER_SECONDS
        while (
            max((sum(map(len, parts)) for parts in gathered.values()), default=BATCH_MAX_RECORDS) < BATCH_MAX_RECORDS
            and self.flow_active
            and self.app.consumer_generation_id == generation
            and (left := deadline - monotonic()) > 0
        ):
            more = await self._getmany(active_partitions=active, timeout=left)
            for tp, polled in more.items():
                if polled:
                    gathered.setdefault(tp, []).append(records_of(polled))
        return {tp: Records.joined(parts) for tp, parts in gathered.items()}

    def _break_chains(self, dropped: Iterable[TP], generation: int) -> None:
        """Taken from the fetcher and not delivered: the next batch must not look as if it followed the last."""
        for tp in dropped:
            self._delivered[tp] = (generation, UNKNOWN)

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: Faust would stop reading `tp`, and with all of them stopped its fetcher sleeps a second. The bounded
        queues of the lanes hold the flow back instead."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: gaps lie inside batches."""

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        inflight, index, newest = self._inflight[tp], self._acked_index[tp], None
        while inflight and inflight[0] in index:
            newest = inflight.popleft()
            index.discard(newest)
        if newest is None:
            return None
        acked[:] = [offset for offset in acked if offset > newest]
        return newest + 1

    def ack(self, message: Any) -> bool:
        """Acknowledges a batch of the current generation; one of an older generation is forgotten."""
        if message.generation_id is not None and message.generation_id != self.app.consumer_generation_id:
            self._unacked_messages.discard(message)
            return False
        return bool(super().ack(message))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commits first: Faust forgets what is acknowledged and not committed."""
        await self.commit()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._inflight.pop(tp, None)
            self._acked.pop(tp, None)
            self._acked_index.pop(tp, None)
            self._committed_offset.pop(tp, None)


def _parts(records: Records) -> Iterator[Records]:
    """Records in as few parts of about one size as keep the bound of a batch."""
    count = -(-len(records) // BATCH_MAX_RECORDS)
    if count == 1:
        yield records
        return
    for part in range(count):
        yield records.part(len(records) * part // count, len(records) * (part + 1) // count)


class BatchTransport(driver.Transport):
    """The transport whose consumer is BatchConsumer."""

    Consumer = BatchConsumer


class BatchSchema(faust.Schema):  # type: ignore[type-arg]  # neither keys nor values are Faust's
    """Hands the batch to the agent undecoded."""

    def compile(
        self,
        app: Any,
        *,
        on_key_decode_error: Any = None,
        on_value_decode_error: Any = None,
        default_propagate: bool = False,
    ) -> Any:
        """The decoder Faust calls for each message."""

        async def decode(message: Any, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        return decode


def install(app: faust.App) -> None:
    """Makes `app` read batches; call it before the app starts."""
    app.transport = BatchTransport(app.conf.broker_consumer, app, loop=None)
