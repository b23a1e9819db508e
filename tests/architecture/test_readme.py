"""What the README names is there: commands, targets, rooms, settings."""

from __future__ import annotations

import re
import runpy
from typing import Final

import click
import pytest

from console.main import tollgate
from tests.architecture.sources import PACKAGES, ROOT

README: Final = (ROOT / "README.md").read_text("utf-8")
_COMMAND: Final = re.compile(r"(?:\.venv/bin/|`|\$ )tollgate ((?:[a-z-]+ ?)+)")


@pytest.mark.parametrize("table", ["settings", "metrics"])
def test_a_generated_table_is_the_one_that_is_printed(table: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Between its markers stands what `python -m schemas.settings` or `schemas.metrics` prints."""
    found = re.search(rf"<!-- {table} -->\n(.*?)<!-- /{table} -->", README, re.DOTALL)
    assert found is not None
    runpy.run_path(str(ROOT / "schemas" / f"{table}.py"), run_name="__main__")
    assert found[1].strip() == capsys.readouterr().out.strip()


@pytest.mark.parametrize("words", sorted({named.strip() for named in _COMMAND.findall(README)}))
def test_a_named_command_is_there(words: str) -> None:
    """Each `tollgate ...` is a command, down to its subcommand; the words after it are its arguments."""
    group: click.Command = tollgate
    for word in words.split():
        if not isinstance(group, click.Group):
            break
        found = group.get_command(click.Context(group), word)
        assert found is not None, f"tollgate {words}"
        group = found
    assert not isinstance(group, click.Group), f"tollgate {words} lacks its subcommand"


def test_a_named_target_is_in_the_makefile() -> None:
    """Each `make ...` can be run."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"up", "down", "demo", "test"} <= named <= targets


def test_the_tree_names_the_rooms() -> None:
    """Every package and no other, the tests, and what operators load."""
    rows = re.findall(r"^\| ((?:`\w+/`(?:, )?)+) \|", README, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)/`", row)}
    assert named == {*PACKAGES, "tests", "ops"}
