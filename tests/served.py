"""`tollgate serve` on running services, as an operator starts it, and what can be asked of it from outside."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import httpx

from schemas.clickhouse import connect
from schemas.settings import Settings
from tests.deployment import Tollgate, end, pause, until

SERVING: Final = {"supervisor", "worker", "sink", "api"}
VISIBLE_S: Final = 120
READY_S: Final = 300


async def known(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """An answer, asked for again while its outcome is not known or nobody can tell."""
    for _ in range(100):
        answer = await ask()
        if answer.status_code not in (202, 503):
            return answer
        await asyncio.sleep(0.1)
    raise AssertionError(answer.text)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Served:
    """A running deployment."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = dataclasses.replace(settings, http_port=0)
        self.tollgate = Tollgate(self.settings)
        self.log = log
        assert settings.clickhouse_url is not None
        self._client = connect(settings.clickhouse_url)

    def ask(self, query: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Rows of a query on ClickHouse."""
        found: Sequence[Sequence[Any]] = self._client.query(query, parameters=parameters).result_rows
        return found

    def command(self, statement: str) -> None:
        """A statement on ClickHouse that has no rows to give."""
        self._client.command(statement)

    def outcomes(self, tenant: str) -> dict[str, int]:
        """Visible records of a tenant by outcome."""
        query = "SELECT outcome, count() FROM tollgate.event_outcomes WHERE tenant = {tenant:String} GROUP BY outcome"
        return {str(outcome): int(count) for outcome, count in self.ask(query, tenant=tenant)}

    def await_outcomes(self, tenant: str, count: int) -> dict[str, int]:
        """Waits until so many records of a tenant have an outcome that analysts see; what there is then."""
        begun = time.monotonic()
        while sum((found := self.outcomes(tenant)).values()) < count:
            assert time.monotonic() < begun + VISIBLE_S, f"{found}, {count} were sent\n{self.tail()}"
            pause(begun)
        return found

    def send(self, lines: Sequence[bytes]) -> None:
        """`tollgate events send` with these lines."""
        self.tollgate.send(b"\n".join(lines) + b"\n")

    def apply(self, catalog: Path, tenant: str) -> None:
        """`tollgate catalog apply` for a tenant."""
        self.tollgate("catalog", "apply", str(catalog), "--tenant", tenant)

    def reconcile(self, *options: str) -> tuple[int, dict[str, tuple[Any, Any]]]:
        """Exit code, and the equations that do not hold with both their sides."""
        done = self.tollgate("reconcile", "--json", *options, check=False, timeout_s=120)
        assert done.returncode in (0, 1), done.stderr
        document = json.loads(done.stdout)
        wrong = {
            equation["name"]: (equation["left"], equation["right"])
            for equation in document["equations"]
            if equation["difference"] not in (0, "0")
        }
        assert document["ok"] == (not wrong)
        return done.returncode, wrong

    def processes(self) -> list[dict[str, Any]]:
        """What the supervisor says of its processes, of those that live."""
        try:
            noted: list[dict[str, Any]] = json.loads((self.settings.data_dir / "processes.json").read_bytes())
        except FileNotFoundError:
            return []
        return [process for process in noted if is_alive(int(process["pid"]))]

    def pid(self, role: str) -> int:
        """The first process of a role."""
        return next(int(process["pid"]) for process in self.processes() if process["role"] == role)

    def is_ready(self) -> bool:
        """Whether every role is there and says that it does its work."""
        noted = self.processes()
        return {process["role"] for process in noted} >= SERVING and all(process["ready"] for process in noted)

    def kill(self, role: str) -> int:
        """Kills the first process of a role and waits until another has taken over; the other's pid."""
        before = self.pid(role)
        os.kill(before, signal.SIGKILL)
        until(lambda: before not in {process["pid"] for process in self.processes()} and self.is_ready(), READY_S)
        return self.pid(role)

    @contextlib.contextmanager
    def serving(self, *options: str) -> Iterator[Popen[bytes]]:
        """`tollgate serve`, every process ready; it must drain on SIGTERM and end with 0. Needs a catalogue."""
        with self.tollgate.started("serve", *options, log=self.log) as process:
            until(lambda: self.is_ready() or process.poll() is not None, READY_S)
            assert process.poll() is None, self.tail()
            yield process
            if process.poll() is None:
                assert end(process) == 0, self.tail()

    def tail(self) -> str:
        """The end of what the processes logged."""
        return self.log.read_text()[-3000:] if self.log.exists() else ""
