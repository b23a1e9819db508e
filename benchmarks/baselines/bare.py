"""A bare script call: the least that asking Redis for an atomic answer can cost a Python process."""

from __future__ import annotations

from typing import Final

from redis import exceptions
from redis.asyncio import Redis

SCRIPT: Final = "return redis.call('GET', KEYS[1]) or '0'"
KEY: Final = "bench:bare"


class BareCall:
    """One script that reads one key, by redis-py as everything here."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._digest = ""

    async def __call__(self) -> bytes:
        """The value of the key."""
        try:
            answer: bytes = await self._redis.evalsha(self._digest, 1, KEY)
        except exceptions.NoScriptError:
            self._digest = await self._redis.script_load(SCRIPT)
            return await self()
        return answer
