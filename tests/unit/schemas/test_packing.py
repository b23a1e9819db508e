"""Columns come out of their bytes as they went in, and bytes that are another column are found out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.packing import (
    Texts,
    Words,
    counts_of,
    int64s_of,
    leb128,
    pack_counts,
    pack_int64s,
    pack_octets,
    pack_texts,
    pack_words,
    unpack_octets,
    unpack_texts,
    unpack_words,
)

LENGTHS = (0, 1, 127, 128, 255, 256, 16_383, 16_384)
texts = st.lists(st.one_of(st.text(max_size=5), st.sampled_from(LENGTHS).map("x".__mul__)))


@given(texts)
def test_texts_come_out_as_they_went_in(values: list[str]) -> None:
    """Short or long, ASCII or not; each stands as its LEB128 length and its UTF-8."""
    packed = pack_texts(values)
    assert packed.data == b"".join(leb128(len(value.encode())) + value.encode() for value in values)
    assert packed.fit(len(values))
    assert unpack_texts(packed, len(values)) == values


@given(st.lists(st.one_of(st.binary(max_size=5), st.sampled_from(LENGTHS).map(b"\xff".__mul__))))
def test_octets_come_out_as_they_went_in(values: list[bytes]) -> None:
    """Any bytes, also such as look like lengths."""
    packed = pack_octets(values)
    assert packed.fit(len(values))
    assert unpack_octets(packed, len(values)) == values


@pytest.mark.parametrize("words", [0, 1, 2, 256, 257, 65_537])
def test_words_come_out_as_they_went_in(words: int) -> None:
    """However many different ones."""
    values = [str(number) for number in range(words)] * 2
    packed = pack_words(values)
    assert packed.fit(len(values))
    assert unpack_words(packed) == values


def test_numbers_come_out_as_they_went_in() -> None:
    """At their bounds; beyond them they are refused."""
    assert int64s_of(pack_int64s([-(2**63), 0, 2**63 - 1])).tolist() == [-(2**63), 0, 2**63 - 1]
    assert counts_of(pack_counts([0, 2**32 - 1])).tolist() == [0, 2**32 - 1]
    with pytest.raises(OverflowError):
        pack_int64s([2**63])


def test_another_column_does_not_fit() -> None:
    """More or fewer values, sizes that are not those of the data, codes beyond the words."""
    packed = pack_texts(["a", "bc", ""])
    assert not packed.fit(2)
    assert not packed.fit(4)
    assert not Texts(packed.sizes, packed.data + b"x").fit(3)
    assert not Texts(packed.sizes, b"\2ab\1c\0").fit(3)
    assert not pack_texts(["x" * 300]).fit(2)
    assert not Words(["a", "b"], b"\0\2").fit(2)
    assert not Words(["a", "b"], b"\0\1").fit(3)
    with pytest.raises(ValueError, match="not the sizes"):
        unpack_texts(packed, 2)
