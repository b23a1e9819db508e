"""Columns of texts that are not made texts of Python: bytes that lie somewhere in a buffer, or codes of few words.

They pack to what `schemas.packing` makes of the same values as a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.compiled import compiled
from schemas.packing import Texts, Words, code_type, pack_octets

Numbers = NDArray[np.int64]
Extents = NDArray[np.int32]
Octets = NDArray[np.uint8]

_SEVEN_BITS: Final = 128
_NONE: Final = -1
_WORD: Final = 8
_BASIS: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)


@dataclass(slots=True)
class Spans:
    """Texts, each by where it begins in a buffer and its bytes of UTF-8."""

    buffer: Octets
    starts: Extents
    sizes: Extents

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: int) -> str:
        start = int(self.starts[place])
        return bytes(self.buffer[start : start + int(self.sizes[place])]).decode()

    def pack(self, start: int, stop: int) -> Texts:
        """Of those from `start` on and before `stop`, as `pack_texts` packs them."""
        return pack_spans(self.buffer, self.starts[start:stop], self.sizes[start:stop])


@dataclass(slots=True)
class Coded:
    """Texts of which few are different."""

    words: list[str]
    codes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, place: int) -> str:
        return self.words[int(self.codes[place])]

    def pack(self, start: int, stop: int) -> Words:
        """Of those from `start` on and before `stop`, as `pack_words` packs them: only words that come."""
        return pack_codes(self.words, self.codes[start:stop])


def pack_codes(words: Sequence[str], codes: NDArray[np.int32]) -> Words:
    """As `Coded.pack`."""
    if len(words) < 2:
        return Words(list(words) if len(codes) else [], bytes(len(codes)))
    placed = np.empty(len(codes), np.int32)
    order = np.empty(len(words), np.int32)
    used = _renumber(codes, placed, order)
    return Words(
        [words[code] for code in order[:used].tolist()],
        placed.astype(code_type(used)).tobytes(),
    )


def pack_spans(buffer: Octets, starts: Extents, sizes: Extents) -> Texts:
    """As `Spans.pack`."""
    if not len(starts):
        return Texts(b"", b"")
    if int(sizes.max()) >= _SEVEN_BITS:
        return pack_octets(
            [
                buffer[start : start + size].tobytes()
                for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
            ]
        )
    data = np.empty(int(sizes.sum()) + len(sizes), np.uint8)
    _gather(buffer, starts, sizes, data)
    return Texts(sizes.astype(np.uint8).tobytes(), data.tobytes())


def joined(values: Sequence[bytes], buffer: Octets) -> Spans:
    """Values laid behind a buffer."""
    sizes = np.fromiter(map(len, values), np.int32, len(values))
    ends = np.cumsum(sizes, dtype=np.int32) + np.int32(len(buffer))
    return Spans(np.concatenate([buffer, np.frombuffer(b"".join(values), np.uint8)]), ends - sizes, sizes)


def numbered(buffer: Octets, starts: Extents, sizes: Extents) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A number for each different text, in the order in which they come: of each place, and of each the first place."""
    codes = np.empty(len(starts), np.int32)
    firsts = np.empty(len(starts), np.int32)
    if not len(starts):
        return codes, firsts
    slots = np.full(1 << (2 * len(starts)).bit_length(), _NONE, np.int32)
    used = _number(buffer, starts, sizes, slots, codes, firsts)
    return codes, firsts[:used]


def spans_of(packed: Texts, count: int) -> Spans:
    """Of a packed column of `count` texts."""
    starts, ends = packed.extents(count)
    return Spans(np.frombuffer(packed.data, np.uint8), starts.astype(np.int32), (ends - starts).astype(np.int32))


def end_to_end(columns: Sequence[Spans]) -> Spans:
    """Several columns as one."""
    laid = np.cumsum([0, *(len(column.buffer) for column in columns)])
    return Spans(
        np.concatenate([column.buffer for column in columns]),
        np.concatenate([column.starts + np.int32(at) for column, at in zip(columns, laid.tolist(), strict=False)]),
        np.concatenate([column.sizes for column in columns]),
    )


def coded(values: Sequence[str]) -> Coded:
    """Of a list."""
    place = {word: code for code, word in enumerate(dict.fromkeys(values))}
    return Coded(list(place), np.fromiter(map(place.__getitem__, values), np.int32, len(values)))


def spanned(values: Sequence[str]) -> Spans:
    """Of a list."""
    return joined([value.encode() for value in values], np.empty(0, np.uint8))


@compiled
def _gather(buffer: Octets, starts: Extents, sizes: Extents, data: Octets) -> None:
    at = 0
    for row in range(len(starts)):
        start, size = starts[row], sizes[row]
        data[at] = size
        at += 1
        for place in range(size):
            data[at + place] = buffer[start + place]
        at += size


@compiled
def _renumber(codes: NDArray[np.int32], placed: NDArray[np.int32], order: NDArray[np.int32]) -> int:
    known = np.full(len(order), -1, np.int32)
    used = 0
    for row in range(len(codes)):
        code = codes[row]
        if known[code] < 0:
            known[code] = used
            order[used] = code
            used += 1
        placed[row] = known[code]
    return used


@compiled
def _number(
    buffer: Octets,
    starts: Extents,
    sizes: Extents,
    slots: NDArray[np.int32],
    codes: NDArray[np.int32],
    firsts: NDArray[np.int32],
) -> int:
    """By a table of hashes (FNV-1a, of words) with room for twice as many; texts of one hash are told apart by their
    bytes, and one that is as the one before is not looked for."""
    mask, used = len(slots) - 1, 0
    for row in range(len(starts)):
        start, size = starts[row], sizes[row]
        if row and _same(buffer, starts[row - 1], sizes[row - 1], start, size):
            codes[row] = codes[row - 1]
            continue
        digest, place = _BASIS, 0
        while place + _WORD <= size:
            digest = (digest ^ _word(buffer, start + place)) * _PRIME
            digest ^= digest >> np.uint64(32)
            place += _WORD
        for rest in range(place, size):
            digest = (digest ^ np.uint64(buffer[start + rest])) * _PRIME
        slot = np.int64(digest ^ (digest >> np.uint64(32))) & mask
        while True:
            code = slots[slot]
            if code < 0:
                slots[slot] = used
                codes[row] = used
                firsts[used] = row
                used += 1
                break
            if _same(buffer, starts[firsts[code]], sizes[firsts[code]], start, size):
                codes[row] = code
                break
            slot = (slot + 1) & mask
    return used


@compiled
def _same(buffer: Octets, one: int, one_size: int, other: int, other_size: int) -> bool:
    if one_size != other_size:
        return False
    place = 0
    while place + _WORD <= one_size:
        if _word(buffer, one + place) != _word(buffer, other + place):
            return False
        place += _WORD
    for rest in range(place, one_size):  # noqa: SIM110 - all() of a generator is not compiled
        if buffer[one + rest] != buffer[other + rest]:
            return False
    return True


@compiled
def _word(buffer: Octets, at: int) -> np.uint64:
    """Eight bytes as a number: one load of the machine's."""
    low = (
        np.uint64(buffer[at])
        | np.uint64(buffer[at + 1]) << np.uint64(8)
        | np.uint64(buffer[at + 2]) << np.uint64(16)
        | np.uint64(buffer[at + 3]) << np.uint64(24)
    )
    return (
        low
        | np.uint64(buffer[at + 4]) << np.uint64(32)
        | np.uint64(buffer[at + 5]) << np.uint64(40)
        | np.uint64(buffer[at + 6]) << np.uint64(48)
        | np.uint64(buffer[at + 7]) << np.uint64(56)
    )
