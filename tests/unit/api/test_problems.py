from __future__ import annotations

import importlib
import pkgutil

import orjson
import pytest

import api
import ingest
import rating
import schemas
import streams
from api.hot import HotRoute
from api.problems import STATUS_OF_ERROR, STATUS_OF_REASON, problem, problem_of, status_of
from schemas import errors
from schemas.catalog_document import CatalogRefused, Fault
from schemas.errors import Conflict, Doubt, InvalidInput, InvariantBroken, TollgateError, Unavailable
from schemas.outcome import REASONS
from tests.unit.api.conftest import World

HTTP_REASONS = {"missing_scope", "tenant_mismatch"}
"""Reasons that only a rim gives."""


def every_error() -> set[type[TollgateError]]:
    for package in (schemas, rating, ingest, streams, api):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found: set[type[TollgateError]] = set()
    waiting = [TollgateError]
    while waiting:
        below = waiting.pop().__subclasses__()
        found.update(below)
        waiting += below
    return found


def test_the_table_has_every_error_of_the_taxonomy_and_nothing_else() -> None:
    """Whoever adds a remedy to schemas/errors.py has to say what HTTP makes of it."""
    named = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TollgateError)}
    assert set(STATUS_OF_ERROR) == named - {TollgateError}


def test_every_error_of_the_code_has_a_remedy() -> None:
    """No error is raised on purpose that hangs directly below the root, where no table finds it."""
    for kind in every_error():
        assert any(above in STATUS_OF_ERROR for above in kind.__mro__), kind


def test_every_reason_with_a_status_of_its_own_exists() -> None:
    """The second table names only reasons that the core gives."""
    assert set(STATUS_OF_REASON) <= set(REASONS) | HTTP_REASONS


def test_an_error_is_answered_by_its_remedy() -> None:
    """Refused input is 422, a contradiction 409, a store away 503, a broken promise 500."""
    assert status_of(InvalidInput("wrong_type", "x")) == 422
    assert status_of(InvalidInput("not_json", "x")) == 400
    assert status_of(Conflict("conflict", "x")) == 409
    assert status_of(Unavailable("x")) == 503
    assert status_of(Doubt("x")) == 503
    assert status_of(InvariantBroken("x")) == 500
    assert status_of(CatalogRefused([Fault("a", "b")])) == 422


def test_every_fault_of_a_catalogue_is_named_by_its_pointer() -> None:
    """Paths as people write them become JSON pointers."""
    refused = CatalogRefused([Fault("prices[3].tiers[1].up_to", "is missing"), Fault("", "is no mapping")])
    body = orjson.loads(problem_of(refused).body)
    assert body["errors"] == [
        {"pointer": "/prices/3/tiers/1/up_to", "reason": "is missing"},
        {"pointer": "", "reason": "is no mapping"},
    ]


def test_a_problem_says_what_when_and_nothing_of_the_inside() -> None:
    """A store's address stays in the log; a client is told when to come again."""
    response = problem_of(Unavailable("redis://:secret@10.0.0.7:6379 refused"))
    assert b"secret" not in response.body
    assert response.headers["Retry-After"] == "2"
    assert response.media_type == "application/problem+json"


def test_a_detail_that_no_utf8_can_hold_is_left_out() -> None:
    """Half a surrogate pair in what a client sent is no reason to fail."""
    assert orjson.loads(problem(422, "wrong_type", "\ud800").body)["status"] == 422


async def test_a_fault_of_ours_is_answered_and_logged_on_the_short_way_too(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw while a check was answered is 500, and its stack is in the log."""

    async def fails(*_: object) -> None:
        raise ZeroDivisionError("not foreseen")

    world.app.hot._routes = {b"/v1/quota/check": HotRoute("/v1/quota/check", "quota:check", fails)}  # type: ignore[arg-type]
    answer = await world.client.post("/v1/quota/check", json={"customer": "c"}, headers=world.token("quota:check"))
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:tollgate:problem:internal_error")
    assert "not foreseen" in caplog.text
