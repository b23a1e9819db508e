"""Memory that a process has had stays with it: taken again it costs no page fault."""

from __future__ import annotations

import subprocess
import sys

from tests.deployment import ROOT

MEBIBYTE = 2**20
PAGE = 4_096

SMALL = """
heap.reserve({reserved})
def batch():
    values = [bytes(400) for _ in range(70_000)]  # some 30 MiB
batch()
"""
LARGE = """
{keep}
def batch():
    values = [b"x" * (4 * MEBIBYTE) for _ in range(8)]
    assert all(values)
batch()
"""
COUNTED = """
import resource
from streams import heap
MEBIBYTE = 2**20
{prepare}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(prepare: str) -> int:
    """Page faults of a batch that follows on another one."""
    program = COUNTED.format(prepare=prepare)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_small_values_are_made_where_others_were() -> None:
    """Of 30 MiB each page faulted again, were the arenas handed back."""
    assert faults(SMALL.format(reserved=48)) < 30 * MEBIBYTE // PAGE // 10
    assert faults(SMALL.format(reserved=0)) > 30 * MEBIBYTE // PAGE // 2


def test_large_blocks_are_made_where_others_were() -> None:
    """Of 32 MiB in blocks of 4."""
    assert faults(LARGE.format(keep="heap.keep()")) < 32 * MEBIBYTE // PAGE // 3
    assert faults(LARGE.format(keep="")) > 32 * MEBIBYTE // PAGE // 2
