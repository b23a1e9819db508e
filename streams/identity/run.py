"""A sorted run: an immutable file of rows, and its filter in memory.

A row is 24 bytes: the 16 of the identity's digest, then the 8 of the content's. Rows are sorted by identity as bytes,
and an identity is in a run once. The file is nothing but rows; the filter (`bloom.py`, 2.1 bytes an identity) is built
again while opening, which has to read the whole file anyway to check it. Rows are read with `pread`, not mapped: a
mapping would count every page it ever touched as the worker's memory, 24 bytes an identity in the end.

A run keeps its file open, so that it can be read after another process has deleted the name; it costs one file
descriptor, closed when the last reference goes. Errors: `Damaged` when the file is not what its entry says; OSError.
"""

from __future__ import annotations

import os
import weakref
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvariantBroken
from streams.identity.bloom import (
    CONTENT_BYTES,
    IDENTITY_BYTES,
    ROW_BYTES,
    ROW_WORD,
    ROW_WORDS,
    BlockFilter,
    Probes,
    Rows,
)
from streams.identity.files import Damaged, temporary_beside, unique_run_name
from streams.identity.manifest import RunEntry

CHECK_ROWS = 65_536
"""Rows read at once while a run is checked: 1.5 MB, so that opening a large run takes no memory to speak of."""

Digests = NDArray[np.uint8]

Octets = bytes | bytearray | memoryview
"""Digests laid end to end (of a contiguous numpy array: its `data`)."""


def rows_of(identities: Octets, contents: Octets) -> Rows:
    """Rows from digests laid end to end; `InvariantBroken` if the two do not hold the same number of them."""
    identity_bytes, content_bytes = memoryview(identities).nbytes, memoryview(contents).nbytes
    count = identity_bytes // IDENTITY_BYTES
    if identity_bytes != count * IDENTITY_BYTES or content_bytes != count * CONTENT_BYTES:
        raise InvariantBroken(f"{identity_bytes} bytes of identities with {content_bytes} bytes of contents")
    rows: Rows = np.empty((count, ROW_WORDS), dtype=ROW_WORD)
    rows[:, :2] = np.frombuffer(identities, dtype=ROW_WORD).reshape(-1, IDENTITY_BYTES // 8)
    rows[:, 2] = np.frombuffer(contents, dtype=ROW_WORD)
    return rows


def in_order(rows: Rows) -> Rows:
    """Sort by identity; of rows with the same identity only the first, in the order given, stays."""
    high = rows[:, 0].astype(np.uint64)
    # Stable sorting finds runs that are sorted already: a merge costs a fifth of sorting anew.
    order = high.argsort(kind="stable")
    high = high.take(order)
    if not (high[1:] == high[:-1]).any():
        return rows.take(order, axis=0)
    # Two equal first halves: the same identity twice, or chance. Rare, so only then the second half is looked at.
    rows = rows.take(np.lexsort((rows[:, 1].astype(np.uint64), rows[:, 0].astype(np.uint64))), axis=0)
    repeated = (rows[1:, :2] == rows[:-1, :2]).all(axis=1)
    first: Rows = rows[np.concatenate((np.ones(1, dtype=np.bool_), ~repeated))]
    return first


class Run:
    """One immutable run, open for reading."""

    __slots__ = ("__weakref__", "_descriptor", "entry", "filter")

    def __init__(self, entry: RunEntry, block_filter: BlockFilter, descriptor: int) -> None:
        """Takes `descriptor` over."""
        self.entry = entry
        self.filter = block_filter
        self._descriptor = descriptor
        # Not closed by hand: a reader in another thread may still hold this run, and the number would be used again.
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def open(cls, directory: Path, entry: RunEntry) -> Run:
        """Open and check a run that a manifest lists; `Damaged` if it is gone or differs in size or checksum."""
        try:
            descriptor = os.open(directory / entry.name, os.O_RDONLY)
        except FileNotFoundError as error:
            raise Damaged(f"run {entry.name} is gone") from error
        run = cls(entry, BlockFilter(entry.count), descriptor)
        size = os.fstat(descriptor).st_size
        if size != entry.count * ROW_BYTES:
            raise Damaged(f"run {entry.name} has {size} bytes, not {entry.count * ROW_BYTES}")
        checksum = 0
        for start in range(0, entry.count, CHECK_ROWS):
            content = run.read(start, min(entry.count, start + CHECK_ROWS))
            checksum = zlib.crc32(content, checksum)
            run.filter.extend(np.frombuffer(content, dtype=ROW_WORD).reshape(-1, ROW_WORDS))
        run.check(checksum)
        run.filter.seal()
        return run

    def read(self, start: int, end: int) -> bytes:
        """The rows from `start` up to, not including, `end`."""
        wanted = (end - start) * ROW_BYTES
        content = os.pread(self._descriptor, wanted, start * ROW_BYTES)
        if len(content) != wanted:
            raise Damaged(f"run {self.entry.name} ends before row {end}")
        return content

    def check(self, checksum: int) -> None:
        """`Damaged` unless `checksum`, taken over all rows in order, is the run's own."""
        if checksum != self.entry.checksum:
            raise Damaged(f"run {self.entry.name} has checksum {checksum:#010x}, not {self.entry.checksum:#010x}")

    def find(self, identities: Digests, probes: Probes, found: dict[bytes, bytes]) -> None:
        """Put into `found`, over what is there, the contents of those of the batch that this run holds."""
        for index, start, end in zip(*self.filter.candidates(probes), strict=True):
            identity = identities[index].tobytes()
            rows = self.read(start, end)
            at = rows.find(identity)
            while at > 0 and at % ROW_BYTES:  # the same bytes, but across two rows
                at = rows.find(identity, at + 1)
            if at >= 0:
                found[identity] = rows[at + IDENTITY_BYTES : at + IDENTITY_BYTES + CONTENT_BYTES]


class RunWriter:
    """Writes one run, slice by slice in order; nobody sees it before `finish`."""

    def __init__(self, directory: Path, capacity: int) -> None:
        """`capacity`: the most rows that will come."""
        self._path = directory / unique_run_name()
        self._temporary = temporary_beside(self._path)
        self._file = self._temporary.open("x+b")
        self._filter = BlockFilter(capacity)
        self._count = 0
        self._checksum = 0

    def append(self, rows: Rows) -> None:
        """Add rows, in order, that come after all those before."""
        if not len(rows):
            return
        content = rows.data
        self._file.write(content)
        self._checksum = zlib.crc32(content, self._checksum)
        self._filter.extend(rows)
        self._count += len(rows)

    def finish(self) -> Run:
        """Put the file in place for good, and open it as a run."""
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._temporary, self._path)
        self._filter.seal()
        run = Run(RunEntry(self._path.name, self._count, self._checksum), self._filter, os.dup(self._file.fileno()))
        self._file.close()
        return run

    def abandon(self) -> None:
        """Leave nothing behind of a run that was not finished; after `finish` it does nothing."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def write_run(directory: Path, rows: Rows) -> Run:
    """Write rows, in any order and not none, as one run."""
    writer = RunWriter(directory, len(rows))
    try:
        writer.append(in_order(rows))
        return writer.finish()
    finally:
        writer.abandon()
