"""The body of a request on the short way: at once where it came with the head, within its time where it did not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message

from api import hot
from api.problems import Refused


class Sender:
    """Sends parts of a body, each after so many seconds, and then what ends it."""

    def __init__(self, *parts: tuple[float, bytes], end: Message | None = None) -> None:
        self._messages: list[tuple[float, Message]] = [
            (after, {"type": "http.request", "body": part, "more_body": end is not None or place < len(parts) - 1})
            for place, (after, part) in enumerate(parts)
        ]
        if end is not None:
            self._messages.append((0.0, end))
        self.left = False

    async def receive(self) -> Message:
        after, message = self._messages.pop(0)
        if after:
            try:
                await asyncio.sleep(after)
            except asyncio.CancelledError:
                self.left = True
                raise
        return message


@pytest.mark.parametrize("waits", [(0, 0), (0, 0.01), (0.01, 0), (0.01, 0.01)])
async def test_a_body_is_whole_whenever_its_parts_come(waits: Sequence[float]) -> None:
    sender = Sender(*((after, part) for after, part in zip(waits, (b'{"a"', b":1}"), strict=True)))
    assert await hot._body(sender.receive) == b'{"a":1}'


@pytest.mark.parametrize("after", [0, 0.01])
async def test_a_sender_that_leaves_has_no_body(after: float) -> None:
    sender = Sender((after, b'{"a"'), end={"type": "http.disconnect"})
    assert await hot._body(sender.receive) is None


async def test_a_body_that_does_not_come_is_408_and_nobody_waits_for_it_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hot, "BODY_SECONDS", 0.02)
    sender = Sender((0, b'{"a"'), (60, b":1}"))
    with pytest.raises(Refused) as refused:
        await hot._body(sender.receive)
    assert refused.value.status == 408
    assert sender.left


async def test_a_request_that_is_given_up_gives_its_body_up() -> None:
    sender = Sender((60, b"{}"))
    task = asyncio.create_task(hot._body(sender.receive))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sender.left


async def test_a_reader_that_fails_while_it_is_waited_for_is_heard() -> None:
    async def broken() -> Message:
        await asyncio.sleep(0.01)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await hot._body(broken)
