"""A block goes into the rows once, whatever the store forgot, remembered or did not answer."""

from __future__ import annotations

import pytest

from schemas.errors import InvariantBroken, Unavailable
from streams.blocks import Block
from streams.rows import TOKENS_TRIED, Rows, Superseded, put


class RowsInMemory(Rows):
    """Extents and tokens of one partition; `lost` tokens are remembered without their rows."""

    def __init__(self, *blocks: tuple[int, int]) -> None:
        self.blocks = list(blocks)
        self.tokens: set[str] = set()
        self.silent_after_insert = 0
        self.takes_nothing = False

    async def extent(self, partition: int) -> tuple[int, int]:
        return sum(end - begin for begin, end in self.blocks), max((begin for begin, _ in self.blocks), default=0)

    async def insert(self, block: Block, token: str) -> None:
        if token not in self.tokens and not self.takes_nothing:
            self.tokens.add(token)
            self.blocks.append((block.first_seq, block.next_seq))
        if self.silent_after_insert:
            self.silent_after_insert -= 1
            raise Unavailable("no answer")


BLOCK = Block("ledger", 0, 10, 15, b"")


async def test_a_block_is_inserted_and_looked_up() -> None:
    """The usual way: one insert."""
    rows = RowsInMemory((0, 10))
    await put(rows, BLOCK, doubtful=False)
    assert rows.blocks == [(0, 10), (10, 15)]


async def test_the_first_block_of_all() -> None:
    """Nothing was there before it."""
    rows = RowsInMemory()
    await put(rows, Block("ledger", 0, 0, 5, b""), doubtful=False)
    assert rows.blocks == [(0, 5)]


async def test_after_no_answer_the_block_is_found() -> None:
    """The insert had worked and its answer was lost: it is not inserted again."""
    rows = RowsInMemory((0, 10))
    rows.silent_after_insert = 1
    with pytest.raises(Unavailable):
        await put(rows, BLOCK, doubtful=False)
    await put(rows, BLOCK, doubtful=True)
    assert rows.blocks == [(0, 10), (10, 15)]


async def test_two_sinks_insert_one_block_once() -> None:
    """The token keeps the second insert out, and both find the block there."""
    rows = RowsInMemory((0, 10))
    await put(rows, BLOCK, doubtful=False)
    await put(rows, BLOCK, doubtful=False)
    assert rows.blocks == [(0, 10), (10, 15)]


async def test_a_token_without_its_rows_does_not_lose_the_block() -> None:
    """A server that died between noting the token and the part drops the block in silence; another token brings it."""
    rows = RowsInMemory((0, 10))
    rows.tokens.add(BLOCK.token)
    await put(rows, BLOCK, doubtful=True)
    assert rows.blocks == [(0, 10), (10, 15)]


async def test_a_store_that_takes_everything_and_keeps_nothing_is_a_fault() -> None:
    """It is not tried for ever."""
    rows = RowsInMemory((0, 10))
    rows.takes_nothing = True
    with pytest.raises(InvariantBroken, match=f"{TOKENS_TRIED} times"):
        await put(rows, BLOCK, doubtful=False)


async def test_another_sink_may_be_further_on() -> None:
    """That is no error: whoever was slow reads its position again."""
    rows = RowsInMemory((0, 10), (10, 15), (15, 20))
    with pytest.raises(Superseded):
        await put(rows, BLOCK, doubtful=True)


@pytest.mark.parametrize(
    "blocks", [[(0, 9)], [(0, 10), (10, 14)], [(0, 10), (10, 16)], [(0, 10), (0, 10), (10, 15)], [(0, 10), (15, 20)]]
)
async def test_rows_that_are_not_the_ledgers_stop_the_sink(blocks: list[tuple[int, int]]) -> None:
    """A row too few, one too many, a block doubled or left out."""
    with pytest.raises(InvariantBroken):
        await put(RowsInMemory(*blocks), BLOCK, doubtful=True)
