"""The lock of a piece of work in a real Redis: one holder, whose number is greater than that of any before."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from redis.asyncio import Redis

from schemas.settings import Settings
from streams.lock import Lock

RACERS = 12


async def test_of_many_racers_one_holds_it(services: Settings) -> None:
    """The others are told; when it is given back, the next one has it, under a greater number."""
    url, name = str(services.redis_url), uuid.uuid4().hex
    locks = [Lock(url, name) for _ in range(RACERS)]
    over = asyncio.Event()
    numbers: list[int | None] = []

    async def race(lock: Lock) -> None:
        async with lock.held() as number:
            numbers.append(number)
            if len(numbers) == RACERS:
                over.set()
            await over.wait()
            assert await lock.is_held() == (number is not None)

    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*map(race, locks))
            (first,) = [number for number in numbers if number is not None]
            async with locks[0].held() as second:
                assert second is not None
                assert second > first
    finally:
        for lock in locks:
            await lock.close()


async def test_who_waits_has_it_after_a_holder_that_died(services: Settings) -> None:
    """A holder that is gone leaves its lease: it runs out, and who waits goes on with a greater number."""
    url, name = str(services.redis_url), uuid.uuid4().hex
    dead, waiting = Lock(url, name), Lock(url, name)
    redis: Redis = Redis.from_url(url)
    try:
        async with contextlib.AsyncExitStack() as stack:
            number = await stack.enter_async_context(dead.held())
            assert number is not None
            async with waiting.held() as other:
                assert other is None
            # It renews no more: what is left of its lease is a second.
            await redis.pexpire(f"{{lock:{name}}}:holder", 1_000)
            async with waiting.held(wait_seconds=30) as other:
                assert other is not None
                assert other > number
                assert not await dead.is_held()
    finally:
        await redis.aclose()
        await dead.close()
        await waiting.close()


async def test_it_is_given_back_in_the_middle_of_a_renewal(services: Settings) -> None:
    """Renewed all the time: whoever leaves is out at once, and the next one has it."""
    url, name = str(services.redis_url), uuid.uuid4().hex
    lock = Lock(url, name, renew_seconds=0.0005)
    try:
        async with asyncio.timeout(60):
            for turn in range(50):
                async with lock.held() as number:
                    assert number is not None
                    await asyncio.sleep(0.002 + turn % 7 * 0.0004)
    finally:
        await lock.close()
