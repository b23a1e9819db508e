"""What was sent or written, waited for: until the outcome of commands is known, until ClickHouse has the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from invoicing.stores import Commanding, Rows
from schemas.commands import Command
from schemas.errors import InvalidInput, Unavailable
from streams.commands import PENDING, Operation

SETTLE_SECONDS: Final = 30.0
"""How long an outcome is waited for."""

LedgerEnds = Callable[[Sequence[int]], Awaitable[Mapping[int, int]]]
"""By partition of those named: the seq after the ledger's last entry."""


async def caught_up(
    rows: Rows, ledger_ends: LedgerEnds, partitions: Sequence[int], bound_seconds: float = SETTLE_SECONDS
) -> Mapping[int, int]:
    """The ledger's ends now, once ClickHouse has all below them. Errors: Unavailable."""
    wanted = await ledger_ends(partitions)
    deadline = time.monotonic() + bound_seconds
    while True:
        there = await asyncio.to_thread(rows.ends)
        if all(there.get(partition, 0) >= end for partition, end in wanted.items()):
            return wanted
        if time.monotonic() > deadline:
            raise Unavailable(f"rows in ClickHouse did not reach the ledger within {bound_seconds:.0f} s")
        await asyncio.sleep(0.1)


class Settling:
    """Errors: Unavailable; InvalidInput for what is no command."""

    def __init__(self, commands: Commanding) -> None:
        self._commands = commands

    async def one(self, command: Command) -> Operation:
        """Of one command."""
        return await self._decided(command, await self._commands.run(command))

    async def all(self, commands: Sequence[Command]) -> list[Operation]:
        """Of many, sent together."""
        operations = await self._commands.run_all(commands) if commands else []
        return [await self._decided(*one) for one in zip(commands, operations, strict=True)]

    async def _decided(self, command: Command, operation: Operation) -> Operation:
        deadline = time.monotonic() + SETTLE_SECONDS
        while operation.status == PENDING:
            if time.monotonic() > deadline:
                raise Unavailable(f"{command.type} of {command.customer} is not decided after {SETTLE_SECONDS:.0f} s")
            await asyncio.sleep(0.2)
            found = await self._commands.find(command.tenant, command.id, operation.partition, operation.offset)
            operation = found if found is not None else operation
        if operation.status == "invalid":
            raise InvalidInput(operation.reason, operation.detail)
        return operation
