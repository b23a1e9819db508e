"""What is read by a type has its decoder from when its module was loaded, in one thread.

msgspec works out a Struct at its first use, and a second thread that comes meanwhile reads what is not there yet: the
process is gone (SIGSEGV, seen of a worker whose lanes read their manifests at once; msgspec 0.22).
"""

from __future__ import annotations

import ast

from tests.architecture.sources import modules, tree

_PLAIN = {"dict", "list", "tuple", "str", "int"}


def _words(annotation: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}


def test_nothing_is_decoded_by_a_type_that_is_worked_out_then() -> None:
    """`decode(…, type=…)` in a function is for what has no Struct in it."""
    found = [
        f"{module}:{call.lineno}"
        for module in modules()
        for call in ast.walk(tree(module))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "decode"
        for given in call.keywords
        if given.arg == "type" and not _words(given.value) <= _PLAIN | {"Any"}
    ]
    assert found == []


def test_decoders_are_made_when_their_module_is_loaded() -> None:
    """None is made in a function, but of what has no Struct in it."""
    found = [
        f"{module}:{call.lineno}"
        for module in modules()
        for function in ast.walk(tree(module))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "Decoder"
        for given in [*call.args, *(word.value for word in call.keywords if word.arg == "type")]
        if not _words(given) <= _PLAIN | {"Any"}
    ]
    assert found == []
