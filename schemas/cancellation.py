"""A task that was cancelled in the middle of a call to Redis may never hear of it.

redis-py sends by `asyncio.wait_for`, and before Python 3.12 that returns what it waited for, and keeps the cancellation
to itself, where both come in one round of the event loop (github.com/python/cpython/issues/86296). Whoever cancels a
task that calls Redis for ever, and waits for its end, would wait for ever.
"""

from __future__ import annotations

import asyncio


def end_if_cancelled() -> None:
    """For such a task's rounds. Errors: CancelledError, if the task was told to end and goes on nevertheless."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
