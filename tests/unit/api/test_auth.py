from __future__ import annotations

import logging
from http import HTTPMethod

import pytest

from api.auth import OPEN_PATHS, token_text
from tests.unit.api.conftest import NOW, World

PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nobody"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"X-Service-Token": "tg_0000000000000000_" + "A" * 43},
    ],
)
async def test_without_a_token_that_holds_nothing_is_answered(world: World, headers: dict[str, str]) -> None:
    """401 with a challenge, on any route, there or not."""
    for path in ("/v1/events", "/v1/customers/c/balance", "/v1/nothing", "/"):
        response = await world.client.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["content-type"] == PROBLEM
        assert response.headers["www-authenticate"].startswith("Bearer")


async def test_a_token_is_taken_from_either_header(world: World) -> None:
    """Authorization: Bearer, whatever its case, or X-Service-Token."""
    text = world.token()["Authorization"].removeprefix("Bearer ")
    for headers in ({"Authorization": f"bearer {text}"}, {"X-Service-Token": text}):
        assert (await world.client.get("/v1/events", headers=headers)).status_code == 200


def test_bearer_goes_before_the_service_token() -> None:
    """Where both are given, a proxy's own authorization must not be overruled by a header passed through."""
    assert token_text([(b"x-service-token", b"b"), (b"authorization", b"Bearer a")]) == "a"
    assert token_text([(b"authorization", b"Basic a"), (b"x-service-token", b"b")]) == "b"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/events", "events:write"),
        ("GET", "/v1/events", "usage:read"),
        ("GET", "/v1/events/s/i", "usage:read"),
        ("GET", "/v1/customers/c/balance", "usage:read"),
        ("GET", "/v1/customers/c/usage", "usage:read"),
        ("GET", "/v1/customers/c/charges", "usage:read"),
        ("GET", "/v1/customers/c/ledger", "usage:read"),
        ("GET", "/v1/catalog", "usage:read"),
        ("PUT", "/v1/catalog", "admin"),
        ("POST", "/v1/prices/estimate", "usage:read"),
        ("GET", "/v1/dead-letters", "admin"),
        ("GET", "/v1/dead-letters/usage.events-0-1", "admin"),
    ],
)
async def test_a_token_without_the_scope_is_told_which(world: World, method: str, path: str, scope: str) -> None:
    """403 names the scope, before the body or the object is looked at."""
    other = world.token("invoices:write")
    response = await world.client.request(method, path, headers=other, content=b"not json")
    assert response.status_code == 403
    assert scope in response.json()["detail"]
    assert f'scope="{scope}"' in response.headers["www-authenticate"]
    assert not world.rows.asked
    assert not world.publisher.records


async def test_every_route_but_four_needs_a_token(world: World) -> None:
    """What the OpenAPI document says needs no token is exactly what is open, and every other route refuses."""
    document = (await world.client.get("/openapi.json")).json()
    operations = [(path, operation) for path, methods in document["paths"].items() for operation in methods.values()]
    opened = {path for path, operation in operations if operation.get("security") == []}
    assert opened | {"/openapi.json"} == OPEN_PATHS
    for path in document["paths"].keys() - OPEN_PATHS:
        for method in HTTPMethod:
            if method not in ("CONNECT", "TRACE"):
                assert (await world.client.request(method, path)).status_code == 401


async def test_a_token_never_reaches_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a good token nor a bad one is written anywhere."""
    caplog.set_level(logging.DEBUG)
    headers = world.token()
    await world.client.get("/v1/events", headers=headers)
    await world.client.get("/v1/events", headers={"X-Service-Token": "bad-token-text"})
    secret = headers["Authorization"].split("_", 2)[2]
    assert secret not in caplog.text
    assert "bad-token-text" not in caplog.text


async def test_a_damaged_token_file_is_no_verdict_on_a_token(world: World) -> None:
    """503 rather than 401: the client must not throw its good token away."""
    headers = world.token()
    world.tokens.path.write_text("damaged")
    response = await world.client.get("/v1/events", headers=headers)
    assert response.status_code == 503
    assert str(world.tokens.path) not in response.text


async def test_an_expired_token_is_as_none(world: World) -> None:
    """The moment it ends it is refused."""
    _, text = world.tokens.issue("acme", (), NOW, NOW - 1)
    assert (await world.client.get("/v1/events", headers={"X-Service-Token": text})).status_code == 401
