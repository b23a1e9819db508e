"""How much a token may ask for."""

from __future__ import annotations

import httpx
import pytest

from api.app import create_app
from api.rates import BUCKETS_MAX, HEAVY_COST, READ_COST, Buckets, cost_of
from tests.unit.api.conftest import World


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_empties_by_cost_and_fills_by_time() -> None:
    """What is taken is gone, what is missing names its time, and no more than a burst is ever there."""
    clock = Clock()
    buckets = Buckets(10, 100, clock)
    assert buckets.take("t", 60) == buckets.take("t", 40) == 0
    assert buckets.take("t", 5) == pytest.approx(0.5)
    clock.seconds += 0.5
    assert buckets.take("t", 5) == 0
    clock.seconds += 1_000
    assert buckets.take("t", 100) == 0
    assert buckets.take("t", 1) > 0


def test_a_refused_request_costs_nothing() -> None:
    """Whoever asks again too early does not wait the longer for it."""
    clock = Clock()
    buckets = Buckets(10, 10, clock)
    buckets.take("t", 10)
    assert {buckets.take("t", 5) for _ in range(100)} == {0.5}


def test_each_token_has_its_own(world: World) -> None:
    """One that asks for too much takes nothing from another."""
    buckets = Buckets(1, 10, Clock())
    assert buckets.take("one", 10) == 0
    assert buckets.take("one", 1) > 0
    assert buckets.take("other", 10) == 0


def test_a_body_may_be_owed() -> None:
    """Its size is known when it has come: the next request pays."""
    buckets = Buckets(10, 10, Clock())
    assert buckets.take("t", 30, may_owe=True) == 0
    assert buckets.take("t", 1) == pytest.approx(2.1)


def test_what_costs_more_than_a_full_bucket_can_be_had_from_a_full_one() -> None:
    """Else it could never be had; the next one waits for the debt."""
    clock = Clock()
    buckets = Buckets(10, 20, clock)
    assert buckets.take("t", 100) == 0
    assert buckets.take("t", 1) == pytest.approx(8.1)


def test_memory_is_bounded() -> None:
    """However many tokens come."""
    buckets = Buckets(10, 10, Clock())
    for number in range(BUCKETS_MAX + 10):
        buckets.take(str(number), 1)
    assert len(buckets._left) == BUCKETS_MAX


def test_nothing_is_limited_at_0() -> None:
    """An operator may leave it to a proxy."""
    assert Buckets(0, 0).take("t", 10**9) == 0


def test_a_request_costs_by_what_it_makes_us_do() -> None:
    """A hold or a balance little, a listing more, a catalogue most."""
    assert cost_of("POST", "/v1/holds") == cost_of("GET", "/v1/customers/c/balance") == 1
    assert cost_of("GET", "/v1/customers/c/charges") == READ_COST
    assert cost_of("PUT", "/v1/catalog") == cost_of("GET", "/v1/reconciliation") == HEAVY_COST


async def test_a_token_that_asks_for_too_much_is_told_when_to_come_again(world: World) -> None:
    """429 with Retry-After as problem+json, counted; the open routes are as they were."""
    from dataclasses import replace

    parts = replace(world.app.state.application.parts, rate_limit=(1, 12))
    app = create_app(parts)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        headers = world.token()
        assert [(await client.get("/v1/events", headers=headers)).status_code for _ in range(2)] == [200, 200]
        refused = await client.get("/v1/events", headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        assert (await client.get("/v1/events", headers=world.token())).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
        assert "tollgate_http_rate_limited_total 1.0" in (await client.get("/metrics")).text


async def test_a_body_costs_by_its_size(world: World) -> None:
    """Eight MiB use up what a thousand small requests do not."""
    from dataclasses import replace

    app = create_app(replace(world.app.state.application.parts, rate_limit=(1, 100)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as client:
        headers = {**world.token(), "Content-Type": "application/json"}
        answers = [
            (await client.post("/v1/events", headers=headers, content=bytes(2**21))).status_code for _ in range(2)
        ]
        assert answers == [422, 429]
