"""Accounts for those who ask: an answer only from a partition that is known to be whole.

Redis may come back with less than it had. Its owner finds that out by comparing positions, at every write and every
beat, and makes it good; until then what lies there is old. So a process that starts, that could not reach Redis, or
that sees a position behind one it has seen, trusts a partition again only after its beat has moved on from where it
found it. No clock is compared with another.

Errors: Unavailable while the partition is not whole, not yet trusted, or Redis is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from schemas.account import Account, account_key, unpack_account
from schemas.errors import Unavailable
from schemas.ids import partition_of
from streams.accounts.port import Standing

BEAT_WAITS: Final = 8
BEAT_WAIT_SECONDS: Final = 0.15
"""A beat comes every half second: the first question after a start waits for one rather than be refused."""


class AccountReader(Protocol):
    """What of the accounts port is needed here. Errors: Unavailable."""

    async def standing(self, partition: int) -> Standing:
        """How the partition stands."""

    async def peek(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """How the partition stands, and one packed account."""

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        """Bodies of documents in the order of `keys`, in whatever partition they are."""

    async def close(self) -> None:
        """Gives connections back."""


class Balances:
    """Reads accounts of customers."""

    def __init__(
        self,
        accounts: AccountReader,
        partitions: Callable[[], Awaitable[int]],
        wait_seconds: float = BEAT_WAIT_SECONDS,
    ) -> None:
        self._accounts = accounts
        self._partitions = partitions
        self._wait_seconds = wait_seconds
        self._trusted: dict[int, tuple[str, int]] = {}
        """By partition: ledger and offset of the last answer."""
        self._doubted: dict[int, int] = {}
        """By partition: the beat it was found at; it is trusted once there is another."""

    async def account(self, tenant: str, customer: str) -> Account | None:
        """A customer's account as of the last applied record; None for a customer without a rated event."""
        partition = partition_of(customer, await self._partitions())
        key = account_key(tenant, customer)
        for _ in range(BEAT_WAITS):
            try:
                standing, packed = await self._accounts.peek(partition, key)
            except Unavailable:
                self._trusted.clear()
                self._doubted.clear()
                raise
            if self._is_trusted(partition, standing):
                return unpack_account(packed) if packed is not None else None
            if not standing.serving:
                break
            await asyncio.sleep(self._wait_seconds)
        raise Unavailable(f"partition {partition} of the accounts is not served")

    def _is_trusted(self, partition: int, standing: Standing) -> bool:
        position = standing.position
        if position is None or not standing.serving:
            self._trusted.pop(partition, None)
            self._doubted.pop(partition, None)
            return False
        here = (position.ledger_id, position.offset)
        before = self._trusted.get(partition)
        if before is None or before[0] != here[0] or here[1] < before[1]:
            self._trusted.pop(partition, None)
            if self._doubted.setdefault(partition, standing.beat) == standing.beat:
                return False
            del self._doubted[partition]
        self._trusted[partition] = here
        return True
