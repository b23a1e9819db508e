"""The folder listing is the architecture: who may import whom, and how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import Final

import pytest

from tests.architecture.sources import PACKAGES, ROOT, modules, tree

LONGEST_LINES: Final = 400

# A module longer than that, and why it is one module.
LONG_MODULES: Final[dict[str, str]] = {
    "streams/admission/client.py": "each call is one loop over a script's answers, on one view of what was seen",
    "streams/lane.py": "open, decide, commit and apply are one state machine with one position",
}


def test_imports_go_one_way() -> None:
    """import-linter's contracts in pyproject.toml are kept."""
    checked = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_room_is_checked() -> None:
    """Each top-level package is one that the wheel, mypy and import-linter know."""
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == set(PACKAGES)


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_is_read_in_one_sitting(module: str) -> None:
    """At most 400 lines, or a reason is written here."""
    length = len((ROOT / module).read_text("utf-8").splitlines())
    assert length <= LONGEST_LINES or module in LONG_MODULES, f"{module} has {length} lines"


def test_no_reason_outlives_its_module() -> None:
    """The list of long modules names long modules only."""
    for module in LONG_MODULES:
        assert len((ROOT / module).read_text("utf-8").splitlines()) > LONGEST_LINES


@pytest.mark.parametrize("module", modules(), ids=str)
def test_a_module_says_what_it_is(module: str) -> None:
    """Every module begins with a docstring."""
    assert not tree(module).body or ast.get_docstring(tree(module)), f"{module} has no docstring"


def test_no_name_says_nothing() -> None:
    """Modules are named for what they hold or do."""
    vague = {"utils", "util", "helpers", "common", "core", "manager", "service_layer", "handler", "base", "misc"}
    assert not [module for module in modules() if vague & set(module.removesuffix(".py").split("/"))]
