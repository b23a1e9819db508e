"""Path segments as clients write them: an id may hold any character, a slash too, percent-encoded.

Servers decode a path before a router sees it, and `a%2Fb` is then two segments. `EncodedPath` gives the router the path
as it came; the convertors `segment` and `segments` decode what they matched. What `segments` matches may also hold
slashes that nobody encoded.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send


class EncodedPath:
    """Routes by the path as the client sent it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            scope["path"] = scope["raw_path"].decode("latin-1")
        await self._app(scope, receive, send)


class _Segment(Convertor[str]):
    regex = "[^/]+"

    def convert(self, value: str) -> str:
        # What is no UTF-8 becomes U+FFFD, and so an id that nobody has.
        return unquote(value)

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


class _Segments(_Segment):
    regex = ".+"


register_url_convertor("segment", _Segment())
register_url_convertor("segments", _Segments())
