"""The check that every reader of the ledger goes through."""

from __future__ import annotations

import msgspec
import pytest

from schemas.errors import InvariantBroken
from schemas.ledger import LedgerRecord
from schemas.ledger_packed import encode_record
from streams.ledger import LedgerReader
from tests.fakes.ledger import LedgerWriter


def written(*, blocks: int = 2) -> list[LedgerRecord]:
    writer = LedgerWriter(3)
    writer.begin()
    list(writer.blocks(blocks, 2, 5))
    return writer.records


def take_all(records: list[LedgerRecord], *, at_start: bool = True, next_seq: int | None = None) -> LedgerReader:
    reader = LedgerReader(3, at_start=at_start, next_seq=next_seq)
    for offset, record in enumerate(records):
        reader.take(2 * offset, encode_record(record))
    return reader


def changed(record: LedgerRecord, **fields: object) -> LedgerRecord:
    return msgspec.structs.replace(record, **fields)


def test_a_whole_ledger_is_read_to_its_end() -> None:
    """Offsets may jump; the reader knows the name and the next seq afterwards."""
    records = written()
    reader = take_all(records)
    assert reader.next_seq == 20
    assert reader.ledger_id == records[0].ledger_id


def test_reading_may_begin_in_the_middle() -> None:
    """With the seq that is to come, or anywhere at all."""
    records = written()
    assert take_all(records[2:], at_start=False, next_seq=5).next_seq == 20
    assert take_all(records[2:], at_start=False).next_seq == 20


def test_a_record_is_given_as_it_was_written() -> None:
    """Decoding loses nothing."""
    record = written()[1]
    assert LedgerReader(3, at_start=False).take(7, encode_record(record)) == record


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_record_is_a_gap(missing: int) -> None:
    """Whichever record with entries is left out, the next one does not follow."""
    records = written()
    del records[missing]
    with pytest.raises(InvariantBroken, match="a gap"):
        take_all(records)


@pytest.mark.parametrize("doubled", [1, 2, 4])
def test_a_doubled_record_is_a_repeat(doubled: int) -> None:
    """The same entries at a later offset are found."""
    records = written()
    records.insert(doubled, records[doubled])
    with pytest.raises(InvariantBroken, match="a repeat"):
        take_all(records)


def test_the_seq_that_was_expected_counts_from_the_first_record_on() -> None:
    """Beginning behind the position, or before it, is found at once."""
    records = written()
    with pytest.raises(InvariantBroken, match="a gap"):
        take_all(records[2:], at_start=False, next_seq=4)
    with pytest.raises(InvariantBroken, match="a repeat"):
        take_all(records[2:], at_start=False, next_seq=6)


def test_a_ledger_begins_with_its_genesis() -> None:
    """Without it, or with a second one, it is not the ledger that was asked for."""
    records = written()
    with pytest.raises(InvariantBroken, match="genesis"):
        take_all(records[1:])
    with pytest.raises(InvariantBroken, match="begins the ledger again"):
        take_all([*records, changed(records[0], first_seq=20)])
    with pytest.raises(InvariantBroken, match="without a name"):
        take_all([changed(records[0], ledger_id="")])


def test_offsets_go_forward() -> None:
    """The same offset twice is a mistake of whoever reads."""
    record = encode_record(written()[0])
    reader = LedgerReader(3, at_start=True)
    reader.take(0, record)
    with pytest.raises(InvariantBroken, match="comes after offset 0"):
        reader.take(0, record)


def test_what_does_not_fit_is_refused() -> None:
    """Another partition, an unknown kind or format, columns of another length, positions that go back, bad borders."""
    genesis, first, second = written()[:3]
    assert first.entries is not None
    short = msgspec.structs.replace(first.entries, tenant=first.entries.tenant[1:])
    wrong: dict[str, LedgerRecord | bytes] = {
        "says it is of partition": changed(genesis, partition=4),
        "format 3 is not known": changed(genesis, format=3),
        "format 1 is not known": msgspec.msgpack.encode([1, 1, 3, 0, 1, 1, 0, 0, 0, 0, False, [[0], [0]], {}, "l"]),
        "cannot be read": b"\x93",
    }
    for fault, given in wrong.items():
        value = given if isinstance(given, bytes) else encode_record(given)
        with pytest.raises(InvariantBroken, match=fault):
            LedgerReader(3, at_start=True).take(0, value)
    followers = {
        "which is not known": changed(first, kind=7),
        "columns that do not hold": changed(first, entries=short),
        "and its kind has none": changed(first, kind=2, closes_block=True),
        "and does not close it": changed(first, kind=2, count=0, entries=None),
        "belongs to block": changed(second, first_seq=0, block_seq=-1),
        "before its block": changed(first, block_seq=5),
    }
    for fault, record in followers.items():
        with pytest.raises(InvariantBroken, match=fault):
            take_all([genesis, record])
    with pytest.raises(InvariantBroken, match="decided positions back"):
        take_all([genesis, first, changed(second, usage_next=0)])
