from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from api.app import create_app
from ingest.accept import Record
from schemas.errors import InvariantBroken
from streams.accounts.port import Position
from streams.admission.outbox import Outbox
from tests.unit.api.conftest import NOW, World


async def ready(world: World) -> tuple[int, dict[str, Any]]:
    """What /readyz says, not what it said a moment ago."""
    world.app.state.application.readiness._kept = None
    response = await world.client.get("/readyz")
    return response.status_code, response.json()


async def test_ready_is_when_everything_answers(world: World) -> None:
    """200 with each dependency named."""
    status, body = await ready(world)
    assert (status, body["ready"], body["partitions"], body["unserved"]) == (200, True, 2, [])
    assert set(body["dependencies"]) == {"kafka", "redis", "clickhouse", "catalogue"}


@pytest.mark.parametrize("name", ["kafka", "redis", "clickhouse"])
async def test_a_store_that_is_away_is_named(world: World, name: str) -> None:
    """503 names it and no other; without Redis no partition is served either."""
    {"kafka": world.kafka, "redis": world.accounts, "clickhouse": world.rows}[name].away = True  # type: ignore[attr-defined]
    status, body = await ready(world)
    assert status == 503
    assert [key for key, found in body["dependencies"].items() if not found["ready"]] == [name]
    assert len(body["unserved"]) == (2 if name == "redis" else 0)


async def test_a_partition_that_nobody_serves_is_named(world: World) -> None:
    """One that is brought up, and one whose owner does not beat."""
    world.accounts.serving = False
    assert len((await ready(world))[1]["unserved"]) == 2
    world.accounts.serving, world.accounts.still = True, True
    world.accounts.beat = NOW // 1_000 - 5_001
    status, body = await ready(world)
    assert (status, len(body["unserved"])) == (503, 2)
    world.accounts.beat = NOW // 1_000 - 5_000
    assert (await ready(world))[0] == 200


async def test_a_partition_that_nobody_ever_opened_is_not_served(world: World) -> None:
    """Nothing in Redis is not the same as whole."""
    world.accounts.positions = {0: None, 1: Position("l", 1, 1)}  # type: ignore[dict-item]
    status, body = await ready(world)
    assert (status, [each["partition"] for each in body["unserved"]]) == (503, [0])


async def test_without_a_catalogue_it_is_not_ready(world: World) -> None:
    """Workers wait for one, and this is where it is said."""
    world.book.position = 0
    status, body = await ready(world)
    assert (status, body["dependencies"]["catalogue"]["ready"]) == (503, False)


async def test_a_catalogue_that_is_no_longer_followed_is_said(world: World) -> None:
    """A version that cannot be understood ends the reading: what stands may be old."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_exception(InvariantBroken("format 2"))
    world.app.state.application.catalogue_followed(ended)
    status, body = await ready(world)
    assert (status, body["dependencies"]["catalogue"]["ready"]) == (503, False)


async def test_alive_is_alive_whatever_is_away(world: World) -> None:
    """A restart would not bring a store back."""
    world.kafka.away = world.accounts.away = world.rows.away = True
    assert (await world.client.get("/healthz")).status_code == 200


async def test_requests_are_measured_by_template(world: World) -> None:
    """Labels are bounded: no path, no customer, no method that somebody made up."""
    headers = world.token()
    await world.client.get("/v1/customers/some-customer/balance", headers=headers)
    await world.client.get("/v1/made-up-path", headers=headers)
    await world.client.request("BREW", "/v1/events", headers=headers)
    text = (await world.client.get("/metrics")).text
    assert 'route="/v1/customers/{id}/balance"' in text
    for unbounded in ("some-customer", "made-up-path", "BREW"):
        assert unbounded not in text


async def test_unknown_routes_and_methods_are_problems(world: World) -> None:
    """404 and 405 with Allow, as problem+json."""
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/v1/events/", 404),
        ("GET", "/v1/customers/c", 404),
        ("DELETE", "/v1/events", 405),
        ("BREW", "/v1/catalog", 405),
        ("GET", "/docs", 404),
    ):
        response = await world.client.request(method, path, headers=world.token())
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
        assert ("allow" in response.headers) == (status == 405)


async def test_a_fault_of_ours_is_a_problem_that_tells_nothing(world: World) -> None:
    """500 without a word of what happened; the log has it."""

    def fail(query: object) -> Any:
        raise ZeroDivisionError("secret")

    world.rows.answer = fail
    response = await world.client.get("/v1/events", headers=world.token())
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in response.text
    assert 'route="/v1/events",status="500"' in (await world.client.get("/metrics")).text


async def test_the_openapi_document_is_complete(world: World) -> None:
    """Every route says its answers, its problems and, where it takes one, its body."""
    document = (await world.client.get("/openapi.json")).json()
    assert document["components"]["securitySchemes"].keys() == {"bearer", "serviceToken"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert any(status.startswith("2") for status in answers), path
            if path.startswith("/v1/"):
                assert answers["422"]["content"].keys() == {"application/problem+json"}
                assert {"401", "403", "404", "429", "500", "503"} <= answers.keys()
            if method == "put" or "requestBody" in operation:
                assert operation["requestBody"]["content"]
                assert {"400", "408", "413", "415"} <= answers.keys()
    assert "HTTPValidationError" not in document["components"]["schemas"]


class LastWords:
    """A Kafka that takes records until its publisher is closed."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.closed = False

    async def put(self, record: Record, label: object) -> Any:
        assert not self.closed
        self.told.append(record.value)
        return asyncio.sleep(0)

    def hand_over(self, topic: str) -> None:
        assert not self.closed

    async def close(self) -> None:
        self.closed = True


async def test_what_nobody_waits_for_goes_out_before_the_publisher_goes(world: World) -> None:
    """A process that drains has told Kafka of the holds it granted last."""
    kafka = LastWords()
    outbox = Outbox(kafka, b"".join)
    app = create_app(replace(world.app.state.application.parts, outbox=outbox, publisher=kafka))  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        outbox.put(Record("holds.journal", b"c-1", b"line"), 1)
    assert kafka.told == [b"line"]
    assert kafka.closed
