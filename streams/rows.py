"""The ledger's rows in ClickHouse: how far they go, and how a block becomes part of them exactly once.

ClickHouse itself is the truth of the sink's position: a partition's rows are dense, so their count is the next seq.
What is asked here after every insert is answered from what parts keep of themselves, not from rows.

`put` leans on the token for nothing but zombies: two sinks that insert one block at one time. It looks whether the
block is there, and it finds out when the token alone was remembered (a server killed between noting the token and the
part) and the block has to go in under another.

Errors: Unavailable, after which nothing is known: ask again; InvariantBroken when rows are missing, doubled or of
another ledger; Superseded when another sink is further on, which is no error of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Protocol

from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.clickhouse import connect, translated
from schemas.errors import InvariantBroken
from streams.blocks import TABLE, Block

TOKENS_TRIED: Final = 5
"""Under so many tokens a block is offered before it is a fault that it does not show."""

_EXTENTS: Final = f"SELECT partition, count(), max(block_seq) FROM {TABLE} GROUP BY partition"  # noqa: S608 - constants
_LAST_BLOCK: Final = (
    "SELECT count(), min(seq), max(seq), max(ledger_offset), groupUniqArray(toString(ledger_id)) "  # noqa: S608 - as above
    f"FROM {TABLE} WHERE partition = {{partition:UInt16}} AND block_seq = {{block_seq:Int64}}"
)
_INSERT_SETTINGS: Final[dict[str, Any]] = {"async_insert": 0}
"""The answer has to mean "written"."""


class Superseded(Exception):
    """The rows go beyond the block that was to be stored: another sink serves the partition too."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a partition's rows go."""

    ledger_id: str
    next_seq: int
    last_offset: int
    """Offset of the ledger record with the last entry; reading goes on behind it."""


class Rows(Protocol):
    """What putting a block among the rows needs of the store. Both may raise Unavailable; then nothing is known."""

    async def extent(self, partition: int) -> tuple[int, int]:
        """How many rows the partition has, and seq of the first entry of its last block (0 if it has none)."""

    async def insert(self, block: Block, token: str) -> None:
        """Inserts a block; without effect if the token was taken before. Success does not mean that it is there."""


class ClickHouseRows:
    """The rows in ClickHouse, for several threads. Connects when it is first used. All calls may raise Unavailable."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connected: Any = None
        self._connecting = Lock()

    @property
    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                self._connected = connect(self._url)
            return self._connected

    def extents(self) -> dict[int, tuple[int, int]]:
        """By partition: how many rows it has, and seq of the first entry of its last block."""
        return {partition: (count, block_seq) for partition, count, block_seq in self._ask(_EXTENTS, {})}

    def standing(self, partition: int) -> Standing | None:
        """The position, checked against the last block; None without rows. InvariantBroken if they disagree."""
        count, block_seq = self.extents().get(partition, (0, 0))
        if count == 0:
            return None
        ((rows, first, last, offset, names),) = self._ask(_LAST_BLOCK, {"partition": partition, "block_seq": block_seq})
        if first != block_seq or last - first + 1 != rows or last + 1 != count or len(names) != 1:
            raise InvariantBroken(
                f"{TABLE}: partition {partition} has {count} rows and its last block, {block_seq}, has {rows} of seq "
                f"{first} to {last} of ledger {' and '.join(sorted(names))}"
            )
        return Standing(names[0], count, offset)

    def insert(self, block: Block, token: str) -> None:
        """Inserts a block; without effect if the token was taken before."""
        self.insert_into(TABLE, block.data, {"insert_deduplication_token": token})

    def insert_into(self, table: str, data: bytes, settings: dict[str, Any]) -> None:
        """Inserts a block in the Native format."""
        try:
            self._client.raw_insert(table, insert_block=data, fmt="Native", settings=_INSERT_SETTINGS | settings)
        except ClickHouseError as error:
            raise translated(error) from error

    def close(self) -> None:
        """Gives the connections back."""
        if self._connected is not None:
            self._connected.close()

    def _ask(self, query: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            rows: Sequence[Sequence[Any]] = self._client.query(query, parameters=parameters).result_rows
        except ClickHouseError as error:
            raise translated(error) from error
        return rows


async def put(rows: Rows, block: Block, *, doubtful: bool) -> None:
    """Makes a block part of the rows, unless it is. `doubtful`: an earlier call may have done it.

    After Unavailable call it again, doubtful. It may also raise Superseded and InvariantBroken.
    """
    if doubtful and await _is_there(rows, block):
        return
    for attempt in range(TOKENS_TRIED):
        await rows.insert(block, f"{block.token}/{attempt}" if attempt else block.token)
        if await _is_there(rows, block):
            return
    raise InvariantBroken(f"{TABLE}: block {block.token} was taken {TOKENS_TRIED} times and is not there")


async def _is_there(rows: Rows, block: Block) -> bool:
    count, last_block = await rows.extent(block.partition)
    if (count, last_block) == (block.next_seq, block.first_seq):
        return True
    if count == block.first_seq:
        return False
    if count > block.next_seq and last_block >= block.next_seq:
        raise Superseded(f"partition {block.partition} has {count} rows, block {block.first_seq} was to come")
    raise InvariantBroken(
        f"{TABLE}: partition {block.partition} has {count} rows, the last in block {last_block}; with block "
        f"{block.token} it would have {block.next_seq}"
    )
