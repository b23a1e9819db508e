"""Metrics of the API's own work, and the middleware that takes them.

Labels are bounded: the route's template, never a path; methods and statuses that exist. Times are seconds.
"""

from __future__ import annotations

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import CLIENT_CLOSED_REQUEST

_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Measures:
    """What the API counts and times."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "tollgate_http_requests",
            "Requests answered, by route template.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tollgate_http_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("route", "method"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._open = Gauge("tollgate_http_requests_open", "Requests being answered.", registry=self.registry)
        self._events = Counter(
            "tollgate_http_events", "Events sent by POST /v1/events.", ("result",), registry=self.registry
        )

    def events_taken(self, accepted: int, rejected: int) -> None:
        """Events of one request."""
        self._events.labels("accepted").inc(accepted)
        self._events.labels("rejected").inc(rejected)

    def begin(self) -> None:
        """A request came."""
        self._open.inc()

    def end(self, route: str, method: str, status: int, seconds: float) -> None:
        """It is answered."""
        known = method if method in _METHODS else "other"
        self._open.dec()
        self._requests.labels(route, known, str(status)).inc()
        self._seconds.labels(route, known).observe(seconds)


class Measured:
    """Measures every request, whoever answers it."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = CLIENT_CLOSED_REQUEST
        begun = time.perf_counter()

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._measures.begin()
        try:
            await self._app(scope, receive, send_counted)
        except BaseException:
            status = 500  # answered further out, where what we did not foresee is caught
            raise
        finally:
            template = getattr(scope.get("route"), "path_format", "none")
            self._measures.end(template, scope["method"], status, time.perf_counter() - begun)
