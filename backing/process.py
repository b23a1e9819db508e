"""Processes of backing services: started in sessions of their own, known again by a mark in their environment.

A pid alone proves nothing, since the kernel gives it out again. A process is a service of a data dir if the
environment it was started with carries that service's mark; so a stale pid is never signalled, and a service
whose launcher died before it could note the pid is still found.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

MARK: Final = "TOLLGATE_SERVICE"
_POLL_S: Final = 0.05
_LARGEST_LOG_BYTES: Final = 10 * 1024 * 1024


def mark(name: str, data_dir: Path) -> str:
    """The value of MARK in the environment of the service `name` of a data dir, however the dir is spelled."""
    return f"{name}@{os.path.realpath(data_dir)}"


def start(arguments: Sequence[str], *, name: str, data_dir: Path, log: Path, environment: Mapping[str, str]) -> int:
    """Starts a service and returns its pid. Its output is appended to `log`; it outlives its starter and its
    terminal.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LARGEST_LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    program = shutil.which(arguments[0]) or arguments[0]
    pid = os.posix_spawn(
        program,
        list(arguments),
        {**environment, "TOLLGATE_DATA_DIR": str(data_dir), MARK: mark(name, data_dir)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
    )
    _await_mark(pid)
    return pid


def _await_mark(pid: int) -> None:
    """Waits until the new process can be known by its mark: for an instant within exec its environment reads empty."""
    while not Path(f"/proc/{pid}/environ").read_bytes():
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.001)


def is_running(pid: int, name: str, data_dir: Path) -> bool:
    """Whether `pid` is the service `name` of this data dir. A process that has ended but was not reaped is not."""
    _reap(pid)
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return f"{MARK}={mark(name, data_dir)}".encode() in environment.split(b"\0")


def find(name: str, data_dir: Path) -> list[int]:
    """The pids of all processes that are the service `name` of this data dir."""
    pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if is_running(pid, name, data_dir)]


def send(pid: int, number: signal.Signals, name: str, data_dir: Path) -> None:
    """Signals the service, if `pid` still is it."""
    if is_running(pid, name, data_dir):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def await_end(pid: int, name: str, data_dir: Path, bound: timedelta) -> bool:
    """Waits until the service has ended; False if it still runs after `bound`."""
    deadline = time.monotonic() + bound.total_seconds()
    while is_running(pid, name, data_dir):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _reap(pid: int) -> None:
    """Takes the exit status of a child of ours, so that it does not stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log, for an error's message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            return " | ".join(file.read().decode(errors="replace").strip().splitlines()[-lines:])
    except FileNotFoundError:
        return ""
