"""Faust as it comes, its agent doing the rating: Redis for the balances, `topic.send` for what was rated.

    python -m benchmarks.baselines.stock_faust KAFKA REDIS EVENTS TAKE FOLDER

TAKE 0 rates event by event; above it the agent takes so many at once, with one Redis script for them. Redis charges as
in the hand-written loop. It ends after EVENTS records, wherever the topic ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from typing import Any

import faust
import uvloop
from redis.asyncio import Redis

from benchmarks.baselines.handwritten_loop import OUT, SCRIPT
from benchmarks.baselines.rating import Rater
from schemas.ids import partition_of
from schemas.topics import USAGE_EVENTS

PARTITIONS = 8


class Work:
    """What the agent did, and its end."""

    def __init__(self, app: faust.App, redis_url: str, events: int) -> None:
        self.events = events
        self.started = self.cpu = 0.0
        self.taken: Counter[int] = Counter()
        self.total = 0
        self._rater = Rater()
        self._charge = Redis.from_url(redis_url).register_script(SCRIPT)
        self._out = app.topic(OUT, key_serializer="raw", value_serializer="json")

    async def rate(self, events: list[dict[str, Any]]) -> None:
        """Rates, charges and sends on."""
        if not self.started:
            self.started, self.cpu = time.perf_counter(), time.process_time()
        arguments: list[str | int] = []
        rated = []
        for event in events:
            self.taken[partition_of(event["subject"], PARTITIONS)] += 1
            charges = self._rater.charges(event["type"], event["data"])
            if charges is not None:
                amount = sum(part["amount"] for part in charges)
                arguments += (event["id"], event["subject"], amount)
                rated.append((event, charges, amount))
        balances = await self._charge(args=arguments) if rated else []
        for (event, charges, amount), balance in zip(rated, balances, strict=True):
            if balance is not None:
                value = {"id": event["id"], "source": event["source"], "customer": event["subject"], "charges": charges}
                await self._out.send(
                    key=event["subject"].encode(), value=value | {"amount": amount, "balance": balance}
                )
                self.total += amount
        if self.taken.total() >= self.events:
            self._end()

    def _end(self) -> None:
        """Says what was done and leaves at once: a stop of Faust may take as long as its run."""
        done = {
            "events": self.taken.total(),
            "seconds": time.perf_counter() - self.started,
            "cpu_seconds": time.process_time() - self.cpu,
            "amount": self.total,
            "partitions": [self.taken[number] for number in range(PARTITIONS)],
        }
        print(json.dumps(done), flush=True)
        os._exit(0)


async def run(bootstrap: str, redis_url: str, events: int, take: int, folder: str) -> None:
    """Runs until the work ends the process."""
    app = faust.App(
        f"bench-stock-faust-{take}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        datadir=folder,
        topic_disable_leader=True,
    )
    work = Work(app, redis_url, events)

    @app.agent(app.topic(USAGE_EVENTS, value_serializer="json"))
    async def rate(stream: Any) -> None:
        if take:
            async for some in stream.take(take, within=0.1):
                await work.rate(some)
        else:
            async for event in stream:
                await work.rate([event])

    app.finalize()
    await app.maybe_start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
