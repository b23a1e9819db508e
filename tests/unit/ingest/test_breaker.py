"""A store that does not answer is not asked for a while."""

from __future__ import annotations

import asyncio

import pytest

from ingest.breaker import FAILURES, OPEN_SECONDS, Breaker, State
from schemas.errors import InvalidInput, Unavailable


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Store:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.breaker = Breaker("redis", elapsed_seconds=self.clock)
        self.asked = 0
        self.away = True

    def ask(self, *, always: bool = False) -> bool:
        """Whether it answered."""
        try:
            with self.breaker.guarded(always=always):
                self.asked += 1
                if self.away:
                    raise Unavailable("redis: away")
        except Unavailable:
            return False
        return True


@pytest.fixture
def open_store() -> Store:
    """Away, and found so often enough."""
    store = Store()
    for _ in range(FAILURES):
        store.ask()
    assert store.breaker.state == State.OPEN
    return store


def test_an_open_breaker_asks_nobody(open_store: Store) -> None:
    """Five failures, and then none more for half a minute."""
    open_store.clock.seconds += OPEN_SECONDS - 0.001
    assert not any(open_store.ask() for _ in range(100))
    assert open_store.asked == FAILURES


def test_one_success_in_between_begins_the_count_anew() -> None:
    """Only failures in a row count."""
    store = Store()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            store.ask()
        store.away = False
        assert store.ask()
        store.away = True
    assert store.breaker.state == State.CLOSED


def test_half_open_one_call_tries_and_its_success_closes(open_store: Store) -> None:
    """After the half minute."""
    open_store.clock.seconds += OPEN_SECONDS
    assert open_store.breaker.state == State.HALF_OPEN
    open_store.away = False
    assert open_store.ask()
    assert open_store.breaker.state == State.CLOSED


def test_half_open_a_failure_opens_again(open_store: Store) -> None:
    """For another half minute."""
    open_store.clock.seconds += OPEN_SECONDS
    assert not open_store.ask()
    assert open_store.breaker.state == State.OPEN
    assert not open_store.ask()
    assert open_store.asked == FAILURES + 1


async def test_half_open_the_others_do_not_wait_with_the_one_that_tries(open_store: Store) -> None:
    """One call alone finds out."""
    open_store.clock.seconds += OPEN_SECONDS
    gate = asyncio.Event()

    async def slow() -> None:
        with open_store.breaker.guarded():
            await gate.wait()

    trying = asyncio.create_task(slow())
    await asyncio.sleep(0)
    open_store.away = False
    assert not open_store.ask()
    gate.set()
    await trying
    assert open_store.ask()


async def test_a_call_that_is_cancelled_says_nothing(open_store: Store) -> None:
    """The next one may try; a client that leaves neither opens nor closes."""
    open_store.clock.seconds += OPEN_SECONDS

    async def endless() -> None:
        with open_store.breaker.guarded():
            await asyncio.Event().wait()

    leaving = asyncio.create_task(endless())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert open_store.breaker.state == State.HALF_OPEN
    open_store.away = False
    assert open_store.ask()


def test_a_look_is_never_refused_and_closes_before_its_time(open_store: Store) -> None:
    """A readiness probe finds the store back; one that finds it away changes nothing but the time."""
    assert not open_store.ask(always=True)
    assert open_store.asked == FAILURES + 1
    open_store.away = False
    assert not open_store.ask()
    assert open_store.ask(always=True)
    assert open_store.ask()


def test_an_answer_that_refuses_is_an_answer(open_store: Store) -> None:
    """The store is there, if not of our opinion."""
    open_store.clock.seconds += OPEN_SECONDS
    with pytest.raises(InvalidInput), open_store.breaker.guarded():
        raise InvalidInput("x", "no")
    assert open_store.breaker.state == State.CLOSED
