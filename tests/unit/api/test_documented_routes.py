"""The routes of the README's table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import httpx

from tests.deployment import ROOT
from tests.unit.api.conftest import World

_ROWS: Final = re.compile(r"^\| (`(?:(?:GET|PUT|POST)/?)* ?/.*?) \|", re.MULTILINE)
_ROUTE: Final = re.compile(r"`((?:GET|PUT|POST)(?:/(?:GET|PUT|POST))*)? ?(/[^`]*)`")


def named() -> Iterator[tuple[str, str]]:
    """Method and path. A path without a method goes on from the one before it in its row, or is read."""
    for row in _ROWS.findall((ROOT / "README.md").read_text("utf-8")):
        methods, parent = ["get"], ""
        for given, path in _ROUTE.findall(row):
            if given:
                methods, parent = given.lower().split("/"), path.rpartition("/")[0]
            for method in methods:
                yield method, path if given else parent + path


async def test_every_route_of_the_readme_is_served(world: World) -> None:
    """Each with each of its methods, as the OpenAPI document has it; the document itself is one."""
    answer: httpx.Response = await world.client.get("/openapi.json")
    served = {(method, path) for path, methods in answer.json()["paths"].items() for method in methods}
    routes = set(named())
    assert len(routes) >= 14
    assert routes - {("get", "/openapi.json")} <= served
