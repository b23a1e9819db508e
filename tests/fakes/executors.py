"""Executors whose moment of running is known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class StepExecutor(Executor):
    """Runs what was submitted only when the test says so, in the test's own thread."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who asks the future
                future.set_exception(error)

        self._waiting.append(run)
        return future

    def step(self) -> None:
        """Run all that waits, also what it submits itself."""
        while self._waiting:
            self._waiting.popleft()()
