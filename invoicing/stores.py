"""What closing periods asks of the stores. Ports: ClickHouse has the rows, Redis the accounts and documents, the log
carries commands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from invoicing.usage_rows import Ask, PriceSum
from schemas.commands import Command
from streams.accounts.port import Position
from streams.commands import Operation


class Rows(Protocol):
    """What is asked of ClickHouse. Called in threads. Errors: Unavailable."""

    def ends(self) -> dict[int, int]:
        """By partition: the seq after the greatest."""

    def customers(
        self, after: tuple[str, str], since: int, end: int, limit: int, tenant: str = ""
    ) -> list[tuple[str, str]]:
        """Tenants and customers that may have something to bill."""

    def sums(self, tenant: str, asks: Sequence[Ask]) -> list[PriceSum]:
        """Charges summed."""


class Reader(Protocol):
    """What is asked of Redis. Errors: Unavailable."""

    async def snapshot(self, partition: int, keys: Sequence[str]) -> tuple[Position | None, list[bytes | None]]:
        """Accounts of a partition."""

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        """Documents."""


class Commanding(Protocol):
    """Carries commands out. Errors: Unavailable."""

    async def run(self, command: Command) -> Operation:
        """Sends a command and waits for a while for what becomes of it."""

    async def run_all(self, commands: Sequence[Command]) -> list[Operation]:
        """As `run`, of many at once."""

    async def find(self, tenant: str, operation_id: str, partition: int = -1, offset: int = -1) -> Operation | None:
        """What became of a command."""
