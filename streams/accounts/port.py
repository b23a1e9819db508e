"""Where account values lie for those who ask: a projection of the ledger, by partition, with its own position.

`apply` is the only writer. It compares the position it was told to expect with the one that stands, in the same atomic
step as the write: a lost write, a wiped store or another owner shows as `PositionMoved`, never as a wrong balance.
Values are absolute, so applying again what was half applied is harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from rating.holds import HoldName, Holds
from schemas.errors import Doubt


class Position(msgspec.Struct, frozen=True):
    """How far a projection of one partition has come."""

    ledger_id: str
    offset: int
    """The ledger offset it goes on from."""
    seq: int
    """seq of the next entry."""
    usage_next: int = 0
    account_next: int = 0
    catalog_position: int = 0


class Standing(msgspec.Struct, frozen=True):
    """What a reader must know of a partition before it trusts an account in it."""

    position: Position | None
    """None: the store holds nothing of the partition."""
    serving: bool
    """Whether it is whole: an owner brought it up to the end of the ledger and is not rebuilding it."""
    beat: int
    """When its owner last compared or moved the position, by the owner's clock: milliseconds since the epoch."""


class HoldEnd(NamedTuple):
    """What an entry of the ledger says of a hold. Applied again it changes nothing."""

    account: str
    """Account key of the customer whose hold it is."""
    hold_id: str
    state: str
    """`settled` and the like, or `open`: it was charged against and stays."""
    charged: int
    """Nanos."""
    seq: int
    """The entry's."""
    used: tuple[tuple[str, int], ...] = ()
    """Meter and nano-units that the entry charged, where the hold stays open."""


class PositionMoved(Doubt):
    """The position that stands is not the expected one."""

    def __init__(self, partition: int, expected: int, found: Position | None) -> None:
        super().__init__(f"accounts of partition {partition} stand at {found}, expected offset {expected}")
        self.found = found


class Accounts(Protocol):
    """All methods raise Unavailable if the store does not answer; then nothing is known to have happened."""

    async def position(self, partition: int) -> Position | None:
        """How far the partition has come; None if it holds nothing of it."""

    async def read(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """Packed accounts in the order of `keys`, all as of `expected`, else PositionMoved."""

    async def read_documents(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """Bodies in the order of `keys` (schemas.documents), all as of `expected`, else PositionMoved."""

    async def read_holds(self, partition: int, names: Sequence[HoldName]) -> Holds:
        """What is known of these holds, sessions and allocations now."""

    async def apply(
        self,
        partition: int,
        expected: int,
        after: Position,
        accounts: Mapping[str, bytes],
        serving: bool,
        documents: Mapping[str, bytes] = ...,
        endings: Sequence[HoldEnd] = ...,
    ) -> None:
        """Sets the accounts and documents, ends holds, and moves from ledger offset `expected` to `after`, else
        PositionMoved; Unavailable also where the store may have lost holds that nobody has brought back yet. A
        customer's holds end in the same step in which its account changes.

        `serving` False marks the partition as being rebuilt. Applied already (`after` stands) is success. With
        `expected` = `after.offset` and no accounts it is the beat: it proves that the last writes still stand."""

    async def beat(self, partition: int, expected: Position) -> bool:
        """The beat of an owner that cannot go on: whether the values still stand, whole and served, at `expected`."""

    async def standing(self, partition: int) -> Standing:
        """For readers: how the partition stands."""

    async def peek(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """For readers: how the partition stands, and one packed account, both at one moment."""

    async def peek_document(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """For readers: how the partition stands, and the body of one document, both at one moment."""

    async def snapshot(self, partition: int, keys: Sequence[str]) -> tuple[Position | None, list[bytes | None]]:
        """For proofs: a position and packed accounts as of it, both at one moment. At most a few hundred keys."""

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        """For readers: bodies in the order of `keys`, in whatever partition they are."""

    def kept(self) -> AsyncIterator[tuple[int, str]]:
        """For proofs: partition and key of every account in the store, in any order, some perhaps more than once."""

    async def close(self) -> None:
        """Gives connections back."""
