"""A lane: the one owner of a partition of both inputs, and the one party that decides about its customers' money.

`open` makes it owner: it starts the partition's transactional producer (which fences whoever was before), reads the end
of the ledger, brings the accounts and the identity index up to it, and goes on from the input positions the ledger
names. From then on each batch is decided, written in one transaction, and only then applied to what projects the
ledger. Any `Doubt` on the way - a commit of unknown outcome, a fence, accounts that are not where they were left, a
fault in deciding - drops all memory of the partition and opens it again. An `Unavailable` store is waited for, in
place. `InvariantBroken` ends the process: it is not for a program to build on a ledger that contradicts itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from rating.book import PriceBook
from rating.decision import Standing
from rating.received import Octets, Records
from schemas.account import Account
from schemas.cancellation import end_if_cancelled
from schemas.errors import Doubt, InvariantBroken, Unavailable
from schemas.ids import partition_of
from schemas.ledger import ACCOUNT, FINGERPRINT_BYTES, USAGE, LedgerRecord, documents_of, genesis
from schemas.ledger_packed import PackedRecord, encode_record
from schemas.topics import USAGE_EVENTS
from streams import ledger
from streams.accounts.endings import endings_of
from streams.accounts.port import Accounts, HoldEnd, Position, PositionMoved
from streams.announcing import announcements
from streams.deciding import (
    Decided,
    Place,
    block_end,
    block_is_due,
    closes_quietly,
    decide_batch,
    decide_singly,
    digests_of,
    elsewhere,
    name,
    received_from,
    unpack_accounts,
)
from streams.identity import IdentityIndex
from streams.identity import Position as IndexPosition
from streams.inputs import AccountReader, read_range
from streams.measures import Measures
from streams.transaction import Fenced, PartitionWriter
from streams.transport import UNKNOWN

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

DELIVERIES_WAITING: Final = 1
"""Batches that wait in a lane; the agent waits with the next, and with it the fetching."""

BEAT_SECONDS: Final = 0.5
"""With nothing to apply, the accounts' position is compared this often: lost writes show before anything is built on.
"""

QUIET_SECONDS: Final = 0.05
"""A worker without work for so long has come to the end of what there was."""

BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
FENCES_BEFORE_LEAVING: Final = 20
FENCES_APART_SECONDS: Final = 60.0
"""Fenced this often, each time within so many seconds, while still assigned: the process leaves rather than fight
another owner for ever. Opening proves nothing: each of the two opens, and fences the other."""

OPENS_BEFORE_SINGLE: Final = 3
"""Opened this often at one position by a fault in deciding: the batch is decided record by record."""

STRAYS_TOLD_SECONDS: Final = 60.0
"""Records in a wrong partition are told of this often at most; their metric counts each."""

CACHED_ACCOUNTS: Final = 20_000
"""Accounts a lane keeps in memory between batches."""

FOLD_ACCOUNTS: Final = 20_000
"""Accounts gathered from the ledger before they are written to the store, while a partition is brought up."""


class Holds(Protocol):
    """What an owner must see to before its partition serves. Errors: Unavailable."""

    async def restore(self, partition: int) -> int:
        """Brings back the holds that the store lost; how many."""


@dataclass(slots=True)
class Activity:
    """Whether any lane of a worker has work."""

    working: int = 0
    idle_since: float = 0.0
    """Monotonic seconds; of no meaning while one works."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A lane works on a batch."""
        self.working += 1
        try:
            yield
        finally:
            self.working -= 1
            self.idle_since = time.monotonic()

    def is_quiet(self) -> bool:
        """Whether nothing has come for a while. Of one lane alone that says little: others may keep it waiting."""
        return not self.working and time.monotonic() - self.idle_since >= QUIET_SECONDS


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all lanes of a worker share."""

    bootstrap: str
    partitions: int
    max_future: int
    """Microseconds."""
    identity_directory: Path
    accounts: Accounts
    holds: Holds
    book: PriceBook
    catalogue_known: asyncio.Event
    """Set once the first catalogue version is read; until then nothing is decided."""
    measures: Measures
    now: Callable[[], int]
    """Microseconds since the epoch: written beside decisions, never part of one."""
    activity: Activity = field(default_factory=Activity)


@dataclass(slots=True)
class Delivery:
    """A batch as Faust delivered it."""

    generation: int
    after: int
    records: Records
    acknowledge: Callable[[], None]


class DecidingFailed(Doubt):
    """Our own code raised while deciding; nothing became fact."""


class Lane:
    """Owns partition `partition` from `run` until it is cancelled or stopped."""

    def __init__(self, partition: int, surroundings: Surroundings, still_mine: Callable[[], bool]) -> None:
        self.partition = partition
        self.around = surroundings
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue(DELIVERIES_WAITING)
        self.serving = False
        self.busy_since: float | None = None
        """Monotonic seconds since which the batch at hand is worked on; for the watchdog."""
        self.idle_since: float | None = None
        """Monotonic seconds since which it is open and was delivered no usage; for the watchdog."""
        self._still_mine = still_mine
        self._stopping = asyncio.Event()
        self._wake = asyncio.Event()
        self._writer: PartitionWriter | None = None
        self._account_reader: AccountReader | None = None
        self._index: IdentityIndex | None = None
        self._accounts: dict[str, Account] = {}
        self._place: Place
        self._applied: Position
        self._whole: Position | None = None
        """Where the accounts were last left as they are to be served."""
        self._last_touch = 0.0
        self._told_of_strays = -STRAYS_TOLD_SECONDS
        self._unfinished: Delivery | None = None
        self._delivered_to = UNKNOWN
        self._failures: tuple[tuple[int, int], int] = ((-1, -1), 0)

    async def run(self) -> None:
        """Opens and serves until stopped; returns only then. Raises InvariantBroken, which must end the process."""
        attempt = fences = 0
        fenced_at = 0.0
        beating = asyncio.create_task(self._keep_beating(), name=f"beat of partition {self.partition}")
        try:
            while not self._stopping.is_set():
                try:
                    await self._open()
                    attempt = 0
                    await self._serve()
                except Doubt as doubt:
                    if isinstance(doubt, Fenced):
                        recent = time.monotonic() - fenced_at < FENCES_APART_SECONDS
                        attempt = fences = fences + 1 if recent else 1
                        fenced_at = time.monotonic()
                        if fences > FENCES_BEFORE_LEAVING:
                            raise InvariantBroken(f"partition {self.partition} has another living owner") from doubt
                    self.around.measures.opened_again(type(doubt).__name__)
                    log.warning("partition %d: %s: opening again", self.partition, doubt)
                except Unavailable as away:
                    log.warning("partition %d: %s: waiting", self.partition, away)
                finally:
                    await self._forget()
                if not self._stopping.is_set():
                    await self._pause(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
                    attempt += 1
                    if not self._still_mine():
                        log.info("partition %d: no longer assigned", self.partition)
                        self._whole = None
                        await self._stopping.wait()
        finally:
            beating.cancel()
            await self._forget()

    async def _keep_beating(self) -> None:
        """While Kafka is away nothing can be decided, nor can anybody else: the accounts are as true as they were, and
        the beat tells whoever asks for them. Once their store was away this ends, since what it lost of holds is
        brought back by Kafka alone."""
        while True:
            end_if_cancelled()
            await asyncio.sleep(BEAT_SECONDS)
            whole = self._whole
            if whole is None or time.monotonic() - self._last_touch < 2 * BEAT_SECONDS:
                continue
            try:
                stands = await self.around.accounts.beat(self.partition, whole)
            except Unavailable:
                stands = False
            if not stands and self._whole is whole:
                self._whole = None

    @property
    def usage_next(self) -> int:
        """Offset of the first usage record that is not decided; meaningful while it is serving."""
        return self._place.usage_next

    async def deliver(self, delivery: Delivery) -> None:
        """Hands a batch over; waits while the lane has enough."""
        await self.deliveries.put(delivery)
        self._wake.set()

    def stop(self) -> None:
        """Ends the lane after the batch at hand; what waits is dropped, and read again by whoever owns it next."""
        self._stopping.set()
        self._wake.set()
        # Room for whoever waits in `deliver`: the one agent of all lanes must not be held by one that ended.
        while not self.deliveries.empty():
            self.deliveries.get_nowait()

    # -- opening

    async def _open(self) -> None:
        around = self.around
        await around.catalogue_known.wait()
        self._writer = PartitionWriter(around.bootstrap, self.partition)
        await self._writer.start()
        tail = await ledger.tail(around.bootstrap, self.partition)
        if tail.last is None:
            # Not read back: a commit is answered before its marker lets readers see it.
            first = genesis(self.partition, around.now())
            (offset,) = await self._writer.commit([encode_record(first)])
            tail = ledger.Tail(offset + 1, offset, first, first.ledger_id)
        last = tail.last
        assert last is not None
        if around.book.position < last.catalog_position:
            raise Unavailable(f"catalogue version {last.catalog_position}, which the ledger names, is not read yet")
        self._place = Place(
            self.partition,
            tail.ledger_id,
            last.next_seq,
            last.usage_next,
            last.account_next,
            last.next_seq if last.closes_block else last.block_seq,
            around.now(),
            around.partitions,
        )
        await self._bring_up(tail)
        self._account_reader = AccountReader(around.bootstrap, self.partition, last.account_next, self._wake)
        await self._account_reader.start()
        self._last_touch = time.monotonic()
        self.idle_since = time.monotonic()
        self.serving = True
        around.measures.lanes_open.inc()
        log.info(
            "partition %d: open at seq %d, usage %d, account %d",
            self.partition,
            last.next_seq,
            last.usage_next,
            last.account_next,
        )

    async def _bring_up(self, tail: ledger.Tail) -> None:
        """Folds the ledger into accounts and identity index from where each stands; one read serves both."""
        around = self.around
        end = tail.last_offset + 1
        stands = await around.accounts.position(self.partition) or Position(tail.ledger_id, 0, 0)
        if stands.ledger_id != tail.ledger_id:
            raise InvariantBroken(
                f"accounts of partition {self.partition} belong to ledger {stands.ledger_id}, not to {tail.ledger_id}"
            )
        directory = around.identity_directory / str(self.partition)
        index = self._index = await asyncio.to_thread(IdentityIndex.open, directory, tail.ledger_id)
        if index.position is None:
            await asyncio.to_thread(index.bulk_load, (), IndexPosition(0, 0))
        known = index.position
        assert known is not None
        if (reached_by := max(stands.offset, known.ledger_offset)) > end:
            # Whoever took the partition over since the end was looked at may have written on; then we are fenced.
            now = await ledger.tail(around.bootstrap, self.partition)
            if reached_by <= now.last_offset + 1:
                raise Fenced(f"partition {self.partition} was taken over while it was opened")
            raise InvariantBroken(
                f"the ledger of partition {self.partition} ends at {end}; its accounts stand at {stands.offset}, its "
                f"identity index at {known.ledger_offset}"
            )
        self._applied = reached = stands
        gathered: dict[str, bytes] = {}
        documents: dict[str, bytes] = {}
        endings: list[HoldEnd] = []
        start, seq = min((stands.offset, stands.seq), (known.ledger_offset, known.seq))
        async with aclosing(ledger.read(around.bootstrap, self.partition, start, end, next_seq=seq)) as records:
            async for offset, record in records:
                if offset >= known.ledger_offset:
                    index.add(_booked(record), IndexPosition(offset + 1, record.next_seq))
                if offset >= stands.offset:
                    gathered.update(record.accounts)
                    documents.update(documents_of(record))
                    endings += endings_of(record, around.now())
                    reached = self._position_after(offset, record)
                    if len(gathered) + len(documents) + len(endings) >= FOLD_ACCOUNTS:
                        await self._apply(reached, gathered, documents, endings, serving=False)
                        gathered, documents, endings = {}, {}, []
        await self._in_place(lambda: around.holds.restore(self.partition))
        # The last write says that the partition is whole; with nothing to write it is the first beat.
        await self._apply(reached, gathered, documents, endings, serving=True)

    def _position_after(self, offset: int, record: LedgerRecord | PackedRecord) -> Position:
        return Position(
            self._place.ledger_id,
            offset + 1,
            record.next_seq,
            record.usage_next,
            record.account_next,
            record.catalog_position,
        )

    # -- serving

    async def _serve(self) -> None:
        if self._unfinished is not None:
            await self._take([], self._unfinished)
        while not self._stopping.is_set():
            assert self._account_reader is not None
            delivery, accounts = await self._next()
            if accounts or delivery is not None:
                await self._take(accounts, delivery)
            now = self.around.now()
            if block_is_due(self._place, now, quiet=self.around.activity.is_quiet()):
                await self._close_block(now)
            elif time.monotonic() - self._last_touch >= BEAT_SECONDS:
                await self._apply(self._applied, {}, {}, serving=True)

    async def _next(self) -> tuple[Delivery | None, list[Any]]:
        """What there is to do, or nothing after a while in which nothing came."""
        assert self._account_reader is not None
        if self.deliveries.empty() and not self._account_reader.waiting():
            patience = QUIET_SECONDS / 2 if closes_quietly(self._place) else BEAT_SECONDS / 2
            with suppress(TimeoutError):  # a quiet partition: its block and its beat are due
                await asyncio.wait_for(self._wake.wait(), patience)
        self._wake.clear()
        # This may raise: before a delivery is taken, which would be lost with it.
        accounts = self._account_reader.take()
        return None if self.deliveries.empty() else self.deliveries.get_nowait(), accounts

    async def _take(self, accounts: list[Any], delivery: Delivery | None) -> None:
        """Makes a batch of both inputs fact and applies it."""
        with self.around.activity.at_work():
            self._unfinished = delivery
            self.busy_since = time.monotonic()
            if delivery is not None:
                self.idle_since = None
            parts = [received_from(accounts, ACCOUNT).since(self._place.account_next)] if accounts else []
            if delivery is not None:
                parts += await self._usage(delivery)
            if received := Records.joined([part for part in parts if len(part)]):
                await self._decide(received)
            if delivery is not None:
                delivery.acknowledge()
            self._unfinished = None
            self.busy_since = None
            if self.idle_since is None:
                self.idle_since = time.monotonic()

    async def _usage(self, delivery: Delivery) -> list[Records]:
        """The usage records to decide; a hole before them, where it is not known to be one of markers, is read from
        Kafka."""
        first = int(delivery.records.offsets[0])
        chained = delivery.after != UNKNOWN and delivery.after == self._delivered_to
        usage_next = self._place.usage_next
        parts = [delivery.records]
        if not chained and first > usage_next:
            missing = await read_range(self.around.bootstrap, USAGE_EVENTS, self.partition, usage_next, first)
            if missing:
                log.warning("partition %d: %d records were not delivered and are read", self.partition, len(missing))
                parts.insert(0, received_from(missing, USAGE))
        self._delivered_to = int(delivery.records.offsets[-1])
        return [part.since(usage_next) for part in parts]

    async def _decide(self, received: Records) -> None:
        around = self.around
        assert self._index is not None
        assert self._writer is not None
        # Before `_place` moves: what failed is what is decided from here.
        here = self._here()
        single = self._failures[1] >= OPENS_BEFORE_SINGLE and self._failures[0] == here
        with self._deciding_from(here):
            named = name(received, around.max_future, isolate=single)
        await asyncio.sleep(0)  # a large batch takes long: heartbeats and other lanes get their turn
        unseen = {key: customer for key, customer in named.customers.items() if key not in self._accounts}
        standing = Standing(
            self._accounts,
            self._index.find(named.identities),
            elsewhere(unseen, self.partition, self._home_of),
        )
        missing = [key for key in unseen if key not in standing.elsewhere]
        if missing:
            values = await self._in_place(lambda: around.accounts.read(self.partition, self._applied, missing))
            self._accounts.update(unpack_accounts(missing, values))
        if named.documents:
            wanted = list(dict.fromkeys(named.documents))
            bodies = await self._in_place(lambda: around.accounts.read_documents(self.partition, self._applied, wanted))
            standing.documents = {key: body for key, body in zip(wanted, bodies, strict=True) if body is not None}
        if named.holds:
            asked = list(dict.fromkeys(named.holds))
            standing.holds = await self._in_place(lambda: around.accounts.read_holds(self.partition, asked))
        position = around.book.position
        begun = time.monotonic()
        decided: list[Decided] = []
        deciding = (decide_singly if single else decide_batch)(
            named, standing, around.book, position, self._place, around.now, self._index.find
        )
        with self._deciding_from(here):
            for chunk in deciding:
                if chunk is not None:
                    decided.append(chunk)
                await asyncio.sleep(0)
        written = time.monotonic()
        offsets = await self._writer.commit(
            [chunk.encoded for chunk in decided],
            [message for chunk in decided for message in chunk.messages],
            announcements([chunk.packed for chunk in decided]),
        )
        self._tell_of_strays(sum(chunk.strays for chunk in decided))
        applied = time.monotonic()
        accounts: dict[str, bytes] = {}
        documents: dict[str, bytes] = {}
        endings: list[HoldEnd] = []
        after = self._applied
        for offset, chunk in zip(offsets, decided, strict=True):
            after = self._position_after(offset, chunk.packed)
            self._index.add(chunk.booked, IndexPosition(after.offset, after.seq))
            accounts.update(chunk.packed.accounts)
            if chunk.says_more:
                record = chunk.record
                documents.update(documents_of(record))
                endings += endings_of(record)
            around.measures.decided(chunk.packed)
        # Once for the whole transaction: a customer of several chunks is written with the last of its values.
        await self._apply(after, accounts, documents, endings, serving=True)
        self._bound_cache()
        around.measures.batch(len(received), written - begun, applied - written, time.monotonic() - applied)

    def _tell_of_strays(self, strays: int) -> None:
        if strays and time.monotonic() - self._told_of_strays >= STRAYS_TOLD_SECONDS:
            self._told_of_strays = time.monotonic()
            log.warning(
                "partition %d: %d records were another partition's and are sent on, as more may be: their producer "
                "must choose partitions by murmur2 of the customer id, as Java's client does (librdkafka: "
                "partitioner=murmur2_random)",
                self.partition,
                strays,
            )

    @contextmanager
    def _deciding_from(self, here: tuple[int, int]) -> Iterator[None]:
        """Any fault of ours while deciding is Doubt: nothing is fact yet, so start over; see the module."""
        try:
            yield
        except InvariantBroken:
            raise
        except Exception as error:
            self._failures = (here, self._failures[1] + 1 if self._failures[0] == here else 1)
            log.exception("partition %d: deciding failed", self.partition)
            raise DecidingFailed(f"deciding failed: {error!r}") from error

    def _here(self) -> tuple[int, int]:
        return self._place.usage_next, self._place.account_next

    async def _close_block(self, now: int) -> None:
        assert self._writer is not None
        record = block_end(self._place, self._applied.catalog_position, now)
        (offset,) = await self._writer.commit([encode_record(record)])
        await self._apply(self._position_after(offset, record), {}, {}, serving=True)

    async def _apply(
        self,
        after: Position,
        accounts: dict[str, bytes],
        documents: dict[str, bytes],
        endings: Sequence[HoldEnd] = (),
        *,
        serving: bool,
    ) -> None:
        expected = self._applied.offset
        await self._in_place(
            lambda: self.around.accounts.apply(self.partition, expected, after, accounts, serving, documents, endings)
        )
        self._applied = after
        self._whole = after if serving else None
        self._last_touch = time.monotonic()

    async def _in_place(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """Tries a call to a store until it answers: what is fact already must not be given up for a store's absence."""
        failures = 0
        while True:
            try:
                if failures:
                    # It may have come back with less: what it lost of holds is there again before anything is served.
                    await self.around.holds.restore(self.partition)
                return await attempt()
            except PositionMoved:
                raise
            except Unavailable as away:
                if failures % 20 == 0:
                    log.warning("partition %d: %s: trying again", self.partition, away)
                self.around.measures.store_away("redis")
                await self._pause(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
                if self._stopping.is_set():
                    raise Doubt("stopped while a store was away") from away

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):  # the pause is over
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _home_of(self, customer: str) -> int:
        return partition_of(customer, self.around.partitions)

    def _bound_cache(self) -> None:
        surplus = len(self._accounts) - CACHED_ACCOUNTS
        if surplus > 0:
            for key in list(self._accounts)[: surplus + CACHED_ACCOUNTS // 4]:
                del self._accounts[key]

    async def _forget(self) -> None:
        """Drops all memory of the partition and gives connections back."""
        if self.serving:
            self.around.measures.lanes_open.dec()
        self.serving = False
        self.busy_since = self.idle_since = None
        self._accounts = {}
        writer, self._writer = self._writer, None
        reader, self._account_reader = self._account_reader, None
        index, self._index = self._index, None
        if index is not None:
            index.flush()
            index.close()
        if reader is not None:
            await reader.stop()
        if writer is not None:
            await writer.stop()


def _booked(record: LedgerRecord) -> Octets:
    """All that a ledger record books, identity and content end to end."""
    return digests_of(record.entries.fingerprints if record.entries is not None else (), FINGERPRINT_BYTES)
