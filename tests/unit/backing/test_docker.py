"""The compose file holds together, and says what the native services are told too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from backing import docker
from backing.state import ServiceState
from schemas.errors import Unavailable
from schemas.settings import PREFIX, Settings
from schemas.topics import LARGEST_BATCH_BYTES
from tests.deployment import ROOT, substituted

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
BACKING = {"kafka", "redis", "clickhouse"}
OURS = {"api", "worker", "sink"}


def test_backing_services_and_our_processes_are_there() -> None:
    """Three services, our processes, and the one step that sets them up."""
    assert set(COMPOSE["services"]) == BACKING | OURS | {"setup"}


def test_images_are_official_and_pinned() -> None:
    """No `latest` of somebody else's."""
    images = {name: COMPOSE["services"][name]["image"] for name in BACKING}
    assert re.fullmatch(r"apache/kafka:4\.1\.\d+", images["kafka"])
    assert re.fullmatch(r"redis:7\.\d+-alpine", images["redis"])
    assert re.fullmatch(r"clickhouse/clickhouse-server:2[56]\.\d+", images["clickhouse"])


@pytest.mark.parametrize("name", sorted(BACKING))
def test_a_backing_service_is_checked_kept_and_private(name: str) -> None:
    """A health check, a named volume, a port on loopback only."""
    service = COMPOSE["services"][name]
    assert service["healthcheck"]["test"]
    assert all(volume.split(":")[0] in COMPOSE["volumes"] for volume in service["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert f"${{{name.upper()}_PORT:-" in service["ports"][0]


def test_our_processes_wait_for_what_they_need() -> None:
    """`setup` waits for healthy services, everything else of ours for a finished setup."""
    services = COMPOSE["services"]
    assert services["setup"]["depends_on"] == {name: {"condition": "service_healthy"} for name in BACKING}
    for name in OURS:
        assert services[name]["depends_on"] == {"setup": {"condition": "service_completed_successfully"}}
        assert services[name]["command"] == [name]
        assert services[name]["image"] == services["setup"]["image"]


def test_our_processes_are_told_settings_that_exist() -> None:
    """Every TOLLGATE_ variable in the file is a setting with a value that it accepts."""
    for name in OURS | {"setup"}:
        given = {
            variable: substituted(str(value), {})
            for variable, value in COMPOSE["services"][name]["environment"].items()
            if variable.startswith(PREFIX)
        }
        settings = Settings.from_environment(given)
        assert settings.partitions == docker.PARTITIONS == 64
        assert settings.backend == "external"
        assert set(given) <= set(settings.environment()) | {key for key, value in given.items() if not value}


def test_kafka_has_the_bounds_that_the_native_one_has() -> None:
    """What the rest of Tollgate relies on does not depend on the backend."""
    environment = COMPOSE["services"]["kafka"]["environment"]
    assert environment["KAFKA_MESSAGE_MAX_BYTES"] == environment["KAFKA_REPLICA_FETCH_MAX_BYTES"] == LARGEST_BATCH_BYTES
    assert environment["KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS"] == 1000
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_two_data_dirs_are_two_projects(tmp_path: Path) -> None:
    """Containers, volumes and networks of one are not those of the other."""
    assert docker.project(tmp_path / "a") != docker.project(tmp_path / "b")
    assert docker.project(tmp_path / "a") == docker.project(tmp_path / "b" / ".." / "a")


def test_ports_and_passwords_once_chosen_stay() -> None:
    """A second `up` finds the containers' volumes with the passwords they know."""
    first = docker._addressed({}, ["kafka", "redis", "clickhouse"])
    assert len({service.ports["port"] for service in first.values()}) == 3
    assert docker._addressed(first, ["kafka", "redis", "clickhouse"]) == first


def test_a_compose_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of what `docker compose` printed is the error, and ports go to it by the file's own names."""
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\necho "$1 $2 at $KAFKA_PORT: no such image" >&2; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    noted = {"kafka": ServiceState(url="127.0.0.1:5", ports={"port": 5})}
    with pytest.raises(Unavailable, match="compose --file at 5: no such image"):
        docker._compose(tmp_path, noted, "up")


def test_docker_itself_accepts_the_file() -> None:
    """`docker compose config` agrees, where the client has it."""
    if shutil.which("docker") is None or not docker._says_yes("docker", "compose", "version"):
        pytest.skip("no docker client with compose on this machine")
    file = str(ROOT / "docker-compose.yml")
    subprocess.run(["docker", "compose", "--file", file, "config", "--quiet"], check=True, capture_output=True)
