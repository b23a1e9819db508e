"""The chDB engine of one data directory, and the handles through which statements reach it.

A handle is a connection of chDB's: it has its own settings, current database and temporary tables, costs half a
millisecond to open, and runs one statement at a time. So a request without a session has a handle of its own, and
no setting of one client can reach another. A handle for reading is opened with `readonly=2`, which nothing can take
back on it.

`_chdb` is chDB's extension module: its connections are used directly, since the Python class around them adds
nothing but progress bars and other exceptions. Every call blocks without holding the interpreter's lock.

Errors: Refusal, the engine's own; Unavailable if the engine cannot start in this directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from chdb import _chdb

from backing.clickhouse_server import configuration
from backing.clickhouse_server.errors import from_engine
from schemas.errors import InvalidInput, Unavailable

_CONFIGURATION_FILE: Final = "engine.xml"
_LOCK_FILE: Final = "lock"
_DATA_FOLDER: Final = "engine"
_LOCK_POLL_S: Final = 0.1
_SLICE_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Access:
    """What a handle may do: everything, everything but change anything, or read tables only."""

    is_read_only: bool
    is_reader: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """What a statement did."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Sink:
    """The writing end of a pipe, and a number that no other answer has."""

    descriptor: int
    number: int


class Engine:
    """The engine on `folder`, started on construction. One process at a time has it."""

    def __init__(self, folder: Path, threads: int, lock_timeout_s: float = 5.0) -> None:
        folder = folder.resolve()
        if "?" in str(folder) or "&" in str(folder):
            raise InvalidInput("bad_path", f"chDB cannot have a data directory with '?' or '&' in its path: {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / _LOCK_FILE, lock_timeout_s)
        file = folder / _CONFIGURATION_FILE
        configuration.write(file, threads)
        # chDB keeps the first connection's configuration for the whole process, and wants the same one again.
        self._connection = f"{folder / _DATA_FOLDER}?config-file={file}"
        try:
            # The engine ends with its last connection: this one keeps it.
            self._root = Handle(_chdb.connect(self._connection))  # type: ignore[attr-defined]  # its stub names functions only
        except RuntimeError as error:
            raise Unavailable(f"the ClickHouse engine does not start in {folder}: {error}") from error
        self._root_guard = threading.Lock()
        version, timezone = self._root.run(b"SELECT version(), timezone()", "TabSeparated")[0].decode().split()
        self.version: Final = version
        self.timezone: Final = timezone

    def open(self, access: Access) -> Handle:
        """A new handle."""
        suffix = "&readonly=2" if access.is_read_only or access.is_reader else ""
        with _engine_errors():
            handle = Handle(_chdb.connect(self._connection + suffix))  # type: ignore[attr-defined]  # as above
        if access.is_reader:
            handle.run(f"SET ROLE {configuration.READER_ROLE}".encode(), "Null")
        return handle

    def end_query_writing_to(self, sink: Sink) -> None:
        """Ends the query whose answer goes to `sink`, if it runs."""
        with self._root_guard:
            self._root.run(f"KILL QUERY WHERE endsWith(query, {quote(_mark(sink))}) ASYNC".encode(), "Null")

    def close(self) -> None:
        """Ends the engine. All other handles must be closed before."""
        self._root.close()
        self._lock.close()


class Handle:
    """One connection. Not for several threads at once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._applied: dict[str, str] = {}

    def adopt(self, database: str, settings: Mapping[str, str]) -> None:
        """Makes these the current database and settings, and resets settings that an earlier call made."""
        self.run(f"USE {quote_name(database)}".encode(errors="surrogateescape"), "Null")
        changes = [f"{name} = DEFAULT" for name in self._applied if name not in settings]
        changes += [f"{name} = {quote(value)}" for name, value in settings.items() if self._applied.get(name) != value]
        if changes:
            # All or nothing: the engine checks every one before it makes any.
            self.run(f"SET {', '.join(changes)}".encode(errors="surrogateescape"), "Null")
            self._applied = dict(settings)

    def is_read_only_statement(self, sql: bytes) -> bool | None:
        """Whether the engine's parser takes `sql` for a statement that only reads; None if it cannot parse it."""
        with _engine_errors():
            kind: str = self._connection.classify_query(sql)["query_class"].name
        return None if kind == "UNKNOWN" else kind == "READ_ONLY"

    def run(self, sql: bytes, format_name: str, parameters: Mapping[str, str] | None = None) -> tuple[bytes, Figures]:
        """Runs any statement; the whole answer."""
        with _engine_errors():
            result = self._connection.query(sql, format_name, params=dict(parameters or {}))
            return result.bytes() or b"", _figures(result)

    def write_answer(self, sql: bytes, format_name: str, parameters: Mapping[str, str], sink: Sink) -> Figures:
        """Runs a statement that reads, and writes its answer to `sink`, as fast as that is emptied."""
        text = with_sink(sql, format_name, sink)
        with _engine_errors():
            # The format is named twice: SHOW becomes a query that knows nothing of the format in the text.
            return _figures(self._connection.query(text, format_name, params=dict(parameters)))

    def insert(self, statement: bytes, format_name: str, payload: memoryview, parameters: Mapping[str, str]) -> Figures:
        """Inserts the rows of `payload`. After an error none of them is there, as long as they are one block."""
        for name, value in parameters.items():
            self.run(f"SET param_{name} = {quote(value)}".encode(errors="surrogateescape"), "Null")
        with _engine_errors():
            stream = self._connection.send_insert(statement, format_name)
            try:
                # The extension takes bytes: in slices, so that the payload is not there twice.
                for start in range(0, len(payload), _SLICE_BYTES):
                    self._connection.insert_append(stream, bytes(payload[start : start + _SLICE_BYTES]))
            except RuntimeError:
                self._connection.insert_cancel(stream)
                raise
            return _figures(self._connection.insert_done(stream))

    def close(self) -> None:
        """Closes it; a statement or insert that is under way on it is given up."""
        self._connection.close()


def with_sink(sql: bytes, format_name: str, sink: Sink) -> bytes:
    """A query, without FORMAT clause, whose answer the engine is to write to `sink`."""
    # Appending is the mode that neither asks for a new file nor tries to cut this one.
    path = quote(f"/proc/self/fd/{sink.descriptor}")
    return sql + f"\nINTO OUTFILE {path} APPEND FORMAT {format_name} {_mark(sink)}".encode()


def quote(text: str) -> str:
    """`text` as a string of SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(text: str) -> str:
    """`text` as a name of SQL."""
    return "`" + text.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _mark(sink: Sink) -> str:
    return f"/* answer {sink.number} */"


def _figures(result: Any) -> Figures:
    return Figures(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        elapsed_s=result.elapsed(),
    )


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise from_engine(str(error)) from error


def _locked(file: Path, timeout_s: float) -> IO[bytes]:
    """The lock of a data directory. The kernel frees it however its holder ends; one that is ending is waited for."""
    lock = file.open("ab")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise Unavailable(f"another ClickHouse server runs in {file.parent}") from None
            time.sleep(_LOCK_POLL_S)
        else:
            os.set_inheritable(lock.fileno(), False)
            return lock
