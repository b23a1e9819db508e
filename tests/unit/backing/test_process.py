"""A process is known by its mark, never by its pid alone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backing import process
from tests.deployment import until

BOUND = timedelta(seconds=20)
SLEEPER = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True); time.sleep(600)",
]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[int]:
    """A service called `sleeper`."""
    pid = process.start(SLEEPER, name="sleeper", data_dir=tmp_path, log=tmp_path / "log", environment=os.environ)
    yield pid
    process.send(pid, signal.SIGKILL, "sleeper", tmp_path)
    assert process.await_end(pid, "sleeper", tmp_path, BOUND)


def test_a_service_is_found_by_its_mark(started: int, tmp_path: Path) -> None:
    """It is found without its pid, and not as a service of another name or data dir."""
    assert process.find("sleeper", tmp_path) == [started]
    assert process.find("other", tmp_path) == []
    assert process.find("sleeper", tmp_path / "other") == []


def test_a_data_dir_may_be_spelled_in_two_ways(started: int, tmp_path: Path) -> None:
    """A symbolic link to the data dir is the data dir."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert process.is_running(started, "sleeper", link)


def test_a_service_inherits_the_data_dir(started: int, tmp_path: Path) -> None:
    """TOLLGATE_DATA_DIR is in its environment."""
    assert f"TOLLGATE_DATA_DIR={tmp_path}".encode() in Path(f"/proc/{started}/environ").read_bytes().split(b"\0")


def test_a_service_is_in_a_session_of_its_own(started: int) -> None:
    """What ends the terminal of its starter does not end it."""
    assert os.getsid(started) == started != os.getsid(0)


def test_another_process_with_a_noted_pid_is_never_signalled(tmp_path: Path) -> None:
    """A reused pid is no service of ours: the test that signals itself goes on."""
    process.send(os.getpid(), signal.SIGKILL, "sleeper", tmp_path)
    assert not process.is_running(os.getpid(), "sleeper", tmp_path)


def test_a_process_that_ended_does_not_run(tmp_path: Path) -> None:
    """Its pid is free at once, though nobody waited for it by hand."""
    pid = process.start([sys.executable, "-c", ""], name="s", data_dir=tmp_path, log=tmp_path / "log", environment={})
    assert process.await_end(pid, "s", tmp_path, BOUND)
    assert process.find("s", tmp_path) == []


def test_a_process_that_does_not_end_is_told(tmp_path: Path) -> None:
    """Waiting for the end of one that ignores SIGTERM is over after the bound, with the answer that it runs."""
    log = tmp_path / "log"
    pid = process.start(STUBBORN, name="s", data_dir=tmp_path, log=log, environment=os.environ)
    until(lambda: "begun" in log.read_text())
    process.send(pid, signal.SIGTERM, "s", tmp_path)
    assert not process.await_end(pid, "s", tmp_path, timedelta(milliseconds=100))
    process.send(pid, signal.SIGKILL, "s", tmp_path)
    assert process.await_end(pid, "s", tmp_path, BOUND)


def test_output_is_appended_to_the_log(tmp_path: Path) -> None:
    """Two starts leave both outputs, and an error's message can show the end."""
    log = tmp_path / "logs" / "s.log"
    for word in ("one", "two"):
        command = [sys.executable, "-c", f"print({word!r})"]
        pid = process.start(command, name="s", data_dir=tmp_path, log=log, environment={})
        assert process.await_end(pid, "s", tmp_path, BOUND)
    assert process.tail(log) == "one | two"
    assert process.tail(tmp_path / "none") == ""


def test_a_large_log_is_set_aside(tmp_path: Path) -> None:
    """A start on a log beyond the bound begins a new one and keeps one old one."""
    log = tmp_path / "s.log"
    with log.open("wb") as file:
        file.truncate(11 * 1024 * 1024)
    pid = process.start([sys.executable, "-c", ""], name="s", data_dir=tmp_path, log=log, environment={})
    assert process.await_end(pid, "s", tmp_path, BOUND)
    assert log.stat().st_size == 0
    assert (tmp_path / "s.log.1").stat().st_size == 11 * 1024 * 1024
