"""One HTTP request as values: what it asks for, before any engine. Pure.

The SQL is the `query` of the URL followed by the body, whatever the content type, since `curl -d` calls SQL a form.
Only multipart/form-data is a form here: its text fields are `query` and parameters, as clickhouse-connect sends them
when they are too long for a URL; a file in it would be an external table, which is refused.

An argument of the URL is the transport's, a parameter (`param_name`), or a setting of the engine for this request.
Errors: Refusal.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl

from backing.clickhouse_server.errors import (
    BAD_ARGUMENTS,
    INVALID_SESSION_TIMEOUT,
    NOT_IMPLEMENTED,
    SET_NON_GRANTED_ROLE,
    UNKNOWN_FORMAT,
    UNKNOWN_SETTING,
    refusal,
)

SESSION_DEFAULT_S: Final = 60
SESSION_LONGEST_S: Final = 3600

# Arguments that are the transport's business, never settings of the engine. Those without a use here ask for what
# this server does anyway, or for niceties that clients can do without.
_TRANSPORT: Final = frozenset(
    (
        "query", "database", "default_format", "user", "password", "quota_key", "role", "query_id",
        "session_id", "session_timeout", "session_check", "close_session", "readonly", "compress", "decompress",
        "buffer_size", "wait_end_of_query", "enable_http_compression", "http_zlib_compression_level",
        "client_protocol_version", "stacktrace", "send_progress_in_http_headers",
        "http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close", "add_http_cors_header",
    )
)  # fmt: skip
_PARAMETER: Final = "param_"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_FORMAT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MULTIPART: Final = re.compile(r'multipart/form-data\s*;.*?boundary=(?:"([^"]+)"|([^;\s]+))', re.IGNORECASE | re.DOTALL)
_FIELD: Final = re.compile(rb'\bname="([^"]*)"', re.IGNORECASE)
_FIELD_IS_FILE: Final = re.compile(rb"\bfilename\*?=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """The session a request belongs to: its id, the seconds it lives on, whether it must be there already."""

    id: str
    timeout_s: int
    must_exist: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What one HTTP request asks for. `sql` is complete once the body has been added by `with_body`."""

    sql: bytes
    database: str
    default_format: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    query_id: str
    session: SessionRequest | None
    is_read_only: bool
    wants_whole_answer: bool
    wants_compression: bool

    def with_body(self, body: bytes, content_type: str) -> Request:
        """With the (decompressed) body added to its SQL."""
        boundary = _MULTIPART.match(content_type)
        if boundary is None:
            return replace(self, sql=_joined(self.sql, body))
        sql, parameters = self.sql, dict(self.parameters)
        for name, value in _form_fields(body, (boundary[1] or boundary[2]).encode()):
            if name == "query":
                sql = _joined(sql, value)
            elif name.startswith(_PARAMETER):
                parameters[_checked_name(name.removeprefix(_PARAMETER))] = _text(value)
            else:
                raise refusal(BAD_ARGUMENTS, f"Unknown form field {name!r}: there are `query` and `param_` fields")
        return replace(self, sql=sql, parameters=parameters)


def parse_arguments(query_string: bytes) -> dict[str, str]:
    """The arguments of a URL. `query` given several times is joined, of others the last counts."""
    arguments: dict[str, str] = {}
    for name, value in parse_qsl(_text(query_string), keep_blank_values=True, errors="surrogateescape"):
        arguments[name] = arguments[name] + value if name == "query" and name in arguments else value
    return arguments


def parse(method: str, headers: Mapping[str, str], arguments: Mapping[str, str]) -> Request:
    """The request with this method, these headers (names in lower case) and URL arguments, without its body."""
    for block_compression in ("compress", "decompress"):
        if _is_on(arguments.get(block_compression)):
            raise refusal(
                NOT_IMPLEMENTED,
                f"`{block_compression}=1` (ClickHouse's own block compression) is not served; use HTTP's "
                "Content-Encoding, and Accept-Encoding with enable_http_compression=1",
            )
    if arguments.get("role"):
        raise refusal(SET_NON_GRANTED_ROLE, "Roles cannot be chosen on this server")
    settings: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for name, value in arguments.items():
        if name.startswith(_PARAMETER):
            parameters[_checked_name(name.removeprefix(_PARAMETER))] = value
        elif name not in _TRANSPORT:
            settings[_checked_name(name)] = value
    default_format = arguments.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated"
    if _FORMAT.fullmatch(default_format) is None:
        raise refusal(UNKNOWN_FORMAT, f"Unknown format {default_format!r}")
    return Request(
        sql=arguments.get("query", "").encode(errors="surrogateescape"),
        database=arguments.get("database") or headers.get("x-clickhouse-database") or "default",
        default_format=default_format,
        settings=settings,
        parameters=parameters,
        query_id=arguments.get("query_id") or str(uuid.uuid4()),
        session=_session(arguments),
        # As with ClickHouse, what may be repeated by any proxy changes nothing.
        is_read_only=method in ("GET", "HEAD") or _is_on(arguments.get("readonly")),
        wants_whole_answer=_is_on(arguments.get("wait_end_of_query")),
        wants_compression=_is_on(arguments.get("enable_http_compression")),
    )


def _session(arguments: Mapping[str, str]) -> SessionRequest | None:
    if not arguments.get("session_id"):
        return None
    timeout = arguments.get("session_timeout", str(SESSION_DEFAULT_S))
    if not (timeout.isascii() and timeout.isdigit() and len(timeout) < 10 and int(timeout) <= SESSION_LONGEST_S):
        raise refusal(INVALID_SESSION_TIMEOUT, f"Invalid session timeout: '{timeout}' (0 to {SESSION_LONGEST_S})")
    return SessionRequest(arguments["session_id"], int(timeout), _is_on(arguments.get("session_check")))


def _form_fields(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    # The delimiter belongs to the line break before it, so that a value keeps its own.
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(parts) < 3 or not parts[-1].startswith(b"--"):
        raise refusal(BAD_ARGUMENTS, "The multipart form is cut or has another boundary than its header says")
    for part in parts[1:-1]:
        head, separator, value = part.partition(b"\r\n\r\n")
        field = _FIELD.search(head)
        if not separator or field is None:
            raise refusal(BAD_ARGUMENTS, "A field of the multipart form has no name")
        name = _text(field[1])
        if _FIELD_IS_FILE.search(head):
            raise refusal(NOT_IMPLEMENTED, f"External data (the file {name!r} of the form) is not served")
        yield name, value


def _joined(first: bytes, second: bytes) -> bytes:
    return first + b"\n" + second if first and second else first or second


def _checked_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise refusal(UNKNOWN_SETTING, f"Unknown setting {name!r}")
    return name


def _is_on(value: str | None) -> bool:
    return value is not None and value not in ("", "0", "false", "False")


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")
