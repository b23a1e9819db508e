"""What compiled loops keep to."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import rating
import schemas
import streams
from schemas.compiled import Loop, compiled
from schemas.limits import COUNT_MAX
from tests.architecture.sources import parsed

MODULES = [
    importlib.import_module(found.name)
    for package in (schemas, rating, streams)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
LOOPS = [
    pytest.param(module, loop, id=f"{module.__name__}.{name}")
    for module in MODULES
    for name, loop in vars(module).items()
    if isinstance(loop, Loop) and loop.written.__module__ == module.__name__
]


def foreign(source: str, loop: Loop[..., object]) -> set[str]:
    """Names of a module that a loop uses and that another file gives it; numpy's own is none."""
    own: set[str] = set()
    imported: set[str] = set()
    for part in parsed(source, loop.written.__module__).body:
        if isinstance(part, ast.Import | ast.ImportFrom):
            imported |= {name.asname or name.name for name in part.names}
        else:
            own |= {
                node.id for node in ast.walk(part) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
    return set(loop.written.__code__.co_names) & imported - own - {"np"}


@pytest.mark.parametrize(("module", "loop"), LOOPS)
def test_a_loop_uses_nothing_of_another_file(module: ModuleType, loop: Loop[..., object]) -> None:
    """What is kept of it would not be made anew when the other file changes."""
    assert foreign(inspect.getsource(module), loop) == set()


def test_the_check_finds_what_is_of_another_file() -> None:
    """And there are loops to check."""
    assert len(LOOPS) > 10
    assert foreign("from schemas.limits import COUNT_MAX\n", compiled(lambda: COUNT_MAX)) == {"COUNT_MAX"}
    assert foreign("COUNT_MAX = 3\n", compiled(lambda: COUNT_MAX)) == set()
