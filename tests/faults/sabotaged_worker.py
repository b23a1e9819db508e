"""A rating worker with a fault of ours built in, as a process: `python -m tests.faults.sabotaged_worker FAULT`.

`agent`: the Faust agent raises at every twentieth batch. `deciding`: deciding raises for every event that says `poison`
until it is decided by itself, and then too.
"""

from __future__ import annotations

import sys
from typing import Any

import rating.decide
from console.main import main
from schemas.errors import InvalidInput
from streams.worker import Worker


def agent() -> None:
    """Every twentieth dispatch raises."""
    dispatch = Worker._dispatch
    count = 0

    async def raising(self: Worker, event: Any, batch: Any) -> None:
        nonlocal count
        count += 1
        if count % 20 == 0:
            raise RuntimeError("sabotage: the agent raises")
        await dispatch(self, event, batch)

    Worker._dispatch = raising  # type: ignore[method-assign]


def deciding() -> None:
    """Whatever names the model `poison` cannot be decided."""
    one = rating.decide.decide_one

    def raising(chunk: Any, index: int, received_at: int, event: Any, key: str) -> None:
        if event.data.get("model") == "poison":
            raise ZeroDivisionError("sabotage: deciding raises")
        one(chunk, index, received_at, event, key)

    rating.decide.decide_one = raising
    assert not issubclass(ZeroDivisionError, InvalidInput)


if __name__ == "__main__":
    {"agent": agent, "deciding": deciding}[sys.argv[1]]()
    main(["worker"])
