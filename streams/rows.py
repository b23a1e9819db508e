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

_EXTENT: Final = f"SELECT count(), max(block_seq) FROM {TABLE} WHERE partition = {{partition:UInt16}}"  # noqa: S608
_LAST_BLOCK: Final = (
    "SELECT count(), min(seq), max(seq), max(ledger_offset), groupUniqArray(toString(ledger_id)) "  # noqa: S608
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
    """What the sink needs of the store. All may raise Unavailable; then nothing is known."""

    def extent(self, partition: int) -> tuple[int, int]:
        """How many rows the partition has, and seq of the first entry of its last block (0 if it has none)."""

    def standing(self, partition: int) -> Standing | None:
        """The position, checked against the last block; None without rows. InvariantBroken if they disagree."""

    def insert(self, block: Block, token: str) -> None:
        """Inserts a block; without effect if the token was taken before. Success does not mean that it is there."""


class ClickHouseRows:
    """`Rows` in ClickHouse. Connects when it is first used. May be used by several threads."""

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

    def extent(self, partition: int) -> tuple[int, int]:
        """As the port says."""
        count, block_seq = self._one(_EXTENT, {"partition": partition})
        return count, block_seq

    def standing(self, partition: int) -> Standing | None:
        """As the port says."""
        count, block_seq = self.extent(partition)
        if count == 0:
            return None
        rows, first, last, offset, names = self._one(_LAST_BLOCK, {"partition": partition, "block_seq": block_seq})
        if first != block_seq or last - first + 1 != rows or last + 1 != count or len(names) != 1:
            raise InvariantBroken(
                f"{TABLE}: partition {partition} has {count} rows and its last block, {block_seq}, has {rows} of seq "
                f"{first} to {last} of ledger {' and '.join(sorted(names))}"
            )
        return Standing(names[0], count, offset)

    def insert(self, block: Block, token: str) -> None:
        """As the port says."""
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

    def _one(self, query: str, parameters: dict[str, Any]) -> Sequence[Any]:
        try:
            row: Sequence[Any] = self._client.query(query, parameters=parameters).result_rows[0]
        except ClickHouseError as error:
            raise translated(error) from error
        return row


def put(rows: Rows, block: Block, *, doubtful: bool) -> None:
    """Makes a block part of the rows, unless it is. `doubtful`: an earlier call may have done it.

    After Unavailable call it again, doubtful. It may also raise Superseded and InvariantBroken.
    """
    if doubtful and _is_there(rows, block):
        return
    for attempt in range(TOKENS_TRIED):
        rows.insert(block, f"{block.token}/{attempt}" if attempt else block.token)
        if _is_there(rows, block):
            return
    raise InvariantBroken(f"{TABLE}: block {block.token} was taken {TOKENS_TRIED} times and is not there")


def _is_there(rows: Rows, block: Block) -> bool:
    count, last_block = rows.extent(block.partition)
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
