"""Which runs merge, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streams.identity.bloom import Probes, Rows
from streams.identity.merge import Merge, due
from streams.identity.run import Run, rows_of, write_run


def numbered(numbers: range, content: int, *, high: int | None = None) -> Rows:
    """Rows of these numbers as identities, all with one content; `high` stands in all first halves."""
    octets = b"".join(
        (number if high is None else high).to_bytes(8, "big") + number.to_bytes(8, "big") for number in numbers
    )
    return rows_of(octets, content.to_bytes(8, "big") * len(numbers))


def merged(directory: Path, runs: list[Run], slice_rows: int) -> Run:
    merge = Merge(directory, runs, slice_rows=slice_rows)
    while (run := merge.step()) is None:
        continue
    return run


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], None),
        ([10, 10, 10], None),
        ([10, 10, 10, 10], slice(0, 4)),
        ([10, 10, 10, 10, 3], slice(0, 5)),
        ([40, 40, 40, 10, 10, 10], None),
        ([40, 40, 40, 10, 10, 10, 10], slice(3, 7)),
        ([40, 40, 40, 40, 10, 10, 10], slice(0, 4)),
        ([640, 40, 40, 40, 159, 10], slice(1, 5)),
        ([1, 40, 1, 1, 1], slice(2, 5)),
        ([1, 1, 1, 1, 1], slice(0, 5)),
    ],
)
def test_the_runs_of_the_youngest_full_tier_are_due(counts: list[int], expected: slice | None) -> None:
    """Neighbours of one tier, as soon as there are four of them (three in the case that says so)."""
    fan_in = 3 if counts == [1, 40, 1, 1, 1] else 4
    assert due(counts, memtable=10, fan_in=fan_in) == expected


@pytest.mark.parametrize("slice_rows", [1, 2, 3, 10, 1_000])
def test_a_merge_holds_every_identity_once_with_the_oldest_content(tmp_path: Path, slice_rows: int) -> None:
    """Whatever the slices, the merged run is sorted, without repeats, and the oldest run's content stands."""
    runs = [
        write_run(tmp_path, numbered(range(50), 1)),
        write_run(tmp_path, numbered(range(25, 75), 2)),
        write_run(tmp_path, numbered(range(60, 61), 3)),
        write_run(tmp_path, numbered(range(100), 4)),
    ]
    run = merged(tmp_path, runs, slice_rows)
    expected = np.concatenate(
        [numbered(range(50), 1), numbered(range(50, 75), 2), numbered(range(75, 100), 4)], dtype=">u8"
    )
    assert run.read(0, run.entry.count) == expected.tobytes()
    opened = Run.open(tmp_path, run.entry)
    assert opened.entry.count == 100


@pytest.mark.parametrize("slice_rows", [1, 7, 1_000])
def test_a_merge_gets_past_more_equal_first_halves_than_a_slice_holds(tmp_path: Path, slice_rows: int) -> None:
    """Identities that differ in their second half alone are merged by it, however many they are."""
    runs = [
        write_run(tmp_path, numbered(range(0, 40, 2), 1, high=5)),
        write_run(tmp_path, numbered(range(1, 40, 2), 2, high=5)),
    ]
    run = merged(tmp_path, runs, slice_rows)
    rows = np.frombuffer(run.read(0, run.entry.count), dtype=">u8").reshape(-1, 3)
    assert rows[:, 1].tolist() == list(range(40))
    assert rows[:, 2].tolist() == [1, 2] * 20


def test_an_abandoned_merge_leaves_nothing_behind(tmp_path: Path) -> None:
    """Only finished runs have a file."""
    runs = [write_run(tmp_path, numbered(range(start, start + 50), 1)) for start in (0, 50)]
    merge = Merge(tmp_path, runs, slice_rows=10)
    assert merge.step() is None
    assert len(list(tmp_path.iterdir())) == 3
    merge.abandon()
    assert {path.name for path in tmp_path.iterdir()} == {run.entry.name for run in runs}


def test_the_filter_turns_nearly_all_strangers_away_and_no_one_it_knows(tmp_path: Path) -> None:
    """About one stranger in a thousand becomes a candidate; of the known all do."""
    random = np.random.default_rng(7)
    known, strangers = random.bytes(16 * 50_000), random.bytes(16 * 50_000)
    run = write_run(tmp_path, rows_of(known, bytes(8 * 50_000)))
    candidates, _, _ = run.filter.candidates(Probes(rows_of(known, bytes(8 * 50_000))))
    assert candidates == list(range(50_000))
    candidates, _, _ = run.filter.candidates(Probes(rows_of(strangers, bytes(8 * 50_000))))
    assert len(candidates) < 50_000 * 0.003
    assert run.filter.memory_bytes < 2.2 * 50_000
