"""The laws of columns of texts that were never made texts: they pack and read as the same values in a list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.packing import pack_texts, pack_words, unpack_words
from schemas.spans import coded, numbered, spanned

texts = st.lists(
    st.one_of(st.sampled_from(["", "a", "b", "ab", "é", "x" * 127, "x" * 128, "x" * 200, "\0"]), st.text(max_size=9)),
    max_size=30,
)


@given(texts, st.integers(0, 30), st.integers(0, 30))
def test_they_pack_as_lists_do(values: list[str], start: int, stop: int) -> None:
    """Whole and in part."""
    start, stop = min(start, stop, len(values)), min(max(start, stop), len(values))
    assert spanned(values).pack(start, stop) == pack_texts(values[start:stop])
    packed = coded(values).pack(start, stop)
    assert packed == pack_words(values[start:stop])
    assert unpack_words(packed) == values[start:stop]
    assert [packed.at(place) for place in range(stop - start)] == values[start:stop]
    assert [spanned(values)[place] for place in range(len(values))] == values
    assert [coded(values)[place] for place in range(len(values))] == values


@given(texts)
def test_equal_texts_have_one_number(values: list[str]) -> None:
    """Numbers are given as texts come, and each knows where its text came first."""
    spans = spanned(values)
    numbers, firsts = numbered(spans.buffer, spans.starts, spans.sizes)
    order = list(dict.fromkeys(values))
    assert numbers.tolist() == [order.index(value) for value in values]
    assert [values[first] for first in firsts.tolist()] == order
