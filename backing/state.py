"""What `tollgate up` remembers: `services.json` in the data dir, replaced whole, read and written under a file lock.

Owns where each service answers, its pid and its ports, so that a second `up` attaches and a restart comes back
at the same address. The file holds passwords: only its owner may read it. Errors: InvariantBroken if it is not
what this module wrote.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import InvariantBroken

FILE: Final = "services.json"
SERVICES: Final = ("kafka", "redis", "clickhouse")


class ServiceState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service: where it answers, and what of it is ours."""

    url: str
    pid: int | None = None
    ports: dict[str, int] = {}
    password: str = ""


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """A deployment as the last `up` left it."""

    backend: str = ""
    partitions: int = 0
    services: dict[str, ServiceState] = {}


_decode: Final = msgspec.json.Decoder(State).decode


def read(data_dir: Path) -> State:
    """The remembered state; an empty one where nothing was started yet."""
    path = data_dir / FILE
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return State()
    except msgspec.MsgspecError as error:
        raise InvariantBroken(f"{path} is damaged: {error}") from None


def update(data_dir: Path, change: Callable[[State], State]) -> State:
    """Replaces the state by `change(state)`, alone among all processes, and returns it."""
    with locked(data_dir / "services.lock"):
        state = change(read(data_dir))
        write_atomically(data_dir / FILE, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        return state


def remember(data_dir: Path, name: str, service: ServiceState) -> None:
    """Notes one service."""
    update(data_dir, lambda state: msgspec.structs.replace(state, services={**state.services, name: service}))


def forget_pid(data_dir: Path, name: str) -> None:
    """Notes that a service does not run; its address stays remembered."""
    if name not in read(data_dir).services:
        return

    def change(state: State) -> State:
        if name not in state.services:
            return state
        stopped = msgspec.structs.replace(state.services[name], pid=None)
        return msgspec.structs.replace(state, services={**state.services, name: stopped})

    update(data_dir, change)


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Readers see the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock file `path`; `waiting` is told once if another process has it. The kernel frees a dead
    owner's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever held it may have purged the data dir: then this file is no longer the one that others lock.
            if _is_file(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)
        path.parent.mkdir(parents=True, exist_ok=True)


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
