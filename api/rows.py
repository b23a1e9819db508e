"""Rows from ClickHouse for reading routes: a port of one method and its adapter on ClickHouse's HTTP interface.

aiohttp posts the SQL and takes JSONCompactEachRow: what a full client adds (native blocks, sessions, its own retries,
questions of its own at the start) a page of at most a thousand rows has no use for.

Errors: Unavailable where ClickHouse does not answer in time, is overloaded, or has no tables yet; InvariantBroken where
it refuses a query of ours, which is our fault.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import orjson

from api.queries import Query, Value
from schemas.errors import InvariantBroken, Unavailable

CONNECT_SECONDS: Final = 2.0
QUERY_SECONDS: Final = 15.0
CONNECTIONS: Final = 32
"""Queries at a time; more wait their turn within QUERY_SECONDS."""

_PASSING: Final = frozenset(
    (
        60,  # UNKNOWN_TABLE: not migrated yet
        81,  # UNKNOWN_DATABASE: likewise
        159,  # TIMEOUT_EXCEEDED
        164,  # READONLY: a server that is coming up or going down
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        394,  # QUERY_WAS_CANCELLED
        516,  # AUTHENTICATION_FAILED: an operator's mistake, mended without us
    )
)
"""Codes of ClickHouse that pass without a change of ours."""

_CODE: Final = re.compile(r"Code: (\d+)\.")
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r", "\0": r"\0", "'": r"\'"})


class Rows(Protocol):
    """Errors: Unavailable, InvariantBroken."""

    async def fetch(self, query: Query) -> list[list[Any]]:
        """All rows of the answer."""

    async def close(self) -> None:
        """Gives connections back."""


class ClickHouseRows:
    """The port on ClickHouse; `url` has user and password."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path or "/", "", ""))
        self._headers = {
            "X-ClickHouse-User": unquote(parts.username or "default"),
            "X-ClickHouse-Key": unquote(parts.password or ""),
            "Content-Type": "text/plain; charset=utf-8",
        }
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, query: Query) -> list[list[Any]]:
        """See the port."""
        content = await self.execute(Query(f"{query.sql}\nFORMAT JSONCompactEachRow", query.parameters))
        try:
            return [orjson.loads(line) for line in content.splitlines() if line]
        except orjson.JSONDecodeError:
            # An error that came after the head of the answer stands in its body.
            raise _refusal(200, content[-2_000:]) from None

    async def execute(self, statement: Query) -> bytes:
        """Whatever ClickHouse answers to a statement. Errors: as of the port."""
        parameters = {f"param_{name}": _escaped(value) for name, value in statement.parameters.items()}
        try:
            async with self._connected().post(
                self._url,
                data=statement.sql.encode(),
                params={"database": "tollgate", **parameters},
                headers=self._headers,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"clickhouse: {error!r}") from error
        if response.status != 200:
            raise _refusal(response.status, content)
        return content

    async def close(self) -> None:
        """See the port."""
        if self._session is not None:
            await self._session.close()

    def _connected(self) -> aiohttp.ClientSession:
        """The session belongs to the loop it is made in, so it is made at the first query."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=QUERY_SECONDS, sock_connect=CONNECT_SECONDS),
                raise_for_status=False,
            )
        return self._session


def _escaped(value: Value) -> str:
    """A parameter is read as a field of TabSeparated is."""
    return str(value) if isinstance(value, int) else value.translate(_ESCAPES)


def _refusal(status: int, content: bytes) -> Unavailable | InvariantBroken:
    text = content.decode("utf-8", "replace").strip()[:500]
    found = _CODE.search(text)
    if found is None or int(found[1]) in _PASSING:
        return Unavailable(f"clickhouse: {status}: {text}")
    return InvariantBroken(f"clickhouse refuses a query: {text}")
