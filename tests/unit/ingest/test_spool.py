"""Records on disk: in order, for good, and no further than they were written."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.accept import Record
from ingest.spool import Spool
from ingest.spooled import SpooledPublisher
from schemas.errors import InvariantBroken, Unavailable


def record(number: int, size: int = 20) -> Record:
    return Record("usage.events", f"c-{number % 7}".encode(), str(number).encode().ljust(size))


def numbers(records: list[Record]) -> list[int]:
    return [int(one.value) for one in records]


def all_of(spool: Spool, max_bytes: int = 1 << 20) -> list[int]:
    found: list[int] = []
    while spool.has_unread:
        found += numbers(spool.read(max_bytes)[0])
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_records_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    """Topic, key and value, over segments and whatever is read at a time."""
    spool = Spool.open(tmp_path, segment_bytes=300)
    for start in range(0, 50, 5):
        spool.append([record(number) for number in range(start, start + 5)])
    assert len(segments(tmp_path)) > 3
    for max_bytes in (1, 50, 1 << 20):
        spool.again()
        assert all_of(spool, max_bytes) == list(range(50))
    spool.again()
    assert spool.read(1)[0] == [record(0)]
    spool.close()


def test_the_next_process_goes_on_behind_what_is_confirmed(tmp_path: Path) -> None:
    """What was read and not confirmed comes again; what was confirmed does not, and its segments are gone."""
    spool = Spool.open(tmp_path, segment_bytes=200)
    for number in range(40):
        spool.append([record(number)])
    reached = 0
    while reached < 20:
        records, place = spool.read(100)
        reached += len(records)
    spool.confirm(place)
    spool.read(500)
    spool.close()
    spool = Spool.open(tmp_path, segment_bytes=200)
    assert all_of(spool) == list(range(reached, 40))
    assert int(segments(tmp_path)[0].stem) >= place.segment
    _, place = spool.read(1)
    spool.confirm(place)
    assert spool.waiting_bytes == 0
    spool.append([record(99)])
    assert all_of(spool) == [99]
    spool.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_crash_in_the_middle_of_a_write_takes_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """The end of the last segment may be cut anywhere beyond what `append` returned for."""
    chance = random.Random(seed)
    spool = Spool.open(tmp_path)
    spool.append([record(number) for number in range(10)])
    acknowledged = spool.waiting_bytes
    spool.append([record(10, size=500)])
    whole = spool.waiting_bytes
    spool.close()
    (segment,) = segments(tmp_path)
    with segment.open("r+b") as file:
        file.truncate(chance.randrange(acknowledged, whole))
    spool = Spool.open(tmp_path)
    assert all_of(spool) == list(range(10))
    spool.append([record(11)])
    assert all_of(spool) == [11]
    spool.close()


def test_damage_that_no_crash_makes_is_said(tmp_path: Path) -> None:
    """A byte that was acknowledged and is another now: nothing behind it is sent as if nothing were wrong."""
    spool = Spool.open(tmp_path, segment_bytes=100)
    for number in range(10):
        spool.append([record(number)])
    first = segments(tmp_path)[0]
    content = bytearray(first.read_bytes())
    content[30] ^= 1
    first.write_bytes(content)
    with pytest.raises(InvariantBroken, match=first.name):
        all_of(spool)
    spool.close()


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    """This process may have so much of a resource, and no more."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


def test_a_disk_that_fills_in_the_middle_of_a_write_takes_nothing_of_it(tmp_path: Path) -> None:
    """What was half written is taken away again; the next record follows on what was acknowledged."""
    spool = Spool.open(tmp_path)
    spool.append([record(0)])
    (only,) = segments(tmp_path)
    size = only.stat().st_size
    with limited(resource.RLIMIT_FSIZE, size + 7), pytest.raises(Unavailable, match="spool"):
        spool.append([record(1)])
    assert only.stat().st_size == size
    spool.append([record(2)])
    assert all_of(spool) == [0, 2]
    spool.close()
    again = Spool.open(tmp_path)
    assert all_of(again) == [0, 2]
    again.close()


def test_a_segment_that_cannot_be_begun_leaves_the_one_before(tmp_path: Path) -> None:
    """Nothing is taken, no other file of the process is touched, and once it can be it goes on."""
    spool = Spool.open(tmp_path, segment_bytes=50)
    for number in range(2):
        spool.append([record(number)])
    (last,) = segments(tmp_path)
    in_the_way = last.with_name(f"{int(last.stem) + 1:012d}.spool")
    in_the_way.mkdir()
    beside = tmp_path / "beside"
    with pytest.raises(Unavailable, match="spool"):
        spool.append([record(9)])
    with beside.open("w") as other:
        with pytest.raises(Unavailable, match="spool"):
            spool.append([record(9)])
        other.write("untouched")
    assert beside.read_text() == "untouched"
    in_the_way.rmdir()
    spool.append([record(2)])
    assert all_of(spool) == [0, 1, 2]
    spool.close()


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    """Two that send one spool would send it twice, and confirm each other's."""
    spool = Spool.open(tmp_path)
    with pytest.raises(Unavailable, match="another process"):
        Spool.open(tmp_path)
    spool.close()
    Spool.open(tmp_path).close()


def test_a_position_that_says_nothing_is_damage_and_the_folder_is_let_go(tmp_path: Path) -> None:
    """To guess it would send everything again, or nothing; mended, the same process opens it."""
    spool = Spool.open(tmp_path)
    spool.append([record(0)])
    spool.close()
    (tmp_path / "position").write_text("1\n")
    with pytest.raises(InvariantBroken, match="position"):
        Spool.open(tmp_path)
    (tmp_path / "position").unlink()
    mended = Spool.open(tmp_path)
    assert all_of(mended) == [0]
    mended.close()


def test_a_folder_that_cannot_be_is_unavailable(tmp_path: Path) -> None:
    """As an error with a remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="spool"):
        Spool.open(tmp_path / "file" / "folder")


async def test_a_damaged_spool_is_told_to_whoever_sends(tmp_path: Path) -> None:
    """Rather than wait for ever for what cannot be sent."""
    spool = Spool.open(tmp_path, segment_bytes=50)
    for number in range(3):
        spool.append([record(number)])
    spool.close()
    first = segments(tmp_path)[0]
    first.write_bytes(b"\0" + first.read_bytes()[1:])
    async with SpooledPublisher("127.0.0.1:1", tmp_path) as publisher:
        with pytest.raises(InvariantBroken):
            await publisher.flush(30)
        with pytest.raises(InvariantBroken):
            await publisher.put(record(9))
