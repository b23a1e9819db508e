"""The project's own source files, as these tests read them."""

from __future__ import annotations

import ast
import functools
import gc
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent

with (ROOT / "pyproject.toml").open("rb") as _file:
    PROJECT: Final = tomllib.load(_file)

PACKAGES: Final[tuple[str, ...]] = tuple(PROJECT["tool"]["importlinter"]["root_packages"])


@functools.cache
def modules() -> tuple[str, ...]:
    """Every module of the packages, by its path from the project's root."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return tuple(sorted(str(path.relative_to(ROOT)) for path in found))


@functools.cache
def files_of_tests() -> tuple[str, ...]:
    """Every Python file below tests/."""
    return tuple(sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")))


@functools.cache
def tree(module: str) -> ast.Module:
    """A module's syntax tree."""
    return parsed((ROOT / module).read_text("utf-8"), module)


def parsed(source: str, module: str) -> ast.Module:
    """The syntax tree of what a module says.

    CPython counts how deep its parser is for the whole process. What is collected meanwhile may parse as well, as
    tracebacks are formatted by parsing, and then the count is wrong: SystemError. So nothing is collected meanwhile.
    """
    gc.disable()
    try:
        return ast.parse(source, module)
    finally:
        gc.enable()
