"""Merging runs, a bounded slice at a time, and the rule that says which ones.

Runs are kept in the order of their age. A run is of tier t when it holds at least `memtable * fan_in**t` identities, so
tiers never grow from old to young, and the runs of one tier are neighbours. When a tier has `fan_in` runs they become
one, of the same or the next tier. At rest there are therefore at most `(fan_in - 1) * (1 + log_fan_in(n / memtable))`
runs for n identities, and each identity is written at most `1 + log_fan_in(n / memtable)` times (runs that are smaller
than a memtable, left by graceful stops, are all of tier 0 and merge as any other).

Of an identity that several runs hold, the oldest run's content stays. Inputs are checked once more while they are read:
a damaged run never becomes part of a whole one.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streams.identity.bloom import ROW_WORD, ROW_WORDS, Rows, Words
from streams.identity.run import Run, RunWriter, in_order

_ONE_SLICE_AT_A_TIME = threading.Lock()
"""Merges are never urgent: those of all partitions in a process share one core and the memory of one slice."""


def due(counts: Sequence[int], *, memtable: int, fan_in: int) -> slice | None:
    """Which runs, given their sizes from old to young, are to be merged next; the youngest tier goes first."""
    end = len(counts)
    while end:
        bound = memtable * fan_in
        while counts[end - 1] >= bound:
            bound *= fan_in
        start = end
        while start and counts[start - 1] < bound:
            start -= 1
        if end - start >= fan_in:
            return slice(start, end)
        end = start
    return None


class Merge:
    """One merge under way: call `step` until it gives the run, then let go of the inputs; `abandon` in any case."""

    def __init__(self, directory: Path, runs: Sequence[Run], *, slice_rows: int) -> None:
        """`runs` from old to young; `slice_rows`: how many rows of each are in memory at a time."""
        self._cursors = [_Cursor(run) for run in runs]
        self._slice_rows = slice_rows
        self._writer = RunWriter(directory, sum(run.entry.count for run in runs))

    def step(self) -> Run | None:
        """Merge some `slice_rows` of each run: a millisecond or so. Gives the finished run after the last slice."""
        with _ONE_SLICE_AT_A_TIME:
            for cursor in self._cursors:
                cursor.fill(self._slice_rows)
            unread = [cursor for cursor in self._cursors if cursor.unread]
            if unread:
                # Rows of the border itself wait: more of the same may follow in the run that it comes from.
                border = min(cursor.last for cursor in unread)
                parts = [cursor.take_below(border) for cursor in self._cursors]
                if not any(len(part) for part in parts):
                    for cursor in unread:
                        cursor.fill(len(cursor.rows) + self._slice_rows)
                    return None
            else:
                parts = [cursor.take_all() for cursor in self._cursors]
            self._writer.append(in_order(np.concatenate(parts, dtype=ROW_WORD)))
        if unread:
            return None
        for cursor in self._cursors:
            cursor.run.check(cursor.checksum)
        return self._writer.finish()

    def abandon(self) -> None:
        """Leave nothing behind of a merge that was not finished; after the last step it does nothing."""
        self._writer.abandon()


class _Cursor:
    """The rows of a run that were read and not yet merged."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rows: Rows = np.empty((0, ROW_WORDS), dtype=ROW_WORD)
        self.checksum = 0
        self._next_row = 0
        self._high: Words = np.empty(0, dtype=np.uint64)

    @property
    def unread(self) -> bool:
        return self._next_row < self.run.entry.count

    @property
    def last(self) -> np.uint64:
        """The first 8 bytes of the last identity read."""
        return np.uint64(self._high[-1])

    def fill(self, wanted: int) -> None:
        """Read on until `wanted` rows are there, or the run ends."""
        end = min(self.run.entry.count, self._next_row + wanted - len(self.rows))
        if end <= self._next_row:
            return
        content = self.run.read(self._next_row, end)
        self.checksum = zlib.crc32(content, self.checksum)
        self._next_row = end
        read = np.frombuffer(content, dtype=ROW_WORD).reshape(-1, ROW_WORDS)
        self.rows = np.concatenate((self.rows, read), dtype=ROW_WORD)
        self._high = self.rows[:, 0].astype(np.uint64)

    def take_below(self, border: np.uint64) -> Rows:
        return self._take(int(self._high.searchsorted(border)))

    def take_all(self) -> Rows:
        return self._take(len(self.rows))

    def _take(self, count: int) -> Rows:
        taken = self.rows[:count]
        self.rows = self.rows[count:]
        self._high = self._high[count:]
        return taken
