"""Requests over so many connections at once, each sent when the one before it is answered: a process of its own.

    python -m benchmarks.requests URL < plan.json

The plan: `{"connections": 16, "seconds": 2.0, "headers": {…}, "path": "/…", "bodies": ["…", …], "statuses": [200]}`.
Bodies are taken in turn by all connections. One line of JSON comes back: how many were answered in how many seconds,
the CPU this process took, percentiles of the answers' time in microseconds, and any status that is not of the plan's.
It does as little as it can: plain sockets, and of an answer its status and length are read and no more.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed."""
    return sorted_values[min(int(len(sorted_values) * percent / 100), len(sorted_values) - 1)]


class _Connection(asyncio.Protocol):
    """One request at a time, until the deadline."""

    def __init__(self, requests: Iterator[bytes], until: float, took: list[float], statuses: Counter[int]) -> None:
        self._requests, self._until, self._took, self._statuses = requests, until, took, statuses
        self._came = b""
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        came = self._came = self._came + data
        head = came.find(_END)
        if head < 0:
            return
        at = came.find(_LENGTH) + len(_LENGTH)
        if len(came) < head + len(_END) + int(came[at : came.index(b"\r", at)]):
            return
        now = time.perf_counter()
        self._took.append(now - self._sent_at)
        self._statuses[int(came[9:12])] += 1
        self._came = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None) if error is None else self.ended.set_exception(error)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))


async def run(url: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Carries a plan out."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    head = "".join(f"{name}: {value}\r\n" for name, value in {**plan["headers"], "Host": parts.netloc}.items())
    made = [
        f"POST {plan['path']} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for body in plan["bodies"]
    ]
    took: list[float] = []
    statuses: Counter[int] = Counter()
    requests, started = itertools.cycle(made), time.perf_counter()
    until = started + plan["seconds"]
    loop = asyncio.get_running_loop()
    connections = [_Connection(requests, until, took, statuses) for _ in range(plan["connections"])]
    for connection in connections:
        await loop.create_connection(lambda made=connection: made, parts.hostname, parts.port)  # type: ignore[misc]
    await asyncio.gather(*(connection.ended for connection in connections))
    seconds = time.perf_counter() - started
    took.sort()
    return {
        "answered": len(took),
        "seconds": seconds,
        "cpu_seconds": time.process_time(),
        "p50_us": round(percentile(took, 50) * 1e6, 1),
        "p99_us": round(percentile(took, 99) * 1e6, 1),
        "unplanned": {str(status): count for status, count in statuses.items() if status not in plan["statuses"]},
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(sys.argv[1], json.load(sys.stdin)))))
