"""Who asks: the token of a request, looked up before anything of the request is read, and the scope a route needs.

`Authentication` is ASGI middleware, so that a stranger's body is never touched. `needs` is a route's dependency, which
FastAPI resolves before the route reads its body. The tenant of a request is its token's; nothing in it changes that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from fastapi import Depends, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Refused, problem, problem_of
from api.tokens import SCOPES, Token, TokenReader
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

OPEN_PATHS: Final = frozenset(("/healthz", "/readyz", "/metrics", "/openapi.json", "/webhooks/stripe"))
"""Need no token; a webhook is signed instead."""

_KEY: Final = "tollgate.token"
_CHALLENGE: Final = 'Bearer realm="tollgate"'


class Authentication:
    """Refuses requests without a token that holds (401), whatever they ask for."""

    def __init__(self, app: ASGIApp, tokens: TokenReader, now: Callable[[], int]) -> None:
        self._app = app
        self._tokens = tokens
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        text = token_text(scope["headers"])
        try:
            token = self._tokens.find(text, self._now()) if text is not None else None
        except Unavailable as error:
            log.error("%s", error)
            await problem_of(Unavailable("service tokens cannot be read"))(scope, receive, send)
            return
        if token is None:
            await _unauthorized(given=text is not None)(scope, receive, send)
            return
        scope[_KEY] = token
        await self._app(scope, receive, send)


def token_of(scope: Scope) -> Token | None:
    """The token of a request that was let in; None for one that needs none."""
    token: Token | None = scope.get(_KEY)
    return token


def token_text(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The token that a request brings: of `Authorization: Bearer`, else of `X-Service-Token`."""
    other: str | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return credentials.strip()
        elif name == b"x-service-token":
            other = value.decode("latin-1").strip()
    return other


def needs(scope: str) -> Any:
    """A dependency: the request's token, which has this scope, else 403."""
    assert scope in SCOPES

    async def token_with_scope(request: Request) -> Token:
        token: Token = request.scope[_KEY]
        if scope not in token.scopes:
            raise Refused(
                403,
                "missing_scope",
                f"the token lacks the scope {scope}",
                {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
            )
        return token

    return Depends(token_with_scope)


def _unauthorized(*, given: bool) -> ASGIApp:
    if given:
        detail, challenge = "the token is unknown, revoked or expired", f'{_CHALLENGE}, error="invalid_token"'
    else:
        detail, challenge = "a token is needed: Authorization: Bearer … or X-Service-Token: …", _CHALLENGE
    return problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
