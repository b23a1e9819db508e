"""What /proc says of processes."""

from __future__ import annotations

import os

from benchmarks.machine import cpu_seconds, machine, resident_bytes


def test_a_process_that_works_takes_cpu_and_memory() -> None:
    """CPU grows by at least a tick of work, memory is what the kernel counts."""
    before = cpu_seconds({"self": [os.getpid()]})["self"]
    while cpu_seconds({"self": [os.getpid()]})["self"] == before:
        sum(range(10_000))
    assert resident_bytes({"self": [os.getpid()]})["self"] > 1024 * 1024


def test_a_process_that_is_gone_takes_nothing() -> None:
    """No pid is that large."""
    assert cpu_seconds({"gone": [2**30]}) == {"gone": 0.0}
    assert resident_bytes({"gone": [2**30]}) == {"gone": 0}


def test_the_machine_is_named() -> None:
    """A figure without its machine says nothing."""
    told = machine()
    assert told["cores"]
    assert told["cpu"]
    assert told["python"]
