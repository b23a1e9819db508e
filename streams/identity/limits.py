"""The bounds of an index, and what one holds and takes within them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of an index."""

    memtable_entries: int = 32_768
    """Identities in memory before they become a run: some 7 MB, written in some 10 ms."""
    replay_entries: int = 524_288
    """Ledger entries after the manifest's position before it is published anew: what a crash makes one fold again."""
    fan_in: int = 4
    """Runs of a tier that become one: more of them means fewer writes and more filters to ask."""
    slice_rows: int = 4_096
    """Rows of each run that are merged at once: a millisecond, in memory that fits a core's cache."""
    load_rows: int = 1_048_576
    """Identities sorted at once by `bulk_load`: some 100 MB while it runs."""
    grace_seconds: float = 900.0
    """How long files that the manifest does not list are kept: longer than a stopped worker is expected to sleep."""

    def __post_init__(self) -> None:
        if not (self.memtable_entries >= 1 and self.fan_in >= 2 and self.slice_rows >= 1 and self.grace_seconds >= 0):
            raise ValueError(f"an index can not work within {self}")
        if not self.memtable_entries <= min(self.replay_entries, self.load_rows):
            raise ValueError("a memtable is never larger than what is folded again or loaded at once")


@dataclass(frozen=True, slots=True)
class Size:
    """What an index holds and takes: identities (those added twice counted twice until they merge), runs, bytes."""

    identities: int
    memtable_entries: int
    runs: int
    disk_bytes: int
    filter_bytes: int
