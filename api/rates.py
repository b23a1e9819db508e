"""How much a token may ask for: a bucket of cost units a token, filled at a rate, in this process.

A request costs by what it makes us do: a look at Redis little, a question to ClickHouse more, a change of the catalogue
most, and its body by its size. The price is taken when the head has come, that of the body as its bytes come: a bucket
may fall below zero, and then the next request waits. Several API processes each have their own buckets; a limit for
all of them belongs into the proxy before them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import token_of
from api.measures import Measures
from api.problems import problem

BODY_BYTES_PER_UNIT: Final = 16 * 1024
BUCKETS_MAX: Final = 10_000
"""Of tokens used lately; beyond it the one used longest ago begins anew, full."""

READ_COST: Final = 5
"""A question to ClickHouse."""
CHANGE_COST: Final = 2
HEAVY_COST: Final = 100
_HEAVY: Final = ("/v1/catalog", "/v1/reconciliation")
_CHEAP_READS: Final = ("/balance", "/quota", "/entitlements")
_CHEAP_CHANGES: Final = ("/v1/events", "/v1/quota", "/v1/holds")


def cost_of(method: str, path: str) -> int:
    """Cost units of a request's head."""
    if path.startswith(_HEAVY):
        return HEAVY_COST if method != "GET" or path.startswith("/v1/reconciliation") else READ_COST
    if method in ("GET", "HEAD"):
        return 1 if path.endswith(_CHEAP_READS) or path.startswith("/v1/holds") else READ_COST
    return 1 if path.startswith(_CHEAP_CHANGES) else CHANGE_COST


class Buckets:
    """What each token has left. `per_second` 0: no limit."""

    def __init__(self, per_second: int, burst: int, elapsed_seconds: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = max(burst, per_second)
        self._elapsed_seconds = elapsed_seconds
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By token: units left, and when that was so."""

    def take(self, token_id: str, cost: float, besides: float = 0.0, *, may_owe: bool = False) -> float:
        """Takes `cost` units and answers 0, or takes none and answers in how many seconds there are enough.

        What may be owed is taken in any case, and what is taken `besides` may be. A request that costs more than a full
        bucket needs a full one."""
        if self._per_second == 0:
            return 0.0
        at = self._elapsed_seconds()
        left, since = self._left.pop(token_id, (float(self._burst), at))
        left = min(self._burst, left + (at - since) * self._per_second)
        missing = min(cost, self._burst) - left
        if missing > 0 and not may_owe:
            self._left[token_id] = left, at
            return missing / self._per_second
        self._left[token_id] = left - cost - besides, at
        if len(self._left) > BUCKETS_MAX:
            self._left.popitem(last=False)
        return 0.0


class RateLimits:
    """Answers 429 with Retry-After to a token that has used up what it may ask for."""

    def __init__(self, app: ASGIApp, buckets: Buckets, measures: Measures) -> None:
        self._app = app
        self._buckets = buckets
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = token_of(scope)
        if token is None:
            await self._app(scope, receive, send)
            return
        wait_seconds = self._buckets.take(token.id, cost_of(scope["method"], scope["path"]))
        if wait_seconds > 0:
            self._measures.rate_limited()
            seconds = ceil(wait_seconds)
            answer = problem(
                429,
                "rate_limited",
                f"this token has asked for too much; again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
            await answer(scope, receive, send)
            return

        async def receive_at_cost() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            if size:
                self._buckets.take(token.id, size / BODY_BYTES_PER_UNIT, may_owe=True)
            return message

        await self._app(scope, receive_at_cost, send)
