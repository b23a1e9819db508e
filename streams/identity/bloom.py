"""A blocked Bloom filter over sorted rows, probed a whole batch at a time, that also says where in the rows to look.

A block is 64 bytes, one cache line, for 32 identities on average: 16 bits an identity. The block of an identity is its
first 32 bits scaled to the number of blocks, so blocks follow the order of the sorted rows: `starts[b]` is the first
row of block b, and one read of some 32 rows settles a candidate (4 bytes a block: 0.125 bytes an identity).

Within its block an identity sets four bits in one of the first four words and four bits in one of the last four. The
first word alone turns away 96 of 100 fresh identities, so that probing a batch is one gather and little else; both
together let about one in a thousand through ("cache-sectorized" of Lang et al., Performance-Optimal Filtering, 2019).
A false positive costs one read and never a wrong answer.

Bits come from the identity itself, which has to be a digest: 0-31 choose the block, 92-127 words and bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.errors import InvariantBroken

IDENTITY_BYTES: Final = 16
CONTENT_BYTES: Final = 8
ROW_BYTES: Final = IDENTITY_BYTES + CONTENT_BYTES
ROW_WORDS: Final = ROW_BYTES // 8

BLOCK_WORDS: Final = 8
IDENTITIES_PER_BLOCK: Final = 32
assert BLOCK_WORDS * 64 // IDENTITIES_PER_BLOCK == 16, "16 bits an identity"

LARGEST_RUN: Final = 2**32 - 1
"""Identities in a run: row numbers are kept in 32 bits (a file of 103 GB)."""

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
# (n, 3) words of 64 bits, big-endian: the order of the numbers is the order of the bytes. Annotated as plain uint64,
# since numpy's types do not tell byte orders apart.
Rows = npt.NDArray[np.uint64]
ROW_WORD: Final[np.dtype[np.uint64]] = np.dtype(">u8")


def _two_bits() -> Words:
    """For each byte, one bit in each of two 16-bit lanes, named by its two halves."""
    byte = np.arange(256, dtype=np.uint64)
    one = np.uint64(1)
    return (one << (byte & np.uint64(15))) | (one << (np.uint64(16) + (byte >> np.uint64(4))))


_TWO_BITS: Final = _two_bits()
_TWO_BITS_HIGH: Final = _TWO_BITS << np.uint64(32)


class Probes:
    """What a batch of identities asks of any filter, worked out once for all of them."""

    __slots__ = ("first_mask", "first_word", "prefix", "second_mask", "second_word")

    def __init__(self, identities: Rows) -> None:
        """`identities` has two big-endian words a row (further columns are ignored)."""
        low = identities[:, 1].astype(np.uint64)
        selector = (low >> np.uint64(32)).astype(np.int64)
        self.prefix: Indices = (identities[:, 0].astype(np.uint64) >> np.uint64(32)).astype(np.int64)
        self.first_word: Indices = selector & 3
        self.second_word: Indices = 4 + ((selector >> 2) & 3)
        # The low four bytes of the digest, least significant first, whatever the machine's own byte order.
        octets = low.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
        self.first_mask: Words = _TWO_BITS.take(octets[:, 0]) | _TWO_BITS_HIGH.take(octets[:, 1])
        self.second_mask: Words = _TWO_BITS.take(octets[:, 2]) | _TWO_BITS_HIGH.take(octets[:, 3])


class BlockFilter:
    """Filter and block starts of one run. Built by `extend` in the order of the rows, then `seal`ed, then only read."""

    __slots__ = ("_blocks", "_starts", "_words")

    def __init__(self, capacity: int) -> None:
        """`capacity`: how many identities it is made for; fewer may come, more only make it less selective."""
        if capacity > LARGEST_RUN:
            raise InvariantBroken(f"a run holds at most {LARGEST_RUN} identities, not {capacity}")
        self._blocks = max(1, -(-capacity // IDENTITIES_PER_BLOCK))
        self._words: Words = np.zeros(self._blocks * BLOCK_WORDS, dtype=np.uint64)
        self._starts: npt.NDArray[np.uint32] = np.zeros(self._blocks + 1, dtype=np.uint32)

    @property
    def memory_bytes(self) -> int:
        return self._words.nbytes + self._starts.nbytes

    def extend(self, rows: Rows) -> None:
        """Take in the next rows of the run."""
        probes = Probes(rows)
        block = self._block_of(probes)
        word = block * BLOCK_WORDS
        np.bitwise_or.at(self._words, word + probes.first_word, probes.first_mask)
        np.bitwise_or.at(self._words, word + probes.second_word, probes.second_mask)
        first = int(block[0])
        counts = np.bincount(block - first).astype(np.uint32)
        self._starts[first + 1 : first + 1 + len(counts)] += counts

    def seal(self) -> None:
        """Turn the counts of the blocks into their starts; nothing may be taken in after."""
        np.cumsum(self._starts, dtype=np.uint32, out=self._starts)

    def candidates(self, probes: Probes) -> tuple[list[int], list[int], list[int]]:
        """Which of the batch may be in the run: their indices, and first and one-past-last row of the block of each."""
        block = self._block_of(probes)
        word = block * BLOCK_WORDS
        word += probes.first_word
        bits = self._words.take(word)
        bits &= probes.first_mask
        index = np.flatnonzero(bits == probes.first_mask)
        if len(index):
            mask = probes.second_mask.take(index)
            bits = self._words.take(block.take(index) * BLOCK_WORDS + probes.second_word.take(index))
            index = index[(bits & mask) == mask]
        block = block.take(index)
        return index.tolist(), self._starts.take(block).tolist(), self._starts.take(block + 1).tolist()

    def _block_of(self, probes: Probes) -> Indices:
        block = probes.prefix * self._blocks
        block >>= 32
        return block
