"""Sessions: handles that outlive their request, so that temporary tables and SET do.

A session belongs to the user who began it, runs one request at a time (another is refused, as ClickHouse does), and
ends some seconds after its last request. There are SESSIONS_MAX of them; one more ends the one that would end first.
Errors: Refusal (SESSION_IS_LOCKED, SESSION_NOT_FOUND).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from backing.clickhouse_server.engine import Access, Engine, Handle
from backing.clickhouse_server.errors import SESSION_IS_LOCKED, SESSION_NOT_FOUND, refusal
from backing.clickhouse_server.request import SessionRequest

SESSIONS_MAX: Final = 256


@dataclass(slots=True)
class _Session:
    handle: Handle
    is_busy: bool = True
    ends_at: float = 0.0


class Sessions:
    """All sessions of one engine. For any number of threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._guard = threading.Lock()
        self._sessions: dict[tuple[str, str], _Session] = {}

    @contextlib.contextmanager
    def borrowed(self, user_name: str, request: SessionRequest, access: Access) -> Iterator[Handle]:
        """The handle of a session, which is begun with this access if it is not there."""
        session = self._take((user_name, request.id), request.must_exist, access)
        try:
            yield session.handle
        finally:
            session.ends_at = time.monotonic() + request.timeout_s
            session.is_busy = False

    def close(self) -> None:
        """Ends all sessions."""
        with self._guard:
            for key in list(self._sessions):
                self._sessions.pop(key).handle.close()

    def _take(self, key: tuple[str, str], must_exist: bool, access: Access) -> _Session:
        with self._guard:
            self._end_old(time.monotonic())
            session = self._sessions.get(key)
            if session is None:
                if must_exist:
                    raise refusal(SESSION_NOT_FOUND, f"Session {key[1]} not found")
                self._make_room()
                session = self._sessions[key] = _Session(self._engine.open(access))
            elif session.is_busy:
                raise refusal(SESSION_IS_LOCKED, f"Session {key[1]} is locked by a concurrent client")
            session.is_busy = True
            return session

    def _end_old(self, now: float) -> None:
        for key in [key for key, session in self._sessions.items() if not session.is_busy and session.ends_at <= now]:
            self._sessions.pop(key).handle.close()

    def _make_room(self) -> None:
        idle = [(session.ends_at, key) for key, session in self._sessions.items() if not session.is_busy]
        if len(self._sessions) >= SESSIONS_MAX and idle:
            self._sessions.pop(min(idle)[1]).handle.close()
