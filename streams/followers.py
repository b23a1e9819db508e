"""Who follows the catalogue: every process that rates or answers by it says in Redis which version it has by now, so
that whoever applies a version can wait until events are rated by it.

It decides nothing: a version is in force for a process once that has read it from Kafka, whatever stands here. Who has
not been heard of for a while (killed, paused, cut off) is not waited for. Time is Redis' own.

Errors: Unavailable.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from schemas.errors import Unavailable

TELL_SECONDS: Final = 3.0
"""A follower says at least so often that it is there."""
HEARD_MS: Final = 8_000
"""Who said nothing for so long is not waited for."""
PATIENCE_SECONDS: Final = 30.0
"""A large catalogue takes seconds to be prepared."""
LOOK_SECONDS: Final = 0.02
REDIS_SECONDS: Final = 1.0

_KEYS: Final = ("{catalogue}:versions", "{catalogue}:heard")

_TELL: Final = """
-- A follower has a version. KEYS: versions (hash), heard (sorted set). ARGV: follower, version; '': it is gone.
if ARGV[2] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
else
    local now = redis.call('TIME')
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('ZADD', KEYS[2], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
end
return 1
"""
_BEHIND: Final = """
-- How many followers have not come to a version. KEYS: versions, heard. ARGV: version, ms after which who said nothing
-- is forgotten.
local now = redis.call('TIME')
local since = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[2]
for _, silent in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', since)) do
    redis.call('HDEL', KEYS[1], silent)
    redis.call('ZREM', KEYS[2], silent)
end
local behind = 0
for _, version in ipairs(redis.call('HVALS', KEYS[1])) do
    if tonumber(version) < tonumber(ARGV[1]) then behind = behind + 1 end
end
return behind
"""


class Followers:
    """All followers, and this process as one of them once it tells."""

    def __init__(self, redis_url: str) -> None:
        self._redis: Redis = Redis.from_url(
            redis_url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
        )
        self._tell = self._redis.register_script(_TELL)
        self._behind = self._redis.register_script(_BEHIND)
        self._name = secrets.token_hex(8)

    async def tell(self, version: int) -> None:
        """This process has a version (0: none yet)."""
        await self._run(self._tell, self._name, version)

    async def leave(self) -> None:
        """This process follows no more."""
        await self._run(self._tell, self._name, "")

    async def behind(self, version: int) -> int:
        """How many have not come to a version yet."""
        return int(await self._run(self._behind, version, HEARD_MS))

    async def have(self, version: int, patience_seconds: float = PATIENCE_SECONDS) -> bool:
        """Waits until all have a version; False if they do not come to it in time."""
        until = time.monotonic() + patience_seconds
        while await self.behind(version):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def close(self) -> None:
        """Gives the connection back."""
        await self._redis.aclose()

    async def _run(self, script: AsyncScript, *arguments: str | int) -> Any:
        try:
            return await script(keys=_KEYS, args=arguments)
        except (RedisError, OSError) as error:
            raise Unavailable(f"redis: {error}") from error
