"""Which partitions' accounts may be believed, and whether Redis is worth asking at all.

Redis may come back with less than it had; its owner finds that out with its next beat. So a process that starts, that
could not reach Redis, or that sees a partition behind where it has been, trusts it again only after its beat has moved
on from where it was found. No clock is compared with another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.errors import Unavailable
from streams.admission.values import Trusted, Untrusted

FAILURES_TO_OPEN: Final = 5
COOL_DOWN_SECONDS: Final = 0.2

_NOTHING: Final = Trusted("", 0)


class Trust:
    """What one process knows of each partition."""

    def __init__(self) -> None:
        self._trusted: dict[int, Trusted] = {}
        self._doubted: dict[int, int] = {}

    def of(self, partition: int) -> Trusted:
        """What a script compares the partition with; of one that is not trusted, what no partition is."""
        return self._trusted.get(partition, _NOTHING)

    def saw(self, partition: int, offset: int) -> None:
        """An answer came from this position."""
        before = self._trusted.get(partition)
        if before is not None and offset > before.offset:
            self._trusted[partition] = Trusted(before.ledger_id, offset)

    def judge(self, partition: int, found: Untrusted) -> bool:
        """Whether it is trusted now; if not, and it is served, ask again after its next beat."""
        if found.asked != self.of(partition):
            return True  # others have found out more since this one was asked
        self._trusted.pop(partition, None)
        if not found.serving:
            self._doubted.pop(partition, None)
            return False
        if self._doubted.setdefault(partition, found.beat) == found.beat:
            return False
        del self._doubted[partition]
        self._trusted[partition] = Trusted(found.ledger_id, found.offset)
        return True

    def lost(self) -> None:
        """Redis did not answer: what it has now may be less than it had."""
        self._trusted.clear()
        self._doubted.clear()


class Breaker:
    """After FAILURES_TO_OPEN failures in a row nobody waits for Redis for COOL_DOWN_SECONDS; then one call tries."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._until = 0.0

    def admit(self) -> None:
        """Raises Unavailable while it is open."""
        if self._failures >= FAILURES_TO_OPEN:
            if self._monotonic() < self._until:
                raise Unavailable("redis: failed again and again, not asked for a moment")
            self._until = self._monotonic() + COOL_DOWN_SECONDS

    def succeeded(self) -> None:
        """Redis answered."""
        self._failures = 0

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        self._until = self._monotonic() + COOL_DOWN_SECONDS
