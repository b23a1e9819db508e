"""Who follows the catalogue, in a real Redis: an applied version is waited for until all who live have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from schemas.errors import Unavailable
from schemas.settings import Settings
from streams.followers import HEARD_MS, Followers


@pytest.fixture
async def followers(services: Settings) -> AsyncIterator[list[Followers]]:
    """Three of them, who have said nothing yet; afterwards none is left."""
    async with AsyncExitStack() as stack:
        made = [Followers(str(services.redis_url)) for _ in range(3)]
        for one in made:
            stack.push_async_callback(one.close)
            stack.push_async_callback(one.leave)
        yield made


async def test_all_who_follow_are_waited_for_and_nobody_else(followers: list[Followers]) -> None:
    """Without followers there is nothing to wait for; one that left is not waited for."""
    first, second, asking = followers
    assert await asking.behind(7) == 0
    await first.tell(0)
    await second.tell(6)
    assert await asking.behind(6) == 1
    assert await asking.behind(7) == 2
    await first.tell(7)
    assert await asking.behind(7) == 1
    assert not await asking.have(7, patience_seconds=0)
    waiting = asyncio.create_task(asking.have(7))
    await second.tell(10)  # later versions have the earlier
    assert await waiting
    await first.leave()
    assert await asking.behind(10) == 0
    assert await asking.behind(11) == 1


async def test_who_is_not_heard_of_is_forgotten(services: Settings, followers: list[Followers]) -> None:
    """A process that was killed says nothing any more."""
    dead, living, asking = followers
    await dead.tell(1)
    await living.tell(3)
    async with Redis.from_url(str(services.redis_url)) as redis:
        for name, heard in await redis.zrange("{catalogue}:heard", 0, -1, withscores=True):
            if name.decode() == dead._name:
                await redis.zadd("{catalogue}:heard", {name: heard - HEARD_MS})
        assert await asking.behind(3) == 0
        assert dead._name.encode() not in await redis.hkeys("{catalogue}:versions")
        assert living._name.encode() in await redis.hkeys("{catalogue}:versions")


async def test_without_redis_nobody_knows() -> None:
    """Unavailable, whatever is asked."""
    nowhere = Followers("redis://127.0.0.1:1/0")
    try:
        for call in (nowhere.tell(1), nowhere.leave(), nowhere.behind(1), nowhere.have(1)):
            with pytest.raises(Unavailable, match="redis"):
                await call
    finally:
        await nowhere.close()
