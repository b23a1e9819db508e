"""What the owner of a partition does for its holds: brings lost ones back, ends expired ones. It books nothing.

Redis may lose its last writes or all; it keeps what it kept in order. So a mark in it says how far the journal is known
to stand there, and in which run of Redis. Another run, or no mark: all the journal tells behind the mark is looked at,
and what is neither there nor known to have ended is opened again, what was extended is extended again, what its holder
ended is ended again. What entries of the ledger ended is known by then:
the ledger was folded first.

What can still be lost: a hold granted in the last moment whose line had not reached the journal, and that its holder
does not renew.

Errors: Unavailable while Redis or Kafka is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from schemas.errors import Unavailable
from streams.admission.journal import Line, journal_ends, read_journal, tenant_of
from streams.admission.keys import directory_partition
from streams.admission.store import DIRECTORY_KEPT_MS, HoldStore
from streams.admission.values import Hold

log = logging.getLogger(__name__)

MARK_SECONDS: Final = 10.0
"""The mark is moved on this often: so much of the journal is read after a loss."""

FAR_MS: Final = 2**53
COUNTED_CUSTOMERS: Final = 10_000
"""Of a partition: beyond it `count_open` counts the holds of so many."""

SWEPT_AT_ONCE: Final = 100
"""Customers looked at in one round of a partition."""


class HoldKeeper:
    """Keeps the holds of the partitions that a worker owns."""

    def __init__(
        self,
        bootstrap: str,
        store: HoldStore,
        partitions: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._bootstrap = bootstrap
        self._store = store
        self._partitions = partitions
        self._now_ms = now_ms
        self._marked = time.monotonic()

    async def restore(self, partition: int) -> int:
        """Brings back what Redis lost since its mark; how many holds. Nothing is read where nothing can be lost."""
        mark = await self._store.mark(partition)
        if mark.offset is not None and mark.marked_run == mark.run:
            return 0
        end = (await journal_ends(self._bootstrap, [partition]))[partition]
        found: dict[tuple[str, str], Hold | None] = {}
        if (mark.offset or 0) >= end:
            await self._store.mark(partition, mark.run, end)
            return 0
        async with aclosing(read_journal(self._bootstrap, partition, mark.offset, end)) as lines:  # type: ignore[type-var]
            async for line in lines:
                _fold(found, line)
        restored = 0
        now = self._now_ms()
        for (account, hold_id), hold in found.items():
            if hold is None:
                if mark.offset is not None:  # else nothing was kept that could be open
                    await self._store.end(partition, account, hold_id, "released")
            elif hold.expires_ms > now:
                restored += await self._open(partition, account, hold_id, hold)
        await self._store.mark(partition, mark.run, end)
        if restored:
            log.warning("partition %d: %d holds that Redis lost are open again", partition, restored)
        return restored

    async def tend(self, partitions: list[int]) -> int:
        """Ends what has expired in these partitions, and moves their marks on; how many holds expired."""
        expired = 0
        for partition in partitions:
            found = True
            while found:  # not while something is due: that is this clock's word, and what has expired Redis's
                found = False
                for account in await self._store.due(partition, self._now_ms(), SWEPT_AT_ONCE):
                    ended, forgotten = await self._store.sweep(partition, account)
                    expired += ended
                    found = found or ended + forgotten > 0
        if partitions and time.monotonic() - self._marked >= MARK_SECONDS:
            self._marked = time.monotonic()
            for partition, end in (await journal_ends(self._bootstrap, partitions)).items():
                mark = await self._store.mark(partition)
                if mark.marked_run == mark.run:
                    await self._store.mark(partition, mark.run, end)
                else:
                    await self.restore(partition)
        return expired

    async def count_open(self, partitions: list[int]) -> int:
        """Holds that are open in these partitions."""
        counted = 0
        for partition in partitions:
            counted += await self._store.count_open(
                partition, await self._store.due(partition, FAR_MS, COUNTED_CUSTOMERS)
            )
        return counted

    async def close(self) -> None:
        """Gives connections back."""
        await self._store.close()

    async def _open(self, partition: int, account: str, hold_id: str, hold: Hold) -> bool:
        tenant = tenant_of(account)
        at = directory_partition(hold_id, self._partitions)
        if at != partition:
            left = hold.expires_ms - self._now_ms() + DIRECTORY_KEPT_MS
            try:
                await self._store.claim_directory(at, tenant, hold_id, account, max(left, DIRECTORY_KEPT_MS))
            except Unavailable:
                log.warning("the directory of hold %r cannot be written", hold_id)
        return await self._store.restore(partition, account, hold_id, hold, tenant if at == partition else None)


def _fold(found: dict[tuple[str, str], Hold | None], line: Line) -> None:
    """The newest line of a hold stands, and its end for good."""
    name = line.account, line.hold_id
    if name not in found or found[name] is not None:
        found[name] = line.hold
