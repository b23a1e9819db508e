"""Two indexes in one directory: a stopped process that wakes, and the new owner."""

from __future__ import annotations

import logging
from hashlib import blake2b
from pathlib import Path

import pytest

from streams.identity import IdentityIndex, Limits, Position
from tests.fakes.digests import booked, laid
from tests.fakes.executors import StepExecutor

LEDGER = "ledger-1"
GRACE = Limits(memtable_entries=10, replay_entries=1_000, slice_rows=7, load_rows=50, grace_seconds=3_600)
NO_GRACE = Limits(memtable_entries=10, replay_entries=1_000, slice_rows=7, load_rows=50, grace_seconds=0)


def record(offset: int) -> tuple[list[bytes], list[bytes], Position]:
    """The ledger's record at this offset: five bookings, and the position after it."""
    numbers = range(offset * 5, offset * 5 + 5)
    identities = [blake2b(b"%d" % number, digest_size=16).digest() for number in numbers]
    return identities, [identity[:8] for identity in identities], Position(offset + 1, numbers.stop)


class Owner:
    """A worker as far as the index sees one."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.executor = StepExecutor()
        self.index = IdentityIndex.open(directory, LEDGER, limits=limits, executor=self.executor)

    def fold_up_to(self, end: int) -> None:
        """Add the ledger's records from the index's position up to, not including, `end`."""
        assert self.index.position is not None
        for offset in range(self.index.position.ledger_offset, end):
            identities, contents, position = record(offset)
            self.index.add(booked(identities, contents), position)

    def assert_is_prefix(self) -> int:
        """The index holds just what the ledger booked before its position, which is given."""
        assert self.index.position is not None
        end = self.index.position.ledger_offset
        for offset in range(end + 20):
            identities, contents, _ = record(offset)
            expected = dict(zip(identities, contents, strict=True)) if offset < end else {}
            assert self.index.find(laid(identities)) == expected
        return end


def test_a_zombie_that_publishes_sets_the_index_back_to_an_earlier_truth(tmp_path: Path) -> None:
    """Whoever opens after it finds a whole prefix of the ledger, and goes on from there."""
    zombie = Owner(tmp_path, GRACE)
    zombie.index.bulk_load([], Position(0, 0))
    zombie.fold_up_to(7)
    zombie.executor.step()
    zombie.fold_up_to(9)

    owner = Owner(tmp_path, GRACE)
    assert owner.assert_is_prefix() == 6
    owner.fold_up_to(30)
    owner.executor.step()
    owner.index.flush()

    zombie.executor.step()
    zombie.index.flush()
    owner.assert_is_prefix()

    third = Owner(tmp_path, GRACE)
    assert third.assert_is_prefix() == 9
    third.fold_up_to(40)
    assert third.assert_is_prefix() == 40

    owner.fold_up_to(31)
    owner.index.flush()
    assert Owner(tmp_path, GRACE).assert_is_prefix() == 31


def test_a_zombie_that_outslept_the_grace_costs_a_rebuild_and_never_a_wrong_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its manifest names runs that were swept: the next owner finds nothing rather than a part."""
    zombie = Owner(tmp_path, NO_GRACE)
    zombie.index.bulk_load([], Position(0, 0))
    zombie.fold_up_to(6)
    zombie.executor.step()
    zombie.fold_up_to(7)

    owner = Owner(tmp_path, NO_GRACE)
    for end in range(8, 40):
        owner.fold_up_to(end)
        owner.executor.step()
    owner.index.flush()

    zombie.assert_is_prefix()
    zombie.index.flush()
    owner.assert_is_prefix()

    with caplog.at_level(logging.WARNING):
        third = Owner(tmp_path, NO_GRACE)
    assert third.index.position is None
    assert "is gone" in caplog.text


def test_a_zombie_does_not_sweep_what_the_owner_listed(tmp_path: Path) -> None:
    """Files that the manifest on the disk lists stay, whoever wrote it."""
    zombie = Owner(tmp_path, NO_GRACE)
    zombie.index.bulk_load([], Position(0, 0))
    zombie.fold_up_to(2)

    owner = Owner(tmp_path, NO_GRACE)
    owner.fold_up_to(30)
    owner.executor.step()
    owner.index.flush()

    zombie.index._sweep()
    assert Owner(tmp_path, NO_GRACE).assert_is_prefix() == 30
