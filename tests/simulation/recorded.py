"""Redis scripts that say in which order they ran: what a model needs to follow concurrent callers step by step."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from streams.accounts.redis import RedisAccounts
from streams.admission.store import HoldStore, script_text

_WRAPPED = """
local answer = (function() {script} end)()
return {{redis.call('INCR', '{{0}}:order'), answer}}
"""


@dataclass
class Step:
    """One script call as it ran."""

    name: str
    arguments: list[Any]
    answer: Any
    available: int | None = None
    """What the caller was told is available, where it was."""


class Record:
    """All steps by their order."""

    def __init__(self) -> None:
        self.steps: dict[int, Step] = {}
        self._last: dict[Any, int] = {}

    def add(self, order: int, step: Step) -> None:
        self.steps[order] = step
        self._last[asyncio.current_task()] = order

    def told(self, available: int | None) -> None:
        """What the task at hand was told by its last step."""
        self.steps[self._last[asyncio.current_task()]].available = available


class RecordedHolds(HoldStore):
    """The scripts of admission, recorded."""

    def __init__(self, url: str, record: Record) -> None:
        super().__init__(url, timeout_seconds=20.0, wait_seconds=60.0)
        self._record = record
        self._wrapped: dict[str, str] = {}

    async def _eval(self, name: str, keys: list[str], *arguments: Any) -> Any:
        if name == "mark":
            return await super()._eval(name, keys, *arguments)
        async with self._turns:
            if name not in self._wrapped:
                self._wrapped[name] = await self._load(_WRAPPED.format(script=script_text(name)))
            order, answer = await self._wire.call("EVALSHA", self._wrapped[name], len(keys), *keys, *arguments)
        self._record.add(int(order), Step(name, list(arguments), answer))
        return answer

    async def _load(self, script: str) -> str:
        digest: bytes = await self._wire.call("SCRIPT", "LOAD", script)
        return digest.decode()


class RecordedAccounts(RedisAccounts):
    """The worker's script, recorded: its step has what the test says of it."""

    def __init__(self, url: str, record: Record) -> None:
        super().__init__(url, timeout_seconds=20.0)
        self._record = record
        self.telling: list[Any] = []
        wrapped = self._redis.register_script(_WRAPPED.format(script=script_text("apply", "streams.accounts")))

        async def apply(keys: list[Any], args: list[Any]) -> Any:
            order, answer = await wrapped(keys=keys, args=args)
            self._record.add(int(order), Step("apply", self.telling, answer))
            return answer

        self._apply = apply  # type: ignore[assignment]
