"""Kafka's classes, read and checked once into an archive that every broker after maps: half of the CPU of a start.

The archive is made of the classes that `kafka.classes` names (some five seconds of CPU) when it is first wanted by a
Java and these jars, and lies beside the jars. It saves time and is never needed: where it cannot be made, or another
launcher is at it, a broker starts without, and so it does where Java finds the archive damaged, cut off or made by
another build or of other jars. Java checks every byte, since it would run whatever stands there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

_MAKING_TIMEOUT_S: Final = 120
_UNUSED_S: Final = 30 * 24 * 3600
"""An archive that nobody used for so long belongs to a Java that is gone."""


def options(java: Path, class_path: Sequence[Path], folder: Path, report: Callable[[str], None]) -> list[str]:
    """What to tell `java` so that it maps the archive in `folder`, which is made if it is not there; nothing where it
    cannot be had now.
    """
    try:
        archive = folder / f"classes-{_made_from(java, class_path)}.jsa"
        if not archive.exists() and not _make(java, class_path, archive, report):
            return []
    except OSError:
        return []
    with contextlib.suppress(OSError):  # where nothing can be written it is used all the same
        os.utime(archive)
    return ["-XX:+VerifySharedSpaces", f"-XX:SharedArchiveFile={archive}"]


def _made_from(java: Path, class_path: Sequence[Path]) -> str:
    """A name for what Java compares before it uses an archive: its own classes and the jars, by path, size and time.
    Errors: OSError for a Java of another kind, which has no such file of classes.
    """
    own = java.resolve().parent.parent / "lib" / "modules"
    found = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in (own, *class_path)]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def _make(java: Path, class_path: Sequence[Path], archive: Path, report: Callable[[str], None]) -> bool:
    """Whether it is there now: written under another name and renamed when all of it is on disk."""
    descriptor = os.open(archive.parent / "classes.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if archive.exists():
            return True
        report("kafka: keeping its classes for faster starts")
        part = archive.parent / ".classes.part"
        listed = resources.files("backing").joinpath("kafka.classes")
        with resources.as_file(listed) as names:
            # The lock goes to Java as well: whoever kills this process leaves that one writing.
            subprocess.run(
                [java, "-Xshare:dump", f"-XX:SharedClassListFile={names}", f"-XX:SharedArchiveFile={part}", "-cp",
                 ":".join(str(jar) for jar in class_path)],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_MAKING_TIMEOUT_S, check=True,
                pass_fds=[descriptor],
            )  # fmt: skip
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(archive)
        _forget_unused(archive.parent)
    except BlockingIOError:  # another launcher is at it
        return False
    except subprocess.SubprocessError as error:
        report(f"kafka: its classes cannot be kept, and it starts without: {error}")
        return False
    finally:
        os.close(descriptor)
    return True


def _forget_unused(folder: Path) -> None:
    for archive in folder.glob("classes-*.jsa"):
        if archive.stat().st_mtime < time.time() - _UNUSED_S:
            archive.unlink()
