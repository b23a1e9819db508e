"""One partition's index of booked identities: what it answers, and what it refuses."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import InvariantBroken, Unavailable
from streams.identity import IdentityIndex, Limits, Position
from streams.identity.manifest import MANIFEST_NAME, read_manifest
from tests.fakes.digests import booked, laid
from tests.fakes.executors import StepExecutor

LEDGER = "ledger-1"
START = Position(0, 0)
SMALL = Limits(memtable_entries=10, replay_entries=1_000, fan_in=4, slice_rows=7, load_rows=50, grace_seconds=0)


def identity(number: int) -> bytes:
    return blake2b(b"identity %d" % number, digest_size=16).digest()


def content(number: int) -> bytes:
    return blake2b(b"content %d" % number, digest_size=8).digest()


def bookings(numbers: range) -> tuple[list[bytes], list[bytes]]:
    return [identity(number) for number in numbers], [content(number) for number in numbers]


def add(index: IdentityIndex, numbers: range) -> None:
    """Add these, as one ledger record."""
    before = index.position
    assert before is not None
    index.add(booked(*bookings(numbers)), Position(before.ledger_offset + 1, before.seq + len(numbers)))


def assert_holds(index: IdentityIndex, numbers: range) -> None:
    """Just these of many are found, each with its content."""
    asked = [identity(number) for number in range(numbers.stop + 100)]
    assert index.find(laid(asked)) == dict(zip(*bookings(numbers), strict=True))


@pytest.fixture
def executor() -> StepExecutor:
    return StepExecutor()


@pytest.fixture
def index(tmp_path: Path, executor: StepExecutor) -> Iterator[IdentityIndex]:
    opened = IdentityIndex.open(tmp_path, LEDGER, limits=SMALL, executor=executor)
    opened.bulk_load([], START)
    yield opened
    opened.close()


def grown(directory: Path, numbers: range) -> None:
    """Leave an index of these, flushed and closed, in the directory."""
    index = IdentityIndex.open(directory, LEDGER, limits=SMALL, executor=StepExecutor())
    index.bulk_load([], START)
    add(index, numbers)
    index.flush()
    index.close()


def test_a_directory_without_an_index_opens_empty_and_without_a_position(tmp_path: Path) -> None:
    """A new index knows nothing and says so, in a directory it makes itself."""
    index = IdentityIndex.open(tmp_path / "deep" / "down", LEDGER)
    assert index.position is None
    assert index.find(laid([identity(1)])) == {}
    index.close()


def test_what_was_added_is_found_with_its_content_and_nothing_else_is(
    index: IdentityIndex, executor: StepExecutor
) -> None:
    """In memory, frozen, in one run and in merged runs, every identity answers the same."""
    for start in range(0, 400, 5):
        add(index, range(start, start + 5))
        assert_holds(index, range(start + 5))
        if start % 3 == 0:
            executor.step()
            assert_holds(index, range(start + 5))


def test_asking_for_nothing_finds_nothing(index: IdentityIndex) -> None:
    """An empty batch is a batch."""
    assert index.find(laid([])) == {}


def test_an_identity_added_again_keeps_its_first_content(index: IdentityIndex, executor: StepExecutor) -> None:
    """Within a call, in memory, across runs, and after they have merged, the first content stands."""
    first, second = content(1), content(2)
    index.add(booked([identity(0)] * 2, [first, second]), Position(1, 2))
    assert index.find(laid([identity(0)])) == {identity(0): first}
    for offset in range(2, 12):
        index.add(booked([identity(0)], [second]), Position(offset, offset))
        index.flush()
        assert index.find(laid([identity(0)])) == {identity(0): first}
    add(index, range(1, 20))
    executor.step()
    assert index.size().runs < SMALL.fan_in
    assert index.size().identities == 20
    assert index.find(laid([identity(0)])) == {identity(0): first}


def test_identities_that_share_half_their_digest_are_told_apart(index: IdentityIndex, executor: StepExecutor) -> None:
    """Equality is on all 128 bits, however many identities share the first or the last 64."""
    half = bytes(range(8))
    alike = [half + number.to_bytes(8, "big") for number in range(100)]
    alike += [number.to_bytes(8, "big") + half for number in range(100, 200)]
    contents = [content(number) for number in range(200)]
    for start in range(0, 200, 10):
        part = slice(start, start + 10)
        index.add(booked(alike[part], contents[part]), Position(start + 10, start + 10))
        executor.step()
    strangers = [half + number.to_bytes(8, "big") for number in range(100, 200)]
    assert index.find(laid(alike + strangers)) == dict(zip(alike, contents, strict=True))


def test_an_index_without_a_position_takes_nothing(tmp_path: Path) -> None:
    """Adding to an index that was never loaded would make all that was booked before look new."""
    index = IdentityIndex.open(tmp_path, LEDGER)
    with pytest.raises(InvariantBroken, match="load it before"):
        index.add(booked(*bookings(range(1))), Position(1, 1))
    index.close()


def test_the_position_never_goes_back(index: IdentityIndex) -> None:
    """The same position again changes nothing; an earlier one is refused."""
    index.add(booked(*bookings(range(3))), Position(5, 3))
    index.add(booked(*bookings(range(3))), Position(5, 3))
    assert index.size().identities == 3
    for earlier in (Position(4, 3), Position(5, 2)):
        with pytest.raises(InvariantBroken, match="not back"):
            index.add(booked(*bookings(range(1))), earlier)
    assert index.position == Position(5, 3)


@pytest.mark.parametrize(
    "bookings",
    [laid([bytes(16)]), laid([bytes(25)], 25), np.zeros(24, np.uint8), np.zeros((1, 24), np.int8)],
    ids=["no content", "a byte more", "no rows", "no octets"],
)
def test_digests_of_another_length_are_refused(index: IdentityIndex, bookings: NDArray[Any]) -> None:
    """16 and 8 bytes in a row, or nothing is added."""
    with pytest.raises(InvariantBroken):
        index.add(bookings, Position(1, 1))
    assert index.position == START
    assert index.size().identities == 0


def test_asking_for_a_digest_of_another_length_is_refused(index: IdentityIndex) -> None:
    """A question that has no answer is not answered "never seen"."""
    with pytest.raises(InvariantBroken):
        index.find(laid([bytes(15)], 15))


def test_a_flushed_index_opens_at_its_position_with_all_it_held(tmp_path: Path) -> None:
    """A graceful stop leaves nothing to fold again."""
    grown(tmp_path, range(25))
    index = IdentityIndex.open(tmp_path, LEDGER)
    assert index.position == Position(1, 25)
    assert_holds(index, range(25))
    index.close()


def test_a_flush_without_new_identities_still_moves_the_position(tmp_path: Path, index: IdentityIndex) -> None:
    """Records that book nothing advance the index without a run."""
    index.add(booked([], []), Position(9, 50))
    index.flush()
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest.position, manifest.runs) == (Position(9, 50), ())


def test_the_ledger_to_fold_again_is_bounded_also_where_it_books_nothing(
    tmp_path: Path, index: IdentityIndex, executor: StepExecutor
) -> None:
    """Entries that book nothing new make the index publish as well, once there are many."""
    index.add(booked([], []), Position(1, SMALL.replay_entries - 1))
    executor.step()
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.position == START
    index.add(booked([], []), Position(2, SMALL.replay_entries))
    executor.step()
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.position == Position(2, SMALL.replay_entries)


def test_memory_stays_bounded_while_the_background_does_not_get_to_run(index: IdentityIndex) -> None:
    """When a second memtable has filled before the first was written, the caller writes it."""
    for start in range(0, 1_000, 5):
        add(index, range(start, start + 5))
        assert index.size().memtable_entries < 4 * SMALL.memtable_entries + 5
    assert_holds(index, range(1_000))


def test_runs_stay_few(index: IdentityIndex, executor: StepExecutor) -> None:
    """At rest there are at most three runs a tier."""
    for start in range(0, 2_560, 10):
        add(index, range(start, start + 10))
        executor.step()
        tiers = 1
        while SMALL.memtable_entries * SMALL.fan_in**tiers <= start + 10:
            tiers += 1
        assert index.size().runs <= (SMALL.fan_in - 1) * tiers
    assert_holds(index, range(2_560))


def test_size_says_what_is_on_the_disk(tmp_path: Path, index: IdentityIndex) -> None:
    """24 bytes an identity, and no file but runs and the manifest."""
    add(index, range(1_000))
    index.flush()
    assert index.size().disk_bytes == 24_000
    assert sum(path.stat().st_size for path in tmp_path.glob("*.run")) == 24_000
    assert {path.suffix for path in tmp_path.iterdir()} == {".run", ".json"}


def test_merged_runs_are_swept_after_their_grace_and_not_before(tmp_path: Path) -> None:
    """A run stays for the grace after it was merged, however old it is, for a process that still may list it."""
    patient = Limits(memtable_entries=10, replay_entries=1_000, load_rows=50, grace_seconds=3_600)
    executor = StepExecutor()
    index = IdentityIndex.open(tmp_path, LEDGER, limits=patient, executor=executor)
    index.bulk_load([], START)
    for start in range(0, 40, 10):
        for run in tmp_path.glob("*.run"):
            os.utime(run, (0, 0))
        add(index, range(start, start + 10))
        executor.step()
    assert index.size().runs == 1
    assert len(list(tmp_path.glob("*.run"))) == 5
    index.close()

    executor = StepExecutor()
    index = IdentityIndex.open(tmp_path, LEDGER, limits=SMALL, executor=executor)
    add(index, range(40, 50))
    executor.step()
    assert len(list(tmp_path.glob("*.run"))) == index.size().runs == 2
    assert_holds(index, range(50))
    index.close()


def test_loading_takes_any_chunks_and_keeps_the_first_content(tmp_path: Path) -> None:
    """Chunks of any size, as bytes or arrays; an identity that comes twice keeps its first content."""
    index = IdentityIndex.open(tmp_path, LEDGER, limits=SMALL)
    identities, contents = bookings(range(500))
    array = np.frombuffer(b"".join(identities[7:400]), dtype="V16")
    index.bulk_load(
        [
            (b"".join(identities[:7]), bytearray(b"".join(contents[:7]))),
            (b"", b""),
            (array.data, b"".join(contents[7:400])),
            # Other contents for those that came before, the first ones for the rest.
            (b"".join(identities), b"".join([*reversed(contents[:400]), *contents[400:]])),
        ],
        Position(70, 600),
    )
    assert_holds(index, range(500))
    index.close()
    index = IdentityIndex.open(tmp_path, LEDGER, limits=SMALL)
    assert index.position == Position(70, 600)
    assert_holds(index, range(500))
    index.close()


def test_loading_refuses_chunks_that_do_not_match_and_publishes_nothing(tmp_path: Path) -> None:
    """An identity without a content, or half a digest, ends the load."""
    for chunk in ((identity(0) + identity(1), content(0)), (identity(0)[:8], content(0)), (identity(0), b"")):
        index = IdentityIndex.open(tmp_path, LEDGER)
        with pytest.raises(InvariantBroken):
            index.bulk_load([chunk], Position(1, 1))
        index.close()
    assert IdentityIndex.open(tmp_path, LEDGER).position is None


def test_an_index_that_has_a_position_is_not_loaded_again(index: IdentityIndex) -> None:
    """Loading is for an index that knows nothing."""
    with pytest.raises(InvariantBroken, match="not loaded again"):
        index.bulk_load([], Position(1, 1))


def _remove(run: Path) -> None:
    run.unlink()


def _truncate(run: Path) -> None:
    run.write_bytes(run.read_bytes()[:-24])


def _flip_one_bit(run: Path) -> None:
    octets = bytearray(run.read_bytes())
    octets[len(octets) // 2] ^= 1
    run.write_bytes(octets)


def _garble_manifest(run: Path) -> None:
    (run.parent / MANIFEST_NAME).write_bytes(b'{"format": 1, "runs"')


def _empty_manifest(run: Path) -> None:
    (run.parent / MANIFEST_NAME).write_bytes(b"")


def _later_format(run: Path) -> None:
    manifest = run.parent / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes().replace(b'"format":1', b'"format":2'))


@pytest.mark.parametrize(
    "damage", [_remove, _truncate, _flip_one_bit, _garble_manifest, _empty_manifest, _later_format]
)
def test_a_damaged_index_is_discarded_whole_and_can_be_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    """One wrong bit, and the index opens empty, with a log line; loaded again it works."""
    assert callable(damage)
    grown(tmp_path, range(30))
    damage(next(tmp_path.glob("*.run")))
    with caplog.at_level(logging.WARNING):
        index = IdentityIndex.open(tmp_path, LEDGER, limits=SMALL)
    assert index.position is None
    assert index.find(laid(bookings(range(30))[0])) == {}
    assert "discarded" in caplog.text
    identities, contents = bookings(range(30))
    index.bulk_load([(b"".join(identities), b"".join(contents))], Position(1, 30))
    index.close()
    index = IdentityIndex.open(tmp_path, LEDGER, limits=SMALL)
    assert index.position == Position(1, 30)
    assert_holds(index, range(30))
    index.close()


def test_the_index_of_another_ledger_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A ledger made anew has a new identity, and nothing of the old one is booked in it."""
    grown(tmp_path, range(30))
    with caplog.at_level(logging.WARNING):
        index = IdentityIndex.open(tmp_path, "ledger-2")
    assert index.position is None
    assert index.find(laid(bookings(range(30))[0])) == {}
    assert "ledger-1" in caplog.text
    index.close()


def test_a_disk_that_refuses_is_unavailable_and_the_same_call_works_later(
    tmp_path: Path, index: IdentityIndex, executor: StepExecutor
) -> None:
    """Background work that could not write raises in the next call, loses nothing, and is done once it can."""
    away = tmp_path.with_name("away")
    add(index, range(12))
    tmp_path.rename(away)
    executor.step()
    position = Position(2, 15)
    with pytest.raises(Unavailable):
        index.add(booked(*bookings(range(12, 15))), position)
    assert_holds(index, range(15))
    away.rename(tmp_path)
    index.add(booked(*bookings(range(12, 15))), position)
    executor.step()
    index.flush()
    opened = IdentityIndex.open(tmp_path, LEDGER)
    assert opened.position == position
    assert_holds(opened, range(15))
    opened.close()


def test_a_run_found_damaged_while_it_merges_never_becomes_part_of_another(
    tmp_path: Path, index: IdentityIndex, executor: StepExecutor
) -> None:
    """Merging checks what it reads: the damage is raised, not hidden under a new checksum."""
    for start in range(0, 30, 10):
        add(index, range(start, start + 10))
        executor.step()
    run = next(tmp_path.glob("*.run"))
    _flip_one_bit(run)
    add(index, range(30, 40))
    executor.step()
    with pytest.raises(InvariantBroken, match="checksum"):
        index.add(booked([], []), Position(9, 99))
    opened = IdentityIndex.open(tmp_path, LEDGER)
    assert opened.position is None
    opened.close()


def test_the_background_thread_writes_and_merges_by_itself(tmp_path: Path) -> None:
    """Without an executor given, an own thread does the work, and closing waits for it."""
    limits = Limits(memtable_entries=100, replay_entries=10_000, slice_rows=16, load_rows=1_000, grace_seconds=0)
    index = IdentityIndex.open(tmp_path, LEDGER, limits=limits)
    index.bulk_load([], START)
    for start in range(0, 20_000, 50):
        add(index, range(start, start + 50))
    assert_holds(index, range(20_000))
    index.flush()
    index.close()
    index = IdentityIndex.open(tmp_path, LEDGER, limits=limits)
    assert index.position == Position(400, 20_000)
    assert_holds(index, range(20_000))
    index.close()
