"""Metrics of the API's own work, and the middleware that takes them.

Labels are bounded: the route's template, never a path; methods and statuses that exist. Times are seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import CLIENT_CLOSED_REQUEST
from schemas import metrics
from schemas.errors import InvalidInput, Unavailable

_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


@dataclass(slots=True)
class Reporting:
    """The usage reports of one request."""

    taken: int = 0
    """That Kafka is to have; counted as taken if the block ends well."""
    refused: int = 0


class Measures:
    """What the API counts and times."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = metrics.HTTP_REQUESTS.on(self.registry)
        self._seconds = metrics.HTTP_SECONDS.on(self.registry)
        self._open = 0
        metrics.HTTP_OPEN.on(self.registry).set_function(lambda: self._open)  # counted by one thread, without a lock
        self._events = metrics.HTTP_EVENTS.on(self.registry)
        self._reports = metrics.REPORTS.on(self.registry)
        self._report_seconds = metrics.REPORT_SECONDS.on(self.registry)
        self._report_errors = metrics.REPORT_ERRORS.on(self.registry)
        self._dependency_ready = metrics.DEPENDENCY_READY.on(self.registry)
        self._breaker_open = metrics.BREAKER_OPEN.on(self.registry)
        self._store_seconds = metrics.STORE_SECONDS.on(self.registry)
        self._store_away = metrics.STORE_UNAVAILABLE.on(self.registry)
        self._rate_limited = metrics.RATE_LIMITED.on(self.registry)
        self._unserved = metrics.UNSERVED.on(self.registry)
        self._lag_events = metrics.LAG_EVENTS.on(self.registry)
        self._lag_seconds = metrics.LAG_SECONDS.on(self.registry)
        self._of_routes: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        """What `end` counts and times, at hand."""
        for status in ("success", "failed"):
            self._reports.labels(status)  # 0 from the start, so that the first failure is a rate
        for reason in ("invalid", "unavailable"):
            self._report_errors.labels(reason)

    def events_taken(self, accepted: int, rejected: int) -> None:
        """Events of one request."""
        self._events.labels("accepted").inc(accepted)
        self._events.labels("rejected").inc(rejected)

    @contextmanager
    def reporting(self) -> Iterator[Reporting]:
        """Around the taking of usage reports: says which were taken, how long it took, and what was not taken.

        An InvalidInput that leaves the block is one refused report, an Unavailable loses all that were to be taken."""
        report = Reporting()
        begun = time.perf_counter()
        try:
            yield report
        except InvalidInput:
            report.refused += 1
            raise
        except Unavailable:
            self._reports.labels("failed").inc(report.taken)
            self._report_errors.labels("unavailable").inc(report.taken)
            report.taken = 0
            raise
        finally:
            self._reports.labels("success").inc(report.taken)
            self._reports.labels("failed").inc(report.refused)
            self._report_errors.labels("invalid").inc(report.refused)
            self._report_seconds.observe(time.perf_counter() - begun)

    def dependency(self, name: str, *, ready: bool) -> None:
        """Whether a dependency answers as it must."""
        self._dependency_ready.labels(name).set(ready)

    def breaker(self, store: str, *, is_open: bool) -> None:
        """Whether calls to a store are refused without asking it."""
        self._breaker_open.labels(store).set(is_open)

    def store_answered(self, store: str, operation: str, seconds: float) -> None:
        """A store answered a call."""
        self._store_seconds.labels(store, operation).observe(seconds)

    def store_away(self, store: str) -> None:
        """A store did not answer a call."""
        self._store_away.labels(store).inc()

    def rate_limited(self) -> None:
        """A request was answered 429 since its token asked for too much."""
        self._rate_limited.inc()

    def unserved(self, partitions: int) -> None:
        """How many partitions no worker serves."""
        self._unserved.set(partitions)

    def lag(self, topic: str, partition: int, events: int, seconds: float) -> None:
        """How far a partition's decisions are behind."""
        self._lag_events.labels(topic, str(partition)).set(events)
        self._lag_seconds.labels(topic, str(partition)).set(seconds)

    def begin(self) -> None:
        """A request came."""
        self._open += 1

    def end(self, route: str, method: str, status: int, seconds: float) -> None:
        """It is answered."""
        known = method if method in _METHODS else "other"
        self._open -= 1
        kept = self._of_routes.get((route, known, status))
        if kept is None:
            kept = self._requests.labels(route, known, str(status)), self._seconds.labels(route, known)
            self._of_routes[route, known, status] = kept
        kept[0].inc()
        kept[1].observe(seconds)


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
