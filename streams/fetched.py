"""What a consumer fetched, in columns: no object is made of any record.

aiokafka makes seven values of Python of each record, and Faust's driver one more. Here aiokafka fetches, checks and
skips as it does (checksums, aborted transactions, markers, where to go on), and what is left of a fetch is taken apart
in one compiled loop: record batches as Kafka lays them out (message format 2:
https://kafka.apache.org/documentation/#recordbatch).

It leans on private names of aiokafka's fetcher; `tests/unit/streams/test_fetched.py` fails when they change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any, Final

import numpy as np
from aiokafka import codec
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from rating.received import COLUMNS, Numbers, Octets, Received, Records
from schemas.compiled import compiled
from schemas.ledger import USAGE

_LENGTH_AT: Final = 8
_OVERHEAD: Final = 12
"""Bytes of a batch up to behind its length."""
_FORMAT_AT, _COUNT_AT, _RECORDS_AT = 16, 57, 61
_FORMAT_2: Final = 2
_NO_TIME: Final = -1
_APPENDED: Final = 1
"""Of a batch whose records have the time at which Kafka took them."""

_DECODERS: Final[Mapping[int, Callable[[Any], Any]]] = {
    0: bytes,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}
"""By a batch's compression."""

_COUNT, _START, _END, _BASE_OFFSET, _BASE_TIME, _TIME = range(6)
"""Of a batch: its records, where they lie; their offset and time but for what each adds, and the time that all have."""


def in_columns(fetcher: Any) -> None:
    """From now on what this fetcher fetches comes in columns: one item of a poll is the Records of one fetch."""
    process = type(fetcher)._proc_fetch_request
    names = {**process.__globals__, "MemoryRecords": Blob, "PartitionRecords": Columnar}
    fetcher._proc_fetch_request = MethodType(FunctionType(process.__code__, names), fetcher)


def is_in_columns(fetcher: Any) -> bool:
    """Whether `in_columns` was called for it."""
    return "_proc_fetch_request" in vars(fetcher)


def records_of(polled: list[Any]) -> Records:
    """What a poll gave of one partition: Records, or aiokafka's own objects of what it fetched before."""
    if isinstance(polled[0], Records):
        return Records.joined(polled)
    return Records.of([_single(record) for record in polled])


class Blob:
    """Batches end to end, as aiokafka's MemoryRecords gives them out, and where the next one begins."""

    def __init__(self, fetched: bytes) -> None:
        self.octets = fetched
        self.at = 0
        self._batches = MemoryRecords(fetched)
        self.has_next = self._batches.has_next
        self.size_in_bytes = self._batches.size_in_bytes

    def next_batch(self) -> Any:
        """The next one, which is there."""
        length = int.from_bytes(self.octets[self.at + _LENGTH_AT : self.at + _OVERHEAD], "big")
        self.at += _OVERHEAD + length
        return self._batches.next_batch()


class Columnar(PartitionRecords):  # type: ignore[misc]  # aiokafka's are untyped
    """As it is, but that all the records of a fetch are one item."""

    def _unpack_records(self) -> Iterator[Records]:
        blob: Blob = self._records
        first = int(self.next_fetch_offset)  # type: ignore[has-type]
        parts: list[Records] = []
        batches: list[tuple[int, ...]] = []
        payloads: list[bytes] = []
        end = 0
        while blob.has_next():
            start = blob.at
            batch = blob.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not self._is_skipped(batch):
                if blob.octets[start + _FORMAT_AT] < _FORMAT_2:
                    parts += _taken_apart(batches, payloads)
                    parts.append(Records.of([_single(record) for record in batch]))
                    batches, payloads, end = [], [], 0
                else:
                    packed = blob.octets[start + _RECORDS_AT : blob.at]
                    payloads.append(bytes(_DECODERS[batch.compression_type](packed)))
                    batches.append(_described(batch, blob.octets, start, end, end := end + len(payloads[-1])))
            self.next_fetch_offset = batch.next_offset
        parts += _taken_apart(batches, payloads)
        if len(records := Records.joined(parts).since(first)):
            yield records

    def _is_skipped(self, batch: Any) -> bool:
        """Whether its records are none for a reader: of a transaction that was aborted, or markers."""
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)


def _single(record: Any) -> Received:
    return Received(USAGE, record.offset, record.timestamp * 1000, record.key, record.value)


def _described(batch: Any, octets: bytes, at: int, start: int, end: int) -> tuple[int, ...]:
    count = int.from_bytes(octets[at + _COUNT_AT : at + _RECORDS_AT], "big")
    time = batch.max_timestamp if batch.timestamp_type == _APPENDED else _NO_TIME
    return count, start, end, batch.base_offset, batch.first_timestamp, time


def _taken_apart(batches: list[tuple[int, ...]], payloads: list[bytes]) -> list[Records]:
    """The records of batches that lie end to end, as one; none without any."""
    if not batches:
        return []
    described = np.array(batches, np.int64).T.copy()
    buffer = np.frombuffer(b"".join(payloads), np.uint8)
    count = int(described[_COUNT].sum())
    columns = np.empty((COLUMNS, count if count <= len(buffer) else 0), np.int64)
    columns[0] = USAGE
    if columns.shape[1] < count or not _take_apart(buffer, described, columns):
        raise CorruptRecordException("a batch of records is not as its format says")
    return [Records(columns, buffer)]


@compiled
def _take_apart(buffer: Octets, batches: Numbers, columns: Numbers) -> bool:
    """Fills the columns of `rating.received`, but for the input; whether every batch was whole and nothing else."""
    row = 0
    for batch in range(batches.shape[1]):
        at, end = batches[1, batch], batches[2, batch]
        for _ in range(batches[0, batch]):
            size, at = _varint(buffer, at, end)
            stop = at + size
            if at < 0 or size < 1 or stop > end:
                return False
            later, at = _varint(buffer, at + 1, stop)  # behind the record's attributes
            if at < 0:
                return False
            beyond, at = _varint(buffer, at, stop)
            if at < 0:
                return False
            columns[1, row] = batches[3, batch] + beyond
            fixed = batches[5, batch]
            columns[2, row] = (fixed if fixed >= 0 else batches[4, batch] + later) * 1_000
            for column in range(3, 7, 2):
                size, at = _varint(buffer, at, stop)
                if at < 0 or size < -1 or at + size > stop:
                    return False
                columns[column, row], columns[column + 1, row] = at, size
                at += max(size, 0)
            at = stop  # behind its headers
            row += 1
        if at != end:
            return False
    return True


@compiled
def _varint(buffer: Octets, at: int, end: int) -> tuple[int, int]:
    """A number as Kafka packs it (zigzag, seven bits a byte), and where it ends; below 0: it does not."""
    value, shift = np.uint64(0), 0
    while at < end and shift < 64:
        octet = buffer[at]
        value |= np.uint64(octet & 0x7F) << np.uint64(shift)
        at += 1
        if octet < 0x80:
            half = np.int64(value >> np.uint64(1))
            return int(half if value & np.uint64(1) == 0 else ~half), at
        shift += 7
    return 0, -1
