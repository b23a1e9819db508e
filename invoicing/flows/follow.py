"""Follows `billing.events` and does what is to be done: each event at least once, in its partition's order.

Most of what stands there is told of usage and concerns nobody here: of such an event the type alone is read.

The group's committed offset moves on only when all before it is done: its handler has returned and Kafka has its
commands with acks=all. A service that is away is waited for: events are held up and none is lost. What a
handler can never do is told in the log, with the event, and counted; the events behind it go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from invoicing.flows.handlers import HANDLERS, Around, Told
from schemas.cancellation import end_if_cancelled
from schemas.commands import Command
from schemas.errors import Conflict, InvalidInput, Unavailable
from schemas.kafka import connection
from schemas.topics import BILLING_EVENTS

log = logging.getLogger(__name__)

GROUP: Final = "tollgate-flows"
POLL_MS: Final = 500
POLL_RECORDS: Final = 500
BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
COMMIT_SECONDS: Final = 1.0
"""What was passed over is committed this often: read again it does no harm. What was handled is committed at once."""

Send = Callable[[Command], Awaitable[None]]
"""Puts a command into the log with acks=all. Errors: Unavailable."""


class _Typed(msgspec.Struct):
    type: str


_typed: Final = msgspec.json.Decoder(_Typed)


async def follow(bootstrap: str, around: Around, send: Send) -> None:
    """Until it is cancelled. Kafka's absence is waited for."""
    attempt = 0
    while True:
        try:
            await _follow(bootstrap, around, send)
        except (Unavailable, KafkaError) as away:
            log.warning("flows: %s: waiting", away)
            await asyncio.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
            attempt += 1


async def _follow(bootstrap: str, around: Around, send: Send) -> None:
    consumer = AIOKafkaConsumer(
        BILLING_EVENTS,
        **connection(bootstrap),
        group_id=GROUP,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    handled = passed = False
    committed_at = time.monotonic()
    try:
        while True:
            end_if_cancelled()
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            for records in fetched.values():
                for record in records:
                    if concerns(record.value or b""):
                        await handle(record.value, around, send)
                        handled = True
                passed = True
            if handled or (passed and time.monotonic() - committed_at >= COMMIT_SECONDS):
                await consumer.commit()
                handled = passed = False
                committed_at = time.monotonic()
    finally:
        await consumer.stop()


def concerns(value: bytes) -> bool:
    """Whether something may be to be done about a record: not if it is an event that nobody handles."""
    try:
        return _typed.decode(value).type in HANDLERS
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True  # `handle` says what is wrong with it


async def handle(value: bytes | None, around: Around, send: Send) -> None:
    """Does what one event asks for."""
    told = told_in(value or b"")
    if told is None or (handler := HANDLERS.get(told.type)) is None:
        return
    attempt = 0
    while True:
        try:
            for command in await handler(told, around):
                await send(command)
            return
        except Unavailable as away:
            if attempt % 10 == 0:
                log.warning("flows: %s %s: %s: trying again", told.type, told.id, away)
            await asyncio.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
            attempt += 1
        except (InvalidInput, Conflict) as refusal:
            log.error("flows: %s %s of %s: %s", told.type, told.id, told.customer, refusal.detail)
            return


def told_in(value: bytes) -> Told | None:
    """The event in a record; None for what none of our writers wrote."""
    try:
        event: Any = orjson.loads(value)
        return Told(event["tenantid"], event["subject"], event["id"], event["type"], event["data"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        log.error("flows: a record of %s is no event of ours: %.200r", BILLING_EVENTS, value)
        return None
