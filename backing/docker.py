"""The docker backend: the three services of `docker-compose.yml`, with the official images, by `docker compose`.

Each data dir is a compose project of its own, with ports and passwords of its own, so that two run side by side.
Errors: Unavailable (no engine, no compose, an image that cannot be had).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from backing import ports, state
from backing.external import await_answer
from backing.service import Report
from backing.state import ServiceState
from schemas.errors import Unavailable
from schemas.settings import Settings

PARTITIONS: Final = 64
"""Partitions of a deployment in Docker, where nobody chose another number."""

_ASK_TIMEOUT_S: Final = 10


def compose_file() -> Path | None:
    """The compose file: beside the packages in a checkout, inside `backing` in an installed wheel."""
    here = Path(__file__).resolve().parent
    for candidate in (here.parent / "docker-compose.yml", here / "docker-compose.yml"):
        if candidate.exists():
            return candidate
    return None


def answers() -> bool:
    """Whether an engine answers and compose is there."""
    return compose_file() is not None and _says_yes("docker", "info") and _says_yes("docker", "compose", "version")


def _says_yes(*command: str) -> bool:
    try:
        subprocess.run(command, capture_output=True, timeout=_ASK_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def project(data_dir: Path) -> str:
    """The compose project of a data dir."""
    return f"tollgate-{hashlib.sha256(os.path.realpath(data_dir).encode()).hexdigest()[:10]}"


def start(settings: Settings, wanted: Collection[str], report: Report) -> None:
    """Starts the services and returns when each answers from here."""
    addressed = _addressed(state.read(settings.data_dir).services, wanted)
    for name, service in addressed.items():
        state.remember(settings.data_dir, name, service)
    report("docker: starting containers")
    _compose(settings.data_dir, addressed, "up", "--detach", "--wait", *wanted)
    for name in wanted:
        await_answer(settings, name, addressed[name].url)


def stop(settings: Settings, *, purge: bool, report: Report) -> None:
    """Ends the containers; with `purge` their volumes too."""
    report("docker: stopping containers")
    noted = state.read(settings.data_dir).services
    _compose(settings.data_dir, noted, "down", "--remove-orphans", *(["--volumes"] if purge else []))


def _addressed(noted: Mapping[str, ServiceState], wanted: Collection[str]) -> dict[str, ServiceState]:
    """Ports and passwords once chosen stay: the containers' volumes know the passwords."""
    chosen: dict[str, ServiceState] = {}
    taken: set[int] = set()
    for name in wanted:
        if name in noted and noted[name].ports:
            chosen[name] = noted[name]
        else:
            port, password = ports.choose(taken), secrets.token_urlsafe(24)
            chosen[name] = ServiceState(url=_url(name, port, password), ports={"port": port}, password=password)
        taken.add(chosen[name].ports["port"])
    return chosen


def _url(name: str, port: int, password: str) -> str:
    at = f"{ports.LOOPBACK}:{port}"
    return {"kafka": at, "redis": f"redis://:{password}@{at}", "clickhouse": f"http://tollgate:{password}@{at}"}[name]


def _compose(data_dir: Path, services: Mapping[str, ServiceState], *arguments: str) -> None:
    environment = dict(os.environ)
    for name, service in services.items():
        environment[f"{name.upper()}_PORT"] = str(service.ports.get("port", ""))
        environment[f"{name.upper()}_PASSWORD"] = service.password
    command = ["docker", "compose", "--file", str(compose_file()), "--project-name", project(data_dir), *arguments]
    try:
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise Unavailable("the program `docker` is not there") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"`docker compose {arguments[0]}` failed: {error.stderr.strip()[-500:]}") from None
