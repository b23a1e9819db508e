"""Takes the evidence for `reconcile` from the stores themselves: Kafka's topics, the ledger, Redis, ClickHouse, Stripe.

Everything is read as a stream, in the memory of the account tables of a few partitions. It also holds under traffic:
the ledger's end at the beginning is the line, rows are counted up to it, and each handful of accounts is compared with
the ledger folded up to the position that the store names with them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from aiokafka import TopicPartition

from invoicing.billed_rows import invoice_equations
from invoicing.reconcile import (
    Alike,
    Equation,
    LedgerTally,
    accounts_equations,
    dead_letters_equations,
    records_equations,
    rows_equations,
    seq_equation,
)
from invoicing.row_sums import RowSums
from invoicing.stripe.reconcile import stripe_equations
from schemas.account import unpack_account
from schemas.errors import InvariantBroken, TollgateError, Unavailable
from schemas.ledger import INPUT_TOPICS
from schemas.outcome import OUTCOME_NAMES, Outcome
from schemas.period import Period
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS
from streams import ledger
from streams.accounts.redis import RedisAccounts
from streams.dead_letters import RESOLUTION
from streams.ledger import Tail, committed_consumer, partition_count

CATCH_UP_SECONDS: Final = 15.0
"""How long sink and accounts may take to reach the line; what they lack then is a difference."""

FOLLOW_SECONDS: Final = 5.0
"""How long what a transaction carried beside its ledger record may take to show."""

ACCOUNTS_AT_ONCE: Final = 400
PARTITIONS_AT_ONCE: Final = 6
"""Most of the time of one goes by in waiting."""

Value = TypeVar("Value")

Progress = Callable[[str], None]


async def gather(
    settings: Settings,
    period: Period | None = None,
    progress: Progress = lambda _: None,
) -> list[Equation]:
    """All equations. `settings` with the addresses filled in. Raises Unavailable if a store cannot be read."""
    bootstrap, redis_url, clickhouse_url = settings.kafka_bootstrap, settings.redis_url, settings.clickhouse_url
    assert bootstrap is not None
    assert redis_url is not None
    assert clickhouse_url is not None
    partitions = range(await partition_count(bootstrap))
    accounts = RedisAccounts(redis_url, timeout_seconds=10.0)
    try:
        rows = await asyncio.to_thread(RowSums, clickhouse_url, period)
        stores = _Stores(bootstrap, accounts, rows, period)
        lines = dict(await _each(partitions, partial(_line, bootstrap)))
        await _await_line(accounts, rows, {number: line for number, line in lines.items() if isinstance(line, Tail)})
        kept = await _kept(accounts)
        done = 0

        async def prove(partition: int) -> Iterable[Equation]:
            nonlocal done
            found = await _proved(stores, partition, lines[partition], kept.get(partition, set()))
            done += 1
            progress(f"partition {done} of {len(partitions)}")
            return found

        equations = [equation for _, of_one in await _each(partitions, prove) for equation in of_one]
        shared = await asyncio.to_thread(rows.shared_identities)
        billed = await asyncio.to_thread(invoice_equations, clickhouse_url)
        in_stripe = await stripe_equations(settings)
        return [*equations, Equation("identities under a second customer = none", shared, 0), *billed, *in_stripe]
    finally:
        await accounts.close()


@dataclass(frozen=True, slots=True)
class _Stores:
    bootstrap: str
    accounts: RedisAccounts
    rows: RowSums
    period: Period | None


async def _each(partitions: Iterable[int], take: Callable[[int], Awaitable[Value]]) -> list[tuple[int, Value]]:
    """Takes something of each partition, a few at a time. The first failure ends all."""
    places = asyncio.Semaphore(PARTITIONS_AT_ONCE)

    async def one(partition: int) -> tuple[int, Value]:
        async with places:
            return partition, await take(partition)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(partition)) for partition in partitions]
    except* TollgateError as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _line(bootstrap: str, partition: int) -> Tail | InvariantBroken:
    """The ledger's end, up to which everything is compared."""
    try:
        return await ledger.tail(bootstrap, partition)
    except InvariantBroken as broken:
        return broken


async def _proved(stores: _Stores, partition: int, line: Tail | InvariantBroken, kept: set[str]) -> Iterable[Equation]:
    if isinstance(line, InvariantBroken):
        return [_contradiction(partition, line)]
    try:
        return await _partition(stores, partition, line, kept)
    except InvariantBroken as broken:
        return [_contradiction(partition, broken)]


def _contradiction(partition: int, broken: InvariantBroken) -> Equation:
    """The ledger contradicts itself: that is a result, not a failure to find one."""
    return Equation(f"ledger records that break its order = none ({broken})", 1, 0, partition)


async def _partition(stores: _Stores, partition: int, line: Tail, kept: set[str]) -> Iterable[Equation]:
    bootstrap, rows, last = stores.bootstrap, stores.rows, line.last
    next_seq, decided = (last.next_seq, (last.usage_next, last.account_next)) if last is not None else (0, (0, 0))
    begin, records = await _input_records(bootstrap, partition, decided)
    tally = LedgerTally(next_seq, begin, stores.period)
    fold = _Fold(bootstrap, partition, tally)
    await fold.to(line.last_offset + 1)
    agreeing, known = tally.agreeing(), len(tally.accounts)
    alike = await _accounts(stores.accounts, partition, fold, line, kept)
    equations = [
        *accounts_equations(partition, agreeing, known, alike),
        *records_equations(partition, records, tally),
        seq_equation(partition, next_seq, tally),
        *rows_equations(partition, tally.sums, await asyncio.to_thread(rows.sums, partition, next_seq)),
    ]
    surplus = (await asyncio.to_thread(rows.ends)).get(partition, 0)
    if surplus > next_seq:
        # Under traffic the ledger has gone on as well: rows come after it, so it is asked after them.
        now = (await ledger.tail(bootstrap, partition)).last
        next_seq_now = now.next_seq if now is not None else 0
    else:
        next_seq_now = next_seq
    foreign = await asyncio.to_thread(rows.foreign, partition, line.ledger_id)
    equations += [
        Equation("rows beyond the ledger's end = none", max(0, surplus - next_seq_now), 0, partition),
        Equation("rows of another ledger = none", foreign, 0, partition),
    ]
    letters = tally.sums.outcomes[OUTCOME_NAMES[Outcome.DEAD_LETTER]]
    # Originals follow the ledger on roads of their own; a moment later they are there.
    originals = await _reaching(letters, lambda: _dead_letter_records(bootstrap, partition, next_seq))
    shown = await _reaching(letters, lambda: asyncio.to_thread(rows.dead_letters, partition, next_seq))
    return [*equations, *dead_letters_equations(partition, tally, originals, shown)]


async def _reaching(expected: int, count: Callable[[], Awaitable[int]]) -> int:
    """A count, taken until it reaches what is expected or has had its time."""
    deadline = time.monotonic() + FOLLOW_SECONDS
    while (found := await count()) < expected and time.monotonic() < deadline:  # noqa: ASYNC110  # stores tell nobody
        await asyncio.sleep(0.2)
    return found


class _Fold:
    """The ledger of a partition, folded on demand."""

    def __init__(self, bootstrap: str, partition: int, tally: LedgerTally) -> None:
        self._bootstrap = bootstrap
        self._partition = partition
        self._position = 0
        self.tally = tally
        self.reached = 0
        """The offset after the last record folded."""
        self.next_seq = 0

    async def to(self, offset: int) -> None:
        """Folds every record below an offset that the ledger has."""
        if offset <= self._position:
            return
        reading = ledger.read(self._bootstrap, self._partition, self._position, offset, next_seq=self.next_seq)
        async with aclosing(reading) as records:
            async for at, record in records:
                self.tally.fold(record)
                self.reached, self.next_seq = at + 1, record.next_seq
        self._position = offset

    async def has(self, offset: int) -> bool:
        """Whether the ledger goes as far as an offset that somebody says he has applied."""

        async def end() -> int:
            return (await ledger.tail(self._bootstrap, self._partition)).end_offset

        return offset <= self._position or await _reaching(offset, end) >= offset


async def _accounts(accounts: RedisAccounts, partition: int, fold: _Fold, line: Tail, kept: set[str]) -> Alike:
    """Compares every account; the ledger is folded on as far as the store's position has moved meanwhile."""
    alike, tally = Alike(), fold.tally
    position, _ = await accounts.snapshot(partition, ())
    alike.ledger_offset, alike.ledger_seq = fold.reached, fold.next_seq
    if position is not None:
        alike.offset, alike.seq = position.offset, position.seq
        alike.foreign = int(position.ledger_id != line.ledger_id)
        if not await fold.has(position.offset):
            return alike
        await fold.to(position.offset)
        alike.ledger_offset, alike.ledger_seq = fold.reached, fold.next_seq
    keys = list(tally.accounts)
    for start in range(0, len(keys), ACCOUNTS_AT_ONCE):
        some = keys[start : start + ACCOUNTS_AT_ONCE]
        position, values = await accounts.snapshot(partition, some)
        if position is not None:
            await fold.to(position.offset)
        alike.accounts += len(some)
        alike.equal += sum(value == tally.accounts[key] for key, value in zip(some, values, strict=True))
        alike.expected += tally.balances(some)
        alike.found += sum(unpack_account(value).balance for value in values if value is not None)
    unknown = kept - tally.accounts.keys()
    if unknown:
        # Under traffic an account may have come while the names were read: the ledger says so a moment later.
        position, _ = await accounts.snapshot(partition, ())
        if position is not None:
            await fold.to(position.offset)
        alike.unknown = len(kept - tally.accounts.keys())
    return alike


async def _await_line(accounts: RedisAccounts, rows: RowSums, tails: Mapping[int, Tail]) -> None:
    """Gives sink and accounts the time they need to reach the ledger's end as it was at the beginning."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    behind = {partition: tail.last.next_seq for partition, tail in tails.items() if tail.last is not None}
    while behind and time.monotonic() < deadline:
        counts = await asyncio.to_thread(rows.counts)
        for partition, next_seq in list(behind.items()):
            position = await accounts.position(partition)
            if counts.get(partition, 0) >= next_seq and position is not None and position.seq >= next_seq:
                del behind[partition]
        if behind:
            await asyncio.sleep(0.2)


async def _kept(accounts: RedisAccounts) -> dict[int, set[str]]:
    kept: dict[int, set[str]] = {}
    async for partition, key in accounts.kept():
        kept.setdefault(partition, set()).add(key)
    return kept


async def _input_records(
    bootstrap: str, partition: int, ends: tuple[int, int]
) -> tuple[dict[int, int], dict[int, int]]:
    """By input topic: its first offset kept, and how many committed records lie from there to the decided position."""
    begin: dict[int, int] = {}
    records: dict[int, int] = {}
    for topic, name in enumerate(INPUT_TOPICS):
        place = TopicPartition(name, partition)
        async with committed_consumer(bootstrap) as consumer:
            begin[topic] = (await consumer.beginning_offsets([place]))[place]
            records[topic] = 0
            end = min(ends[topic], (await consumer.end_offsets([place]))[place])
            async for _ in _records(consumer, place, begin[topic], end):
                records[topic] += 1
    return begin, records


async def _dead_letter_records(bootstrap: str, partition: int, until_seq: int) -> int:
    """Committed originals in both dead letter topics whose entry lies below `until_seq`."""
    count = 0
    for name in DEAD_LETTERS.values():
        place = TopicPartition(name, partition)
        async with committed_consumer(bootstrap) as consumer:
            begin = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
            async for record in _records(consumer, place, begin, end):
                count += not _is_resolution(record) and _seq_of(record) < until_seq
    return count


def _is_resolution(record: Any) -> bool:
    """Whether it says how another dead letter ended."""
    return any(name == RESOLUTION for name, _ in record.headers)


def _seq_of(letter: Any) -> int:
    """The entry a dead letter belongs to; -1 for one that no worker of ours wrote."""
    seq = dict(letter.headers).get("seq", b"")
    return int(seq) if seq.isdigit() else -1


async def _records(consumer: Any, place: TopicPartition, start: int, end: int) -> AsyncGenerator[Any, None]:
    if start >= end:
        return
    consumer.assign([place])
    consumer.seek(place, start)
    quiet_since = time.monotonic()
    while await consumer.position(place) < end:
        batch = (await consumer.getmany(place, timeout_ms=500)).get(place, [])
        for record in batch:
            if record.offset < end:
                yield record
        if batch:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > CATCH_UP_SECONDS:
            raise Unavailable(f"{place.topic}[{place.partition}] gives nothing below offset {end}")
