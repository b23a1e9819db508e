"""Records as they came, in columns: what Kafka delivered is not made a value of Python record by record.

`streams.fetched` makes them of what was fetched, `Records.of` of single records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Octets = NDArray[np.uint8]

INPUT, OFFSET, RECEIVED_AT, KEY, KEY_SIZE, VALUE, VALUE_SIZE = range(7)
"""The columns: of keys and values where they begin in the buffer, and their bytes."""

COLUMNS: Final = 7
NULL: Final = -1
"""The size of what is null."""


class Received(msgspec.Struct, frozen=True, gc=False):
    """One record of an input topic."""

    input: int
    """schemas.ledger.USAGE or ACCOUNT."""
    offset: int
    received_at: int
    """Microseconds."""
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Records:
    """Records of inputs, in the order in which they are decided."""

    columns: Numbers
    """By column and record."""
    buffer: Octets
    """Where keys and values lie; it is not written to."""

    @classmethod
    def of(cls, records: Sequence[Received]) -> Records:
        """Of single ones."""
        columns = np.empty((COLUMNS, len(records)), np.int64)
        laid: list[bytes] = []
        end = 0
        for place, record in enumerate(records):
            columns[:3, place] = record.input, record.offset, record.received_at
            for column, octets in ((KEY, record.key), (VALUE, record.value)):
                columns[column : column + 2, place] = end, NULL if octets is None else len(octets)
                if octets:
                    laid.append(octets)
                    end += len(octets)
        return cls(columns, np.frombuffer(b"".join(laid), np.uint8))

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """Several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.of(())
        columns = np.concatenate([part.columns for part in parts], axis=1)
        buffer = np.concatenate([part.buffer for part in parts])
        buffer.flags.writeable = False
        record = octets = 0
        for part in parts:
            columns[(KEY, VALUE), record : record + len(part)] += octets
            record += len(part)
            octets += len(part.buffer)
        return cls(columns, buffer)

    def __len__(self) -> int:
        return len(self.columns[OFFSET])

    def __getitem__(self, place: int) -> Received:
        of, offset, received_at, key, key_size, value, value_size = self.columns[:, place].tolist()
        return Received(of, offset, received_at, self._octets(key, key_size), self._octets(value, value_size))

    def __iter__(self) -> Iterator[Received]:
        return map(self.__getitem__, range(len(self)))

    @property
    def offsets(self) -> Numbers:
        """Of one input they ascend."""
        column: Numbers = self.columns[OFFSET]
        return column

    def since(self, offset: int) -> Records:
        """Those at or beyond an offset, of records of one input."""
        first = int(np.searchsorted(self.offsets, offset))
        return self if first == 0 else self.part(first, len(self))

    def part(self, start: int, stop: int) -> Records:
        """Those from `start` on and before `stop`, with no more bytes than are theirs."""
        columns = self.columns[:, start:stop].copy()
        if not columns.shape[1]:
            return Records(columns, self.buffer[:0])
        begins = columns[(KEY, VALUE), :]
        first, last = int(begins.min()), int((begins + np.maximum(columns[(KEY_SIZE, VALUE_SIZE), :], 0)).max())
        columns[(KEY, VALUE), :] -= first
        return Records(columns, self.buffer[first:last])

    def _octets(self, start: int, size: int) -> bytes | None:
        return None if size < 0 else self.buffer[start : start + size].tobytes()
