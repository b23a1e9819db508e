"""Files that are either wholly there or not there at all, and the sweeping of those that nobody lists any more.

Every file of the index is written under a temporary name, synced and renamed; after that it is never modified. Its
directory is synced with the manifest that lists it: without one nobody looks for it. Two processes may do all this in
one directory at once: the names of runs are unique, and the one name that is shared, the manifest's, only ever changes
by an atomic rename.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from schemas.errors import InvariantBroken, Unavailable

RUN_SUFFIX = ".run"
TEMPORARY_SUFFIX = ".tmp"


class Damaged(InvariantBroken):
    """A file of the index is not what its manifest says. The index is a projection: discard it and build it again."""


@contextmanager
def disk(directory: Path) -> Iterator[None]:
    """Turn what the operating system refuses (disk full, permission, I/O error) into `Unavailable`."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"identity index in {directory}: {error}") from error


def unique_run_name() -> str:
    """A name that no other process, alive or stopped, uses or has used."""
    return uuid4().hex + RUN_SUFFIX


def temporary_beside(path: Path) -> Path:
    """Where to write what will be `path`; unique, since a stopped process may be writing the same `path`."""
    return path.with_name(f"{path.name}.{uuid4().hex}{TEMPORARY_SUFFIX}")


def replace_atomically(path: Path, content: bytes) -> None:
    """Make `path` hold `content`: any reader, also after a crash, sees all of the old or all of the new.

    Also makes the names of all files renamed in the directory before survive a power cut.
    """
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def retire(directory: Path, names: Collection[str]) -> None:
    """Start the grace of run files that the manifest does not list any more: it counts from their modification time."""
    for name in names:
        try:
            os.utime(directory / name)
        except FileNotFoundError:  # swept by another process: it is gone already, which is all this leads to
            continue


def sweep(directory: Path, listed: Collection[str], *, grace_seconds: float, now: float) -> None:
    """Delete run and temporary files that are not `listed` and were last touched more than `grace_seconds` ago.

    `now` is seconds since the epoch. The grace keeps two kinds of files alive: what another process has just written
    and not yet listed, and what a stopped process may list once more when it wakes.
    """
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.endswith((RUN_SUFFIX, TEMPORARY_SUFFIX)) or entry.name in listed:
                continue
            try:
                if entry.stat().st_mtime < now - grace_seconds:
                    os.unlink(entry.path)
            except FileNotFoundError:  # another process swept it first
                continue
