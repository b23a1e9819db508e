"""One native backing service: start, wait until it answers, stop, kill, restart.

A service is its folder in the data dir and its entry in `services.json`. Its ports are chosen once and kept, or
are the ones of the URL that the settings give. Starting a running service does nothing; a dead one starts again
on its data. Errors: Unavailable (it did not come up), InvalidInput (a given URL that no native service can
have).
"""

from __future__ import annotations

import abc
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import unquote, urlsplit

import msgspec

from backing import ports, probe, process, state
from backing.state import ServiceState
from schemas.errors import InvalidInput, Unavailable
from schemas.settings import Settings, variable_of

Report = Callable[[str], None]

_POLL_S: Final = 0.1
_DYING_S: Final = 3.0
_PORT_TRIES: Final = 5
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost")


def silent(message: str) -> None:
    """The report of callers that show no progress."""


class Service(abc.ABC):
    """What the three native services have in common."""

    name: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]] = ("port",)
    setting: ClassVar[str]

    def __init__(self, settings: Settings, report: Report = silent) -> None:
        self.settings = settings
        self.data_dir = settings.data_dir
        self.folder = settings.data_dir / self.name
        self.log = settings.data_dir / "logs" / f"{self.name}.log"
        self.output = self.log
        self.report = report

    @abc.abstractmethod
    def fetch(self) -> None:
        """Gets the programs it needs onto the machine, before anything is locked."""

    @abc.abstractmethod
    def prepare(self, noted: ServiceState) -> list[str]:
        """Writes its configuration and returns the command that starts it."""

    @abc.abstractmethod
    def url_for(self, chosen: dict[str, int], password: str) -> str:
        """Where it answers with these ports."""

    @property
    def noted(self) -> ServiceState | None:
        """What is remembered of it."""
        return state.read(self.data_dir).services.get(self.name)

    @property
    def url(self) -> str:
        """Where it answers. Errors: Unavailable if it was never started."""
        if self.noted is None:
            raise Unavailable(f"{self.name} was never started in {self.data_dir}")
        return self.noted.url

    @property
    def pid(self) -> int | None:
        """The pid of the running service, None if it does not run."""
        noted = self.noted
        if noted is not None and noted.pid is not None and process.is_running(noted.pid, self.name, self.data_dir):
            return noted.pid
        found = process.find(self.name, self.data_dir)
        return found[0] if found else None

    def start(self) -> None:
        """Starts it if it does not run, and returns when it answers."""
        self.fetch()
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Starts it if it does not run; it may not answer yet."""
        with state.locked(self.data_dir / f"{self.name}.lock"):
            pid = self.pid
            noted = self.noted
            if pid is None or noted is None:
                self._end_unknown(pid)
                noted = self._addressed(noted)
                self.folder.mkdir(parents=True, exist_ok=True)
                command = self.prepare(noted)
                pid = process.start(
                    command, name=self.name, data_dir=self.data_dir, log=self.output, environment=os.environ
                )
            state.remember(self.data_dir, self.name, msgspec.structs.replace(noted, pid=pid))

    def wait(self) -> None:
        """Returns when it answers. A port that was taken meanwhile is chosen anew, unless it was given."""
        deadline = time.monotonic() + self.settings.start_timeout.total_seconds()
        moves = 0
        while True:
            try:
                probe.PROBES[self.name](self.url, probe.DEFAULT_TIMEOUT_S)
            except Unavailable as error:
                if self.pid is None:
                    # Ended in spite of a start: it answers neither now nor later, unless its port was the reason.
                    moves += 1
                    if self._given_port() is not None or not self._is_port_taken() or moves > _PORT_TRIES:
                        raise Unavailable(
                            f"{self.name} ended while it started ({self.output}): {process.tail(self.output)}"
                        ) from None
                    self.begin()
                if time.monotonic() >= deadline:
                    raise Unavailable(f"{error} (waited {self.settings.start_timeout}; see {self.log})") from None
                time.sleep(_POLL_S)
            else:
                return

    def stop(self) -> None:
        """Ends it in order: SIGTERM, and SIGKILL when the bound of the settings is over."""
        running = process.find(self.name, self.data_dir)
        for pid in running:
            process.send(pid, signal.SIGTERM, self.name, self.data_dir)
        for pid in running:
            if not process.await_end(pid, self.name, self.data_dir, self.settings.stop_timeout):
                self.report(f"{self.name}: did not stop within {self.settings.stop_timeout}, killed")
                self._kill(pid)
        if running:
            self.report(f"{self.name}: stopped")
        state.forget_pid(self.data_dir, self.name)

    def kill(self) -> None:
        """Ends it at once, as a crash does (SIGKILL)."""
        for pid in process.find(self.name, self.data_dir):
            self._kill(pid)

    def restart(self) -> None:
        """Stops it and starts it at the same address."""
        self.stop()
        self.start()

    def _kill(self, pid: int) -> None:
        process.send(pid, signal.SIGKILL, self.name, self.data_dir)
        if not process.await_end(pid, self.name, self.data_dir, self.settings.stop_timeout):
            raise Unavailable(f"{self.name} (pid {pid}) does not end on SIGKILL")

    def _end_unknown(self, pid: int | None) -> None:
        """A process of this service that nobody noted the address of (its launcher died) can only be ended."""
        if pid is not None:
            self._kill(pid)

    def _addressed(self, noted: ServiceState | None) -> ServiceState:
        """The noted address if it is still to be had, else new ports."""
        given_url = self.given_url()
        given_port = self._given_port()
        kept = noted.ports if noted is not None else {}
        chosen: dict[str, int] = {}
        for port_name in self.port_names:
            if port_name == "port" and given_port is not None:
                if not _comes_free(given_port):
                    raise Unavailable(f"{variable_of(self.setting)}: port {given_port} is taken by another program")
                chosen[port_name] = given_port
            elif port_name in kept and _comes_free(kept[port_name]):
                chosen[port_name] = kept[port_name]
            else:
                chosen[port_name] = ports.choose(chosen.values())
        if given_url is not None:
            password = unquote(urlsplit(given_url).password or "") if "://" in given_url else ""
            return ServiceState(url=str(given_url), ports=chosen, password=password)
        password = (noted.password if noted is not None else "") or secrets.token_urlsafe(24)
        return ServiceState(url=self.url_for(chosen, password), ports=chosen, password=password)

    def _is_port_taken(self) -> bool:
        noted = self.noted
        return noted is not None and not all(ports.is_free(port) for port in noted.ports.values())

    def given_url(self) -> str | None:
        """The URL that the settings want it at."""
        given: str | None = getattr(self.settings, self.setting)
        return given

    def _given_port(self) -> int | None:
        given = self.given_url()
        if given is None:
            return None
        try:
            parts = urlsplit(given if "://" in given else f"//{given}")
            port = parts.port
        except ValueError:
            port = None
        if port is None or parts.hostname not in _LOOPBACK_NAMES:
            raise InvalidInput(
                "setting",
                f"{variable_of(self.setting)}: a native {self.name} listens on 127.0.0.1 at a port that is given, "
                f"not at {probe.without_password(given)}",
            )
        return port


def _comes_free(port: int) -> bool:
    """Whether a port is free, if not at once then when the kernel is done with a process that died a moment ago: its
    memory, and with it its mark, goes before its sockets do."""
    deadline = time.monotonic() + _DYING_S
    while not ports.is_free(port):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def write_config(path: Path, text: str) -> None:
    """A configuration file that only its owner may read, since it may hold a password."""
    state.write_atomically(path, text.encode())
