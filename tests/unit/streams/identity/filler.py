"""A process that fills an index with an endless ledger, for a test that kills it: `python -m … DIRECTORY`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from streams.identity import IdentityIndex, Limits, Position
from tests.fakes.digests import booked

BATCH = 200
LEDGER = "endless"
LIMITS = Limits(memtable_entries=500, replay_entries=5_000, slice_rows=100, load_rows=5_000, grace_seconds=0)

PUBLISHED_AFTER = 4 * LIMITS.memtable_entries // BATCH
"""Records after which something is on the disk, however slow the background is: four memtables are never in memory."""


def record(offset: int) -> tuple[list[bytes], list[bytes], Position]:
    """The ledger's record at this offset, and the position after it."""
    chance = random.Random(offset)
    identities = [chance.randbytes(16) for _ in range(BATCH)]
    return identities, [identity[8:] for identity in identities], Position(offset + 1, (offset + 1) * BATCH)


def main() -> None:
    index = IdentityIndex.open(Path(sys.argv[1]), LEDGER, limits=LIMITS)
    if index.position is None:
        index.bulk_load([], Position(0, 0))
    assert index.position is not None
    start = offset = index.position.ledger_offset
    while True:
        identities, contents, position = record(offset)
        index.add(booked(identities, contents), position)
        offset += 1
        if offset == start + PUBLISHED_AFTER:
            print("published", flush=True)


if __name__ == "__main__":
    main()
