"""Columns of many values as few bytes, laid out as ClickHouse's Native format lays out the same column.

What is packed once, by the worker, travels as it is and is only laid end to end by the sink: nobody makes a value of
Python of each entry on the way. A text column is the LEB128 length and the UTF-8 of each value; the lengths stand apart
once more, so that a reader finds the values, and finds out whether they are all there, without walking through them. A
column of few different words is a dictionary and a code for each value.

Errors: ValueError for what was not packed here.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer[Any]]

_SEVEN_BITS: Final = 128
_HEADS: Final = tuple(_SEVEN_BITS**power for power in range(1, 5))
"""From these lengths on LEB128 takes one byte more."""


class Texts(msgspec.Struct, array_like=True, frozen=True):
    """A column of texts, or of bytes."""

    sizes: bytes
    """Bytes of each value: one byte each if all are below 128, else four."""
    data: bytes
    """Of each value its length and its bytes, as ClickHouse reads them."""

    def extents(self, count: int) -> tuple[Ints, Ints]:
        """Where each of `count` values begins and ends."""
        return _extents(_known(self, count))

    def fit(self, count: int) -> bool:
        """Whether these are `count` values."""
        sizes = _sizes(self.sizes, count)
        if sizes is None:
            return False
        starts, ends = _extents(sizes)
        if int(ends[-1] if count else 0) != len(self.data):
            return False
        if len(self.sizes) > count:
            return True
        return bool((np.frombuffer(self.data, np.uint8)[starts - 1] == sizes).all())


class Words(msgspec.Struct, array_like=True, frozen=True):
    """A column of few different texts."""

    words: list[str]
    codes: bytes
    """Of each value its place among the words: as wide as their number needs."""

    def fit(self, count: int) -> bool:
        """Whether these are `count` values."""
        if len(self.codes) != count * code_type(len(self.words)).itemsize:
            return False
        return count == 0 or int(self.places().max()) < len(self.words)

    def at(self, place: int) -> str:
        """One of the values."""
        return self.words[int(self.places()[place])]

    def places(self) -> Codes:
        """The codes as numbers."""
        return np.frombuffer(self.codes, code_type(len(self.words)))


def code_type(words: int) -> np.dtype[Any]:
    """How a code among so many words is written."""
    return np.dtype("<u1" if words <= 1 << 8 else "<u2" if words <= 1 << 16 else "<u4")


def leb128(value: int) -> bytes:
    """An unsigned length."""
    written = bytearray()
    while value >= _SEVEN_BITS:
        written.append((value & 0x7F) | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


_LENGTHS: Final = tuple(leb128(length) for length in range(1024))


def length_of(length: int) -> bytes:
    """As `leb128`, sooner."""
    return _LENGTHS[length] if length < len(_LENGTHS) else leb128(length)


def pack_texts(values: Sequence[str]) -> Texts:
    """Packs texts."""
    if not any(values):
        return Texts(bytes(len(values)), bytes(len(values)))
    joined = "\0".join(values)
    if joined.isascii():
        return _joined(values, joined.encode("ascii"))
    return pack_octets([value.encode() for value in values])


def pack_octets(values: Sequence[bytes]) -> Texts:
    """Packs bytes."""
    return _joined(values, b"\0".join(values))


def _joined(values: Sequence[str] | Sequence[bytes], joined: bytes) -> Texts:
    """From values whose bytes stand in `joined` with one byte between any two."""
    if len(values) == 0:
        return Texts(b"", b"")
    try:
        lengths = bytes(map(len, values))
    except ValueError:  # beyond 255
        return _long(values)
    sizes = np.frombuffer(lengths, np.uint8)
    if int(sizes.max()) >= _SEVEN_BITS:
        return _long(values)
    data = bytearray(1)
    data += joined
    starts, _ = _extents(sizes)
    np.frombuffer(data, np.uint8)[starts - 1] = sizes  # a length below 128 takes the byte between
    return Texts(lengths, bytes(data))


def _long(values: Sequence[str] | Sequence[bytes]) -> Texts:
    octets = [value.encode() if isinstance(value, str) else value for value in values]
    sizes = list(map(len, octets))
    data = b"".join(chain.from_iterable(zip(map(length_of, sizes), octets, strict=True)))
    return Texts(np.array(sizes, "<u4").tobytes(), data)


def unpack_octets(packed: Texts, count: int) -> list[bytes]:
    """The inverse of `pack_octets`."""
    starts, ends = _extents(_known(packed, count))
    data = packed.data
    return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def unpack_texts(packed: Texts, count: int) -> list[str]:
    """The inverse of `pack_texts`."""
    if not packed.data.isascii():
        return [value.decode() for value in unpack_octets(packed, count)]
    text = packed.data.decode("ascii")
    starts, ends = _extents(_known(packed, count))
    return [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _sizes(sizes: bytes, count: int) -> npt.NDArray[Any] | None:
    if len(sizes) == count:
        return np.frombuffer(sizes, np.uint8)
    return np.frombuffer(sizes, "<u4") if len(sizes) == 4 * count else None


def _known(packed: Texts, count: int) -> npt.NDArray[Any]:
    sizes = _sizes(packed.sizes, count)
    if sizes is None:
        raise ValueError(f"{len(packed.sizes)} bytes are not the sizes of {count} values")
    return sizes


def _extents(sizes: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Where each value begins and ends."""
    taken: Ints = sizes.astype(np.int64)
    taken += 1
    if len(sizes) and int(sizes.max()) >= _SEVEN_BITS:
        for bound in _HEADS:
            taken += sizes >= bound
    ends = np.cumsum(taken)
    return ends - sizes, ends


def pack_words(values: Sequence[str]) -> Words:
    """Packs texts of which few are different."""
    words = list(dict.fromkeys(values))
    if len(words) < 2:
        return Words(words, bytes(len(values)))
    place = {word: at for at, word in enumerate(words)}
    if len(words) <= 1 << 8:
        return Words(words, bytes(map(place.__getitem__, values)))
    codes = np.fromiter(map(place.__getitem__, values), code_type(len(words)), len(values))
    return Words(words, codes.tobytes())


def unpack_words(packed: Words) -> list[str]:
    """The inverse of `pack_words`."""
    return list(map(packed.words.__getitem__, packed.places().tolist()))


def pack_int64s(values: Iterable[int]) -> bytes:
    """Whole numbers within 64 bits, little endian. Errors: OverflowError beyond."""
    return array("q", values).tobytes()


def int64s_of(packed: bytes) -> Ints:
    """The inverse of `pack_int64s`, as numbers of numpy."""
    return np.frombuffer(packed, np.int64)


def pack_counts(values: Iterable[int]) -> bytes:
    """Whole numbers from 0 to 2^32 - 1."""
    return array("I", values).tobytes()


def counts_of(packed: bytes) -> Ints:
    """The inverse of `pack_counts`, as numbers of numpy."""
    return np.frombuffer(packed, np.uint32).astype(np.int64)
