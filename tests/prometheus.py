"""Debian's Prometheus for tests: the machine's own, else the package, unpacked into a cache and not installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PACKAGE = "prometheus"
_FETCH_S = 120


def program(name: str) -> str:
    """The path of `promtool` or `prometheus`; skips the test where there is none and none is to be had."""
    found = shutil.which(name)
    if found is not None:
        return found
    cache = Path.home() / ".cache" / "tollgate" / "prometheus"
    unpacked = cache / "usr" / "bin" / name
    if not unpacked.exists():
        _fetch(cache)
    return str(unpacked)


def _fetch(cache: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"there is no {PACKAGE} on this machine, and it is no Debian that could fetch it")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as folder:
        try:
            subprocess.run(
                ["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True, timeout=_FETCH_S
            )
            (package,) = Path(folder).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package), "unpacked"], cwd=folder, check=True, timeout=_FETCH_S)
        except (subprocess.SubprocessError, ValueError) as error:
            pytest.skip(f"Debian's package {PACKAGE} is not to be had: {error}")
        # Another test run may have been faster.
        if not cache.exists():
            (Path(folder) / "unpacked").rename(cache)
