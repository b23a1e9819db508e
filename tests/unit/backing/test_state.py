"""What `up` remembers is whole, private, and changed by one process at a time."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import msgspec
import pytest

from backing import state
from backing.state import ServiceState, State
from schemas.errors import InvariantBroken
from tests.deployment import until


def test_nothing_is_remembered_of_a_new_data_dir(tmp_path: Path) -> None:
    """A data dir that was never used has an empty state, and reading it makes nothing."""
    assert state.read(tmp_path / "new") == State()
    assert not (tmp_path / "new").exists()


def test_a_service_is_remembered_with_its_address(tmp_path: Path) -> None:
    """What was noted is read back, and services do not forget one another."""
    redis = ServiceState(url="redis://:p@127.0.0.1:1", pid=7, ports={"port": 1}, password="p")
    kafka = ServiceState(url="127.0.0.1:2", pid=8, ports={"port": 2, "controller": 3})
    state.remember(tmp_path, "redis", redis)
    state.remember(tmp_path, "kafka", kafka)
    assert state.read(tmp_path).services == {"redis": redis, "kafka": kafka}


def test_a_stopped_service_keeps_its_address(tmp_path: Path) -> None:
    """Forgetting the pid forgets nothing else."""
    state.remember(tmp_path, "redis", ServiceState(url="u", pid=7, ports={"port": 1}, password="p"))
    state.forget_pid(tmp_path, "redis")
    assert state.read(tmp_path).services["redis"] == ServiceState(url="u", ports={"port": 1}, password="p")


def test_only_its_owner_may_read_the_passwords(tmp_path: Path) -> None:
    """The file's mode is 0600."""
    state.remember(tmp_path, "redis", ServiceState(url="u"))
    assert stat.S_IMODE((tmp_path / state.FILE).stat().st_mode) == 0o600


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A file that is not what was written stops whoever reads it, by its path."""
    (tmp_path / state.FILE).write_text('{"services": 1}')
    with pytest.raises(InvariantBroken, match=str(tmp_path / state.FILE)):
        state.read(tmp_path)


def _count(data_dir: Path, times: int) -> None:
    for _ in range(times):
        state.update(data_dir, lambda old: msgspec.structs.replace(old, partitions=old.partitions + 1))


def test_racing_processes_lose_no_change(tmp_path: Path) -> None:
    """Each of many processes' changes is in the end there."""
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=_count, args=(tmp_path, 20)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert state.read(tmp_path).partitions == 4 * 20


def _hold(path: Path, go: Path) -> None:
    with state.locked(path):
        go.with_suffix(".held").touch()
        until(go.exists)
        path.unlink()


def test_a_lock_outlives_the_purge_of_its_file(tmp_path: Path) -> None:
    """Who waited for a lock whose holder removed the file holds the lock of the file that others will see."""
    lock, go = tmp_path / "lock", tmp_path / "go"
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(lock, go))
    holder.start()
    until(go.with_suffix(".held").exists)
    told: list[str] = []

    def waiting() -> None:
        told.append("waits")
        go.touch()

    with state.locked(lock, waiting):
        assert lock.exists()
    holder.join()
    assert told == ["waits"]
