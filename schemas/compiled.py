"""Loops over columns of bytes and numbers, compiled to machine code when they are first called.

What is done to every event and needs no object of Python is written as such a loop: plain Python over numpy arrays,
which numba compiles once for a machine and keeps beside the module (or, where that cannot be written, in the user's
cache; or not at all). A loop is given arrays and numbers and nothing else, holds no lock while it runs, and does not
check indices: its caller vouches for them.

What is kept is made anew when the loop's own file changes, and not when another does. So a loop uses nothing of another
file, not even a constant: it is given that. A test holds all of them to it.

numba itself is loaded with the first loop that runs: most processes run none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

Answer = TypeVar("Answer")
Asked = ParamSpec("Asked")


class Loop(Generic[Asked, Answer]):
    """Made by `compiled`."""

    def __init__(self, written: Callable[Asked, Answer]) -> None:
        self.written = written
        self._dispatcher: Any = None

    def __call__(self, *given: Asked.args, **named: Asked.kwargs) -> Answer:
        answer: Answer = (self._dispatcher or self._made())(*given, **named)
        return answer

    @property
    def is_made(self) -> bool:
        """Whether it was asked for yet, by a call or by a loop that calls it."""
        return self._dispatcher is not None

    @property
    def _numba_type_(self) -> Any:
        """What numba asks for where one loop calls another."""
        return (self._dispatcher or self._made())._numba_type_

    def _made(self) -> Any:
        import numba

        try:
            self._dispatcher = numba.njit(cache=True, nogil=True)(self.written)
        except RuntimeError:  # there is no place to keep it
            self._dispatcher = numba.njit(nogil=True)(self.written)
        return self._dispatcher


def compiled(loop: Callable[Asked, Answer]) -> Loop[Asked, Answer]:
    """A loop, to be compiled."""
    return Loop(loop)
