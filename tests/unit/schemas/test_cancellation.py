"""Tasks whose calls may keep a cancellation to themselves end nevertheless."""

from __future__ import annotations

import asyncio
import contextlib

from schemas.cancellation import end_if_cancelled


async def test_a_task_whose_call_lost_the_cancellation_ends_with_its_round() -> None:
    """It goes on as long as nobody tells it to end."""
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        while True:
            with contextlib.suppress(asyncio.CancelledError):  # what `asyncio.wait_for` of Python 3.11 may do
                await asyncio.sleep(0)
            end_if_cancelled()
            rounds += 1

    task = asyncio.create_task(work())
    for _ in range(20):
        await asyncio.sleep(0)
    assert rounds > 1
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert done == {task}
    assert task.cancelled()


async def test_without_a_task_there_is_nothing_to_end() -> None:
    """A callback of the loop is no task."""
    called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look() -> None:
        end_if_cancelled()
        called.set_result(None)

    asyncio.get_running_loop().call_soon(look)
    await called
