"""Accounts in Redis: every key of a partition carries its hash tag, so it lies on one node, is lost and comes back
whole."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from importlib.resources import files
from itertools import islice
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ingest.breaker import Breaker
from rating.holds import ALL, HOLD, OPEN, HoldName, Holds
from schemas.documents import OPERATION_KEPT_MS
from schemas.errors import Doubt, Unavailable
from streams.accounts.parts import PART_MAX_ACCOUNTS, Part, account_key, document_key, parts_of
from streams.accounts.port import HoldEnd, Position, PositionMoved, Standing
from streams.admission.keys import holds_key, journal_key, meta_key
from streams.admission.store import script_text
from streams.admission.values import unpack_ended, unpack_names

CLEARING_MS: Final = 30_000
"""An owner waits so long for whoever clears its partition and says no more: that process may have died."""

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

    def __init__(self, url: str, timeout_seconds: float = 2.0, breaker: Breaker | None = None) -> None:
        """With a breaker calls are refused at once while Redis does not answer; whoever has to wait for it has none."""
        self._breaker = breaker
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._apply = self._redis.register_script(script_text("apply", "streams.accounts"))
        self._read = self._redis.register_script(_script("read"))
        self._clear = self._redis.register_script(_script("clear"))
        self._beat = self._redis.register_script(_script("beat"))

    async def position(self, partition: int) -> Position | None:
        """See the port."""
        async with self._guarded():
            *stands, until = await self._redis.hmget(meta_key(partition), [*_FIELDS, "until"])
        if not _is_clearing(stands):
            return _position(stands)
        if int(until or 0) > time.time_ns() // 1_000_000:
            raise Unavailable(f"redis: partition {partition} is being cleared, to be folded again")
        # Whoever cleared it is gone: what is left of the values is written over.
        async with self._guarded():
            mark: Any = stands[0]
            await self._clear(keys=[meta_key(partition)], args=[mark, "end", 0])
        return None

    async def clear(self, partition: int) -> int:
        """Forgets all accounts and documents of a partition, so that its owner folds the ledger again; how many.

        Nobody reads or writes them meanwhile: readers find the partition not served, its owner waits. Errors: Doubt if
        it took so long that its owner went on without."""
        mark = f"{_CLEARING}{secrets.token_hex(8)}"
        count = 0
        await self._forget(partition, mark, "begin", [])
        for pattern in (f"{{{partition}}}:a:*", f"{{{partition}}}:d:*"):
            cursor = 0
            while True:
                async with self._guarded():
                    cursor, names = await self._redis.scan(cursor, match=pattern, count=1_000)
                found = [name if isinstance(name, bytes) else name.encode() for name in names]
                ours = [name for name in found if _OF_LEDGER.match(name)]
                for start in range(0, len(ours), PART_MAX_ACCOUNTS):
                    await self._forget(partition, mark, "more", ours[start : start + PART_MAX_ACCOUNTS])
                count += len(ours)
                if cursor == 0:
                    break
        await self._forget(partition, mark, "end", [])
        return count

    async def _forget(self, partition: int, mark: str, step: str, names: Sequence[bytes]) -> None:
        until = time.time_ns() // 1_000_000 + CLEARING_MS
        async with self._guarded():
            done = await self._clear(keys=[meta_key(partition), *names], args=[mark, step, until])
        if not done:
            raise Doubt(f"partition {partition} was taken over while it was cleared; clear it again")

    async def read(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        return await self._read_at(partition, expected, [account_key(partition, key) for key in keys])

    async def read_documents(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        return await self._read_at(partition, expected, [document_key(partition, key) for key in keys])

    async def _read_at(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        pending = iter(keys)
        while part := list(islice(pending, PART_MAX_ACCOUNTS)):
            async with self._guarded():
                answer = await self._read(keys=[meta_key(partition), *part], args=[expected.ledger_id, expected.offset])
            if not answer[0]:
                raise PositionMoved(partition, expected.offset, _position(answer[1:]))
            values.extend(answer[1:])
        return values

    async def read_holds(self, partition: int, names: Sequence[HoldName]) -> Holds:
        """See the port."""
        of_account: dict[str, list[HoldName]] = {}
        for name in names:
            of_account.setdefault(f"{name.account}*" if name.kind == ALL else name.account, []).append(name)
        async with self._guarded(), self._redis.pipeline(transaction=False) as pipeline:
            for account, asked in of_account.items():
                if asked[0].kind == ALL:
                    pipeline.hkeys(holds_key(partition, asked[0].account))
                    continue
                fields = [f"{kind}:{name}" for _, kind, name in asked]
                ended = [f"e:{name}" for _, kind, name in asked if kind == HOLD]
                pipeline.hmget(holds_key(partition, account), [*fields, *ended])
            answers = await pipeline.execute()
        known: Holds = {}
        for asked, values in zip(of_account.values(), answers, strict=True):
            if asked[0].kind == ALL:
                known[asked[0]] = tuple(sorted(name[2:].decode() for name in values if name.startswith(b"h:")))
                continue
            ended_values = iter(values[len(asked) :])
            for name, value in zip(asked, values, strict=False):
                over = next(ended_values) if name.kind == HOLD else None
                if value is not None:
                    known[name] = (OPEN,) if name.kind == HOLD else unpack_names(value)
                elif over is not None:
                    known[name] = (unpack_ended(over).state,)
        return known

    async def apply(
        self,
        partition: int,
        expected: int,
        after: Position,
        accounts: Mapping[str, bytes],
        serving: bool,
        documents: Mapping[str, bytes] = NOTHING,
        endings: Sequence[HoldEnd] = (),
    ) -> None:
        """See the port."""
        pending = iter(parts_of(partition, accounts, documents, endings))
        part = next(pending, Part())
        while True:
            following = next(pending, None)
            keys, tail = part.arguments(partition)
            async with self._guarded():
                answer = await self._apply(
                    keys=[meta_key(partition), journal_key(partition), *keys],
                    args=[
                        after.ledger_id,
                        expected,
                        0 if following is not None else 1,
                        after.offset,
                        after.seq,
                        after.usage_next,
                        after.account_next,
                        after.catalog_position,
                        time.time_ns() // 1_000_000,
                        int(serving),
                        OPERATION_KEPT_MS,
                        *tail,
                    ],
                )
            if answer[0] == 2:
                raise Unavailable(f"redis: it has restarted, and partition {partition} may lack holds")
            if not answer[0]:
                found = _position(answer[1:])
                if found is not None and (found.ledger_id, found.offset) == (after.ledger_id, after.offset):
                    return  # an earlier attempt of this very call, whose answer was lost
                raise PositionMoved(partition, expected, found)
            if following is None:
                return
            part = following

    async def beat(self, partition: int, expected: Position) -> bool:
        """See the port."""
        now_ms = time.time_ns() // 1_000_000
        async with self._guarded():
            return bool(
                await self._beat(
                    keys=[meta_key(partition), journal_key(partition)],
                    args=[expected.ledger_id, expected.offset, now_ms],
                )
            )

    async def standing(self, partition: int) -> Standing:
        """See the port. A look that is taken in any case: it finds out when Redis is back."""
        async with self._guarded(always=True):
            return _standing(await self._redis.hmget(meta_key(partition), _STANDING_FIELDS))

    async def peek(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """See the port."""
        async with self._guarded(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(meta_key(partition), _STANDING_FIELDS)
            pipeline.get(account_key(partition, key))
            meta, value = await pipeline.execute()
        return _standing(meta), value

    async def peek_document(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """See the port."""
        async with self._guarded(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hmget(meta_key(partition), _STANDING_FIELDS)
            pipeline.get(document_key(partition, key))
            meta, body = await pipeline.execute()
        return _standing(meta), body

    async def snapshot(self, partition: int, keys: Sequence[str]) -> tuple[Position | None, list[bytes | None]]:
        """See the port."""
        deadline = time.monotonic() + HALF_APPLIED_SECONDS
        while True:
            async with self._guarded(), self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hmget(meta_key(partition), [*_FIELDS, "half"])
                if keys:
                    pipeline.mget([account_key(partition, key) for key in keys])
                meta, *values = await pipeline.execute()
            if meta[6] is None or time.monotonic() >= deadline:
                return _position(meta), values[0] if values else []
            await asyncio.sleep(0.005)

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        if not keys:
            return []
        async with self._guarded(), self._redis.pipeline(transaction=False) as pipeline:
            for partition in range(partitions):
                pipeline.mget([document_key(partition, key) for key in keys])
            answers = await pipeline.execute()
        return [next((body for body in found if body is not None), None) for found in zip(*answers, strict=True)]

    async def kept(self) -> AsyncIterator[tuple[int, str]]:
        """See the port."""
        cursor = 0
        while True:
            async with self._guarded():
                cursor, names = await self._redis.scan(cursor, match="{*}:a:*", count=1_000)
            for name in names:
                found = _ACCOUNT_KEY.match(name if isinstance(name, bytes) else name.encode())
                if found is not None:  # the pattern of a scan also takes other keys with such names in them
                    yield int(found[1]), found[2].decode()
            if cursor == 0:
                return

    async def close(self) -> None:
        """See the port."""
        await self._redis.aclose()

    @asynccontextmanager
    async def _guarded(self, *, always: bool = False) -> AsyncIterator[None]:
        with self._breaker.guarded(always=always) if self._breaker is not None else nullcontext():
            try:
                yield
            except _AWAY as error:
                raise Unavailable(f"redis: {error}") from error


_ACCOUNT_KEY: Final = re.compile(rb"\{(\d+)\}:a:(.*)", re.DOTALL)
_OF_LEDGER: Final = re.compile(rb"\{\d+\}:[ad]:", re.DOTALL)
_CLEARING: Final = "clearing-"
_FIELDS = ["ledger", "offset", "seq", "usage", "account", "catalog"]
_STANDING_FIELDS = [*_FIELDS, "serving", "beat"]


def _position(fields: Sequence[Any]) -> Position | None:
    if fields[0] is None:
        return None
    return Position(fields[0].decode(), *(int(value) for value in fields[1:6]))


def _is_clearing(fields: Sequence[Any]) -> bool:
    return fields[0] is not None and fields[0].startswith(_CLEARING.encode())


def _standing(fields: Sequence[Any]) -> Standing:
    return Standing(_position(fields), fields[6] == b"1", int(fields[7] or 0))
