"""One request on the engine: which handle it may have, and how its statement is run there. Blocking.

What may not change anything (a reader's request, a GET, `readonly` in the URL) never trusts the text alone: it runs
on a handle on which the engine itself refuses to write. The exception is such a request of a full user inside a
session, whose handle is the session's: there the engine's own parser must take the statement for one that reads.

A reader may name neither `file` nor `eval` nor `python`: a scalar function of chDB reads any file of the machine
and asks for no privilege, and the other two could hide its name. Errors: Refusal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from backing.clickhouse_server.credentials import User
from backing.clickhouse_server.engine import Access, Engine, Figures, Handle, Sink, with_sink
from backing.clickhouse_server.errors import ACCESS_DENIED, READONLY, refusal
from backing.clickhouse_server.request import Request
from backing.clickhouse_server.sessions import Sessions
from backing.clickhouse_server.statement import Insert, Query

_REFUSED_TO_READERS: Final = frozenset((b"file", b"eval", b"python"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement did, and what of its answer did not go to the pipe. `format` is None without a result."""

    format: str | None
    data: bytes
    figures: Figures


class Execution:
    """Runs requests on an engine. For any number of threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions = Sessions(engine)

    def run(self, user: User, request: Request, statement: Insert | Query, sink: Sink) -> Outcome:
        """Runs the statement; the answer of one that reads goes to `sink`, a pipe that somebody empties."""
        if isinstance(statement, Insert):
            return self._insert(user, request, statement)
        if user.is_reader and (statement.has_escaped_name or not statement.names.isdisjoint(_REFUSED_TO_READERS)):
            raise refusal(ACCESS_DENIED, f"{user.name}: Not enough privileges: readers cannot use file, eval or python")
        is_restricted = user.is_reader or request.is_read_only
        with self._handle(user, request) as handle:
            is_reading = handle.is_read_only_statement(statement.text)
            if is_reading:
                return self._read(handle, request, statement, sink)
            if not is_restricted:
                return self._other(handle, request, statement)
        if is_reading is False:
            raise refusal(READONLY, f"{user.name}: Cannot execute query in readonly mode")
        # Nothing that parses: the engine says what is wrong with it, on a handle that could not be harmed.
        with self._own_handle(request, Access(is_read_only=True, is_reader=user.is_reader)) as handle:
            return self._other(handle, request, statement)

    def close(self) -> None:
        """Ends all sessions."""
        self._sessions.close()

    @contextlib.contextmanager
    def _handle(self, user: User, request: Request) -> Iterator[Handle]:
        if request.session is None:
            with self._own_handle(request, Access(request.is_read_only, user.is_reader)) as handle:
                yield handle
            return
        access = Access(is_read_only=user.is_reader, is_reader=user.is_reader)
        with self._sessions.borrowed(user.name, request.session, access) as handle:
            handle.adopt(request.database, request.settings)
            yield handle

    @contextlib.contextmanager
    def _own_handle(self, request: Request, access: Access) -> Iterator[Handle]:
        with contextlib.closing(self._engine.open(access)) as handle:
            handle.adopt(request.database, request.settings)
            yield handle

    def _insert(self, user: User, request: Request, insert: Insert) -> Outcome:
        if user.is_reader or request.is_read_only:
            raise refusal(READONLY, f"{user.name}: Cannot execute query in readonly mode (GET implies it)")
        with self._handle(user, request) as handle:
            figures = handle.insert(insert.statement, insert.format, insert.payload, request.parameters)
        return Outcome(None, b"", figures)

    def _read(self, handle: Handle, request: Request, query: Query, sink: Sink) -> Outcome:
        format_name = query.format or request.default_format
        if handle.is_read_only_statement(with_sink(query.bare, format_name, sink)) is None:
            # The grammar of this one has no place for a sink.
            return self._other(handle, request, query)
        figures = handle.write_answer(query.bare, format_name, request.parameters, sink)
        return Outcome(format_name, b"", figures)

    def _other(self, handle: Handle, request: Request, query: Query) -> Outcome:
        data, figures = handle.run(query.text, request.default_format, request.parameters)
        return Outcome((query.format or request.default_format) if data else None, data, figures)
