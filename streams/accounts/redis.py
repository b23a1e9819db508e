"""Accounts in Redis: every key of a partition carries its hash tag, so it lies on one node, is lost and comes back
whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import islice
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.documents import OPERATION, OPERATION_KEPT_MS, kind_of
from schemas.errors import Unavailable
from streams.accounts.port import Position, PositionMoved, Standing

PART_MAX_ACCOUNTS: Final = 400
"""Accounts in one script call: some 0.3 ms of Redis, so that no check waits longer for it."""

HALF_APPLIED_SECONDS: Final = 10.0
"""A proof waits so long for the end of an application in parts: its owner may have died, and a new one is on its way.
"""

NOTHING: Final[Mapping[str, bytes]] = {}

_AWAY = (
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,
    exceptions.ConnectionError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.TimeoutError,
    exceptions.TryAgainError,
    OSError,
)


def _script(name: str) -> str:
    return (files("streams.accounts") / "lua" / f"{name}.lua").read_text()


class RedisAccounts:
    """The Accounts port on redis-py. Time-outs are short and nothing is tried again here: callers know what to
    repeat."""

    def __init__(self, url: str, timeout_seconds: float = 2.0) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._apply = self._redis.register_script(_script("apply"))
        self._read = self._redis.register_script(_script("read"))

    async def position(self, partition: int) -> Position | None:
        """See the port."""
        async with _mapped():
            return _position(await self._redis.hmget(_meta(partition), _FIELDS))

    async def read(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        return await self._read_at(partition, expected, [_account(partition, key) for key in keys])

    async def read_documents(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        return await self._read_at(partition, expected, [_document(partition, key) for key in keys])

    async def _read_at(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        pending = iter(keys)
        while part := list(islice(pending, PART_MAX_ACCOUNTS)):
            async with _mapped():
                answer = await self._read(keys=[_meta(partition), *part], args=[expected.ledger_id, expected.offset])
            if not answer[0]:
                raise PositionMoved(partition, expected.offset, _position(answer[1:]))
            values.extend(answer[1:])
        return values

    async def apply(
        self,
        partition: int,
        expected: int,
        after: Position,
        accounts: Mapping[str, bytes],
        serving: bool,
        documents: Mapping[str, bytes] = NOTHING,
    ) -> None:
        """See the port."""
        values = {_account(partition, key): value for key, value in accounts.items()}
        for key, body in documents.items():
            values[_document(partition, key)] = body
        brief = {_document(partition, key) for key in documents if kind_of(key) == OPERATION}
        pending = iter(values.items())
        part = list(islice(pending, PART_MAX_ACCOUNTS))
        while True:
            following = list(islice(pending, PART_MAX_ACCOUNTS))
            async with _mapped():
                answer = await self._apply(
                    keys=[_meta(partition), *(key for key, _ in part)],
                    args=[
                        after.ledger_id,
                        expected,
                        0 if following else 1,
                        after.offset,
                        after.seq,
                        after.usage_next,
                        after.account_next,
                        after.catalog_position,
                        time.time_ns() // 1_000_000,
                        int(serving),
                        OPERATION_KEPT_MS,
                        *(value for _, value in part),
                        *(place for place, (key, _) in enumerate(part, 2) if key in brief),
                    ],
                )
            if not answer[0]:
                found = _position(answer[1:])
                if found is not None and (found.ledger_id, found.offset) == (after.ledger_id, after.offset):
                    return  # an earlier attempt of this very call, whose answer was lost
                raise PositionMoved(partition, expected, found)
            if not following:
                return
            part = following

    async def standing(self, partition: int) -> Standing:
        """See the port."""
        async with _mapped():
            return _standing(await self._redis.hmget(_meta(partition), _STANDING_FIELDS))

    async def peek(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """See the port."""
        async with _mapped(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(_meta(partition), _STANDING_FIELDS)
            pipeline.get(_account(partition, key))
            meta, value = await pipeline.execute()
        return _standing(meta), value

    async def peek_document(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """See the port."""
        async with _mapped(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(_meta(partition), _STANDING_FIELDS)
            pipeline.get(_document(partition, key))
            meta, body = await pipeline.execute()
        return _standing(meta), body

    async def snapshot(self, partition: int, keys: Sequence[str]) -> tuple[Position | None, list[bytes | None]]:
        """See the port."""
        deadline = time.monotonic() + HALF_APPLIED_SECONDS
        while True:
            async with _mapped(), self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hmget(_meta(partition), [*_FIELDS, "half"])
                if keys:
                    pipeline.mget([_account(partition, key) for key in keys])
                meta, *values = await pipeline.execute()
            if meta[6] is None or time.monotonic() >= deadline:
                return _position(meta), values[0] if values else []
            await asyncio.sleep(0.005)

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        if not keys:
            return []
        async with _mapped(), self._redis.pipeline(transaction=False) as pipeline:
            for partition in range(partitions):
                pipeline.mget([_document(partition, key) for key in keys])
            answers = await pipeline.execute()
        return [next((body for body in found if body is not None), None) for found in zip(*answers, strict=True)]

    async def kept(self) -> AsyncIterator[tuple[int, str]]:
        """See the port."""
        cursor = 0
        while True:
            async with _mapped():
                cursor, names = await self._redis.scan(cursor, match="{*}:a:*", count=1_000)
            for name in names:
                tag, _, key = (name if isinstance(name, bytes) else name.encode()).partition(b"}:a:")
                yield int(tag[1:]), key.decode()
            if cursor == 0:
                return

    async def close(self) -> None:
        """See the port."""
        await self._redis.aclose()


_FIELDS = ["ledger", "offset", "seq", "usage", "account", "catalog"]
_STANDING_FIELDS = [*_FIELDS, "serving", "beat"]


def _meta(partition: int) -> str:
    return f"{{{partition}}}:m"


def _document(partition: int, key: str) -> str:
    return f"{{{partition}}}:d:{key}"


def _account(partition: int, key: str) -> str:
    return f"{{{partition}}}:a:{key}"


def _position(fields: Sequence[Any]) -> Position | None:
    if fields[0] is None:
        return None
    return Position(fields[0].decode(), *(int(value) for value in fields[1:6]))


def _standing(fields: Sequence[Any]) -> Standing:
    return Standing(_position(fields), fields[6] == b"1", int(fields[7] or 0))


@asynccontextmanager
async def _mapped() -> AsyncIterator[None]:
    try:
        yield
    except _AWAY as error:
        raise Unavailable(f"redis: {error}") from error
