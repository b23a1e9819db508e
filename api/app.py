"""The HTTP API as an ASGI application: its middleware, routes and OpenAPI document, around the parts it works with.

The order of a request: measured; its path left as it came; its body held to bounds; its token looked up (401), and what
that has left to ask for (429); then the route: scope (403), object (404), body. Nothing is asked of a store before the
request may have it.

Checks and holds have a short way past all of that, which judges in the same order (`api.hot`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from api import problems
from api.audit import Audited
from api.auth import OPEN_PATHS, Authentication
from api.bodies import BodyBounds
from api.hot import HotRoutes
from api.measures import Measured
from api.parts import Application, Parts
from api.paths import EncodedPath
from api.rates import Buckets, RateLimits
from api.routes import (
    audit,
    catalog,
    customer_objects,
    customers,
    dead_letters,
    events,
    explain,
    holds,
    internal,
    invoices,
    operations,
    orders,
    payments,
    plans,
    prices,
    quota,
    reconciliation,
    subscriptions,
    test_clocks,
    wallets,
    webhooks,
)


class _Api(FastAPI):
    """An application whose hot routes are answered before any of its layers is gone through."""

    hot: HotRoutes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        """ASGI. A coroutine that only awaited another one would cost every answer a frame."""
        return self.hot(scope, receive, send)


_ROUTES: Final[Sequence[BaseRoute]] = [
    route
    for module in (
        audit,
        events,
        customer_objects,
        customers,
        catalog,
        plans,
        prices,
        quota,
        reconciliation,
        dead_letters,
        explain,
        holds,
        internal,
        wallets,
        subscriptions,
        invoices,
        test_clocks,
        orders,
        payments,
        webhooks,
        operations,
    )
    for route in module.router.routes
]
"""As the modules made them: a router that is included makes each of its routes a second time, at the first request."""


def create_app(parts: Parts) -> FastAPI:
    """The application; its parts are started and closed with it."""
    application = Application(parts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeping_up = asyncio.create_task(parts.keep_up(), name="catalogue")
        keeping_up.add_done_callback(application.catalogue_followed)
        watching = asyncio.create_task(application.watch(), name="watch")
        draining = asyncio.create_task(application.drain_audit(), name="audit")
        try:
            yield
        finally:
            # How each of them ended is logged already.
            for task in (keeping_up, watching, draining):
                task.cancel()
            await asyncio.gather(keeping_up, watching, draining, return_exceptions=True)
            if parts.outbox is not None:  # what was granted last goes out before the publisher goes
                await parts.outbox.close()
            await parts.publisher.close()
            await parts.rows.close()
            if parts.admission is not None:
                await parts.admission.close()
            await parts.accounts.close()
            await parts.kafka.close()

    app = _Api(
        title="Tollgate",
        version=version("tollgate"),
        routes=[*_ROUTES],
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # We measure ourselves; to ask before every request whether somebody else does has a price.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.application = application
    problems.install(app)
    buckets = Buckets(*parts.rate_limit)
    # The last one added is the first that a request meets.
    app.add_middleware(Audited, audit=parts.audit, routes=_ROUTES, now=parts.now)
    app.add_middleware(RateLimits, buckets=buckets, measures=application.measures)
    app.add_middleware(Authentication, tokens=parts.tokens, now=parts.now)
    app.add_middleware(BodyBounds)
    app.add_middleware(EncodedPath)
    app.add_middleware(Measured, measures=application.measures)
    app.hot = HotRoutes(
        super(_Api, app).__call__,
        application,
        buckets,
        {route.path.encode(): route for route in (quota.CHECK_ROUTE, holds.HOLD_ROUTE)},
    )
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        document.setdefault("components", {})["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "serviceToken": {"type": "apiKey", "in": "header", "name": "X-Service-Token"},
        }
        document["security"] = [{"bearer": []}, {"serviceToken": []}]
        for path, operations_of_path in document["paths"].items():
            for operation in operations_of_path.values():
                if path in OPEN_PATHS:
                    operation["security"] = []
                for answer in operation["responses"].values():
                    _as_problem(answer.get("content", {}))
        app.openapi_schema = document
    return app.openapi_schema


def _as_problem(content: dict[str, Any]) -> None:
    """FastAPI writes every model under application/json; problems have a media type of their own."""
    if content.get("application/json", {}).get("schema", {}).get("$ref", "").endswith("Problem"):
        content[problems.MEDIA_TYPE] = content.pop("application/json")
