"""Takes the evidence for `reconcile` from the stores themselves: Kafka's topics, the ledger, Redis, ClickHouse.

Everything is read as a stream, in the memory of one account table. It also holds under traffic: the ledger's end at the
beginning is the line, rows are counted up to it, and each handful of accounts is compared with the ledger folded up to
the position that the store names with them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final

from aiokafka import TopicPartition
from clickhouse_connect.driver.exceptions import ClickHouseError

from invoicing.reconcile import (
    Alike,
    Equation,
    LedgerTally,
    Sums,
    accounts_equations,
    dead_letters_equations,
    records_equations,
    rows_equations,
    seq_equation,
)
from schemas.account import unpack_account
from schemas.clickhouse import connect
from schemas.errors import InvariantBroken, Unavailable
from schemas.ledger import INPUT_TOPICS, LedgerRecord
from schemas.period import Period
from schemas.settings import Settings
from schemas.topics import DEAD_LETTERS
from streams import ledger
from streams.accounts.redis import RedisAccounts
from streams.ledger import Tail, committed_consumer, partition_count

CATCH_UP_SECONDS: Final = 15.0
"""How long sink and accounts may take to reach the line; what they lack then is a difference."""

ACCOUNTS_AT_ONCE: Final = 400

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
    rows = await asyncio.to_thread(_Rows, clickhouse_url, period)
    try:
        tails = {partition: await ledger.tail(bootstrap, partition) for partition in partitions}
        await _await_line(accounts, rows, tails)
        kept = await _kept(accounts)
        equations: list[Equation] = []
        for done, partition in enumerate(partitions):
            progress(f"partition {done + 1} of {len(partitions)}")
            equations += await _partition(bootstrap, accounts, rows, partition, tails[partition], kept, period)
        shared = await asyncio.to_thread(rows.shared_identities)
        return [*equations, Equation("identities under a second customer = none", shared, 0)]
    finally:
        await accounts.close()


async def _partition(
    bootstrap: str,
    accounts: RedisAccounts,
    rows: _Rows,
    partition: int,
    tail: Tail,
    kept: dict[int, set[str]],
    period: Period | None,
) -> Iterable[Equation]:
    last = tail.last
    if last is None:
        return [Equation("ledger partitions with a genesis", 1, 0, partition)]
    begin, records = await _input_records(bootstrap, partition, (last.usage_next, last.account_next))
    tally = LedgerTally(last.next_seq, begin, period)
    equations: list[Equation] = []
    async with aclosing(ledger.read(bootstrap, partition, 0)) as following:
        fold = _Fold(following, tally)
        try:
            await fold.to(tail.last_offset + 1)
            agreeing, known = tally.agreeing(), len(tally.accounts)
            alike = await _accounts(accounts, partition, fold, tally, kept.get(partition, set()))
            equations += accounts_equations(partition, last.next_seq, agreeing, known, alike)
        except InvariantBroken as broken:
            # The ledger contradicts itself: that is a result, not a failure to find one.
            return [Equation(f"ledger record follows the one before ({broken})", 1, 0, partition)]
    equations += records_equations(partition, records, tally)
    equations.append(seq_equation(partition, last.next_seq, tally))
    equations += rows_equations(partition, tally.sums, await asyncio.to_thread(rows.sums, partition, last.next_seq))
    originals = await _dead_letter_records(bootstrap, partition, last.next_seq)
    shown = await asyncio.to_thread(rows.dead_letters, partition, last.next_seq)
    equations += dead_letters_equations(partition, tally, originals, shown)
    return equations


class _Fold:
    """The ledger of a partition, folded on demand."""

    def __init__(self, records: AsyncGenerator[tuple[int, LedgerRecord], None], tally: LedgerTally) -> None:
        self._records = records
        self._tally = tally
        self.position = 0

    async def to(self, offset: int) -> None:
        """Folds every record below a ledger offset that is known to be committed."""
        while self.position < offset:
            at, record = await anext(self._records)
            self._tally.fold(record)
            self.position = at + 1


async def _accounts(accounts: RedisAccounts, partition: int, fold: _Fold, tally: LedgerTally, kept: set[str]) -> Alike:
    """Compares every account; the ledger is folded on as far as the store's position has moved meanwhile."""
    alike = Alike()
    position, _ = await accounts.snapshot(partition, ())
    alike.next_seq = position.seq if position is not None else 0
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


async def _await_line(accounts: RedisAccounts, rows: _Rows, tails: Mapping[int, Tail]) -> None:
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
            async for _ in _records(consumer, place, begin[topic], ends[topic]):
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
                count += int(dict(record.headers)["seq"]) < until_seq
    return count


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


class _Rows:
    """Sums over the rows in ClickHouse. Called in threads; each call is one query."""

    def __init__(self, url: str, period: Period | None) -> None:
        self._client = connect(url)
        self._period = period or Period(-(2**62), 2**62)

    def counts(self) -> dict[int, int]:
        """Rows by partition."""
        return dict(self._query("SELECT partition, count() FROM tollgate.ledger_entries GROUP BY partition"))

    def sums(self, partition: int, until_seq: int) -> Sums:
        """Of the entries of a partition below a seq; charges of the period alone."""
        (found,) = self._query(
            """
            WITH
                toUnixTimestamp64Micro(occurred_at) AS occurred,
                occurred >= {start:Int64} AND occurred < {end:Int64} AS within,
                arraySum(amount -> toInt256(amount), charge.amount) AS charged,
                arraySum(amount -> toInt256(amount), posting.amount) AS posted
            SELECT
                count(),
                countIf(outcome = 'rated'),
                countIf(outcome = 'duplicate'),
                countIf(outcome = 'ignored'),
                countIf(outcome = 'dead_letter'),
                sumIf(length(charge.amount), within),
                sumIf(charged, within),
                sumIf(charged * toInt256(seq), within),
                sumIf(
                    arraySum(
                        (units, nanos) -> toInt256(units) * 1000000000 + toInt256(nanos),
                        charge.quantity_units,
                        charge.quantity_nanos
                    ),
                    within
                ),
                sum(length(posting.amount)),
                sum(posted),
                sum(posted * toInt256(seq)),
                sum(arraySum(balance -> toInt256(balance), posting.balance_after))
            FROM tollgate.ledger_entries
            WHERE partition = {partition:UInt16} AND seq < {until:Int64}
            """,
            partition=partition,
            until=until_seq,
            start=self._period.start,
            end=self._period.end,
        )
        entries, rated, duplicate, ignored, dead_letter, *rest = found
        outcomes = Counter(rated=rated, duplicate=duplicate, ignored=ignored, dead_letter=dead_letter)
        return Sums(entries, outcomes, *rest)

    def dead_letters(self, partition: int, until_seq: int) -> int:
        """Dead letters that the view shows, of entries below a seq."""
        ((count,),) = self._query(
            """
            SELECT count()
            FROM tollgate.dead_letters
            WHERE partition = {partition:UInt16}
              AND (topic, offset) IN (
                  SELECT toString(topic), offset
                  FROM tollgate.ledger_entries
                  WHERE partition = {partition:UInt16} AND seq < {until:Int64} AND outcome = 'dead_letter'
              )
            """,
            partition=partition,
            until=until_seq,
        )
        return int(count)

    def shared_identities(self) -> int:
        """Identities that are booked under more than one customer of a tenant."""
        ((count,),) = self._query(
            """
            SELECT count()
            FROM (
                SELECT tenant, source, event_id
                FROM tollgate.ledger_entries
                WHERE fingerprints != ''
                GROUP BY tenant, source, event_id
                HAVING uniqExact(customer) > 1
            )
            """
        )
        return int(count)

    def _query(self, query: str, **parameters: Any) -> list[Any]:
        try:
            return list(self._client.query(query, parameters=parameters).result_rows)
        except (ClickHouseError, OSError) as error:
            raise Unavailable(f"clickhouse: {error}") from error
