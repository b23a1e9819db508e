"""An answer leaves in one write, and nothing of it waits for what may never come."""

from __future__ import annotations

import asyncio
from typing import Any

from api.one_write import OneWrite, _Gathering


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def gathering() -> tuple[Transport, Any]:
    transport = Transport()
    return transport, _Gathering(transport)  # type: ignore[arg-type]


async def test_head_and_body_are_one_write() -> None:
    transport, gathered = gathering()
    for _ in range(2):
        gathered.write(b"HTTP/1.1 200 OK\r\n\r\n")
        gathered.write(b"body")
        gathered.write(b"more")
    await asyncio.sleep(0)
    assert transport.written == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"more"] * 2


async def test_a_head_alone_goes_when_the_loop_comes_round() -> None:
    """Of an answer whose body takes its time, or that has none."""
    transport, gathered = gathering()
    gathered.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [b"HTTP/1.1 204 No Content\r\n\r\n"]


async def test_what_is_closed_has_been_written() -> None:
    """All else is the transport's own."""
    transport, gathered = gathering()
    gathered.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    gathered.close()
    assert transport.written == [b"HTTP/1.1 400 Bad Request\r\n\r\n"]
    assert gathered.is_closing()


def test_it_is_uvicorns_protocol_in_all_else() -> None:
    """What is written twice is decided there."""
    assert [name for name in vars(OneWrite) if not name.startswith("__")] == ["connection_made"]
