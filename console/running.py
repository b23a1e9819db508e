"""A deployment that a command needs for a while: attached to if it runs, started otherwise, and then ended again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from backing import launch, state
from backing.status import processes, services
from console.supervisor import DRAIN_SECONDS, SUPERVISOR_VARIABLE
from schemas.errors import Unavailable
from schemas.settings import Settings

READY_SECONDS: Final = 180.0
STOP_SECONDS: Final = DRAIN_SECONDS + 10.0

Report = Callable[[str], None]


@contextmanager
def deployment(
    settings: Settings, report: Report, prepare: Callable[[Settings], None], workers: int = 1
) -> Iterator[Settings]:
    """Backing services and processes of ours, ready; the settings with addresses filled in.

    `prepare` is called once the services answer: workers are not ready before there is a catalogue. What ran before
    goes on afterwards; what was started here is ended, also on Ctrl-C.
    """
    ran_before = all(service.ready for service in services(settings).values())
    ready = None
    try:
        ready = launch.up(settings, report=report)
        prepare(ready)
        with _serving(ready, report, workers):
            yield ready
    finally:
        with _uninterrupted():
            if not ran_before and (ready is None or state.read(settings.data_dir).backend != "external"):
                launch.down(settings, report=report)


@contextmanager
def _serving(settings: Settings, report: Report, workers: int) -> Iterator[None]:
    if any(process.role == "supervisor" for process in processes(settings)):
        report("processes: attached to the ones that run")
        _await_ready(settings, None)
        yield
        return
    log = settings.data_dir / "logs" / "serve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Ends with this process, however that ends.
    environment = {**os.environ, **settings.environment(), SUPERVISOR_VARIABLE: str(os.getpid())}
    if "TOLLGATE_HTTP_PORT" not in os.environ:
        environment["TOLLGATE_HTTP_PORT"] = "0"
    serve: subprocess.Popen[bytes] | None = None
    try:
        report("processes: starting API, worker and sink")
        with _uninterrupted(), log.open("ab") as file:
            serve = subprocess.Popen(
                [sys.executable, "-m", "console.main", "serve", "--workers", str(workers)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        _await_ready(settings, serve)
        yield
    finally:
        with _uninterrupted():
            if serve is not None:
                _end(serve, report)


def _end(serve: subprocess.Popen[bytes], report: Report) -> None:
    serve.terminate()
    try:
        serve.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        report("processes: did not drain and are killed")
        serve.kill()
        serve.wait()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A Ctrl-C or SIGTERM that comes meanwhile is heard at the end: not between starting a process and knowing of it,
    and not while things are ended, which is bounded."""
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: heard.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])


def _await_ready(settings: Settings, serve: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        found = processes(settings)
        if {process.role for process in found} >= {"worker", "sink", "api"} and all(one.ready for one in found):
            return
        if serve is not None and serve.poll() is not None:
            raise Unavailable(f"`tollgate serve` ended with {serve.returncode}; see {settings.data_dir}/logs/serve.log")
        time.sleep(0.1)
    raise Unavailable(
        f"the processes are not ready after {READY_SECONDS:.0f} s; see {settings.data_dir}/logs/serve.log"
    )
