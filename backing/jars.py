"""Kafka's jars: the ones that a broker loads, as `kafka.lock` lists them with their SHA-256, in a cache all
data dirs share.

`kafka.lock` has one `group:artifact:version sha256` a line: what a broker loaded while it served topics,
groups, transactions and every compression. Jars come from Maven Central by the `maven-artifact` package. A jar
whose sum is not the listed one is never used. Errors: Unavailable (try again), InvariantBroken (the
repository's file is not the listed one).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from schemas.errors import InvariantBroken, Unavailable

_PARALLEL: Final = 8
_TRIES: Final = 4
_TIMEOUT_S: Final = (15, 60)
"""To connect, and between two pieces of an answer."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of kafka.lock."""

    coordinate: str
    sha256: str

    @property
    def artifact(self) -> str:
        return self.coordinate.split(":")[1]

    @property
    def version(self) -> str:
        return self.coordinate.split(":")[2]

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def listed() -> list[Jar]:
    """The jars of kafka.lock."""
    lines = resources.files("backing").joinpath("kafka.lock").read_text("utf-8").splitlines()
    return [Jar(*line.split()) for line in lines if line and not line.startswith("#")]


def cache_dir(data_dir: Path) -> Path:
    """Where downloads are kept for all data dirs of this user; under the data dir for a user without a home."""
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(named) if named and Path(named).is_absolute() else Path.home() / ".cache"
        cache = base / "tollgate"
        cache.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):
        cache = data_dir / "cache"
        cache.mkdir(parents=True, exist_ok=True)
    return cache


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def class_path(cache: Path, report: Callable[[str], None]) -> list[Path]:
    """All jars, checked, downloaded where they are missing."""
    folder = cache / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    jars = listed()
    with ThreadPoolExecutor(_PARALLEL) as pool:
        sound = list(pool.map(lambda jar: _is_sound(folder / jar.file_name, jar), jars))
        missing = [jar for jar, there in zip(jars, sound, strict=True) if not there]
        if missing:
            report(f"kafka: downloading {len(missing)} of {len(jars)} jars to {folder}")
            # The package prints a line for each file; those belong neither to our output nor to our progress.
            with contextlib.redirect_stdout(_Nowhere()):
                futures = [pool.submit(_fetch, folder, jar) for jar in missing]
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    if done == len(missing) or done % 8 == 0:
                        report(f"kafka: {done} of {len(missing)} jars downloaded")
    return [folder / jar.file_name for jar in jars]


class _Nowhere:
    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return


def _is_sound(path: Path, jar: Jar) -> bool:
    return path.exists() and sha256_of(path) == jar.sha256


def _fetch(folder: Path, jar: Jar) -> None:
    """Downloads under a name of its own and renames, so that two launchers may fetch the same jar at once."""
    from maven_artifact.artifact import Artifact
    from maven_artifact.downloader import Downloader
    from maven_artifact.requestor import RequestException, Requestor

    class Bounded(Requestor):  # type: ignore[misc]  # the package has no annotations
        """Waits for no answer for ever, which the package's own would."""

        def request(self, url: str, onFail: Any, onSuccess: Any = None, method: str = "get", **options: Any) -> Any:  # noqa: N803  # its names
            return super().request(url, onFail, onSuccess, method, timeout=_TIMEOUT_S, **options)

    downloader = Downloader()
    downloader.requestor = Bounded()
    part = folder / f".{jar.file_name}.{os.getpid()}"
    try:
        for attempt in range(1, _TRIES + 1):
            part.unlink(missing_ok=True)
            try:
                downloader.download(Artifact.parse(jar.coordinate), str(part))
                break
            except (RequestException, OSError) as error:
                if attempt == _TRIES:
                    reason = getattr(error, "msg", str(error))
                    raise Unavailable(f"could not download {jar.coordinate}: {reason}") from None
                print(f"kafka: {jar.coordinate}: try {attempt} failed, trying again", file=sys.stderr)
                time.sleep(attempt)
        found = sha256_of(part)
        if found != jar.sha256:
            raise InvariantBroken(f"{jar.coordinate} has SHA-256 {found}, kafka.lock says {jar.sha256}")
        part.replace(folder / jar.file_name)
    finally:
        part.unlink(missing_ok=True)
