"""Real backing services for tests, and the `tollgate` command as a user runs it.

Docker (testcontainers, the images of docker-compose.yml) where an engine answers and has the images; else the native
launcher. Whoever starts a deployment here ends it here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from backing import launch, ports
from backing.service import silent
from schemas.settings import PREFIX, Settings
from tests import loaded

ROOT: Final = Path(__file__).resolve().parent.parent
_CONTAINER_PORTS: Final = {"kafka": 9092, "redis": 6379, "clickhouse": 8123}


PARTITIONS: Final = 4
"""Half of what a deployment has by itself: a tenth of what its start costs, and no other promise."""


def settings_in(data_dir: Path, **given: Any) -> Settings:
    """Settings of a data dir that nothing outside the test has a say in."""
    return Settings.from_environment({}, data_dir=data_dir, **{"partitions": PARTITIONS, **given})


@contextlib.contextmanager
def running(data_dir: Path, **given: Any) -> Iterator[Settings]:
    """A deployment of its own, ready for work; gone when the block is left, however it is left."""
    settings = settings_in(data_dir, **given)
    with contextlib.ExitStack() as stack:
        stack.callback(launch.down, settings, purge=True, report=silent)
        contained = _in_containers(stack)
        if contained is not None:
            yield launch.up(settings_in(data_dir, **given, **contained), backend="external")
        else:
            yield launch.up(settings, backend="native")


def _in_containers(stack: contextlib.ExitStack) -> dict[str, str] | None:
    """URLs of the three services in containers, None where Docker is not to be had."""
    import docker

    try:
        docker.from_env(timeout=5).ping()
    except docker.errors.DockerException:
        return None
    from testcontainers.core.container import DockerContainer

    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    chosen: dict[str, int] = {}
    words = {name: secrets.token_hex(8) for name in _CONTAINER_PORTS}
    try:
        for name, inside in _CONTAINER_PORTS.items():
            chosen[name] = ports.choose(chosen.values())
            variables = {f"{name.upper()}_PORT": str(chosen[name]), f"{name.upper()}_PASSWORD": words[name]}
            declared = compose["services"][name]
            container = DockerContainer(declared["image"]).with_bind_ports(inside, chosen[name])
            for variable, value in declared.get("environment", {}).items():
                container.with_env(variable, substituted(str(value), variables))
            if "command" in declared:
                container.with_command([substituted(word, variables) for word in declared["command"]])
            container.start()
            stack.callback(container.stop)
    except docker.errors.DockerException as error:
        print(f"Docker answers but cannot run {name}: {error}", file=sys.stderr)
        return None
    return {
        "kafka_bootstrap": f"127.0.0.1:{chosen['kafka']}",
        "redis_url": f"redis://:{words['redis']}@127.0.0.1:{chosen['redis']}",
        "clickhouse_url": f"http://tollgate:{words['clickhouse']}@127.0.0.1:{chosen['clickhouse']}",
    }


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME:-default}` and `$$` as docker compose reads them."""
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1], found[2]), text)
    return filled.replace("$$", "$")


def until(condition: Callable[[], object], bound_s: float = 60) -> None:
    """Returns once the condition holds; fails the test if it does not come to it."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() >= begun + bound_s:
            raise AssertionError(f"{getattr(condition, '__name__', 'the condition')} did not hold within {bound_s} s")
        pause(begun)


@contextlib.contextmanager
def halted(*pids: int) -> Iterator[None]:
    """Processes stand still until the block is left.

    A signal alone is a request: a process whose threads wait for a CPU goes on for a while, and may answer once more.
    """
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            until(functools.partial(_stands_still, pid))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Whether no thread of a process runs, or can."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "TZ":
                return False
    return True


def pause(begun: float) -> None:
    """Between two looks at what was to come since `begun` (time.monotonic): the longer it takes, the longer, since who
    is asked has the same two cores.
    """
    time.sleep(min(0.3, 0.02 + (time.monotonic() - begun) / 10))


@dataclasses.dataclass(frozen=True)
class Tollgate:
    """The command line against one deployment, as processes of its own."""

    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, with the deployment's settings and no other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {**kept, **self.settings.environment()}

    def __call__(
        self, *arguments: str, stdin: str | bytes | None = None, check: bool = True, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end. With `check` an exit code other than 0 fails the test, showing what was
        said.
        """
        given = stdin.encode() if isinstance(stdin, str) else stdin or b""
        ended = loaded.run([*arguments], stdin=given, env=self.environment, timeout_s=timeout_s)
        done = subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())
        if check and done.returncode != 0:
            raise AssertionError(
                f"tollgate {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def send(self, events: bytes) -> None:
        """`tollgate events send` with these lines, which need not be text."""
        self("events", "send", "-", stdin=events)

    @contextlib.contextmanager
    def started(self, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A long-running command, in a session of its own, its output in `log`; ended when the block is left."""
        with log.open("ab") as output:
            running_process = subprocess.Popen(
                self.command(*arguments),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield running_process
        finally:
            end(running_process)

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """The argument list, for tests that start processes themselves."""
        return loaded.command(arguments)


def end(running_process: subprocess.Popen[bytes], bound_s: float = 30) -> int:
    """SIGTERM and, after the bound, SIGKILL to the process and whatever is left of its session; its exit code."""
    if running_process.poll() is None:
        running_process.terminate()
        try:
            running_process.wait(bound_s)
        except subprocess.TimeoutExpired:
            running_process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running_process.pid, signal.SIGKILL)
    return running_process.wait()
