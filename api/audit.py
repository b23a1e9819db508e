"""The audit log of changes: who asked for what, kept for ever in the topic `audit.log`.

`Audited` is ASGI middleware behind authentication. A change is written down before it is tried, and again with its
answer: a change that nobody wrote down cannot happen, and one whose answer was lost is still there without a status.
While Kafka is away changes answer 503, as they would anyway. Not audited are reads, usage, quota checks and holds,
which the ledger, the journal of holds and denials tell of.

What the command line changes is noted in a file beside the service tokens, which `tollgate token` must be able to write
before anything runs; `drain` brings it into the topic.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.audit_file import FILE, locked
from api.auth import token_of
from api.problems import problem_of
from ingest.accept import Record
from schemas.audit import AuditEntry, decode_entry, encode_entry
from schemas.errors import Unavailable
from schemas.topics import AUDIT_LOG

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 1.0
BODY_READ_BYTES: Final = 64 * 1024
"""The fields of a larger body are not named; its hash stands for it."""

_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_NOT_AUDITED: Final = ("/v1/events", "/v1/quota", "/v1/holds", "/v1/prices")


class Publisher(Protocol):
    """Puts records into Kafka."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns once Kafka has all with acks=all, else Unavailable."""


class AuditLog:
    """The log, as a process writes it."""

    def __init__(self, publisher: Publisher, file: Path) -> None:
        self._publisher = publisher
        self._file = file

    async def write(self, *entries: AuditEntry) -> None:
        """Returns once they are in Kafka for good. Errors: Unavailable."""
        await self._publisher.publish(
            [Record(AUDIT_LOG, entry.tenant.encode("utf-8", "replace"), encode_entry(entry)) for entry in entries]
        )

    async def keep_draining(self) -> None:
        """Brings what commands noted into the topic, until it is cancelled."""
        while True:
            try:
                await self.drain()
            except Unavailable as away:
                log.debug("audit: %s", away)
            except OSError as error:
                log.error("audit: what commands noted in %s cannot be read: %s", self._file, error)
            await asyncio.sleep(DRAIN_SECONDS)

    async def drain(self) -> int:
        """Once; how many entries: none while a command is writing, which is not waited for, since whoever waits here
        answers nobody meanwhile. An entry may come twice and replaces itself. Errors: Unavailable, OSError."""
        if not self._file.exists():
            return 0
        # Taken away in one step: what a command notes meanwhile goes into a new file.
        taken = self._file.with_name(f"{FILE}.{secrets.token_hex(4)}.taken")
        try:
            with locked(self._file, wait=False):
                self._file.rename(taken)
        except BlockingIOError:
            return 0
        drained = 0
        for waiting in sorted(self._file.parent.glob(f"{FILE}.*.taken")):
            entries = [decode_entry(line) for line in waiting.read_bytes().splitlines() if line]
            await self.write(*entries)
            waiting.unlink(missing_ok=True)
            drained += len(entries)
        return drained


class Audited:
    """Writes a change down before it is tried and when it is answered."""

    def __init__(
        self, app: ASGIApp, audit: AuditLog | None, routes: Sequence[BaseRoute], now: Callable[[], int]
    ) -> None:
        """`routes`: all that there are, so that whatever is added is written down."""
        self._app = app
        self._audit = audit
        self._changes = list(_changes(routes))
        """Methods, paths and names of what is written down."""
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        action = self._action(scope)
        if self._audit is None or action is None:
            await self._app(scope, receive, send)
            return
        token = token_of(scope)
        assert token is not None
        entry = AuditEntry(secrets.token_hex(12), token.tenant, self._now(), token.id, action, scope["path"][:2_000])
        try:
            await self._audit.write(entry)
        except Unavailable as error:
            log.warning("audit: %s", error)
            await problem_of(error)(scope, receive, send)
            return
        seen = _Seen()
        status = 500

        async def receive_seen() -> Message:
            message = await receive()
            seen.take(message.get("body", b""))
            return message

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive_seen, send_seen)
        finally:
            ended = msgspec.structs.replace(entry, status=status, detail=seen.detail())
            try:
                await asyncio.shield(self._audit.write(ended))
            except Unavailable as error:
                # That it was asked for is written down; the change itself is in the log it was made in.
                log.warning("audit: the answer %d of %s is not written down: %s", status, entry.id, error)

    def _action(self, scope: Scope) -> str | None:
        """Method and template of a change that is to be written down."""
        if scope["type"] != "http" or scope["method"] in _READS or token_of(scope) is None:
            return None
        if scope["path"].startswith(_NOT_AUDITED):
            return None
        for method, path, action in self._changes:
            if method == scope["method"] and path.match(scope["path"]):
                return action
        return None


def _changes(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, re.Pattern[str], str]]:
    for route in routes:
        if isinstance(route, APIRoute) and route.path.startswith("/v1/") and not route.path.startswith(_NOT_AUDITED):
            for method in (route.methods or set()) - _READS:
                yield method, route.path_regex, f"{method} {route.path_format}"


class _Seen:
    """What came of a body: its hash, and its beginning."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._begin = b""

    def take(self, part: bytes) -> None:
        self._hash.update(part)
        self._bytes += len(part)
        if self._bytes <= BODY_READ_BYTES:
            self._begin += part

    def detail(self) -> str:
        if self._bytes == 0:
            return ""
        try:
            named = msgspec.json.decode(self._begin) if self._bytes <= BODY_READ_BYTES else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            named = None
        fields = sorted(named)[:100] if isinstance(named, dict) else []
        return msgspec.json.encode(
            {"bytes": self._bytes, "sha256": self._hash.hexdigest(), "fields": [name[:200] for name in fields]}
        ).decode()
