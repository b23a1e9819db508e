"""A lock with a fencing number: one holder at a time of a piece of work, in Redis.

It spares work and is no promise: a holder that was paused may come back. What it writes is held off by what it was
built upon (`rating.billing`) and can be told by its number, which grows from holder to holder, also over a Redis that
lost all: it is never below the time in milliseconds.

Errors: Unavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.errors import Unavailable

LEASE_MS: Final = 15_000
RENEW_SECONDS: Final = 4.0
LOOK_SECONDS: Final = 0.5

_TAKE: Final = """
-- Takes the lock if nobody has it. KEYS: lock, number. ARGV: token, lease in ms. Returns the fencing number; nil: held.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    local now = redis.call('TIME')
    local number = now[1] * 1000 + math.floor(now[2] / 1000)
    local last = tonumber(redis.call('GET', KEYS[2]) or '0')
    if number <= last then number = last + 1 end
    redis.call('SET', KEYS[2], string.format('%.0f', number))
    return string.format('%.0f', number)
end
return nil
"""
_RENEW: Final = """
-- Keeps the lock for its holder. KEYS: lock. ARGV: token, lease in ms; 0 gives it back. Returns 1 if it was held.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""


class Lock:
    """A named lock."""

    def __init__(self, redis_url: str, name: str, renew_seconds: float = RENEW_SECONDS) -> None:
        self._redis: Redis = Redis.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=2.0)
        self._keys = (f"{{lock:{name}}}:holder", f"{{lock:{name}}}:number")
        self._renew_seconds = renew_seconds
        self._token = secrets.token_hex(8)

    @contextlib.asynccontextmanager
    async def held(self, wait_seconds: float = 0) -> AsyncIterator[int | None]:
        """The fencing number while it is held, renewed until the block is left; None if another has it, and still has
        after `wait_seconds`."""
        deadline = time.monotonic() + wait_seconds
        number = await self._call(_TAKE, self._keys, LEASE_MS)
        while number is None and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
            number = await self._call(_TAKE, self._keys, LEASE_MS)
        if number is None:
            yield None
            return
        over = asyncio.Event()
        renewing = asyncio.create_task(self._renew(over), name="lock")
        try:
            yield int(str(number, "ascii") if isinstance(number, bytes) else str(number))
        finally:
            # Told, not cancelled: a cancellation that comes in the middle of a call can be lost in the client, and the
            # lock would be kept for ever.
            over.set()
            await renewing
            with contextlib.suppress(Unavailable):
                await self._call(_RENEW, self._keys[:1], 0)

    async def is_held(self) -> bool:
        """Whether this holder still has it."""
        try:
            value: object = await self._redis.get(self._keys[0])
        except (RedisError, OSError) as error:
            raise Unavailable(f"redis: {error}") from error
        return value == self._token.encode()

    async def close(self) -> None:
        """Gives the connection back."""
        await self._redis.aclose()

    async def _renew(self, over: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self._renew_seconds)
            if over.is_set():
                return
            with contextlib.suppress(Unavailable):
                await self._call(_RENEW, self._keys[:1], LEASE_MS)

    async def _call(self, script: str, keys: tuple[str, ...], lease_ms: int) -> object:
        try:
            found: object = await self._redis.eval(script, len(keys), *keys, self._token, str(lease_ms))
        except (RedisError, OSError) as error:
            raise Unavailable(f"redis: {error}") from error
        return found
