"""ClickHouse's Native format, as much of it as the sink writes: columns of one block to bytes.

A block is the number of columns and of rows, then by column its name, its type and its values; every number little
endian, lengths as LEB128. Written here because the ledger's columns are flat already: a general client would want a
Python list for each array of each row, and that is most of what an insert costs.

Pure. Units: none; a value must fit its column's type (OverflowError from the standard library if one does not).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.integer[Any]]

_SEVEN_BITS: Final = 128
_LOW_CARDINALITY_VERSION: Final = struct.pack("<Q", 1)
_OWN_KEYS: Final = 1 << 9
"""Flag of a low cardinality column that brings its dictionary with it."""
_CODE_TYPES: Final = (np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4"))


def leb128(value: int) -> bytes:
    """An unsigned length."""
    written = bytearray()
    while value >= _SEVEN_BITS:
        written.append((value & 0x7F) | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


_LENGTHS: Final = tuple(leb128(length) for length in range(1024))


def _length(length: int) -> bytes:
    return _LENGTHS[length] if length < len(_LENGTHS) else leb128(length)


def texts(values: Sequence[str]) -> bytes:
    """Values of a String column."""
    if len(values) == 0:
        return b""
    lengths = list(map(len, values))
    if max(lengths) < _SEVEN_BITS:
        # A length below 128 is its own character: one pass, one encoding, as long as all of it is ASCII.
        joined = "".join(chain.from_iterable(zip(map(chr, lengths), values, strict=True)))
        if joined.isascii():
            return joined.encode("ascii")
    return octets([value.encode() for value in values])


def octets(values: Sequence[bytes]) -> bytes:
    """Values of a String column that holds bytes."""
    return b"".join(chain.from_iterable(zip(map(_length, map(len, values)), values, strict=True)))


def int64s(values: Iterable[int]) -> bytes:
    """Values of an Int64 or DateTime64 column."""
    return array("q", values).tobytes()


def offsets(counts: Ints) -> bytes:
    """Ends of the arrays of each row, of which `counts` has the lengths."""
    return np.cumsum(counts, dtype=np.uint64).tobytes()


class LowCardinality:
    """A column of few different texts: a dictionary and a code for each value."""

    __slots__ = ("codes", "words")

    prefix: Final = _LOW_CARDINALITY_VERSION
    """Goes before everything else of the column that holds it."""

    def __init__(self, words: Sequence[str], codes: Codes) -> None:
        self.words = words
        self.codes = codes

    @classmethod
    def of(cls, values: Sequence[str]) -> LowCardinality:
        """From the values themselves."""
        words = list(dict.fromkeys(values))
        if len(words) == 1:
            return cls(words, np.zeros(len(values), np.uint8))
        code = {word: at for at, word in enumerate(words)}
        return cls(words, np.fromiter(map(code.__getitem__, values), np.uint32, len(values)))

    def take(self, places: Codes) -> LowCardinality:
        """The values at these places."""
        return LowCardinality(self.words, self.codes[places])

    def data(self) -> bytes:
        """Dictionary and codes; nothing where there are no values."""
        if len(self.codes) == 0:
            return b""
        width = 0 if len(self.words) <= 1 << 8 else 1 if len(self.words) <= 1 << 16 else 2
        head = struct.pack("<QQ", _OWN_KEYS | width, len(self.words))
        return b"".join(
            (
                head,
                texts(self.words),
                struct.pack("<Q", len(self.codes)),
                self.codes.astype(_CODE_TYPES[width], copy=False).tobytes(),
            )
        )

    def column(self) -> bytes:
        """As a column of its own."""
        return self.prefix + self.data()


def sparse(rows: int, values: Mapping[int, str]) -> bytes:
    """A String column that is empty but for some rows."""
    column = [b"\0"] * rows
    for row, value in values.items():
        written = value.encode()
        column[row] = _length(len(written)) + written
    return b"".join(column)


def block(rows: int, columns: Sequence[tuple[str, str, bytes]]) -> bytes:
    """A whole block from name, type and data of each column."""
    parts = [leb128(len(columns)), leb128(rows)]
    for name, kind, data in columns:
        parts += (leb128(len(name)), name.encode("ascii"), leb128(len(kind)), kind.encode("ascii"), data)
    return b"".join(parts)
