"""The archive of classes: it saves time where it is sound, and is never in the way where it is not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from backing import classes, java
from backing.service import silent


def options(folder: Path) -> list[str]:
    return classes.options(java.find(), [folder / "a.jar"], folder, silent)


def runs(folder: Path, told: Sequence[str]) -> bool:
    """Whether Java starts with these options."""
    command = [java.find(), *told, "-cp", str(folder / "a.jar"), "-version"]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the archive of a jar without classes lies: Java's own classes are in it. What a launcher that was killed
    left there before is no hindrance."""
    made = tmp_path_factory.mktemp("classes")
    (made / ".classes.part").write_bytes(b"half of one")
    with zipfile.ZipFile(made / "a.jar", "w") as jar:
        jar.writestr("empty", "")
    assert options(made)
    return made


def test_it_is_made_once_and_mapped(folder: Path) -> None:
    """`-Xshare:on` ends Java where it cannot use it."""
    (archive,) = folder.glob("*.jsa")
    before = archive.stat()
    assert runs(folder, [*options(folder), "-Xshare:on"])
    assert (archive.stat().st_ino, archive.stat().st_size) == (before.st_ino, before.st_size)
    assert not (folder / ".classes.part").exists()


@pytest.mark.parametrize("at", [0, 5, 300, 5_000, 1_000_000])
def test_a_damaged_one_is_passed_over(folder: Path, at: int) -> None:
    """Wherever the damage is, and where it is cut off there: Java starts, without it."""
    told = options(folder)
    (archive,) = folder.glob("*.jsa")
    good = archive.read_bytes()
    try:
        for damaged in (good[:at], good[:at] + bytes(byte ^ 0xFF for byte in good[at : at + 64]) + good[at + 64 :]):
            archive.unlink()  # Java leaves it read-only
            archive.write_bytes(damaged)
            assert runs(folder, told)
            assert not runs(folder, [*told, "-Xshare:on"])
    finally:
        archive.unlink()
        archive.write_bytes(good)


def test_another_jar_is_another_archive(folder: Path, tmp_path: Path) -> None:
    """One that has the same name, too."""
    (tmp_path / "a.jar").write_bytes(b"another")
    named = [classes._made_from(java.find(), [place / "a.jar"]) for place in (folder, tmp_path)]
    assert len(set(named)) == 2
    assert f"classes-{named[0]}.jsa" in options(folder)[1]


def test_nobody_waits_while_it_is_made(tmp_path: Path) -> None:
    """Whoever comes while another launcher is at it starts without."""
    (tmp_path / "a.jar").write_bytes(b"")
    with (tmp_path / "classes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert options(tmp_path) == []
    assert not list(tmp_path.glob("*.jsa"))


def test_where_it_cannot_be_made_it_is_done_without(tmp_path: Path) -> None:
    """A Java of another kind, one that makes none, and a folder that is not there."""
    assert classes.options(tmp_path / "java", [], tmp_path, silent) == []
    program = tmp_path / "home" / "bin" / "java"
    modules = tmp_path / "home" / "lib" / "modules"
    for path in (program, modules):
        path.parent.mkdir(parents=True)
    modules.write_bytes(b"")
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    assert classes.options(program, [], tmp_path, silent) == []
    assert classes.options(program, [], tmp_path / "nowhere", silent) == []


def test_one_that_nobody_uses_goes(tmp_path: Path, folder: Path) -> None:
    """When another is made: every Java in an environment of its own would leave one behind."""
    old, used = tmp_path / "classes-old.jsa", tmp_path / "classes-used.jsa"
    for archive, seconds in ((old, classes._UNUSED_S + 60), (used, classes._UNUSED_S - 60)):
        archive.write_bytes(b"")
        os.utime(archive, times=(time.time() - seconds, time.time() - seconds))
    classes._forget_unused(tmp_path)
    assert (old.exists(), used.exists()) == (False, True)
