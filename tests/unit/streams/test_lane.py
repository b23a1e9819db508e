"""A lane by itself: what it takes, what it lets go of, and what it does while a store is away."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rating.book import PriceBook
from schemas.account import new_account, pack_account
from schemas.errors import Doubt, InvariantBroken, Unavailable
from schemas.ledger import genesis
from streams import ledger
from streams.accounts.port import Position, PositionMoved
from streams.deciding import Place
from streams.lane import (
    CACHED_ACCOUNTS,
    DELIVERIES_WAITING,
    QUIET_SECONDS,
    Activity,
    DecidingFailed,
    Delivery,
    Lane,
    Surroundings,
    _booked,
)
from streams.ledger import Tail
from streams.measures import Measures
from streams.transaction import Fenced
from streams.transport import UNKNOWN
from tests.fakes.accounts import MemoryAccounts
from tests.fakes.holds import NoHolds
from tests.fakes.partition import MemoryPartition, paid, record_at, released, rows_as_bytes, tokens


def lane(tmp_path: Path, accounts: MemoryAccounts | None = None) -> Lane:
    return Lane(
        3,
        Surroundings(
            bootstrap="127.0.0.1:1",
            partitions=8,
            max_future=0,
            identity_directory=tmp_path,
            accounts=accounts or MemoryAccounts(),
            holds=NoHolds(),
            book=PriceBook(),
            catalogue_known=asyncio.Event(),
            measures=Measures(CollectorRegistry()),
            now=lambda: 0,
        ),
        lambda: True,
    )


def delivery(number: int = 0) -> Delivery:
    return Delivery(1, UNKNOWN, record_at(number), lambda: None)


async def test_a_lane_holds_the_flow_back_when_it_has_enough(tmp_path: Path) -> None:
    """Whoever delivers waits until there is room, and the order stays."""
    waiting = lane(tmp_path)
    for number in range(DELIVERIES_WAITING):
        await waiting.deliver(delivery(number))
    one_more = asyncio.create_task(waiting.deliver(delivery(DELIVERIES_WAITING)))
    await asyncio.sleep(0)
    assert not one_more.done()
    first = waiting.deliveries.get_nowait()
    await one_more
    rest = [waiting.deliveries.get_nowait() for _ in range(DELIVERIES_WAITING)]
    assert [one.records.offsets.tolist() for one in (first, *rest)] == [[at] for at in range(DELIVERIES_WAITING + 1)]


async def test_a_lane_that_stops_lets_go_of_whoever_waits_to_deliver(tmp_path: Path) -> None:
    """The one agent of all lanes must not be held for ever by a lane that takes nothing any more."""
    stopping = lane(tmp_path)
    for number in range(DELIVERIES_WAITING):
        await stopping.deliver(delivery(number))
    held = asyncio.create_task(stopping.deliver(delivery()))
    await asyncio.sleep(0)
    stopping.stop()
    await asyncio.wait_for(held, 1)


class FailingReader:
    """An account reader that failed."""

    def waiting(self) -> bool:
        return True

    def take(self) -> list[Any]:
        raise Doubt("reading failed")


async def test_a_reader_that_failed_takes_no_delivery_with_it(tmp_path: Path) -> None:
    """The delivery is still there when the lane has opened again."""
    opened = lane(tmp_path)
    opened._account_reader = FailingReader()  # type: ignore[assignment]
    await opened.deliver(delivery())
    with pytest.raises(Doubt):
        await opened._next()
    assert opened.deliveries.qsize() == 1


async def test_a_store_that_is_away_is_waited_for_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is fact already is not given up; when the store answers, the same call goes on."""
    monkeypatch.setattr("streams.lane.BACKOFF_SECONDS", (0.001,))
    accounts = MemoryAccounts()
    patient = lane(tmp_path, accounts)
    patient._applied = Position("l", 0, 0)
    accounts.away = True
    applying = asyncio.create_task(patient._apply(Position("l", 1, 1), {"a": b"1"}, {}, serving=True))
    await asyncio.sleep(0.02)
    assert not applying.done()
    accounts.away = False
    await applying
    assert await accounts.position(3) == Position("l", 1, 1)
    assert patient._applied.offset == 1
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) < 5


async def test_a_lane_that_is_told_to_stop_does_not_wait_for_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did not apply is fact in the ledger, and found there by the next owner."""
    monkeypatch.setattr("streams.lane.BACKOFF_SECONDS", (0.001,))
    accounts = MemoryAccounts()
    accounts.away = True
    stopping = lane(tmp_path, accounts)
    stopping._applied = Position("l", 0, 0)
    applying = asyncio.create_task(stopping._apply(Position("l", 1, 1), {}, {}, serving=True))
    await asyncio.sleep(0.005)
    stopping.stop()
    with pytest.raises(Doubt):
        await applying


async def test_accounts_that_are_not_where_they_were_left_are_doubt(tmp_path: Path) -> None:
    """Never tried again in place: somebody else wrote, or writes were lost."""
    accounts = MemoryAccounts()
    opened = lane(tmp_path, accounts)
    opened._applied = Position("l", 7, 7)
    with pytest.raises(PositionMoved):
        await opened._apply(Position("l", 8, 8), {}, {}, serving=True)
    assert issubclass(PositionMoved, Doubt)
    assert opened._applied.offset == 7


async def test_a_fault_of_ours_while_deciding_is_counted_where_it_happened(tmp_path: Path) -> None:
    """Three at one place make the lane decide singly there; another place begins anew. What must end the process
    passes."""
    failing = lane(tmp_path)
    failing._place = Place(3, "l", 0, 5, 6, 0, 0)
    for count in (1, 2, 3):
        with pytest.raises(DecidingFailed), failing._deciding_from((5, 6)):
            raise ZeroDivisionError
        assert failing._failures == ((5, 6), count)
    with pytest.raises(DecidingFailed), failing._deciding_from((9, 6)):
        raise KeyError("x")
    assert failing._failures == ((9, 6), 1)
    with pytest.raises(InvariantBroken), failing._deciding_from((9, 6)):
        raise InvariantBroken("x")
    assert failing._failures == ((9, 6), 1)


class Reopening(Lane):
    """A lane whose opening and serving are the test's."""

    opened = 0

    async def _open(self) -> None:
        self.opened += 1

    async def _serve(self) -> None:
        raise Fenced("another writer")

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_two_living_owners_do_not_fence_one_another_for_ever(tmp_path: Path) -> None:
    """Opening is no proof of anything: after so many fences in a short time the process leaves."""
    fighting = Reopening(3, lane(tmp_path).around, lambda: True)
    with pytest.raises(InvariantBroken, match="another living owner"):
        await asyncio.wait_for(fighting.run(), 5)
    assert fighting.opened == 21


async def test_a_lane_that_is_no_longer_assigned_opens_no_more(tmp_path: Path) -> None:
    """Fenced and not ours: it waits to be stopped, and fences nobody."""
    gone = Reopening(3, lane(tmp_path).around, lambda: False)
    running = asyncio.create_task(gone.run())
    await asyncio.sleep(0.02)
    assert gone.opened == 1
    gone.stop()
    await asyncio.wait_for(running, 1)


class Waiting(Reopening):
    """Opening finds Kafka away a few times, then serves until told to stop."""

    async def _open(self) -> None:
        self.opened += 1
        if self.opened < 4:
            raise Unavailable("kafka: away")

    async def _serve(self) -> None:
        await self._stopping.wait()


async def test_a_lane_waits_for_stores_that_are_away_when_it_opens(tmp_path: Path) -> None:
    """It tries again until they answer, and is no fault."""
    opening = Waiting(3, lane(tmp_path).around, lambda: True)
    running = asyncio.create_task(opening.run())
    async with asyncio.timeout(10):
        while opening.opened < 4:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
    opening.stop()
    await asyncio.wait_for(running, 1)


async def test_the_cache_of_accounts_is_bounded(tmp_path: Path) -> None:
    """Beyond its bound the oldest go; they are read again when they are needed."""
    caching = lane(tmp_path)
    caching._accounts = {str(number): new_account("t", str(number)) for number in range(CACHED_ACCOUNTS + 1)}
    caching._bound_cache()
    assert len(caching._accounts) == CACHED_ACCOUNTS - CACHED_ACCOUNTS // 4
    assert str(CACHED_ACCOUNTS) in caching._accounts
    assert pack_account(caching._accounts[str(CACHED_ACCOUNTS)])


def test_the_ledger_alone_tells_what_is_booked() -> None:
    """Identities and claims of every entry, in order; a record without entries books none."""
    partition = MemoryPartition()
    partition.usage(tokens(1), b"", tokens(1), released(2))
    partition.account(paid(3, order_id="o"))
    booked: list[bytes] = []
    for chunk in partition.decided:
        of_record = rows_as_bytes(_booked(chunk.record))
        booked += of_record
        assert of_record == rows_as_bytes(chunk.booked)
    assert len(booked) == 1 + 2 + 3
    assert {one[:16]: one[16:] for one in booked} == partition.booked
    assert not len(_booked(genesis(0, 0)))


async def test_a_lane_that_cannot_open_for_want_of_kafka_beats_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its accounts are as true as they were: who asks goes on to trust them, until their store itself was away."""
    monkeypatch.setattr("streams.lane.BEAT_SECONDS", 0.01)
    accounts = MemoryAccounts()
    waiting = lane(tmp_path, accounts)
    waiting.around.catalogue_known.set()
    waiting._applied = Position("l", 0, 0)
    await waiting._apply(Position("l", 1, 1), {"a": b"1"}, {}, serving=True)

    async def beats() -> bool:
        before = (await accounts.standing(3)).beat
        await asyncio.sleep(0.1)
        return (await accounts.standing(3)).beat > before

    running = asyncio.create_task(waiting.run())
    assert await beats()
    assert not waiting.serving
    accounts.away = True
    await asyncio.sleep(0.1)
    accounts.away = False
    assert not await beats()
    waiting.stop()
    await asyncio.wait_for(running, 30)


async def test_a_lane_that_is_taken_from_its_process_beats_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may serve the partition now, or nobody: either is for its next owner to say."""
    monkeypatch.setattr("streams.lane.BEAT_SECONDS", 0.01)
    monkeypatch.setattr("streams.lane.BACKOFF_SECONDS", (0.01,))
    accounts = MemoryAccounts()
    taken = lane(tmp_path, accounts)
    taken._still_mine = lambda: False
    taken.around.catalogue_known.set()
    taken._applied = Position("l", 0, 0)
    await taken._apply(Position("l", 1, 1), {"a": b"1"}, {}, serving=True)
    running = asyncio.create_task(taken.run())
    while taken._whole is not None:  # noqa: ASYNC110  # a lane has no event for it
        await asyncio.sleep(0.01)
    before = (await accounts.standing(3)).beat
    await asyncio.sleep(0.1)
    assert (await accounts.standing(3)).beat == before
    taken.stop()
    await asyncio.wait_for(running, 30)


@pytest.mark.parametrize(("ends_now", "expected"), [(21, Fenced), (20, InvariantBroken)])
async def test_accounts_beyond_the_end_are_a_rivals_or_of_another_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends_now: int, expected: type[Exception]
) -> None:
    """A lane that opens slowly may find what its successor has applied; only what no ledger has is a broken promise."""
    accounts = MemoryAccounts()
    await accounts.apply(3, 0, Position("l", 22, 0), {}, True, {}, [])
    opening = lane(tmp_path, accounts)

    async def tail(bootstrap: str, partition: int) -> Tail:
        return Tail(ends_now + 2, ends_now, None, "l")

    monkeypatch.setattr(ledger, "tail", tail)
    with pytest.raises(expected):
        await opening._bring_up(Tail(20, 18, None, "l"))
    await opening._forget()


def test_a_worker_is_quiet_when_none_of_its_lanes_has_had_work_for_a_while() -> None:
    """Also while one lane has nothing and another works on: the one may only have to wait."""
    activity = Activity()
    assert activity.is_quiet()
    with activity.at_work():
        with activity.at_work():
            assert not activity.is_quiet()
        activity.idle_since = 0.0
        assert not activity.is_quiet()
    activity.idle_since = time.monotonic() + QUIET_SECONDS
    assert not activity.is_quiet()
    activity.idle_since = 0.0
    assert activity.is_quiet()
