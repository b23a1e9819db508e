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


# Interpolations into SQL that are no constants, and what makes each of them harmless.
HARMLESS_IN_SQL: Final[dict[str, dict[str, str]]] = {
    "api/queries.py": {
        "keys": "names of columns, constants of the function",
        "listed": "columns of a closed set, or a parameter's mark",
        "select": "the texts of the functions of this module",
        "rest": "likewise",
        "self._where()": "conditions of this module, their values parameters",
    },
    "backing/clickhouse_server/engine.py": {"quote(_mark(sink))": "a path of ours, quoted as a literal"},
    "invoicing/usage_rows.py": {"condition": "conditions of its callers, their values parameters"},
}

_SQL: Final = re.compile(r"\b(SELECT\s|INSERT\s+INTO|ALTER\s+TABLE|CREATE\s|DELETE\s+FROM|WHERE\s|ORDER\s+BY\s)")
_CONSTANT: Final = re.compile(r"_?[A-Z][A-Z0-9_]*")


def _interpolated(module: str) -> list[tuple[int, str]]:
    """Expressions put into f-strings that read as SQL."""
    found = []
    for node in ast.walk(tree(module)):
        if not isinstance(node, ast.JoinedStr):
            continue
        text = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if _SQL.search(text):
            found += [
                (node.lineno, ast.unparse(part.value)) for part in node.values if isinstance(part, ast.FormattedValue)
            ]
    return found


@pytest.mark.parametrize("module", _SHIPPED, ids=str)
def test_sql_is_made_of_constants_and_parameters(module: str) -> None:
    """What goes into a query's text is a constant of ours or on the list; values are parameters."""
    harmless = HARMLESS_IN_SQL.get(module, {})
    for line, expression in _interpolated(module):
        assert _CONSTANT.fullmatch(expression) or expression in harmless, f"{module}:{line}: {{{expression}}}"


def test_the_list_of_harmless_names_holds_no_more_than_there_is() -> None:
    """An entry that nothing needs hides the next one."""
    for module, names in HARMLESS_IN_SQL.items():
        assert set(names) <= {expression for _, expression in _interpolated(module)}, module
