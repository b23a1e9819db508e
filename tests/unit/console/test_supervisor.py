"""The supervisor with children that end at once: it goes on, waits a little longer each time, and drains when told."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backing.state import locked
from console.supervisor import FILE, LOCK, Role, is_ready, say_ready, supervise
from schemas.errors import Conflict
from schemas.settings import Settings

ENDS_AT_ONCE = Role("no-such-command", 0)


def settings_in(data_dir: Path) -> Settings:
    return Settings.from_environment({}, data_dir=data_dir)


@pytest.fixture
def after() -> Iterator[Callable[[float, Callable[[], object]], None]]:
    """Calls something in this very process after some seconds, as a signal would come."""
    before = signal.getsignal(signal.SIGALRM)

    def call(seconds: float, what: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: what())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield call
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


After = Callable[[float, Callable[[], object]], None]


def test_a_child_that_ends_at_once_is_started_again_with_a_growing_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, after: After
) -> None:
    """The wait doubles from a tenth of a second, and whoever is told to stop waits no longer."""

    def waits() -> list[object]:
        return [record.args[3] for record in caplog.records if isinstance(record.args, tuple)]

    def look() -> None:
        if len(waits()) < 2:
            after(0.2, look)
        else:
            terminate()

    after(0.2, look)
    with caplog.at_level(logging.WARNING, "console.supervisor"):
        assert supervise(settings_in(tmp_path), [ENDS_AT_ONCE]) == 0
    assert waits()[:2] == [0.1, 0.2]


def test_a_data_dir_has_one_supervisor(tmp_path: Path) -> None:
    """A second is refused and leaves what the first says of itself."""
    (tmp_path / FILE).write_text("[]")
    with locked(tmp_path / LOCK), pytest.raises(Conflict, match="already"):
        supervise(settings_in(tmp_path), [ENDS_AT_ONCE])
    assert (tmp_path / FILE).exists()


def test_who_runs_is_told_and_taken_back(tmp_path: Path, after: After) -> None:
    """`processes.json` names the supervisor while it runs, and is gone afterwards."""
    told: list[object] = []

    def look() -> None:
        told.extend(json.loads((tmp_path / FILE).read_bytes()))
        terminate()

    after(1, look)
    assert supervise(settings_in(tmp_path), [ENDS_AT_ONCE]) == 0
    assert told[0] == {"role": "supervisor", "pid": os.getpid(), "ready": True, "metrics": None}
    assert not (tmp_path / FILE).exists()


def test_readiness_is_a_mark_that_a_process_makes_and_takes_back(tmp_path: Path) -> None:
    """Saying the same twice is no error."""
    for ready in (True, True, False, False):
        say_ready(tmp_path, ready)
        assert is_ready(tmp_path, os.getpid()) == ready
    assert not is_ready(tmp_path, 1)
