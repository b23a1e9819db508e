"""The Accounts port in memory, with ways to lose what a real store may lose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rating.holds import HOLD, OPEN, HoldName, Holds
from schemas.errors import Unavailable
from streams.accounts.port import HoldEnd, Position, PositionMoved, Standing

NOTHING: Final[Mapping[str, bytes]] = {}


@dataclass
class _Partition:
    position: Position | None = None
    serving: bool = False
    beat: int = 0
    accounts: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    holds: Holds = field(default_factory=dict)


class MemoryAccounts:
    """What RedisAccounts is, in dicts. `away` makes every call Unavailable, `flush` forgets everything."""

    def __init__(self) -> None:
        self.away = False
        self._partitions: dict[int, _Partition] = {}
        self._clock = 0

    def flush(self) -> None:
        """Loses all."""
        self._partitions.clear()

    async def position(self, partition: int) -> Position | None:
        """See the port."""
        return self._of(partition).position

    async def read(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        held = self._of(partition)
        if not keys:
            return []
        self._compare(partition, held, expected.ledger_id, expected.offset)
        return [held.accounts.get(key) for key in keys]

    async def read_documents(self, partition: int, expected: Position, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        held = self._of(partition)
        if not keys:
            return []
        self._compare(partition, held, expected.ledger_id, expected.offset)
        return [held.documents.get(key) for key in keys]

    async def read_holds(self, partition: int, names: Sequence[HoldName]) -> Holds:
        """See the port."""
        holds = self._of(partition).holds
        return {name: holds[name] for name in names if name in holds}

    async def apply(
        self,
        partition: int,
        expected: int,
        after: Position,
        accounts: Mapping[str, bytes],
        serving: bool,
        documents: Mapping[str, bytes] = NOTHING,
        endings: Sequence[HoldEnd] = (),
    ) -> None:
        """See the port."""
        held = self._of(partition)
        try:
            self._compare(partition, held, after.ledger_id, expected)
        except PositionMoved:
            if held.position is not None and (held.position.ledger_id, held.position.offset) == (
                after.ledger_id,
                after.offset,
            ):
                return
            raise
        held.accounts.update(accounts)
        held.documents.update(documents)
        for end in endings:
            name = HoldName(end.account, HOLD, end.hold_id)
            if end.state != OPEN and held.holds.get(name, (OPEN,)) == (OPEN,):
                held.holds[name] = (end.state,)
        self._clock += 1
        held.position, held.serving, held.beat = after, serving, self._clock

    async def beat(self, partition: int, expected: Position) -> bool:
        """See the port."""
        held = self._of(partition)
        stands = held.position
        if stands is None or (stands.ledger_id, stands.offset) != (expected.ledger_id, expected.offset):
            return False
        if held.serving:
            self._clock += 1
            held.beat = self._clock
        return held.serving

    async def standing(self, partition: int) -> Standing:
        """See the port."""
        held = self._of(partition)
        return Standing(held.position, held.serving, held.beat)

    async def peek(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """See the port."""
        return await self.standing(partition), self._of(partition).accounts.get(key)

    async def peek_document(self, partition: int, key: str) -> tuple[Standing, bytes | None]:
        """See the port."""
        return await self.standing(partition), self._of(partition).documents.get(key)

    async def snapshot(self, partition: int, keys: Sequence[str]) -> tuple[Position | None, list[bytes | None]]:
        """See the port."""
        held = self._of(partition)
        return held.position, [held.accounts.get(key) for key in keys]

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        held = [self._of(partition).documents for partition in range(partitions)]
        return [next((documents[key] for documents in held if key in documents), None) for key in keys]

    async def kept(self) -> AsyncIterator[tuple[int, str]]:
        """See the port."""
        for partition in list(self._partitions):
            for key in list(self._of(partition).accounts):
                yield partition, key

    async def close(self) -> None:
        """See the port."""

    def _of(self, partition: int) -> _Partition:
        if self.away:
            raise Unavailable("accounts in memory: away")
        return self._partitions.setdefault(partition, _Partition())

    @staticmethod
    def _compare(partition: int, held: _Partition, ledger_id: str, expected: int) -> None:
        stands = held.position
        if stands is None and expected == 0:
            return
        if stands is None or (stands.ledger_id, stands.offset) != (ledger_id, expected):
            raise PositionMoved(partition, expected, stands)
