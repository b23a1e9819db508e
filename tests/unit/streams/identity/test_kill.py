"""kill -9 of a process that fills an index, at moments nobody chose."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.identity import IdentityIndex
from tests.fakes.digests import laid
from tests.unit.streams.identity.filler import BATCH, LEDGER, LIMITS, record

KILLS = 6


@pytest.mark.parametrize("seed", [20261121])
def test_a_killed_process_leaves_a_prefix_of_the_ledger(tmp_path: Path, seed: int) -> None:
    """However often it is killed: what opens holds just what the ledger booked before its position."""
    chance = random.Random(seed)
    reached = 0
    for _ in range(KILLS):
        filler = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.streams.identity.filler", str(tmp_path)], stdout=subprocess.PIPE
        )
        assert filler.stdout is not None
        filler.stdout.readline()  # something of its own is on the disk
        time.sleep(chance.uniform(0.0, 0.3))
        filler.kill()
        filler.wait()
        filler.stdout.close()

        index = IdentityIndex.open(tmp_path, LEDGER, limits=LIMITS)
        assert index.position is not None, f"seed {seed}"
        offset = index.position.ledger_offset
        assert offset > reached
        assert index.size().identities == offset * BATCH
        for booked in range(max(0, offset - 50), offset):
            identities, contents, _ = record(booked)
            assert index.find(laid(identities)) == dict(zip(identities, contents, strict=True)), f"seed {seed}"
        for ahead in range(offset, offset + 50):
            assert index.find(laid(record(ahead)[0])) == {}, f"seed {seed}"
        index.close()
        reached = offset
