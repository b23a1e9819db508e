"""The identity index of one partition: which identities are booked, and with which content.

It is a projection of the ledger, as the accounts are: it has a position of its own, whoever opens it folds the ledger
from there, and lost it is made again. Keys are the 16 bytes of an identity's digest, values the 8 of its content's;
equality is on all 128 bits. An identity that is added again keeps its first content. Nothing is ever removed.

What was added since the last flush is the memtable (`memtable.py`). When it is full it is frozen and a thread of the
index writes it as a sorted run (`run.py`), publishes the manifest (`manifest.py`), and merges runs in slices of about a
millisecond (`merge.py`). The calling thread, the worker's event loop, waits for a disk only when a second memtable has
filled before the first was written.

Cost: 24 bytes of disk and 2.1 of memory an identity, up to four memtables (some 50 bytes an entry) beside it; while
runs merge, and until the grace of retired ones ends, their disk twice. One file descriptor a run.

kill -9 at any instruction loses the memtable alone, and two processes may have the same directory open: `manifest.py`
says why that is harmless. What is asked of the caller: add only what is committed to the ledger, in its order.

Not thread-safe but for its own thread: all calls come from one thread at a time. Errors: `Unavailable` when the disk
refuses (the same call may be repeated); `InvariantBroken` when a caller breaks an order or length, or a run is found
damaged after it was opened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvariantBroken
from streams.identity.bloom import IDENTITY_BYTES, ROW_BYTES, ROW_WORD, Probes, Rows
from streams.identity.files import Damaged, disk, retire, sweep
from streams.identity.limits import Limits, Size
from streams.identity.manifest import FORMAT, Manifest, Position, publish_manifest, read_manifest
from streams.identity.memtable import Memtable
from streams.identity.merge import Merge, due
from streams.identity.run import Octets, Run, rows_of, write_run

Digests = NDArray[np.uint8]
"""Octets, a row each."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A memtable that takes no more, and the position up to which it, with the runs, is complete."""

    entries: Memtable
    position: Position


class IdentityIndex:
    """Made by `open`; after `close` it is not used again."""

    def __init__(
        self,
        directory: Path,
        ledger_id: str,
        *,
        limits: Limits,
        executor: Executor | None,
        runs: tuple[Run, ...],
        position: Position | None,
    ) -> None:
        self._directory = directory
        self._ledger_id = ledger_id
        self._limits = limits
        self._executor = executor or ThreadPoolExecutor(1, "identity-index")
        self._owns_executor = executor is None
        self._memtable = Memtable()
        self._position = position
        # Set by the caller's thread when it is None, set back to None by whoever wrote it, under the lock.
        self._frozen: _Frozen | None = None
        # The tuple and the published position change under the lock only; a reader takes the tuple as it is.
        self._runs = runs
        self._published = position
        self._lock = threading.Lock()
        self._work: Future[None] | None = None
        self._closing = False

    @classmethod
    def open(
        cls, directory: Path, ledger_id: str, *, limits: Limits | None = None, executor: Executor | None = None
    ) -> IdentityIndex:
        """Open the index of the ledger `ledger_id`, as far as it was published; empty, without a position, otherwise.

        Reads and checks every run, 30-70 ns an identity: call it in a thread. What is damaged, or of another ledger,
        is not used, not even in part; a log line says so. `executor` runs the background work (default: an own thread).
        """
        runs: tuple[Run, ...] = ()
        position = None
        with disk(directory):
            directory.mkdir(parents=True, exist_ok=True)
            try:
                manifest = read_manifest(directory)
                if manifest is not None and manifest.ledger_id != ledger_id:
                    raise Damaged(f"it is of the ledger {manifest.ledger_id}, not of {ledger_id}")
                if manifest is not None:
                    runs = tuple(Run.open(directory, entry) for entry in manifest.runs)
                    position = manifest.position
            except Damaged as damage:
                _log.warning("identity index in %s discarded, it has to be built again: %s", directory, damage)
        return cls(directory, ledger_id, limits=limits or Limits(), executor=executor, runs=runs, position=position)

    @property
    def position(self) -> Position | None:
        """Up to where the ledger is in the index; None: nothing is known, `bulk_load` comes first."""
        return self._position

    def size(self) -> Size:
        """What the index holds and takes now; retired files not counted."""
        frozen, runs = self._frozen, self._runs
        in_memory = len(self._memtable) + (len(frozen.entries) if frozen else 0)
        in_runs = sum(run.entry.count for run in runs)
        return Size(
            identities=in_memory + in_runs,
            memtable_entries=in_memory,
            runs=len(runs),
            disk_bytes=in_runs * ROW_BYTES,
            filter_bytes=sum(run.filter.memory_bytes for run in runs),
        )

    def find(self, identities: Digests) -> dict[bytes, bytes]:
        """Those of `identities`, a row each, that are booked, with the content they were first booked with."""
        _check(identities, IDENTITY_BYTES)
        if not len(identities):
            return {}
        # The frozen memtable before the runs: it leaves the one place only after it has come to the other.
        frozen, runs = self._frozen, self._runs
        found = self._memtable.find(identities)
        if frozen is not None:
            found.update(frozen.entries.find(identities))
        identities = np.ascontiguousarray(identities)
        probes = Probes(identities.view(ROW_WORD))
        with disk(self._directory):
            # From the youngest to the oldest: the first content stands.
            for run in reversed(runs):
                run.find(identities, probes, found)
        return found

    def add(self, bookings: Digests, position: Position) -> None:
        """Add what the ledger booked up to `position`, identity and content of each end to end in a row; may raise what
        the background work met (`Unavailable`).

        Repeating a call with its position changes nothing; an earlier position is `InvariantBroken`, and so is adding
        to an index that has none: it would answer "never seen" for all that was booked before.
        """
        if self._position is None or self._published is None:
            raise InvariantBroken(f"identity index in {self._directory} has no position: load it before adding")
        if position.ledger_offset < self._position.ledger_offset or position.seq < self._position.seq:
            raise InvariantBroken(f"identity index goes on from {self._position}, not back to {position}")
        _check(bookings, ROW_BYTES)
        self._memtable.add(bookings)
        self._position = position
        bound = self._limits.memtable_entries
        if len(self._memtable) >= 2 * bound:
            self._write_frozen()
        if len(self._memtable) >= bound or position.seq - self._published.seq >= self._limits.replay_entries:
            self._freeze()
        self._tend()

    def flush(self) -> None:
        """Publish everything up to `position`, for a graceful stop; waits for the disk, but for no merge."""
        self._write_frozen()
        if self._position != self._published:
            self._freeze()
            self._write_frozen()

    def bulk_load(self, chunks: Iterable[tuple[Octets, Octets]], position: Position) -> None:
        """Fill an index that has no position with everything booked up to `position`, and publish it.

        A chunk is the identities and the contents of any number of bookings, each laid end to end; for an identity that
        comes twice the first stands. A new ledger is loaded with no chunks. Minutes for 100 M: call it in a thread.
        """
        if self._position is not None:
            raise InvariantBroken(f"identity index in {self._directory} is at {self._position}: it is not loaded again")
        runs: list[Run] = []
        gathered: list[Rows] = []
        with disk(self._directory):
            for identities, contents in chunks:
                gathered.append(rows_of(identities, contents))
                if sum(map(len, gathered)) >= self._limits.load_rows:
                    runs.append(write_run(self._directory, np.concatenate(gathered, dtype=ROW_WORD)))
                    gathered.clear()
                    self._merge_loaded(runs)
            if any(map(len, gathered)):
                runs.append(write_run(self._directory, np.concatenate(gathered, dtype=ROW_WORD)))
                self._merge_loaded(runs)
        with self._lock, disk(self._directory):
            self._publish(tuple(runs), position)
        self._position = position

    def close(self) -> None:
        """Stop the background work and let go of the files. What was not flushed is left to the ledger."""
        self._closing = True
        if self._work is not None and not self._work.cancel():
            wait([self._work])
            if (error := self._work.exception()) is not None:
                _log.warning("identity index in %s closed, its last work failed", self._directory, exc_info=error)
        self._work = None
        if self._owns_executor:
            self._executor.shutdown()
        self._memtable = Memtable()
        self._frozen = None
        self._runs = ()

    def _freeze(self) -> None:
        """Hand the memtable over to be written, unless the one before is still waiting."""
        if self._frozen is None and self._position is not None:
            self._frozen = _Frozen(self._memtable, self._position)
            self._memtable = Memtable()

    def _tend(self) -> None:
        """See to it that background work runs while there is any, and raise what it last met."""
        if self._work is not None and self._work.done():
            work, self._work = self._work, None
            work.result()
        if self._work is None and (self._frozen is not None or self._due(self._runs) is not None):
            self._work = self._executor.submit(self._work_off)

    def _work_off(self) -> None:
        """The background work: write what is frozen, merge what is due, sweep what nobody lists."""
        self._write_frozen()
        self._merge_due(0)
        if not self._closing:
            with self._lock, disk(self._directory):
                self._sweep()

    def _merge_due(self, oldest: int) -> None:
        """Merge what is due among the runs from the `oldest`-th on."""
        while not self._closing and (chosen := self._due(self._runs[oldest:])) is not None:
            start, stop = oldest + chosen.start, oldest + chosen.stop
            inputs = self._runs[start:stop]
            with disk(self._directory):
                merged = self._merged(inputs, stop)
            if merged is None:
                return
            with self._lock, disk(self._directory):
                # Only this thread merges and others only append: the inputs are where they were.
                assert self._published is not None
                self._publish((*self._runs[:start], merged, *self._runs[stop:]), self._published)
                retire(self._directory, [run.entry.name for run in inputs])

    def _merged(self, inputs: Sequence[Run], younger: int) -> Run | None:
        """One run out of `inputs`; None if the index closes meanwhile.

        What is frozen, and then due among the `younger` runs, goes before the next slice: however long a merge takes,
        it holds up neither, and the number of runs stays within its bound.
        """
        merge = Merge(self._directory, inputs, slice_rows=self._limits.slice_rows)
        try:
            while (run := merge.step()) is None:
                if self._closing:
                    return None
                self._write_frozen()
                self._merge_due(younger)
            return run
        finally:
            merge.abandon()

    def _merge_loaded(self, runs: list[Run]) -> None:
        """Merge what is due among runs that no manifest has listed yet: their files go at once."""
        while (chosen := self._due(runs)) is not None:
            inputs = runs[chosen]
            merged = self._merged(inputs, younger=0)
            if merged is None:
                raise InvariantBroken(f"identity index in {self._directory} was closed while it was loaded")
            runs[chosen] = [merged]
            for run in inputs:
                (self._directory / run.entry.name).unlink(missing_ok=True)

    def _due(self, runs: Sequence[Run]) -> slice | None:
        counts = [run.entry.count for run in runs]
        return due(counts, memtable=self._limits.memtable_entries, fan_in=self._limits.fan_in)

    def _write_frozen(self) -> None:
        """Write the frozen memtable, whichever thread comes first; after an error it is still there to be written."""
        with self._lock, disk(self._directory):
            frozen = self._frozen
            if frozen is None:
                return
            runs = self._runs
            if len(frozen.entries):
                runs = (*runs, write_run(self._directory, frozen.entries.rows()))
            self._publish(runs, frozen.position)
            self._frozen = None

    def _publish(self, runs: tuple[Run, ...], position: Position) -> None:
        """Make `runs` and `position` what a next opening finds. The lock is held."""
        entries = tuple(run.entry for run in runs)
        publish_manifest(self._directory, Manifest(FORMAT, self._ledger_id, position, entries))
        self._runs = runs
        self._published = position

    def _sweep(self) -> None:
        """Delete old files that neither this process nor the manifest on the disk, perhaps another's, lists.

        The lock is held, so that this process writes no file meanwhile that is not listed yet.
        """
        try:
            manifest = read_manifest(self._directory)
        except Damaged as damage:
            _log.warning("identity index in %s is not swept: %s", self._directory, damage)
            return
        listed = {run.entry.name for run in self._runs}
        if manifest is not None:
            listed.update(entry.name for entry in manifest.runs)
        sweep(self._directory, listed, grace_seconds=self._limits.grace_seconds, now=time.time())


def _check(digests: Digests, size: int) -> None:
    if digests.dtype != np.uint8 or digests.ndim != 2 or digests.shape[1] != size:
        raise InvariantBroken(f"rows of {size} bytes are wanted, not {digests.dtype} of the shape {digests.shape}")
