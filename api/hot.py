"""The short way of the routes that are asked before every call and every session: check and hold.

Their ordinary requests (one JSON body of a known and small size, a token that holds and has the scope, something left
to ask for) are answered here, by the very functions that the routes call, in the order that all requests are judged in.
Whatever is out of the ordinary goes the long way, untouched, and gets its answer there: that the two agree is a test.
FastAPI's way costs more than the answer: seven layers, a search through all routes, dependencies.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from typing import Any, Final, NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.asking import object_of
from api.auth import token_text
from api.bodies import BODY_SECONDS, JSON
from api.parts import Application
from api.problems import CLIENT_CLOSED_REQUEST, Refused, answer_of, fault
from api.rates import BODY_BYTES_PER_UNIT, Buckets, cost_of
from api.tokens import Token
from schemas.errors import TollgateError, Unavailable

log = logging.getLogger(__name__)

HOT_BODY_MAX_BYTES: Final = 64 * 1024
"""A larger body goes the long way."""

_JSON: Final = frozenset((JSON.encode(), f"{JSON}; charset=utf-8".encode()))
_UNUSUAL: Final = frozenset((b"transfer-encoding", b"expect"))


class JsonAnswer(Response):
    """An answer that is JSON: the head that any starlette answer has, made without looking for what may be in it."""

    def __init__(self, content: bytes, status: int = 200) -> None:
        self.status_code = status
        self.body = content
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(content)), (b"content-type", JSON.encode())]


class HotRoute(NamedTuple):
    """A route that has a short way."""

    path: str
    scope: str
    """That its token needs."""
    answer: Callable[[Application, Token, dict[str, Any]], Awaitable[Response]]


class HotRoutes:
    """Answers ordinary requests of hot routes, and hands all others on."""

    def __init__(
        self,
        app: ASGIApp,
        application: Application,
        buckets: Buckets,
        routes: Mapping[bytes, HotRoute],
    ) -> None:
        """`routes` by their path as it is on the wire."""
        self._app = app
        self._application = application
        self._buckets = buckets
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope.get("raw_path", b"")) if scope["type"] == "http" else None
        token = self._token(route, scope) if route is not None and scope["method"] == "POST" else None
        if route is None or token is None:
            await self._app(scope, receive, send)
            return
        measures = self._application.measures
        begun, status = time.perf_counter(), 500
        measures.begin()
        try:
            response = await self._answer(route, token, receive)
            status = response.status_code
            if status != CLIENT_CLOSED_REQUEST:
                await response(scope, receive, send)
        finally:
            measures.end(route.path, "POST", status, time.perf_counter() - begun)

    def _token(self, route: HotRoute, scope: Scope) -> Token | None:
        """The token of an ordinary request; None for any other, of which nothing has been taken."""
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if (
            headers.get(b"content-type") not in _JSON
            or not (length.isdigit() and 0 < int(length) <= HOT_BODY_MAX_BYTES)
            or len(headers) != len(scope["headers"])  # one of them came twice
            or not _UNUSUAL.isdisjoint(headers)
        ):
            return None
        text = token_text(scope["headers"])
        try:
            token = (
                self._application.parts.tokens.find(text, self._application.parts.now()) if text is not None else None
            )
        except Unavailable:
            return None
        if token is None or route.scope not in token.scopes:
            return None
        body_cost = int(length) / BODY_BYTES_PER_UNIT
        return token if self._buckets.take(token.id, cost_of("POST", route.path), body_cost) == 0 else None

    async def _answer(self, route: HotRoute, token: Token, receive: Receive) -> Response:
        try:
            body = await _body(receive)
            if body is None:
                return Response(status_code=CLIENT_CLOSED_REQUEST)
            return await route.answer(self._application, token, object_of(body))
        except (TollgateError, Refused) as error:
            return answer_of(error)
        except Exception:
            log.exception("%s failed", route.path)
            return fault()


async def _body(receive: Receive) -> bytes | None:
    """A body whose size the head has bounded; None if its sender left. Errors: Refused 408."""
    reading = _read(receive)
    try:
        waits_for = reading.send(None)
    except StopIteration as read:  # it came with the head, as nearly every body does: a timeout would cost more than it
        body: bytes | None = read.value
        return body
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _Begun(reading, waits_for)
    except TimeoutError:
        late = f"the body has not come within {BODY_SECONDS:g} s"
        raise Refused(408, "body_too_late", late, {"Connection": "close"}) from None


async def _read(receive: Receive) -> bytes | None:
    parts: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return parts


class _Begun:
    """Awaits a coroutine that has been begun, and waits for something."""

    def __init__(self, reading: Coroutine[Any, Any, bytes | None], waits_for: Any) -> None:
        self._reading = reading
        self._first: list[Any] = [waits_for]

    def __await__(self) -> Generator[Any, Any, bytes | None]:
        return self  # type: ignore[return-value]  # an iterator with `throw` is all that `await` needs

    def __next__(self) -> Any:
        return self._first.pop() if self._first else self._reading.send(None)

    def throw(self, *error: Any) -> Any:
        """Of who is told that it is over."""
        return self._reading.throw(*error)

    def close(self) -> None:
        """Nobody waits any more."""
        self._reading.close()
