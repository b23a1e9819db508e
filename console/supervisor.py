"""One process that keeps others alive: starts each role, starts again what dies, drains all on SIGTERM or SIGINT.

A child that dies is started again without limit, after a back-off of at most BACKOFF_MAX_SECONDS that falls back to the
least once it has lived for a while. Children share the process group's terminal but not its Ctrl-C: the supervisor
alone hears it and passes SIGTERM on, so that everything drains in order. `processes.json` in the data dir says who
runs, so a data dir has one supervisor at a time: a second is refused (Conflict).
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from prometheus_client import CollectorRegistry

from backing.state import locked, write_atomically
from schemas.errors import Conflict
from schemas.metrics import PROCESS_RESTARTS
from schemas.settings import Settings

log = logging.getLogger(__name__)

BACKOFF_MIN_SECONDS: Final = 0.1
BACKOFF_MAX_SECONDS: Final = 2.0
STEADY_SECONDS: Final = 10.0
"""A child that lived this long starts again without waiting."""

DRAIN_SECONDS: Final = 25.0
"""After SIGTERM a child has this long before SIGKILL: what it then leaves undone was never acknowledged."""

FILE: Final = "processes.json"
TARGETS_FILE: Final = "prometheus.json"
"""The same processes as Prometheus's file discovery reads them."""
LOCK: Final = "serve.lock"
TELL_SECONDS: Final = 0.5
SUPERVISOR_VARIABLE: Final = "TOLLGATE_SUPERVISOR_PID"
PR_SET_PDEATHSIG: Final = 1
"""linux/prctl.h"""


class Role(NamedTuple):
    """A child: the subcommand it runs, and its number among those that run the same."""

    name: str
    number: int


def supervise(settings: Settings, roles: list[Role], registry: CollectorRegistry | None = None) -> int:
    """Runs until SIGTERM or SIGINT and then until every child has ended; the exit code."""

    def refuse() -> None:
        raise Conflict("running", f"`tollgate serve` runs in {settings.data_dir} already; `tollgate status` shows it")

    with locked(settings.data_dir / LOCK, refuse):
        return asyncio.run(_Supervisor(settings, roles, registry or CollectorRegistry()).run())


class _Supervisor:
    def __init__(self, settings: Settings, roles: list[Role], registry: CollectorRegistry) -> None:
        self._settings = settings
        self._restarts = PROCESS_RESTARTS.on(registry)
        for role in roles:
            self._restarts.labels(role.name)  # 0 from the start, so that the first one shows as a rate
        self._roles = roles
        self._stopping = asyncio.Event()
        self._children: dict[Role, asyncio.subprocess.Process] = {}

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        telling = asyncio.create_task(self._tell())
        try:
            await asyncio.gather(*(self._keep(role) for role in self._roles))
        finally:
            telling.cancel()
            for name in (FILE, TARGETS_FILE):
                (self._settings.data_dir / name).unlink(missing_ok=True)
        return 0

    async def _keep(self, role: Role) -> None:
        """Keeps one child alive until told to stop, then drains it."""
        backoff = BACKOFF_MIN_SECONDS
        while not self._stopping.is_set():
            begun = time.monotonic()
            child = await self._start(role)
            ended = asyncio.create_task(child.wait())
            told = asyncio.create_task(self._stopping.wait())
            await asyncio.wait((ended, told), return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if self._stopping.is_set():
                await self._drain(role, child, ended)
                return
            self._forget(role)
            backoff = BACKOFF_MIN_SECONDS if time.monotonic() - begun > STEADY_SECONDS else backoff
            self._restarts.labels(role.name).inc()
            log.warning("%s %d ended with %s; starting again in %.1f s", *role, child.returncode, backoff)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff)
            backoff = min(backoff * 2, BACKOFF_MAX_SECONDS)

    async def _start(self, role: Role) -> asyncio.subprocess.Process:
        environment = {**os.environ, **self._settings.environment(), SUPERVISOR_VARIABLE: str(os.getpid())}
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "console.main",
            role.name,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            process_group=0,
        )
        # Left by a process that nobody waited for. This one says nothing yet: it has hardly begun.
        _wipe(self._settings.data_dir, child.pid)
        self._children[role] = child
        return child

    async def _drain(self, role: Role, child: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        if child.returncode is None:
            child.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(ended), DRAIN_SECONDS)
        except TimeoutError:
            log.error("%s %d did not drain in %.0f s and is killed", *role, DRAIN_SECONDS)
            child.kill()
            await ended
        self._forget(role)

    def _forget(self, role: Role) -> None:
        """A pid is another process's one day: what this one said of itself goes with it."""
        _wipe(self._settings.data_dir, self._children.pop(role).pid)

    async def _tell(self) -> None:
        """Says who runs, for `tollgate status` and for whoever wants to kill one on purpose."""
        written = b""
        data_dir = self._settings.data_dir
        while True:
            found = [("supervisor", os.getpid(), True)]
            found += [(role.name, child.pid, is_ready(data_dir, child.pid)) for role, child in self._children.items()]
            processes = [
                {"role": role, "pid": pid, "ready": ready, "metrics": _metrics_of(data_dir, pid)}
                for role, pid, ready in found
            ]
            content = msgspec.json.encode(processes)
            if content != written:
                write_atomically(data_dir / FILE, content)
                write_atomically(data_dir / TARGETS_FILE, msgspec.json.encode(_targets(processes)), mode=0o644)
                written = content
            await asyncio.sleep(TELL_SECONDS)


def is_ready(data_dir: Path, pid: int) -> bool:
    """Whether a child said so."""
    return _mark(data_dir, pid).exists()


def say_ready(data_dir: Path, ready: bool) -> None:
    """Called in a child: whether it does its work now."""
    mark = _mark(data_dir, os.getpid())
    if not ready:
        mark.unlink(missing_ok=True)
    elif not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def say_metrics(data_dir: Path, url: str) -> None:
    """Called in a process: where it shows its metrics."""
    write_atomically(_mark(data_dir, os.getpid(), "metrics"), url.encode())


def _metrics_of(data_dir: Path, pid: int) -> str | None:
    try:
        return _mark(data_dir, pid, "metrics").read_text()
    except FileNotFoundError:
        return None


def _targets(processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"targets": [urlsplit(process["metrics"]).netloc], "labels": {"role": process["role"]}}
        for process in processes
        if process["metrics"] is not None
    ]


def _mark(data_dir: Path, pid: int, kind: str = "ready") -> Path:
    return data_dir / "run" / f"{pid}.{kind}"


def _wipe(data_dir: Path, pid: int) -> None:
    for kind in ("ready", "metrics"):
        _mark(data_dir, pid, kind).unlink(missing_ok=True)


def end_with_supervisor() -> None:
    """Called in a child: the kernel sends it SIGTERM when its supervisor ends, also by kill -9."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor):
        sys.exit("the supervisor is gone")
