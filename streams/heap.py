"""Memory as a process that serves wants it: what it has had it keeps.

A worker takes a batch's worth of memory every second and gives it back. Handed back to the kernel, each page of it is
cleared and mapped anew for the next batch: page faults were 14 of a hundred parts of a worker's CPU while it began on a
backlog. What is kept here saves a worker 0.5 of 13.6 microseconds an event and a sink 0.2 of 1.8 (`tollgate bench`).
"""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Of mallopt(3)."""
_KEPT_BYTES: Final = 2**30
"""Free memory at the heap's end that is kept."""
_STEP_BYTES: Final = 16 * 2**20
_MAPPED_BYTES: Final = 32 * 2**20
"""Larger blocks alone are mapped by themselves, and so given back; the most that glibc takes."""

_ARENAS: Final = 1
"""Threads that each keep what they had keep it for nobody else."""

_PIN_BYTES: Final = 400
"""Of a size that Python has from its arenas."""
_PINS_PER_MEBIBYTE: Final = 2_300
_KEPT_PIN: Final = 1_000
"""Of the values that fill the arenas each so many stays: at least two in each arena, which is a mebibyte."""

_pins: list[bytes] = []


def keep() -> None:
    """Large blocks that were freed stay with the process. Without glibc this does nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (_TRIM_THRESHOLD, _KEPT_BYTES),
            (_TOP_PAD, _STEP_BYTES),
            (_MMAP_THRESHOLD, _MAPPED_BYTES),
            (_ARENA_MAX, _ARENAS),
        ):
            mallopt(parameter, value)


def reserve(mebibytes: int) -> None:
    """Takes so much for small values, and never gives it back: Python returns an arena only when it is all empty."""
    filling = [bytes(_PIN_BYTES) for _ in range(mebibytes * _PINS_PER_MEBIBYTE)]
    _pins.extend(filling[::_KEPT_PIN])
