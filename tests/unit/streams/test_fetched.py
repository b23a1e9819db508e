"""What was fetched, in columns: the private names it leans on, and that it reads what aiokafka reads."""

from __future__ import annotations

import inspect
import random
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from rating.received import Received, Records
from schemas.ledger import USAGE
from streams.fetched import Blob, Columnar, in_columns, is_in_columns, records_of

PLACE = TopicPartition("usage.events", 3)
NOW = 1_795_000_000_000

Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def batch(
    base: int,
    rows: list[Row],
    *,
    compression: int = 0,
    producer: int = -1,
    transactional: int = 0,
    appended_at: int | None = None,
    control: bool = False,
) -> bytes:
    """A batch as Kafka keeps it, of records at `base` and after."""
    builder = DefaultRecordBatchBuilder(2, compression, transactional, producer, -1, -1, 1 << 24)
    for number, (key, value, headers) in enumerate(rows):
        builder.append(number, NOW + 7 * number * (-1) ** number, key, value, headers)
    made = bytearray(builder.build())
    made[:8] = base.to_bytes(8, "big")
    if appended_at is not None or control:
        made[22] |= (8 if appended_at is not None else 0) | (0x20 if control else 0)
        made[35:43] = (appended_at or NOW).to_bytes(8, "big")
        made[17:21] = _crc(bytes(made[21:])).to_bytes(4, "big")
    return bytes(made)


def _crc(octets: bytes) -> int:
    from aiokafka.record.util import calc_crc32c

    return int(calc_crc32c(octets))


def marker(base: int, producer: int, *, aborts: bool) -> bytes:
    """The end of a transaction."""
    key = b"\x00\x00" + (0 if aborts else 1).to_bytes(2, "big")
    return batch(base, [(key, b"", [])], producer=producer, transactional=1, control=True)


def of(value: object) -> Row:
    return b"k", str(value).encode(), []


def read(
    fetched: bytes, first: int = 0, *, aborted: list[tuple[int, int]] | None = None, isolation: int = READ_COMMITTED
) -> tuple[list[Received], int]:
    """The records and where to go on, which are aiokafka's own."""

    def opened(kind: Any, records: Any) -> Any:
        return kind(PLACE, records, list(aborted or []), first, None, None, True, isolation)

    plain, columnar = opened(PartitionRecords, MemoryRecords(fetched)), opened(Columnar, Blob(fetched))
    singles = [Received(USAGE, one.offset, one.timestamp * 1_000, one.key, one.value) for one in plain]
    parts = list(columnar)
    assert len(parts) <= 1
    assert [record for part in parts for record in part] == singles
    assert columnar.next_fetch_offset == plain.next_fetch_offset
    return singles, columnar.next_fetch_offset


@pytest.mark.parametrize("compression", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_records_are_those_that_aiokafka_reads(compression: int) -> None:
    """Keys and values that are null, empty and long, headers, times that go back, several batches."""
    headers: list[tuple[str, bytes | None]] = [("h", b"v"), ("empty", None), ("x" * 200, b"y" * 300)]
    rows: list[Row] = [
        (None, None, []), (b"", b"", []), (b"k" * 300, b"v" * 70_000, headers), (None, b"v", headers), (b"k", None, []),
    ]  # fmt: skip
    fetched = batch(5, rows, compression=compression) + batch(10, rows[:2]) + batch(12, rows, compression=compression)
    records, after = read(fetched, 5)
    assert [record.offset for record in records] == list(range(5, 17))
    assert after == 17


def test_many_small_batches_at_random_are_read_alike() -> None:
    """Sizes around those where a number takes a byte more."""
    chance = random.Random(20261130)
    for _ in range(30):
        fetched, base = b"", chance.randrange(2**40)
        first = base
        for number in range(chance.randrange(1, 9)):
            sizes = [chance.choice((0, 1, 63, 64, 127, 128, 8_191, 8_192)) for _ in range(chance.randrange(1, 9))]
            rows: list[Row] = [(chance.randbytes(size % 65), chance.randbytes(size), []) for size in sizes]
            first += chance.randrange(len(rows)) if number == 0 else 0  # it lies in the first batch
            appended = chance.choice((None, NOW + 5))
            fetched += batch(base, rows, compression=chance.choice((0, 3)), appended_at=appended)
            base += len(rows)
        read(fetched, first)


def test_where_a_fetch_begins_inside_a_batch_what_was_read_is_left_out() -> None:
    """Kafka gives out whole batches, also from their middle on."""
    records, after = read(batch(0, [of(number) for number in range(5)]), 3)
    assert ([record.value for record in records], after) == ([b"3", b"4"], 5)
    assert read(batch(0, [of(1)]), 1) == ([], 1)


def test_what_a_producer_aborted_and_markers_are_skipped() -> None:
    """As far as committed records alone are asked for; the place to go on moves over them."""
    fetched = (
        batch(0, [of("kept")], producer=7, transactional=1) + batch(1, [of("dropped")], producer=8, transactional=1)
        + marker(2, 7, aborts=False) + marker(3, 8, aborts=True) + batch(4, [of("later")], producer=8, transactional=1)
        + marker(5, 8, aborts=False)
    )  # fmt: skip
    records, after = read(fetched, aborted=[(8, 1)])
    assert ([record.value for record in records], after) == ([b"kept", b"later"], 6)
    records, _ = read(fetched, aborted=[(8, 1)], isolation=READ_UNCOMMITTED)
    assert [record.value for record in records] == [b"kept", b"dropped", b"later"]
    assert read(marker(0, 7, aborts=False)) == ([], 1)


def test_a_message_of_the_formats_before_is_read_too() -> None:
    """Such lie in logs of long ago."""
    builder = LegacyRecordBatchBuilder(1, 0, 10_000)
    builder.append(0, NOW, b"k", b"old")
    records, after = read(bytes(builder.build()))
    assert ([record.value for record in records], after) == ([b"old"], 1)


def test_a_batch_that_is_not_as_its_checksum_says_is_refused() -> None:
    """As aiokafka does: nothing of the fetch is taken."""
    fetched = bytearray(batch(0, [of(1)]) + batch(1, [of(2)]))
    fetched[-3] ^= 1
    columnar = Columnar(PLACE, Blob(bytes(fetched)), [], 0, None, None, True, READ_COMMITTED)
    with pytest.raises(CorruptRecordException, match="CRC"):
        next(columnar)


@pytest.mark.parametrize("at", [57, 61, 65, 66, 67], ids=["count", "size", "key size", "key", "value size"])
def test_a_batch_that_is_not_as_its_format_says_is_refused(at: int) -> None:
    """Whoever wrote it, with a checksum that is right: it is not read beyond its end."""
    fetched = bytearray(batch(0, [of("value")]))
    fetched[at] = 0x7F
    fetched[17:21] = _crc(bytes(fetched[21:])).to_bytes(4, "big")
    columnar = Columnar(PLACE, Blob(bytes(fetched)), [], 0, None, None, True, READ_COMMITTED)
    if at == 66:
        assert [record.key for record in next(columnar)] == [b"\x7f"]
        return
    with pytest.raises(CorruptRecordException, match="as its format says"):
        next(columnar)


def test_a_poll_is_columns_or_aiokafkas_own_objects() -> None:
    """What was fetched before the fetcher was told comes as it always did."""
    fetched = batch(0, [of(1), of(2)])
    plain = list(PartitionRecords(PLACE, MemoryRecords(fetched), [], 0, None, None, True, READ_COMMITTED))
    parts = list(Columnar(PLACE, Blob(fetched), [], 0, None, None, True, READ_COMMITTED))
    assert list(records_of(plain)) == list(records_of(parts)) == list(Records.joined(parts))
    assert len(records_of([*parts, *parts])) == 4


def test_only_the_fetcher_that_is_told_gives_columns() -> None:
    """Others of the process go on as they were, and aiokafka's own names stay."""
    told, other = fetcher.Fetcher.__new__(fetcher.Fetcher), fetcher.Fetcher.__new__(fetcher.Fetcher)
    in_columns(told)
    assert is_in_columns(told)
    assert not is_in_columns(other)
    names = told._proc_fetch_request.__func__.__globals__
    assert (names["MemoryRecords"], names["PartitionRecords"]) == (Blob, Columnar)
    assert (fetcher.MemoryRecords, fetcher.PartitionRecords) == (MemoryRecords, PartitionRecords)


def test_what_it_leans_on_of_aiokafka_is_as_it_was() -> None:
    """Another aiokafka that renames or reshapes one of these must not be taken without a look."""
    process = fetcher.Fetcher._proc_fetch_request
    assert (process.__closure__, process.__defaults__, process.__kwdefaults__) == (None, None, None)
    source = inspect.getsource(process)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert "partition_records = PartitionRecords(" in source
    assert "self._proc_fetch_request(assignment, node_id, request)" in inspect.getsource(fetcher.Fetcher)
    assert list(inspect.signature(PartitionRecords.__init__).parameters)[1:] == [
        "tp", "records", "aborted_transactions", "fetch_offset", "key_deserializer", "value_deserializer",
        "check_crcs", "isolation_level",
    ]  # fmt: skip
    assert "self._records_iterator = self._unpack_records()" in inspect.getsource(PartitionRecords.__init__)
    taking = inspect.getsource(FetchResult.getall)
    assert "for msg in self._partition_records:" in taking
    assert "self._update_position()" in taking
    assert "self._partition_records.next_fetch_offset" in inspect.getsource(FetchResult._update_position)
