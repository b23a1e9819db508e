"""The journal of holds and denials, for which nobody waits, on their way to a Kafka that may be away meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from ingest.accept import Record
from ingest.delivery import Delivery
from schemas.errors import InvalidInput, Unavailable

log = logging.getLogger(__name__)

WAITING_MAX: Final = 100_000
"""Records that wait for Kafka; beyond it the newest are not written, and told of."""

GATHER_SECONDS: Final = 0.05
"""How long records gather before they are handed over."""

SENT_AT_ONCE: Final = 5_000
"""Records on their way together."""

RETRY_SECONDS: Final = 1.0
"""Between two attempts while Kafka is away."""

CLOSE_SECONDS: Final = 1.0

SHEET_MAX_BYTES: Final = 128 * 1024
"""Values that are bound into one record."""


class Slip(NamedTuple):
    """A record that waits; with a `sheet`, a part of one."""

    record: Record
    sheet: int | None


class Sheet(NamedTuple):
    """Values that go as one record."""

    topic: str
    key: bytes
    values: list[bytes]


class Sender(Protocol):
    """Puts records into Kafka."""

    async def put(self, record: Record, label: object) -> Delivery:
        """Buffers one record. Errors: Unavailable."""


class Outbox:
    """Sends in order what it is given; one event loop."""

    def __init__(self, sender: Sender, bind: Callable[[Sequence[bytes]], bytes]) -> None:
        """`bind` makes one record's value of those of a sheet."""
        self._sender = sender
        self._bind = bind
        self._waiting: asyncio.Queue[Slip] = asyncio.Queue(WAITING_MAX)
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.lost = 0
        """Records that were not written."""

    def put(self, record: Record, sheet: int | None = None) -> None:
        """Takes a record; whether it comes to Kafka is not known here. Those of a topic and sheet, which is within one
        partition, go as one record where they wait together: one by one they cost more than what they tell of."""
        try:
            self._waiting.put_nowait(Slip(record, sheet))
        except asyncio.QueueFull:
            self._lose("too much waits for Kafka")
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send(), name="outbox of admission")

    async def close(self) -> None:
        """Lets what waits go out, for a moment."""
        self._closing.set()
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._waiting.join(), CLOSE_SECONDS)
            self._task.cancel()

    async def _send(self) -> None:
        while True:
            slips = [await self._waiting.get()]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), GATHER_SECONDS)
            while len(slips) < SENT_AT_ONCE and not self._waiting.empty():
                slips.append(self._waiting.get_nowait())
            await self._deliver(list(self._bound(slips)))
            for _ in slips:
                self._waiting.task_done()

    def _bound(self, slips: Sequence[Slip]) -> Iterable[Record]:
        """The records that they come to, in order as far as one partition goes."""
        sheets: list[Sheet] = []
        filling: dict[tuple[str, int], tuple[Sheet, int]] = {}
        for record, number in slips:
            if number is None:
                yield record
                continue
            place = record.topic, number
            sheet, size = filling.get(place, (None, 0))
            size += len(record.value)
            if sheet is None or size > SHEET_MAX_BYTES:
                sheet, size = Sheet(record.topic, record.key, []), len(record.value)
                sheets.append(sheet)
            sheet.values.append(record.value)
            filling[place] = sheet, size
        for sheet in sheets:
            yield Record(sheet.topic, sheet.key, self._bind(sheet.values))

    async def _deliver(self, records: list[Record]) -> None:
        """Returns once Kafka has them, however long it is away. What is sent again is sent with all that came after it:
        the last word on a hold stays the last."""
        while records:
            try:
                await self._deliver_once(records)
            except Unavailable as away:
                log.debug("%d records of holds and denials wait: %s", len(records), away)
                await asyncio.sleep(RETRY_SECONDS)

    async def _deliver_once(self, records: list[Record]) -> None:
        """Takes away from `records` what Kafka has. Errors: Unavailable."""
        sent: list[Delivery | None] = []
        for record in records:
            try:
                sent.append(await self._sender.put(record, record.topic))
            except InvalidInput as error:  # no later attempt would do better
                self._lose(str(error))
                sent.append(None)
        for delivery in sent:
            if delivery is not None:
                await delivery
            del records[0]

    def _lose(self, why: str) -> None:
        self.lost += 1
        if self.lost & (self.lost - 1) == 0:
            log.warning("%d records of holds and denials were not written: %s", self.lost, why)
