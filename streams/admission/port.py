"""What admission needs of others: who writes its holds down, and who hears of its denials."""

from __future__ import annotations

from typing import Protocol

from streams.admission.answers import Denial


class Journal(Protocol):
    """Where holds are written down, for the day Redis loses them. Nobody waits for it."""

    def opened(self, partition: int, account: str, hold_id: str, hold: bytes) -> None:
        """A hold was granted or extended; `hold` is it packed."""

    def ended(self, partition: int, account: str, hold_id: str) -> None:
        """A hold was ended by its holder, which no ledger tells."""


class Denials(Protocol):
    """Who else hears of denials. Nobody waits for it."""

    def denied(self, denial: Denial) -> None:
        """Something was not allowed."""
