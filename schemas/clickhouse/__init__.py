"""ClickHouse's schema: plain SQL files, applied in their order, once, and never changed afterwards.

`migrations/NNNN_verb_noun.sql` holds statements that end with a semicolon at the end of a line. ClickHouse has neither
transactions for them nor locks for us, so each statement can run twice (IF NOT EXISTS, OR REPLACE): two migrators at
once, or one killed half-way and started again, end with the same schema. `tollgate.schema_migrations` names what was
applied, with the SHA-256 of the file.

Errors: Unavailable if ClickHouse does not answer; Conflict if what was applied is not what these files say, or is not
among them; InvariantBroken if ClickHouse refuses a statement; InvalidInput for a bad URL or password.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError

from schemas.errors import Conflict, InvalidInput, InvariantBroken, TollgateError, Unavailable

DATABASE: Final = "tollgate"

CONNECT_SECONDS: Final = 5
ANSWER_SECONDS: Final = 60
"""An answer that takes longer is no answer; an insert is then in doubt."""

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql", re.ASCII)
_STATEMENT_END: Final = re.compile(r";[ \t]*$", re.MULTILINE)
_PORTS: Final = {"http": 8123, "https": 8443}
_PASSING_CODES: Final = frozenset({159, 202, 203, 209, 210, 241, 242, 243, 252, 279, 319, 394, 425, 439, 999})
"""ClickHouse's errors that are not the request's fault: time-outs, too many queries or parts, no memory, disk or
network, a table that is read only for now. All others come again with the same request."""

_MIGRATIONS_TABLE: Final = f"""
CREATE TABLE IF NOT EXISTS {DATABASE}.schema_migrations
(
    version    UInt16,
    name       String,
    checksum   FixedString(64),
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree
ORDER BY version
"""
_APPLIED: Final = f"SELECT version, name, toString(checksum) FROM {DATABASE}.schema_migrations"  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of the schema."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """Its statements, without comments before them and the semicolon."""
        return [part for statement in _STATEMENT_END.split(self.text) if (part := _without_head(statement))]


def _without_head(statement: str) -> str:
    lines = statement.strip().splitlines()
    while lines and (not lines[0].strip() or lines[0].startswith("--")):
        lines.pop(0)
    return "\n".join(lines)


def migrations() -> list[Migration]:
    """All migrations of this version, in order. InvariantBroken if the numbers have gaps or repeats."""
    found = []
    for file in files(__name__).joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            name = _NAME.fullmatch(file.name)
            if name is None:
                raise InvariantBroken(f"{file.name} is not named NNNN_verb_noun.sql")
            found.append(Migration(int(name[1]), file.name, file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise InvariantBroken("the migrations are not numbered 1, 2, 3, ...")
    return found


def connect(url: str, **options: Any) -> Any:
    """A client of clickhouse-connect for http://user:password@host:port, safe for use by several threads.

    Errors: InvalidInput for a bad URL, Unavailable if it does not answer, InvalidInput if it refuses user or password.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise InvalidInput("setting", f"the ClickHouse URL is not valid: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InvalidInput("setting", "the ClickHouse URL is not http://user:password@host:port")
    given: dict[str, Any] = {
        "host": parts.hostname,
        "port": port or _PORTS[parts.scheme],
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "secure": parts.scheme == "https",
        # Sessions forbid concurrent requests; nothing of ours needs one.
        "autogenerate_session_id": False,
        # Beside the server compressing costs more than it saves.
        "compress": False,
        "connect_timeout": CONNECT_SECONDS,
        "send_receive_timeout": ANSWER_SECONDS,
        # Who calls decides whether to try again: an insert in doubt is looked up first.
        "query_retries": 0,
    }
    try:
        return clickhouse_connect.get_client(**(given | options))
    except ClickHouseError as error:
        raise translated(error) from error


def translated(error: ClickHouseError) -> TollgateError:
    """ClickHouse's error by what whoever meets it must do."""
    code = getattr(error, "code", None)
    first_line = next(iter(str(_innermost(error)).strip().splitlines()), type(error).__name__)[:300]
    if code in (192, 193, 194, 516):
        return InvalidInput("setting", f"ClickHouse refuses user or password: {first_line}")
    if code in _PASSING_CODES or (code is None and isinstance(error, OperationalError)):
        return Unavailable(f"ClickHouse does not answer: {first_line}")
    if isinstance(error, DatabaseError):
        return InvariantBroken(f"ClickHouse refuses: {first_line}")
    return Unavailable(f"ClickHouse: {first_line}")


def _innermost(error: BaseException) -> BaseException:
    """What the client's own errors are about: a refused connection, not the request that met it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def migrate(url: str) -> list[str]:
    """Brings the schema up to this version; the names of the migrations it applied."""
    known = migrations()
    client = connect(url)
    try:
        client.command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
        client.command(_MIGRATIONS_TABLE)
        applied: dict[int, set[tuple[str, str]]] = {}
        for version, name, checksum in client.query(_APPLIED).result_rows:
            applied.setdefault(version, set()).add((name, checksum))
        _compare(applied, known)
        done = []
        for migration in known:
            if migration.version in applied:
                continue
            for statement in migration.statements:
                _run(client, migration, statement)
            client.insert(
                f"{DATABASE}.schema_migrations",
                [[migration.version, migration.name, migration.checksum]],
                column_names=["version", "name", "checksum"],
                settings={"async_insert": 0},
            )
            done.append(migration.name)
        return done
    except ClickHouseError as error:
        raise translated(error) from error
    finally:
        client.close()


def _run(client: Any, migration: Migration, statement: str) -> None:
    try:
        client.command(statement)
    except ClickHouseError as error:
        known = translated(error)
        raise type(known)(f"{migration.name}: {known}") if not isinstance(known, InvalidInput) else known from error


def _compare(applied: dict[int, set[tuple[str, str]]], known: list[Migration]) -> None:
    by_version = {migration.version: migration for migration in known}
    for version, records in sorted(applied.items()):
        migration = by_version.get(version)
        if migration is None:
            names = ", ".join(sorted(name for name, _ in records))
            raise Conflict(
                "newer_schema", f"ClickHouse has migration {names}, which this version of tollgate does not have"
            )
        if records != {(migration.name, migration.checksum)}:
            raise Conflict(
                "changed_migration",
                f"{migration.name} was changed after it was applied to ClickHouse; add a new migration instead",
            )
