"""Commands carried out in memory: decided at once by a partition without stores, second legs and all."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.commands import Command
from schemas.documents import OPERATION, document_key
from schemas.errors import Unavailable
from schemas.topics import ACCOUNT_EVENTS
from streams.commands import DONE, Operation, operation_of
from tests.fakes.partition import MemoryPartition


class FakeCommands:
    """Decides what it is given; `late` leaves outcomes pending, `away` takes nothing."""

    def __init__(self, partition: MemoryPartition | None = None) -> None:
        self.partition = partition or MemoryPartition()
        self.sent: list[Command] = []
        self.late = False
        self.away = False

    async def known(self, command: Command) -> Operation | None:
        known = await self.find(command.tenant, command.id)
        return known if known is not None and known.status == DONE else None

    async def run(self, command: Command) -> Operation:
        known = await self.known(command)
        if known is not None:
            return known
        if self.away:
            raise Unavailable("kafka: away")
        self.sent.append(command)
        self.take(command.encoded())
        if self.late:
            return Operation(command.id, "pending", partition=0, offset=len(self.sent))
        return await self.find(command.tenant, command.id) or Operation(command.id, "conflict", "conflict")

    async def run_all(self, commands: Sequence[Command]) -> list[Operation]:
        return [await self.run(command) for command in commands]

    async def find(self, tenant: str, operation_id: str, partition: int = -1, offset: int = -1) -> Operation | None:
        body = self.partition.documents.get(document_key(tenant, OPERATION, operation_id))
        return operation_of(operation_id, body) if body is not None else None

    def take(self, *values: bytes) -> None:
        """Decides records of the account topic, and what follows from them."""
        waiting = list(values)
        while waiting:
            decided = len(self.partition.decided)
            self.partition.account(waiting.pop(0))
            for chunk in self.partition.decided[decided:]:
                waiting += [
                    message.value
                    for message in chunk.messages
                    if message.topic == ACCOUNT_EVENTS and message.value is not None
                ]
