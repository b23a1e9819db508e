"""Asks each service whether it really answers: the API, not the port.

Each function returns if the service answered as itself and raises Unavailable, with the reason in one line, if not.
None waits much longer than its `timeout_s`. They are synchronous, and may be called from a thread that runs a loop.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from schemas.errors import Unavailable
from schemas.kafka import connection

DEFAULT_TIMEOUT_S: Final = 3.0

_T = TypeVar("_T")

# A probe expects refusals; aiokafka would otherwise report each of them on standard error.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def complete(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Runs a coroutine to its end in a thread and a loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def kafka(bootstrap: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """A broker answers with the cluster's metadata."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    async def ask() -> None:
        admin = AIOKafkaAdminClient(**connection(bootstrap), request_timeout_ms=int(timeout_s * 1000))
        try:
            async with asyncio.timeout(timeout_s):
                await admin.start()
                cluster = await admin.describe_cluster()
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka at {bootstrap} does not answer: {_reason(error)}") from None
        finally:
            await admin.close()
        if not cluster["brokers"]:
            raise Unavailable(f"Kafka at {bootstrap} has no broker yet")

    complete(ask())


def redis(url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """Redis answers PING, which it refuses while it loads its data."""
    from redis import Redis, RedisError

    client = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
    try:
        client.ping()
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis at {without_password(url)} does not answer: {_reason(error)}") from None
    finally:
        client.close()


def clickhouse(url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """ClickHouse answers SELECT 1 for this user."""
    try:
        status, body = _post(url, b"SELECT 1", timeout_s)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"ClickHouse at {without_password(url)} does not answer: {_reason(error)}") from None
    if status != http.client.OK or body.strip() != b"1":
        answer = body.decode(errors="replace").strip()[:200]
        raise Unavailable(f"ClickHouse at {without_password(url)} answers {status}: {answer}")


def _post(url: str, query: bytes, timeout_s: float) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout_s)
    user_and_password = f"{unquote(parts.username or 'default')}:{unquote(parts.password or '')}"
    headers = {"Authorization": f"Basic {base64.b64encode(user_and_password.encode()).decode()}"}
    try:
        connection.request("POST", "/", query, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


PROBES: Final[dict[str, Callable[[str, float], None]]] = {"kafka": kafka, "redis": redis, "clickhouse": clickhouse}


def answers(name: str, url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
    """Whether the service answers now."""
    try:
        PROBES[name](url, timeout_s)
    except Unavailable:
        return False
    return True


def without_password(url: str) -> str:
    """The URL as messages may show it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host).geturl()


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
