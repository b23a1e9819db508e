"""ClickHouse's Native format, as much of it as the sink writes: columns of one block to bytes.

A block is the number of columns and of rows, then by column its name, its type and its values; every number little
endian, lengths as LEB128. Written here because the ledger's columns are flat already: a general client would want a
Python list for each array of each row, and that is most of what an insert costs.

Pure. Units: none; a value must fit its column's type (OverflowError from the standard library if one does not).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from schemas.packing import (
    Codes,
    Ints,
    Words,
    code_type,
    leb128,
    length_of,
    pack_int64s,
    pack_octets,
    pack_texts,
    pack_words,
)

_LOW_CARDINALITY_VERSION: Final = struct.pack("<Q", 1)
_OWN_KEYS: Final = 1 << 9
"""Flag of a low cardinality column that brings its dictionary with it."""
_WIDTHS: Final = {1: 0, 2: 1, 4: 2}
"""Flag of a code's width by its bytes."""


def texts(values: Sequence[str]) -> bytes:
    """Values of a String column."""
    return pack_texts(values).data


def octets(values: Sequence[bytes]) -> bytes:
    """Values of a String column that holds bytes."""
    return pack_octets(values).data


int64s = pack_int64s
"""Values of an Int64 or DateTime64 column."""


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
        packed = pack_words(values)
        return cls(packed.words, packed.places())

    @classmethod
    def joined(cls, parts: Sequence[Words]) -> LowCardinality:
        """From columns that each bring a dictionary of their own."""
        place: dict[str, int] = {}
        codes = []
        for part in parts:
            places = [place.setdefault(word, len(place)) for word in part.words]
            codes.append(np.array(places, np.uint32)[part.places()] if places else np.zeros(0, np.uint32))
        return cls(list(place), np.concatenate(codes))

    def take(self, places: Codes) -> LowCardinality:
        """The values at these places."""
        return LowCardinality(self.words, self.codes[places])

    def data(self) -> bytes:
        """Dictionary and codes; nothing where there are no values."""
        if len(self.codes) == 0:
            return b""
        kind = code_type(len(self.words))
        head = struct.pack("<QQ", _OWN_KEYS | _WIDTHS[kind.itemsize], len(self.words))
        return b"".join(
            (
                head,
                texts(self.words),
                struct.pack("<Q", len(self.codes)),
                self.codes.astype(kind, copy=False).tobytes(),
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
        column[row] = length_of(len(written)) + written
    return b"".join(column)


def block(rows: int, columns: Sequence[tuple[str, str, bytes]]) -> bytes:
    """A whole block from name, type and data of each column."""
    parts = [leb128(len(columns)), leb128(rows)]
    for name, kind, data in columns:
        parts += (leb128(len(name)), name.encode("ascii"), leb128(len(kind)), kind.encode("ascii"), data)
    return b"".join(parts)
