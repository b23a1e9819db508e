"""`tollgate serve` as a supervisor of real processes: what dies comes back, what is told to drain drains."""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Iterator

import pytest

import console.demo
from console.serve import BEHIND
from schemas.settings import Settings
from tests.deployment import until
from tests.served import Served, is_alive


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """It serves until its supervisor is killed."""
    made = Served(services, tmp_path_factory.mktemp("supervisor") / "serve.log")
    made.apply(console.demo.CATALOGUE, f"supervisor-{uuid.uuid4().hex[:12]}")
    with made.serving():
        yield made


@pytest.fixture
def pids(served: Served) -> dict[str, int]:
    """Of its processes, by role."""
    return {process["role"]: process["pid"] for process in served.processes()}


def test_each_child_that_is_killed_is_started_again(served: Served) -> None:
    """Three times each, and the others go on; the back-off never takes longer than two seconds."""
    for role in ("worker", "sink", "api"):
        for _ in range(3):
            others = {process["pid"] for process in served.processes() if process["role"] != role}
            before = served.pid(role)
            os.kill(before, signal.SIGKILL)
            until(lambda: before not in {process["pid"] for process in served.processes()}, 10)  # noqa: B023  # called at once
            until(lambda: any(process["role"] == role for process in served.processes()), 5)  # noqa: B023
            assert {process["pid"] for process in served.processes()} > others
    until(served.is_ready)
    waits = re.findall(r"starting again in (\S+) s", served.log.read_text())
    assert len(waits) == 9
    assert all(float(wait) <= 2 for wait in waits)


def test_whoever_somebody_waits_for_goes_first(pids: dict[str, int]) -> None:
    """The API answers before a backlog is worked through: worker, sink and jobs are nicer than it."""
    nice = {role: os.getpriority(os.PRIO_PROCESS, pid) for role, pid in pids.items()}
    assert {role: value - nice["api"] for role, value in nice.items() if role != "supervisor"} == {
        "api": 0,
        "worker": BEHIND,
        "sink": BEHIND,
        "scheduler": BEHIND,
    }


def test_a_supervisor_that_is_killed_takes_its_children_with_it(served: Served, pids: dict[str, int]) -> None:
    """Nobody is left to start them again, so none may go on alone; what comes next starts afresh."""
    os.kill(pids["supervisor"], signal.SIGKILL)
    until(lambda: not any(is_alive(pid) for pid in pids.values()), 30)
    with served.serving():
        assert served.pid("worker") != pids["worker"]
