"""Holds while Redis and workers are killed: what holders were told stays true, and is what is billed."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest

from schemas.settings import Settings
from tests.faults.harness import Scene, scene
from tests.faults.holders import holders, storm


async def _storm(stage: Settings, seed: int, tasks: int, operations: int, kills: int, pause_seconds: float) -> None:
    async with scene(stage, seed=seed, customers=1) as made:
        await made.processes.ready("worker0", "worker1")
        async with holders(made, seed) as found:
            await storm(found, tasks, operations, lambda: _kills(made, seed, kills, pause_seconds))
            for word in ("granted", "extended", "settled", "released", "wallet", "looks", "unavailable"):
                assert found.seen[word], (word, found.seen)
        for _ in range(60):  # the sink is on its way
            code = await made.reconciled()
            if code == 0:
                break
        assert code == 0, f"see {made.log}"


async def _kills(made: Scene, seed: int, kills: int, pause_seconds: float) -> None:
    """Redis (whose log of writes is a second behind) and workers in turns."""
    chance = random.Random(seed)
    for number in range(kills):
        await asyncio.sleep(chance.uniform(0.2, pause_seconds))
        if number % 2:
            made.processes.signal(chance.choice(("worker0", "worker1")), signal.SIGKILL)
        else:
            await made.restart("redis", away_seconds=chance.choice((0, 0, 1)), crash=True)


async def test_holds_while_redis_and_workers_are_killed(stage: Settings) -> None:
    """Nothing is overspent beyond what was used beyond holds, each hold ends once, and nothing is held in the end."""
    await _storm(stage, 501, 20, 600, 4, 2.0)


@pytest.mark.long
@pytest.mark.parametrize("seed", [511, 512, 513])
async def test_many_holds_while_redis_and_workers_are_killed(stage: Settings, seed: int) -> None:
    """200 tasks and 20,000 things."""
    await _storm(stage, seed, 200, 20_000, 12, 5.0)
