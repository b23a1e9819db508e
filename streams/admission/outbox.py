"""The journal of holds and denials, for which nobody waits, on their way to a Kafka that may be away meanwhile.

What gathers is handed over a record at a time with a turn of the event loop between, since those who ask for holds are
answered by the same loop: in one go it held up whoever asked then for longer than all else of a hold takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from ingest.accept import Record
from ingest.delivery import Delivery
from schemas.errors import InvalidInput, Unavailable

log = logging.getLogger(__name__)

WAITING_MAX: Final = 100_000
"""Values that wait for Kafka; beyond it the newest are not written, and told of."""

GATHER_SECONDS: Final = 0.2
"""Between two times at which values are handed over: each costs those who ask just then the time that Kafka takes of
the machine, 0.3 ms of 0.5; every 50 ms that was more than one call of a hundred."""

SOON_SECONDS: Final = 0.02
"""How long the first values after a pause gather."""

SENT_AT_ONCE: Final = 5_000
"""Values on their way together; a sheet more where that ends within one."""

RETRY_SECONDS: Final = 1.0
"""Between two attempts while Kafka is away."""

CLOSE_SECONDS: Final = 1.0

SHEET_MAX_BYTES: Final = 128 * 1024
"""Values that are bound into one record."""


class Sheet(NamedTuple):
    """Values that go as one record, or one that goes alone as it is."""

    topic: str
    key: bytes
    values: list[bytes]
    bound: bool


class Sender(Protocol):
    """Puts records into Kafka."""

    async def put(self, record: Record, label: object) -> Delivery:
        """Buffers one record. Errors: Unavailable."""

    def hand_over(self, topic: str) -> None:
        """Sends what of a topic is buffered, without waiting for more."""


class Outbox:
    """Sends in order what it is given; one event loop."""

    def __init__(self, sender: Sender, bind: Callable[[Sequence[bytes]], bytes]) -> None:
        """`bind` makes one record's value of those of a sheet."""
        self._sender = sender
        self._bind = bind
        self._sheets: list[Sheet] = []
        """In the order in which they were begun."""
        self._filling: dict[tuple[str, int], tuple[Sheet, int]] = {}
        """The newest of its topic and number, and the bytes in it."""
        self._task: asyncio.Task[None] | None = None
        self._gathered: asyncio.Future[None] | None = None
        self._handed_over_at = float("-inf")
        self._closing = False
        self.waiting = 0
        """Values that Kafka does not have yet."""
        self.lost = 0
        """Values that were not written."""

    def put(self, record: Record, sheet: int | None = None) -> None:
        """Takes a record; whether it comes to Kafka is not known here. Those of a topic and sheet, which is within one
        partition, go as one record where they wait together: one by one they cost more than what they tell of."""
        if self.waiting >= WAITING_MAX:
            self._lose("too much waits for Kafka", 1)
            return
        self.waiting += 1
        if sheet is None:
            self._sheets.append(Sheet(record.topic, record.key, [record.value], bound=False))
        else:
            self._fill(record, sheet)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send(), name="outbox of admission")

    async def close(self) -> None:
        """Lets what waits go out, for a moment."""
        self._closing = True
        if self._task is None:
            return
        if self._gathered is not None:
            _end(self._gathered)
        await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
        self._task.cancel()

    def _fill(self, record: Record, number: int) -> None:
        place = record.topic, number
        sheet, size = self._filling.get(place, (None, 0))
        size += len(record.value)
        if sheet is None or size > SHEET_MAX_BYTES:
            sheet, size = Sheet(record.topic, record.key, [], bound=True), len(record.value)
            self._sheets.append(sheet)
        sheet.values.append(record.value)
        self._filling[place] = sheet, size

    async def _send(self) -> None:
        """Ends when nothing waits."""
        while self._sheets:
            await self._gather()
            sheets = self._taken()
            count = sum(len(sheet.values) for sheet in sheets)
            await self._deliver(sheets)
            self.waiting -= count

    async def _gather(self) -> None:
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        self._gathered = loop.create_future()
        due = max(loop.time() + SOON_SECONDS, self._handed_over_at + GATHER_SECONDS)
        timer = loop.call_at(due, _end, self._gathered)
        try:
            await self._gathered
        finally:
            timer.cancel()
        self._handed_over_at = loop.time()

    def _taken(self) -> list[Sheet]:
        """The oldest sheets, in order. They take nothing more in."""
        place, count = 0, 0
        while place < len(self._sheets) and count < SENT_AT_ONCE:
            count += len(self._sheets[place].values)
            place += 1
        taken, self._sheets = self._sheets[:place], self._sheets[place:]
        left = {id(sheet) for sheet in self._sheets}
        self._filling = {place: one for place, one in self._filling.items() if id(one[0]) in left}
        return taken

    async def _deliver(self, sheets: list[Sheet]) -> None:
        """Returns once Kafka has them, however long it is away. What is sent again is sent with all that came after it:
        the last word on a hold stays the last."""
        while sheets:
            try:
                await self._deliver_once(sheets)
            except Unavailable as away:
                log.debug("%d records of holds and denials wait: %s", len(sheets), away)
                await asyncio.sleep(RETRY_SECONDS)

    async def _deliver_once(self, sheets: list[Sheet]) -> None:
        """Takes away from `sheets` what Kafka has. Errors: Unavailable."""
        sent: list[Delivery | None] = []
        for sheet in sheets:
            value = self._bind(sheet.values) if sheet.bound else sheet.values[0]
            try:
                sent.append(await self._sender.put(Record(sheet.topic, sheet.key, value), sheet.topic))
            except InvalidInput as error:  # no later attempt would do better
                self._lose(str(error), len(sheet.values))
                sent.append(None)
            await asyncio.sleep(0)
        for topic in {sheet.topic for sheet in sheets}:
            self._sender.hand_over(topic)
        for delivery in sent:
            if delivery is not None:
                await delivery
            del sheets[0]

    def _lose(self, why: str, count: int) -> None:
        before, self.lost = self.lost, self.lost + count
        if before.bit_length() != self.lost.bit_length():
            log.warning("%d records of holds and denials were not written: %s", self.lost, why)


def _end(waited_for: asyncio.Future[None]) -> None:
    if not waited_for.done():
        waited_for.set_result(None)
