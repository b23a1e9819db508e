"""The routes of the README's table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import httpx

from tests.deployment import ROOT
from tests.unit.api.conftest import World

_METHODS: Final = "(?:GET|PUT|POST|PATCH|DELETE)"
_ROWS: Final = re.compile(rf"^\| (`(?:{_METHODS}/?)* ?/.*?) \|", re.MULTILINE)
_ROUTE: Final = re.compile(rf"`({_METHODS}(?:/{_METHODS})*)? ?(…?)(/[^`]*)`")

Route = tuple[str, str]


def named(served: set[Route]) -> Iterator[Route]:
    """Method and path. A path without a method has that of the one before it in its row, or is read; one that begins
    with `…`, or has no method, may go on from any before it.
    """
    for row in _ROWS.findall((ROOT / "README.md").read_text("utf-8")):
        methods, before = ["get"], list[str]()
        for given, cut, path in _ROUTE.findall(row):
            methods = given.lower().split("/") if given else methods
            for method in methods:
                whole = path if given and not cut else _continued(served, method, before, path)
                before.append(whole)
                yield method, whole


def _continued(served: set[Route], method: str, before: list[str], end: str) -> str:
    """The served path that ends so and begins as one before it; the end itself where there is none."""
    stems = [path.rpartition("/")[0] for path in before]
    found = [
        path
        for of, path in sorted(served, key=lambda route: len(route[1]))
        if of == method and path.endswith(end) and any(path.startswith(stem) for stem in stems)
    ]
    return found[0] if found else end


async def test_every_route_of_the_readme_is_served(world: World) -> None:
    """Each with each of its methods, as the OpenAPI document has it; the document itself is one."""
    answer: httpx.Response = await world.client.get("/openapi.json")
    served = {(method, path) for path, methods in answer.json()["paths"].items() for method in methods}
    routes = set(named(served))
    assert len(routes) >= 14
    assert routes - {("get", "/openapi.json")} <= served
