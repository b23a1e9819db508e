"""The file beside the service tokens in which the command line notes what it changed, until a running API takes it.

By itself, so that a command loads nothing of the API for it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from schemas.audit import AuditEntry, encode_entry

FILE: Final = "audit.jsonl"


def note(file: Path, entry: AuditEntry) -> None:
    """Appends an entry to the file, for good. Errors: OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file):
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, encode_entry(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class locked:  # noqa: N801  # used as a verb
    """Holds the lock beside the file, which is renamed and so cannot be held itself. Errors, unless it is waited for:
    BlockingIOError where another process has it, which may be a command that somebody stopped."""

    def __init__(self, file: Path, *, wait: bool = True) -> None:
        self._path = f"{file}.lock"
        self._how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, self._how)
        except OSError:
            os.close(self._descriptor)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
