"""What explanations are made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from api.explanation import Versions
from api.rows import Rows
from schemas.ledger import LedgerRecord


class Records(Protocol):
    """Single records of Kafka. Errors: Unavailable."""

    async def ledger(self, partition: int, offset: int) -> LedgerRecord | None:
        """The ledger record at an offset; None if there is none."""

    async def value(self, topic: str, partition: int, offset: int) -> bytes | None:
        """The bytes of a record; None if it has none, or the topic no longer holds it."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What explanations are made from."""

    rows: Rows
    records: Records
    versions: Versions


Explainer = Callable[[Sources, str | None, str], Awaitable[dict[str, Any] | None]]
"""Sources, tenant (None: any, for operators) and id."""
