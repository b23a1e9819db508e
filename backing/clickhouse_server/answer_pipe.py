"""The pipe through which the engine's answer comes to the event loop.

The engine writes to it from a thread and waits when it is full, so an answer of any size takes the memory of a pipe.
The reading end belongs to the loop; the writing end to the thread, which closes it when its statement is over.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
from types import TracebackType
from typing import Final, Self

from backing.clickhouse_server.engine import Sink

PIPE_BYTES: Final = 1024 * 1024
"""What the kernel holds: Linux's bound for unprivileged processes."""

CHUNK_BYTES: Final = 256 * 1024
"""What is taken at once, and half of what is held beyond the pipe."""


_numbers: Final = itertools.count(1)


class AnswerPipe:
    """An async context; `sink` is the writing end."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe()
        self.sink: Final = Sink(writing, next(_numbers))
        try:
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except PermissionError:
            # The user's share of pipe memory is used up: it works with a small pipe too.
            return

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._stream = asyncio.StreamReader(CHUNK_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(self._stream, loop=loop)
        self._transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(self._reading, "rb", buffering=0))
        return self

    def end_writing(self) -> None:
        """Closes the writing end: nothing follows. From any thread, once."""
        os.close(self.sink.descriptor)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    async def read(self) -> bytes:
        """Some bytes more; none at the end."""
        return await self._stream.read(CHUNK_BYTES)
