"""What a benchmark ran on, and what its processes took of it.

Owns reading /proc. Units: CPU in seconds (user and system), memory in bytes. A process that is gone took what was last
seen of it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import redis

from backing import jars, java, state
from backing.status import processes
from schemas.clickhouse import connect
from schemas.settings import Settings

_TICK_SECONDS: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 1024 * 1024


def machine() -> dict[str, str | int]:
    """The machine without its services."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES // _MIB,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def services(settings: Settings) -> dict[str, str]:
    """Which Kafka, Redis and ClickHouse run, and under which roof."""
    assert settings.redis_url is not None
    assert settings.clickhouse_url is not None
    backend = state.read(settings.data_dir).backend
    with redis.Redis.from_url(settings.redis_url) as asked:
        redis_version = str(asked.info("server")["redis_version"])
    client = connect(settings.clickhouse_url)
    try:
        clickhouse_version = str(client.command("SELECT version()"))
    finally:
        client.close()
    found = {"backend": backend, "redis": redis_version, "clickhouse": clickhouse_version}
    for package in ("aiokafka", "faust-streaming"):
        found[package] = version(package)
    if backend == "native":
        found["kafka"] = next(jar.coordinate.split(":")[2] for jar in jars.listed() if ":kafka_" in jar.coordinate)
        found["java"] = str(java.major_version(java.find()))
    return found


def owners(settings: Settings) -> dict[str, list[int]]:
    """By name: the processes of a deployment, backing services and ours, with all that they started."""
    children = _children()
    roots: dict[str, list[int]] = {}
    for process in processes(settings):
        if process.role != "supervisor":
            roots.setdefault(process.role, []).append(process.pid)
    for name, service in state.read(settings.data_dir).services.items():
        if service.pid is not None:
            roots[name] = [service.pid]
    return {name: [pid for root in pids for pid in _family(root, children)] for name, pids in roots.items()}


def cpu_seconds(owned: Mapping[str, list[int]]) -> dict[str, float]:
    """CPU that each took since it started, children that ended included."""
    return {name: sum(_cpu(pid) for pid in pids) for name, pids in owned.items()}


def resident_bytes(owned: Mapping[str, list[int]]) -> dict[str, int]:
    """Memory that each has now."""
    return {name: sum(_resident(pid) for pid in pids) for name, pids in owned.items()}


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) * _TICK_SECONDS if fields else 0.0


def _resident(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) * _PAGE_BYTES if fields else 0


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state (the third) on; empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name before may hold anything, parentheses and spaces included.
    return text[text.rindex(")") + 2 :].split()


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found.setdefault(int(fields[1]), []).append(int(entry.name))
    return found


def _family(root: int, children: Mapping[int, list[int]]) -> list[int]:
    return [root, *(pid for child in children.get(root, ()) for pid in _family(child, children))]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
