"""A circuit breaker: a store that does not answer is not asked for a while, so that nobody waits for it in vain.

Closed, calls pass. After FAILURES in a row it is open, and calls are refused at once (Unavailable). After OPEN_SECONDS
one call is let through, half-open: its success closes, its failure opens again. A look that somebody takes anyway
(`always`: a readiness probe) is never refused, and a good one closes it before its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Final

from schemas.errors import TollgateError, Unavailable

FAILURES: Final = 5
OPEN_SECONDS: Final = 30.0


class State(Enum):
    """What becomes of a call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """One store's, in one process. `elapsed_seconds` is a clock that never goes back."""

    def __init__(
        self,
        store: str,
        *,
        failures: int = FAILURES,
        open_seconds: float = OPEN_SECONDS,
        elapsed_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._failures_to_open = failures
        self._open_seconds = open_seconds
        self._elapsed_seconds = elapsed_seconds
        self._failures = 0
        self._opened_at = 0.0
        self._trying = False

    @property
    def state(self) -> State:
        """How it stands now."""
        if self._failures < self._failures_to_open:
            return State.CLOSED
        is_due = self._elapsed_seconds() - self._opened_at >= self._open_seconds
        return State.HALF_OPEN if is_due or self._trying else State.OPEN

    @contextmanager
    def guarded(self, *, always: bool = False) -> Iterator[None]:
        """Around one call. Unavailable that leaves it is a failure of the store, any other error of ours an
        answer; a call that is cancelled says nothing."""
        tries = self._admit(always=always)
        try:
            yield
        except Unavailable:
            self._failures += 1
            self._opened_at = self._elapsed_seconds()
            raise
        except TollgateError:
            self._failures = 0  # it answered, if not as asked
            raise
        else:
            self._failures = 0
        finally:
            if tries:
                self._trying = False

    def _admit(self, *, always: bool) -> bool:
        """Whether this call is the one that tries; raises Unavailable where it is not to be made."""
        if always or self.state == State.CLOSED:
            return False
        if self.state == State.OPEN or self._trying:
            raise Unavailable(f"{self.store}: has not answered {self._failures} times in a row and is not asked now")
        self._trying = True
        return True
