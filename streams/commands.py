"""Commands on their way: written to `account.events`, and their outcome awaited.

A command has been decided once its partition's accounts stand beyond its record; then the document `operation` of its
id says what became of it. So no answer is ever guessed: one that is not known in time is pending, and can be asked for
again by where its record lies. What an earlier command under the same id did stands: it is answered, and nothing sent.

Errors: Unavailable where Kafka does not take the command (it may still have it), or Redis is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ingest.accept import Record
from ingest.delivery import Delivery
from schemas.commands import Command
from schemas.documents import OPERATION, decode_body, document_key
from schemas.ids import partition_of
from schemas.topics import ACCOUNT_EVENTS
from streams.accounts.port import Standing

WAIT_SECONDS: Final = 2.0
"""How long an outcome is waited for."""

LOOK_SECONDS: Final = (0.004, 0.008, 0.012, 0.016, 0.02)
"""Between two looks, growing."""

DONE: Final = "done"
PENDING: Final = "pending"


@dataclass(frozen=True, slots=True)
class Operation:
    """What became of a command, as far as is known."""

    id: str
    status: str
    """`done`; `refused` by the account, or `invalid`, neither of which is final; `conflict`: its id is another
    command's; `pending`: not known yet."""
    reason: str = ""
    detail: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    entry: str = ""
    """The ledger entry that booked it, `<partition>-<seq>`."""
    partition: int = -1
    offset: int = -1
    """Where its record lies; -1: nothing was sent."""


class Sender(Protocol):
    """Puts records into Kafka."""

    async def put(self, record: Record, label: object) -> Delivery:
        """Buffers one record; the delivery tells where it lies. Errors: Unavailable."""


class Outcomes(Protocol):
    """What of the accounts port is needed here. Errors: Unavailable."""

    async def peek_document(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """How a partition stands, and one document, both at one moment."""

    async def documents(self, partitions: int, keys: list[str]) -> list[bytes | None]:
        """Documents in whatever partition they are."""


Archive = Callable[[str, str, str], Awaitable[bytes | None]]
"""Tenant, kind, id: the body as of what ClickHouse has."""


class Commands:
    """Sends commands and tells what became of them."""

    def __init__(
        self,
        sender: Sender,
        outcomes: Outcomes,
        partitions: Callable[[], Awaitable[int]],
        archive: Archive,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._sender = sender
        self._outcomes = outcomes
        self._partitions = partitions
        self._archive = archive
        self._wait_seconds = wait_seconds

    async def run(self, command: Command) -> Operation:
        """Sends a command unless its id has an outcome that is final, and waits for what becomes of it."""
        known = await self.known(command)
        if known is not None:
            return known
        partition = partition_of(command.customer, await self._partitions())
        delivery = await self._sender.put(
            Record(ACCOUNT_EVENTS, command.customer.encode(), command.encoded()), command.id
        )
        offset = (await delivery).offset
        deadline = time.monotonic() + self._wait_seconds
        looks = 0
        while (left := deadline - time.monotonic()) > 0:
            await asyncio.sleep(min(LOOK_SECONDS[min(looks, len(LOOK_SECONDS) - 1)], left))
            looks += 1
            operation = await self._look(command.tenant, command.id, partition, offset)
            if operation.status != PENDING:
                return operation
        return Operation(command.id, PENDING, partition=partition, offset=offset)

    async def run_all(self, commands: Sequence[Command]) -> list[Operation]:
        """As `run`, of many at once: they are waited for by partition, not each by itself."""
        partitions = await self._partitions()
        keys = [_key(command.tenant, command.id) for command in commands]
        known = await self._outcomes.documents(partitions, keys)
        found: dict[int, Operation] = {}
        for place, (command, body) in enumerate(zip(commands, known, strict=True)):
            operation = operation_of(command.id, body) if body is not None else None
            if operation is not None and operation.status == DONE:
                found[place] = operation
        sent = [place for place in range(len(commands)) if place not in found]
        records = [Record(ACCOUNT_EVENTS, commands[at].customer.encode(), commands[at].encoded()) for at in sent]
        deliveries = [await self._sender.put(record, commands[at].id) for record, at in zip(records, sent, strict=True)]
        where = {
            at: (partition_of(commands[at].customer, partitions), (await delivery).offset)
            for at, delivery in zip(sent, deliveries, strict=True)
        }
        ends: dict[int, int] = {}
        for partition, offset in where.values():
            ends[partition] = max(offset, ends.get(partition, -1))
        reached = await self._reached(ends)
        bodies = await self._outcomes.documents(partitions, [keys[at] for at in sent])
        for at, body in zip(sent, bodies, strict=True):
            partition, offset = where[at]
            if partition in reached and body is not None:
                found[at] = operation_of(commands[at].id, body)
            else:
                found[at] = await self._look(commands[at].tenant, commands[at].id, partition, offset)
        return [found[at] for at in range(len(commands))]

    async def _reached(self, ends: Mapping[int, int]) -> set[int]:
        """The partitions whose accounts come to stand beyond an offset while there is time."""
        deadline = time.monotonic() + self._wait_seconds
        reached: set[int] = set()
        while len(reached) < len(ends) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS[-1])
            for partition in ends.keys() - reached:
                standing, _ = await self._outcomes.peek_document(partition, "")
                if standing.position is not None and standing.position.account_next > ends[partition]:
                    reached.add(partition)
        return reached

    async def known(self, command: Command) -> Operation | None:
        """The final outcome that a command's id has already, as long as Redis keeps it."""
        partition = partition_of(command.customer, await self._partitions())
        _, body = await self._outcomes.peek_document(partition, _key(command.tenant, command.id))
        operation = operation_of(command.id, body) if body is not None else None
        return operation if operation is not None and operation.status == DONE else None

    async def find(self, tenant: str, operation_id: str, partition: int = -1, offset: int = -1) -> Operation | None:
        """What became of an operation; with the place of its record also that it is pending. None: nothing is known."""
        partitions = await self._partitions()
        if 0 <= partition < partitions and offset >= 0:
            return await self._look(tenant, operation_id, partition, offset)
        (body,) = await self._outcomes.documents(partitions, [_key(tenant, operation_id)])
        if body is None:
            body = await self._archive(tenant, OPERATION, operation_id)
        return operation_of(operation_id, body) if body is not None else None

    async def _look(self, tenant: str, operation_id: str, partition: int, offset: int) -> Operation:
        standing, body = await self._outcomes.peek_document(partition, _key(tenant, operation_id))
        position = standing.position
        if position is None or position.account_next <= offset:
            return Operation(operation_id, PENDING, partition=partition, offset=offset)
        if body is None:
            # Decided, and not now: its id was booked more than OPERATION_KEPT_MS ago.
            body = await self._archive(tenant, OPERATION, operation_id)
        if body is None:
            return Operation(
                operation_id, "conflict", "conflict", "another command has this id", {}, "", partition, offset
            )
        return operation_of(operation_id, body)


def _key(tenant: str, operation_id: str) -> str:
    return document_key(tenant, OPERATION, operation_id)


def operation_of(operation_id: str, body: bytes) -> Operation:
    """An operation by its document."""
    told = decode_body(body)
    return Operation(
        operation_id,
        told["status"],
        told.get("reason", ""),
        told.get("detail", ""),
        told.get("result", {}),
        told.get("entry", ""),
    )
