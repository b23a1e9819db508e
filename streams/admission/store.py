"""Holds in Redis: the one wrapper of admission's scripts. Each method is one call of one script.

Errors: Unavailable if Redis does not answer in time; a call that changes something may then have done so, and each may
be repeated: holds are found by their id. Nothing is tried again here.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from rating.admission import Bound
from streams.admission.keys import customer_keys, denial_key, directory_key, hold_keys, journal_key, sweep_key
from streams.admission.turns import WAIT_SECONDS, Turns
from streams.admission.values import (
    Conflicting,
    Ended,
    Extended,
    Finished,
    Granted,
    Held,
    Hold,
    Mark,
    Refused,
    Same,
    Seen,
    Settling,
    Stale,
    Trusted,
    Unknown,
    Untrusted,
    constraint_arguments,
    digits,
    halves_of,
    joined,
    pack_hold,
    room_text,
    unpack_ended,
    unpack_hold,
)
from streams.admission.wire import NoScript, Wire, Word

DIRECTORY_KEPT_MS: Final = 25 * 60 * 60 * 1000
"""A directory entry outlives the hold it is about by this: ended holds are answered for 24 hours."""

MORE: Final = [b"more"]
"""A script has only ended expired holds, as many as one call may, and is to be called again."""

DENIAL_KEPT_MS: Final = 24 * 60 * 60 * 1000

BYTES_SENT_MAX: Final = 1_024
"""A larger account is compared by its SHA-1: sending it would cost more than the digest."""


_BESIDE_ACCOUNT: Final = frozenset(("check", "extend", "reserve"))
"""Scripts that compare the account."""


@cache
def script_text(name: str, package: str = "streams.admission") -> str:
    """A script with what it begins with in front."""
    ours = files("streams.admission") / "lua"
    parts = [ours / "prelude.lua", files(package) / "lua" / f"{name}.lua"]
    if name in _BESIDE_ACCOUNT:
        parts.insert(1, ours / "beside.lua")
    return "".join(part.read_text() for part in parts)


class HoldStore:
    """The scripts on one connection."""

    def __init__(
        self,
        url: str,
        timeout_seconds: float = 0.25,
        now_ms: int | None = None,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """How long Redis may take to answer, and how long a call waits until it is asked. `now_ms` is for tests: a
        clock that stands where it is put, instead of Redis's own."""
        self.when_lost: Callable[[], None] = lambda: None
        """Told at once when the connection breaks: Redis may come back with less than it had."""
        self._wire = Wire(url, timeout_seconds, self._lost)
        self._turns = Turns(wait_seconds)
        self.now_ms = now_ms
        self._scripts: dict[str, tuple[str, str]] = {}

    async def reserve(
        self,
        partition: int,
        account: str,
        seen: Seen,
        trusted: Trusted,
        hold_id: str,
        hold: Hold,
        ttl_ms: int,
        constraints: Sequence[Bound],
        directory: str | None,
        terms_bytes: int | None = None,
    ) -> Granted | Refused | Same | Conflicting | Stale | Untrusted:
        """Opens a hold, which says everything but when it expires; `directory` is the tenant where the id's directory
        entry lies in the same partition. `constraints` are those of its names, in their order. With `terms_bytes` (see
        `bytes_of_terms`) nothing but rooms was computed with what the account has of money and has counted: it may be
        granted although they moved."""
        keys = customer_keys(partition, account)
        if directory is not None:
            keys.append(directory_key(partition, directory, hold_id))
        halves = halves_of(hold)
        arguments: list[Word] = []
        for one, wanted in zip(constraints, hold.amounts, strict=True):
            arguments += (one.name, room_text(one.room), wanted)
        answer = await self._run(
            "reserve",
            keys,
            account,
            *_seen(seen, terms_bytes),
            trusted.ledger_id,
            trusted.offset,
            hold_id,
            hold.digest,
            ttl_ms,
            hold.session,
            hold.allocation,
            *halves,
            ttl_ms + DIRECTORY_KEPT_MS,
            *arguments,
        )
        match answer[0]:
            case b"granted":
                expires_ms: int = answer[2]
                return Granted(int(answer[1]), _amounts(answer[3:]), expires_ms, joined(halves, expires_ms))
            case b"moved":
                expires_ms = answer[2]
                packed = joined(halves, expires_ms)
                return Granted(int(answer[1]), _amounts(answer[4:]), expires_ms, packed, answer[3])
            case b"refused":
                return Refused(int(answer[1]), _amounts(answer[3:]), int(answer[2]) - 1)
            case b"same":
                return Same(int(answer[1]), _amounts(answer[3:]), unpack_hold(answer[2]))
            case b"ended":
                return Same(int(answer[1]), _amounts(answer[3:]), unpack_ended(answer[2]))
            case b"conflict":
                return Conflicting()
            case _:
                return _doubtful(answer, trusted)

    async def check(
        self, partition: int, account: str, seen: Seen, trusted: Trusted, names: Sequence[str]
    ) -> Held | Stale | Untrusted:
        """What open holds hold of some counters."""
        answer = await self._run(
            "check",
            customer_keys(partition, account),
            account,
            *_seen(seen),
            trusted.ledger_id,
            trusted.offset,
            *names,
        )
        if answer[0] == b"held":
            return Held(int(answer[1]), _amounts(answer[2:]))
        return _doubtful(answer, trusted)

    async def extend(
        self,
        partition: int,
        account: str,
        seen: Seen,
        trusted: Trusted,
        hold_id: str,
        generation: int | None,
        ttl_ms: int,
        constraints: Sequence[Bound],
        terms_bytes: int | None = None,
    ) -> Extended | Refused | Finished | Unknown | Conflicting | Stale | Untrusted:
        """Gives an open hold more time, and more to hold. `terms_bytes`: as of `reserve`."""
        answer = await self._run(
            "extend",
            customer_keys(partition, account),
            account,
            *_seen(seen, terms_bytes),
            trusted.ledger_id,
            trusted.offset,
            hold_id,
            "" if generation is None else generation,
            ttl_ms,
            *constraint_arguments(constraints),
        )
        match answer[0]:
            case b"extended":
                return Extended(int(answer[1]), _amounts(answer[3:]), unpack_hold(answer[2]))
            case b"moved":
                return Extended(int(answer[1]), _amounts(answer[4:]), unpack_hold(answer[2]), answer[3])
            case b"refused":
                return Refused(int(answer[1]), _amounts(answer[3:]), int(answer[2]) - 1)
            case b"ended":
                return Finished(unpack_ended(answer[1]), now=False)
            case b"unknown":
                return Unknown()
            case b"conflict":
                return Conflicting()
            case _:
                return _doubtful(answer, trusted)

    async def end(self, partition: int, account: str, hold_id: str, state: str) -> Finished | Settling | Unknown:
        """Ends an open hold: `released` or `expired`."""
        answer = await self._run("end", customer_keys(partition, account), account, hold_id, state)
        match answer[0]:
            case b"ended":
                return Finished(unpack_ended(answer[1]), now=bool(answer[2]))
            case b"settling":
                return Settling(unpack_hold(answer[1]), ours=False)
            case _:
                return Unknown()

    async def settling(
        self, partition: int, account: str, hold_id: str, digest: str, amount: int | None, least_ms: int
    ) -> Settling | Finished | Unknown:
        """Says that the settlement of an open hold is on its way."""
        answer = await self._run(
            "settling",
            customer_keys(partition, account),
            account,
            hold_id,
            digest,
            "" if amount is None else digits(amount),
            least_ms,
        )
        match answer[0]:
            case b"settling":
                return Settling(unpack_hold(answer[1]), ours=bool(answer[2]))
            case b"ended":
                return Finished(unpack_ended(answer[1]), now=False)
            case _:
                return Unknown()

    async def read(self, partition: int, account: str, hold_id: str) -> Hold | Ended | Unknown:
        """A hold as it is."""
        answer = await self._run("read", customer_keys(partition, account), account, hold_id)
        match answer[0]:
            case b"open":
                return unpack_hold(answer[1])
            case b"ended":
                return unpack_ended(answer[1])
            case _:
                return Unknown()

    async def restore(self, partition: int, account: str, hold_id: str, hold: Hold, directory: str | None) -> bool:
        """Brings a lost hold back; whether it is open again by that."""
        keys = customer_keys(partition, account)
        if directory is not None:
            keys.append(directory_key(partition, directory, hold_id))
        kept = DIRECTORY_KEPT_MS + 30 * 24 * 60 * 60 * 1000
        answer = await self._run("restore", keys, account, hold_id, pack_hold(hold), kept)
        return bool(answer)

    async def sweep(self, partition: int, account: str) -> tuple[int, int]:
        """Ends what has expired of one customer and forgets what ended long ago; how many."""
        expired, forgotten = await self._run("sweep", customer_keys(partition, account), account)
        return int(expired), int(forgotten)

    async def due(self, partition: int, now_ms: int, count: int) -> list[str]:
        """Customers of whom something is due, the earliest first."""
        async with self._turns:
            found: list[bytes] = await self._wire.call(
                "ZRANGEBYSCORE", sweep_key(partition), "-inf", now_ms, "LIMIT", 0, count
            )
        return [name.decode() for name in found]

    async def claim_directory(self, partition: int, tenant: str, hold_id: str, account: str, ttl_ms: int) -> str:
        """The account whose hold this id names: this one, if it named none."""
        key = directory_key(partition, tenant, hold_id)
        async with self._turns:
            if await self._wire.call("SET", key, account, "NX", "PX", ttl_ms + DIRECTORY_KEPT_MS):
                return account
            found: bytes | None = await self._wire.call("GET", key)
        return found.decode() if found is not None else account

    async def directory(self, partition: int, tenant: str, hold_id: str) -> str | None:
        """The account whose hold an id names."""
        async with self._turns:
            found: bytes | None = await self._wire.call("GET", directory_key(partition, tenant, hold_id))
        return found.decode() if found is not None else None

    async def count_open(self, partition: int, accounts: Sequence[str]) -> int:
        """How many holds of these customers are open."""
        async with self._turns:
            counted = [self._wire.call("ZCARD", hold_keys(partition, account)[1]) for account in accounts]
            return sum(await asyncio.gather(*counted))

    async def mark(self, partition: int, run: str = "", offset: int = 0) -> Mark:
        """How far the journal stands in this Redis; with `run` it is set first, if Redis is still in that run."""
        answer = await self._eval("mark", [journal_key(partition)], run, offset)
        return Mark(
            int(answer[1]) if answer[1] is not None else None,
            answer[2].decode() if answer[2] is not None else "",
            answer[3].decode(),
        )

    async def keep_denial(self, partition: int, tenant: str, denial_id: str, document: bytes) -> None:
        """Keeps what a denial was about."""
        async with self._turns:
            await self._wire.call("SET", denial_key(partition, tenant, denial_id), document, "PX", DENIAL_KEPT_MS)

    async def denial(self, partition: int, tenant: str, denial_id: str) -> bytes | None:
        """What a denial was about."""
        async with self._turns:
            found: bytes | None = await self._wire.call("GET", denial_key(partition, tenant, denial_id))
        return found

    async def close(self) -> None:
        """Gives connections back."""
        await self._wire.close()

    def _lost(self) -> None:
        self.when_lost()

    async def _run(self, name: str, keys: list[str], account: str, *arguments: Word) -> Any:
        while True:
            answer = await self._eval(name, keys, account, "" if self.now_ms is None else self.now_ms, *arguments)
            if answer != MORE:
                return answer

    async def _eval(self, name: str, keys: list[str], *arguments: Word) -> Any:
        known = self._scripts.get(name)
        if known is None:
            text = script_text(name)
            known = self._scripts[name] = (text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        text, digest = known
        turns = self._turns
        if not turns.take():  # asked like this it costs two coroutines less than `async with`
            await turns.wait()
        try:
            return await self._wire.call("EVALSHA", digest, len(keys), *keys, *arguments)
        except NoScript:
            return await self._wire.call("EVAL", text, len(keys), *keys, *arguments)
        finally:
            turns.pass_on()


def _seen(seen: Seen, terms_bytes: int | None = None) -> tuple[Word, Word]:
    """How it was seen, and what; see `look` and `drifted` in lua/beside.lua."""
    if seen is None:
        return "", ""
    if len(seen) > BYTES_SENT_MAX:
        return "#", hashlib.sha1(seen, usedforsecurity=False).hexdigest()
    return "=" if terms_bytes is None else terms_bytes, seen


def _amounts(values: Sequence[bytes]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _doubtful(answer: Sequence[Any], asked: Trusted) -> Stale | Untrusted:
    if answer[0] == b"stale":
        return Stale(answer[1].decode(), int(answer[2]), answer[3] or None, _amounts(answer[4:]))
    told = [*answer[1:], None, None, None, None]
    ledger = told[0].decode() if told[0] is not None else ""
    return Untrusted(ledger, int(told[1] or 0), told[2] == b"1", int(told[3] or 0), asked)
