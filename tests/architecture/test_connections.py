"""Every client of a store is made as the settings secure it, and SQL is never made of values."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.architecture.sources import modules, tree

_KAFKA_CLIENTS: Final = re.compile(r"AIOKafka(Admin)?(Client|Consumer|Producer)")
_SHIPPED: Final = [module for module in modules() if not module.startswith("benchmarks/")]


def _calls(module: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


@pytest.mark.parametrize("module", _SHIPPED, ids=str)
def test_every_kafka_client_is_made_with_connection(module: str) -> None:
    """`**connection(address)`: one made with the bare servers would speak plain text to a broker that asks for more."""
    for call in _calls(module):
        if _KAFKA_CLIENTS.fullmatch(_name(call)):
            spread = [ast.unparse(word.value) for word in call.keywords if word.arg is None]
            assert any(text.startswith("connection(") for text in spread), f"{module}:{call.lineno}"
            assert "bootstrap_servers" not in {word.arg for word in call.keywords}, f"{module}:{call.lineno}"


def test_there_are_clients_to_look_at() -> None:
    """The test above would hold of nothing as well."""
    found = [call for module in _SHIPPED for call in _calls(module) if _KAFKA_CLIENTS.fullmatch(_name(call))]
    assert len(found) >= 10
