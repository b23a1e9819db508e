"""Records of the ledger become blocks at the ledger's own borders, and bytes that say all of them."""

from __future__ import annotations

import struct

import pytest

from schemas.errors import InvariantBroken
from schemas.ledger_packed import PackedRecord, packed
from schemas.packing import leb128
from streams.blocks import Gathering, encode
from streams.native import LowCardinality, sparse, texts
from tests.fakes.ledger import LedgerWriter


def ledger(blocks: int = 4, records: int = 3, count: int = 5) -> tuple[str, list[tuple[int, PackedRecord]]]:
    writer = LedgerWriter(2)
    writer.begin()
    list(writer.blocks(blocks, records, count))
    return writer.ledger_id, [(3 * place, packed(record)) for place, record in enumerate(writer.records)]


def gathered(gathering: Gathering, records: list[tuple[int, PackedRecord]]) -> list[list[tuple[int, PackedRecord]]]:
    return [block for offset, record in records if (block := gathering.add(offset, record)) is not None]


def test_blocks_are_those_of_the_ledger() -> None:
    """Closed by their last record or by a marker, each has all its entries and nothing else."""
    ledger_id, records = ledger()
    blocks = gathered(Gathering(ledger_id, 0), records)
    assert [(block[0][1].first_seq, block[-1][1].next_seq) for block in blocks] == [
        (0, 15),
        (15, 30),
        (30, 45),
        (45, 60),
    ]


def test_a_block_is_the_same_wherever_reading_began() -> None:
    """A sink that starts behind any block forms the following blocks bit by bit as one that read everything."""
    ledger_id, records = ledger()
    whole = [encode(ledger_id, block) for block in gathered(Gathering(ledger_id, 0), records)]
    for place, block in enumerate(whole):
        # A position names the last entry's record, so that a marker that closed the block is read again.
        rest = [(offset, record) for offset, record in records if record.first_seq >= block.next_seq]
        again = gathered(Gathering(ledger_id, block.next_seq), rest)
        assert [encode(ledger_id, later) for later in again] == whole[place + 1 :]


def test_the_token_names_the_block_and_its_extent() -> None:
    """Ledger, partition, first and last seq."""
    ledger_id, records = ledger(1)
    (block,) = gathered(Gathering(ledger_id, 0), records)
    assert encode(ledger_id, block).token == f"{ledger_id}/2/0/14"


def test_an_empty_block_is_no_insert() -> None:
    """A marker right behind the genesis or another marker closes nothing."""
    writer = LedgerWriter(2)
    records = [writer.begin(), writer.block_end(), writer.block_end(), writer.entries(3, closes_block=True)]
    gathering = Gathering(writer.ledger_id, 0)
    blocks = gathered(gathering, list(enumerate(map(packed, records))))
    assert [len(block) for block in blocks] == [1]
    assert gathering.entries == 0


def test_a_record_of_another_block_is_refused() -> None:
    """A hole between the rows and what is read never becomes a block."""
    ledger_id, records = ledger()
    with pytest.raises(InvariantBroken, match="of block 15, expected 10"):
        gathered(Gathering(ledger_id, 10), [pair for pair in records if pair[1].block_seq == 15])


def test_a_block_without_end_is_refused() -> None:
    """Memory has a bound: blocks end by the ledger's own rule."""
    writer = LedgerWriter(2)
    gathering = Gathering("", 0)
    for offset in range(4):
        gathering.add(offset, packed(writer.plain(10_000)))
    with pytest.raises(InvariantBroken, match="does not end"):
        gathering.add(4, packed(writer.plain(1)))


def test_a_block_with_a_hole_is_not_encoded() -> None:
    """What is inserted under a token has every entry the token names."""
    ledger_id, records = ledger()
    (block, *_) = gathered(Gathering(ledger_id, 0), records)
    with pytest.raises(InvariantBroken, match="not whole"):
        encode(ledger_id, [block[0], block[2]])


def test_an_amount_beyond_its_column_is_an_error_not_another_amount() -> None:
    """Nothing wraps on the way into a column."""
    writer = LedgerWriter(2)
    record = writer.plain(2, closes_block=True)
    assert record.entries is not None
    record.entries.charge_amount[0] = 2**63
    with pytest.raises(OverflowError):
        packed(record)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 300, 5_000])
@pytest.mark.parametrize("letter", ["a", "ß", "\N{GRINNING FACE}"])
def test_texts_carry_their_length_in_bytes(length: int, letter: str) -> None:
    """Short or long, ASCII or not, in one column: each is its LEB128 length and its UTF-8."""
    values = ["", letter * length, "plain"]
    expected = b"".join(leb128(len(value.encode())) + value.encode() for value in values)
    assert texts(values) == expected
    assert sparse(3, {1: values[1], 2: values[2]}) == expected


@pytest.mark.parametrize(("words", "width"), [(1, 1), (256, 1), (257, 2), (65_537, 4)])
def test_codes_are_as_wide_as_the_dictionary_needs(words: int, width: int) -> None:
    """One byte for 256 different values, two up to 65,536, then four."""
    values = [f"{number:05}" for number in range(words)]
    data = LowCardinality.of(values).data()
    flags, count = struct.unpack_from("<QQ", data)
    assert (flags & 0xFF, count) == ({1: 0, 2: 1, 4: 2}[width], words)
    assert len(data) == 16 + 6 * words + 8 + width * words
