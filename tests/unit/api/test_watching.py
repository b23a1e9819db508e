"""What the API measures of dependencies and lag without being asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from api.watching import Watch
from schemas.errors import Unavailable
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS
from streams.accounts.port import Position
from streams.lag import Lag
from tests.unit.api.conftest import NOW, World


class CountedLags:
    """Every partition is as many events behind as it has decided, and a second each."""

    def __init__(self) -> None:
        self.asked: list[Mapping[tuple[str, int], int]] = []
        self.away = False

    async def measure(self, decided: Mapping[tuple[str, int], int], now: int) -> Sequence[Lag]:
        if self.away:
            raise Unavailable("kafka: away")
        self.asked.append(dict(decided))
        return [Lag(topic, partition, offset, float(offset)) for (topic, partition), offset in decided.items()]

    async def close(self) -> None:
        pass


def watch_of(world: World, lags: CountedLags) -> Watch:
    application = world.app.state.application
    return Watch(
        application.measures,
        application.readiness,
        world.kafka,
        world.accounts,
        lags,
        application.breakers,
        lambda: NOW,
    )


def value(world: World, name: str, **labels: str) -> float | None:
    found: float | None = world.app.state.application.measures.registry.get_sample_value(name, labels)
    return found


async def look(world: World, watch: Watch) -> None:
    world.app.state.application.readiness._kept = None
    await watch.look()


async def test_lag_is_measured_from_the_positions_of_the_accounts(world: World) -> None:
    """Of both inputs, by partition, in events and seconds."""
    world.accounts.positions = {0: Position("l", 5, 5, 30, 4, 1), 1: Position("l", 9, 9, 70, 2, 1)}
    lags = CountedLags()
    await look(world, watch_of(world, lags))
    assert lags.asked == [
        {(USAGE_EVENTS, 0): 30, (ACCOUNT_EVENTS, 0): 4, (USAGE_EVENTS, 1): 70, (ACCOUNT_EVENTS, 1): 2}
    ]
    assert value(world, "tollgate_lag_events", topic=USAGE_EVENTS, partition="1") == 70
    assert value(world, "tollgate_lag_seconds", topic=ACCOUNT_EVENTS, partition="0") == 4


async def test_lag_grows_on_while_redis_is_away(world: World) -> None:
    """The positions last seen still hold: nothing is decided without Redis."""
    world.accounts.positions = {number: Position("l", 5, 5, 30, 4, 1) for number in range(2)}
    lags = CountedLags()
    watch = watch_of(world, lags)
    await look(world, watch)
    world.accounts.away = True
    await look(world, watch)
    assert lags.asked[0] == lags.asked[1]
    assert value(world, "tollgate_dependency_ready", dependency="redis") == 0
    assert value(world, "tollgate_partitions_unserved") == 2


@pytest.mark.parametrize("name", ["kafka", "redis", "clickhouse"])
async def test_each_dependency_has_a_gauge(world: World, name: str) -> None:
    """0 for the one that is away, 1 for the others, and 1 again when it is back."""
    lags = CountedLags()
    watch = watch_of(world, lags)
    store = {"kafka": world.kafka, "redis": world.accounts, "clickhouse": world.rows}[name]
    for away in (True, False):
        store.away = away  # type: ignore[attr-defined]
        await look(world, watch)
        shown = {
            each: value(world, "tollgate_dependency_ready", dependency=each)
            for each in ("kafka", "redis", "clickhouse", "catalogue")
        }
        assert shown == {each: float(not (away and each == name)) for each in shown}


async def test_a_store_that_is_not_asked_is_shown_and_asked_again_when_a_look_finds_it_back(world: World) -> None:
    """Five failures open; requests are refused without a question; a good look closes before its time."""
    lags = CountedLags()
    watch = watch_of(world, lags)
    world.rows.away = True
    headers = world.token()
    for _ in range(6):
        assert (await world.client.get("/v1/events", headers=headers)).status_code == 503
    await look(world, watch)
    assert value(world, "tollgate_breaker_open", store="clickhouse") == 1
    assert value(world, "tollgate_store_unavailable_total", store="clickhouse") == 6  # five, and the look
    ready = (await world.client.get("/readyz")).json()["dependencies"]["clickhouse"]
    assert (ready["ready"], ready["breaker"]) == (False, "open")
    world.rows.away = False
    assert (await world.client.get("/v1/events", headers=headers)).status_code == 503
    await look(world, watch)
    assert (await world.client.get("/v1/events", headers=headers)).status_code == 200
    assert value(world, "tollgate_breaker_open", store="clickhouse") == 0
