"""What an index was given since its last flush: rows in memory, and a table of hashes over them.

Digests are looked up and put down a batch at a time, in compiled loops: none is made a value of Python. An identity is
a digest, so its own bits are its hash (open addressing, linear probing, at most half full). Cost: 32 to 64 bytes an
entry, with the room it grows into.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.compiled import compiled
from streams.identity.bloom import ROW_WORD, ROW_WORDS, Rows

Octets = NDArray[np.uint8]
Words = NDArray[np.uint64]
Slots = NDArray[np.int32]

_EMPTY: Final = -1
_LEAST: Final = 1_024


class Memtable:
    """Bookings by identity; of several of one identity the first stands."""

    __slots__ = ("_count", "_rows", "_slots")

    def __init__(self) -> None:
        self._count = 0
        self._rows: Words = np.empty((_LEAST, ROW_WORDS), np.uint64)
        self._slots: Slots = np.full(2 * _LEAST, _EMPTY, np.int32)

    def __len__(self) -> int:
        return self._count

    def add(self, bookings: Octets) -> None:
        """Adds rows of an identity and a content each."""
        words = _words(bookings)
        self._make_room(self._count + len(words))
        self._count = _put(words, self._rows, self._slots, self._count)

    def find(self, identities: Octets) -> dict[bytes, bytes]:
        """Of identities, a row each, those that are here, with their contents."""
        if not self._count:
            return {}
        words = _words(identities)
        places = np.empty(len(words), np.int32)
        _look_up(words, self._rows, self._slots, places)
        found = np.flatnonzero(places != _EMPTY)
        contents = self._rows[places[found], ROW_WORDS - 1]
        return {identities[at].tobytes(): one.tobytes() for at, one in zip(found.tolist(), contents, strict=True)}

    def rows(self) -> Rows:
        """All, in the order in which they came."""
        return self._rows[: self._count].view(ROW_WORD)

    def _make_room(self, count: int) -> None:
        if count <= len(self._rows):
            return
        room = max(count, 2 * len(self._rows))
        rows: Words = np.empty((room, ROW_WORDS), np.uint64)
        slots: Slots = np.full(2 << (room - 1).bit_length(), _EMPTY, np.int32)
        _put(_words(self._rows[: self._count]), rows, slots, 0)
        self._rows, self._slots = rows, slots


def _words(digests: NDArray[Any]) -> Words:
    """Rows of digests as numbers, not to be written to: a loop is compiled for each kind of array that it is given."""
    words: Words = np.ascontiguousarray(digests).view(np.uint64)
    words.flags.writeable = False
    return words


@compiled
def _put(words: Words, rows: Words, slots: Slots, count: int) -> int:
    """How many rows there are then."""
    for at in range(len(words)):
        slot = _slot(words[at, 0], words[at, 1], rows, slots)
        if slots[slot] < 0:
            slots[slot] = count
            rows[count, 0], rows[count, 1], rows[count, 2] = words[at, 0], words[at, 1], words[at, 2]
            count += 1
    return count


@compiled
def _look_up(words: Words, rows: Words, slots: Slots, places: Slots) -> None:
    """Of each the row that it has; below 0: none."""
    for at in range(len(words)):
        places[at] = slots[_slot(words[at, 0], words[at, 1], rows, slots)]


@compiled
def _slot(high: np.uint64, low: np.uint64, rows: Words, slots: Slots) -> int:
    """Where an identity is, or would be."""
    mask = len(slots) - 1
    slot = np.int64((high ^ low) >> np.uint64(1)) & mask
    while slots[slot] >= 0 and not (rows[slots[slot], 0] == high and rows[slots[slot], 1] == low):
        slot = (slot + 1) & mask
    return int(slot)
