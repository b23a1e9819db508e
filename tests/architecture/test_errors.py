"""Errors are named by their remedy, and none is swallowed."""

from __future__ import annotations

import ast
import builtins
import importlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

import schemas.errors
from schemas.errors import Conflict, Doubt, InvalidInput, InvariantBroken, TollgateError, Unavailable
from tests.architecture.sources import modules, tree

# Where everything may be caught: module, how often, and why.
BROAD_HANDLERS: Final[dict[str, tuple[int, str]]] = {
    "api/hot.py": (
        1,
        "a fault of ours is logged and answered 500, as the framework does for all routes that are behind it",
    ),
    "streams/deciding.py": (
        2,
        "a fault of ours in decoding or deciding one event costs that event alone: its dead letter says so",
    ),
    "streams/lane.py": (
        1,
        "a fault in deciding becomes a Doubt: nothing is fact yet, so the partition is opened again",
    ),
}

_BROAD = {"Exception", "BaseException"}


def test_the_taxonomy_is_closed() -> None:
    """Every error that is raised on purpose is one of the five that name a remedy."""
    for module in modules():
        if not module.endswith("__main__.py"):
            importlib.import_module(module.removesuffix(".py").removesuffix("/__init__").replace("/", "."))

    def below(error: type[TollgateError]) -> Iterator[type[TollgateError]]:
        for child in error.__subclasses__():
            yield child
            yield from below(child)

    ours = {error for error in below(TollgateError) if not error.__module__.startswith("tests")}
    assert {error for error in ours if error.__module__ == "schemas.errors"} == {
        InvalidInput,
        Conflict,
        Unavailable,
        Doubt,
        InvariantBroken,
    }
    remedies = (InvalidInput, Conflict, Unavailable, InvariantBroken)
    assert all(sum(issubclass(error, remedy) for remedy in remedies) == 1 for error in ours)


def test_the_tree_of_errors_is_drawn() -> None:
    """The module's docstring names every class in it."""
    drawn = schemas.errors.__doc__ or ""
    assert all(name in drawn for name in ("TollgateError", "InvalidInput", "Conflict", "Unavailable", "Doubt"))
    assert "InvariantBroken" in drawn


def _broad_handlers(module: str) -> list[int]:
    """Lines of handlers that catch everything and do not raise it again as it is."""
    found = []
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {part.id for part in caught if isinstance(part, ast.Name)}
        ends_in_raise = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        if (node.type is None or names & _BROAD) and not ends_in_raise:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("module", modules(), ids=str)
def test_nothing_is_caught_unnamed(module: str) -> None:
    """`except Exception` stands only where the list above says why."""
    lines = _broad_handlers(module)
    allowed = BROAD_HANDLERS.get(module, (0, ""))[0]
    assert len(lines) == allowed, f"{module}: broad handlers in lines {lines}, {allowed} have a reason"


@pytest.mark.parametrize("module", modules(), ids=str)
def test_only_errors_with_a_remedy_are_raised(module: str) -> None:
    """No bare Exception or RuntimeError: whoever meets it would not know what to do."""
    vague = Counter(
        node.exc.func.id
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id in {"Exception", "BaseException", "RuntimeError"}
        and hasattr(builtins, node.exc.func.id)
    )
    assert not vague
