"""Records on this machine's disk until Kafka has them: appended in order, read in order, forgotten once confirmed.

A folder of numbered segments and a `position` file, owned by one process at a time (a lock). A record is framed by its
length and CRC-32. What a crash left half-written at the end of the last segment was never acknowledged and is cut off;
a fault anywhere else is damage (InvariantBroken). Calls do file I/O and are meant for a thread; one at a time.

Errors: Unavailable if the folder cannot be written, is full (`room`), or belongs to another process.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

from ingest.accept import Record
from schemas.errors import InvariantBroken, Unavailable

SEGMENT_BYTES: Final = 8 * 1024 * 1024
"""A segment that is larger is followed by the next; a confirmed one is removed whole."""

_FRAME: Final = struct.Struct("<II")
_LENGTHS: Final = struct.Struct("<HI")
_SUFFIX: Final = ".spool"


class Place(NamedTuple):
    """A byte of a segment."""

    segment: int
    offset: int


class Spool:
    """Opened by `open`; holds the lock until `close`."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._lock = -1
        self._file = -1
        self._sizes: dict[int, int] = {}
        """Bytes of each segment that is kept."""
        self._read_to = self._confirmed = Place(0, 0)

    @classmethod
    def open(cls, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> Self:
        """Goes on where the process before ended, however it ended."""
        spool = cls(folder, segment_bytes)
        with _mapped():
            folder.mkdir(parents=True, exist_ok=True)
            spool._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(spool._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(spool._lock)
                raise Unavailable(f"the spool {folder} belongs to another process") from None
            try:
                spool._recover()
            except BaseException:
                spool.close()  # whoever mends it may open it then
                raise
        return spool

    @property
    def waiting_bytes(self) -> int:
        """What is not confirmed."""
        return sum(self._sizes.values()) - self._confirmed.offset

    @property
    def has_unread(self) -> bool:
        """Whether `read` has something to give."""
        return self._read_to < self._end

    def append(self, records: Sequence[Record]) -> None:
        """They are on the disk for good when this returns."""
        frames = b"".join(map(_framed, records))
        with _mapped():
            if self._sizes[self._end.segment] >= self._segment_bytes:
                self._begin_segment(self._end.segment + 1)
            segment, start = self._end
            try:
                written = 0
                while written < len(frames):
                    written += os.write(self._file, frames[written:])
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, start)  # nothing of it was acknowledged
                raise
            self._sizes[segment] = start + len(frames)

    def read(self, max_bytes: int) -> tuple[list[Record], Place]:
        """The next records, in order, and the place behind them, for `confirm`."""
        records: list[Record] = []
        taken = 0
        with _mapped():
            while taken < max_bytes and self.has_unread:
                segment, offset = self._read_to
                if offset >= self._sizes[segment]:
                    self._read_to = Place(segment + 1, 0)
                    continue
                content = self._content(segment, offset, max_bytes - taken)
                for record, size in _records(content, self._path(segment)):
                    records.append(record)
                    taken += size
                    self._read_to = Place(segment, self._read_to.offset + size)
                    if taken >= max_bytes:
                        break
        return records, self._read_to

    def again(self) -> None:
        """Reads once more what is not confirmed."""
        self._read_to = self._confirmed

    def confirm(self, place: Place) -> None:
        """Kafka has everything before a place: it is not read again, in this process or the next."""
        with _mapped():
            temporary = self.folder / "position.new"
            with temporary.open("w") as file:
                file.write(f"{place.segment} {place.offset}\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / "position")
            self._confirmed = place
            for segment in sorted(self._sizes):
                if segment < place.segment:
                    self._path(segment).unlink(missing_ok=True)
                    del self._sizes[segment]

    def close(self) -> None:
        """Gives the folder back."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)

    @property
    def _end(self) -> Place:
        last = max(self._sizes)
        return Place(last, self._sizes[last])

    def _path(self, segment: int) -> Path:
        return self.folder / f"{segment:012d}{_SUFFIX}"

    def _recover(self) -> None:
        position = self.folder / "position"
        if position.exists():
            try:
                number, offset = map(int, position.read_text().split())
                self._confirmed = Place(number, offset)
            except ValueError:
                raise InvariantBroken(f"{position} does not say what of the spool is confirmed") from None
        found = sorted(int(path.stem) for path in self.folder.glob(f"*{_SUFFIX}"))
        kept = [segment for segment in found if segment >= self._confirmed.segment]
        for segment in found:
            if segment < self._confirmed.segment:
                self._path(segment).unlink()
        for segment in kept:
            self._sizes[segment] = self._path(segment).stat().st_size
        if kept:
            self._confirmed = max(self._confirmed, Place(kept[0], 0))
            self._cut_off(kept[-1])
            self._begin_segment(kept[-1])
        else:
            self._confirmed = Place(self._confirmed.segment + 1, 0)
            self._begin_segment(self._confirmed.segment)
        self._read_to = self._confirmed

    def _begin_segment(self, segment: int) -> None:
        before = self._file
        self._file = os.open(self._path(segment), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if before >= 0:
            os.close(before)
        self._sizes.setdefault(segment, 0)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _cut_off(self, segment: int) -> None:
        """Takes away what a crash left half-written at the end of the last segment."""
        path = self._path(segment)
        content = path.read_bytes()
        whole = 0
        while (size := _whole(content, whole)) is not None:
            whole += size
        if whole < len(content):
            os.truncate(path, whole)
            self._sizes[segment] = whole

    def _content(self, segment: int, offset: int, max_bytes: int) -> bytes:
        """Bytes from a record's begin on, at least one record's."""
        with self._path(segment).open("rb") as file:
            file.seek(offset)
            content = file.read(max_bytes)
            while _whole(content, 0) is None and (more := file.read(max(max_bytes, 1024 * 1024))):
                content += more
        return content


def _framed(record: Record) -> bytes:
    topic, key, value = record
    name = topic.encode()
    body = _LENGTHS.pack(len(name), len(key)) + name + key + value
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _whole(content: bytes, offset: int) -> int | None:
    """Bytes of the record at an offset; None where it is not there whole."""
    if offset + _FRAME.size > len(content):
        return None
    length, checksum = _FRAME.unpack_from(content, offset)
    body = content[offset + _FRAME.size : offset + _FRAME.size + length]
    if length < _LENGTHS.size or len(body) < length or zlib.crc32(body) != checksum:
        return None
    return _FRAME.size + int(length)


def _records(content: bytes, path: Path) -> Iterator[tuple[Record, int]]:
    """Whole records of some bytes, with their sizes. Errors: InvariantBroken if not even the first is one."""
    offset = 0
    while (size := _whole(content, offset)) is not None:
        body = content[offset + _FRAME.size : offset + size]
        name_length, key_length = _LENGTHS.unpack_from(body)
        name_end = _LENGTHS.size + name_length
        key_end = name_end + key_length
        yield Record(body[_LENGTHS.size : name_end].decode(), body[name_end:key_end], body[key_end:]), size
        offset += size
    if offset == 0:
        raise InvariantBroken(f"the spool's segment {path} is damaged")


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"spool: {error}") from error
