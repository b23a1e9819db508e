"""An event: one CloudEvents 1.0 record of an input topic, decoded and checked. The one decoder of HTTP and workers.

`decode` takes the record's bytes and the time Kafka received it, and is a function of its arguments alone. A type that
is neither built in nor an account's is decoded too, its data free: only the catalogue knows whether a meter names it.

Refuses with InvalidInput, whose detail names field and reason: what `schemas.canonical` and `schemas.shape` refuse, and
`no_customer`, `unknown_version`, `bad_time`, `future`, `inconsistent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

from schemas.account_types import ACCOUNT_TYPES as _ACCOUNT_TYPES
from schemas.canonical import content_of, identity_of, parse
from schemas.claims import Claim, claims_made
from schemas.errors import InvalidInput
from schemas.ids import check_id
from schemas.limits import EVENT_MAX_BYTES, ID_MAX_CHARACTERS, INPUT_RECORD_MAX_BYTES
from schemas.period import Timestamp, format_time, instant_of, parse_time
from schemas.plain_release import read_release
from schemas.plain_tokens import PlainTokens, content_of_plain, is_plain, plain_content, read_plain
from schemas.shape import Id, read
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS
from schemas.usage_types import (
    DEVICE_RELEASED,
    PRODUCT_USAGE_RECORDED,
    TOKENS_USED,
    USAGE_REPORTED,
    USAGE_TYPES,
    duration_agrees,
    whole_seconds,
)

DEFAULT_TENANT: Final = "default"
MAJOR: Final = 1
"""The one major version of the built-in types."""

ACCOUNT_TYPES: Final = frozenset(_ACCOUNT_TYPES)
"""Types of the topic of account events."""

COMMAND_PREFIX: Final = "tollgate."
"""Types of the commands that our own processes send; no producer may."""

_BUILT_IN: Final = {**USAGE_TYPES, **_ACCOUNT_TYPES}
_NO_DATA: Final[dict[str, Any]] = {}
_TOKENS_MARK: Final = f'"{TOKENS_USED}"'.encode()
_RELEASE_MARK: Final = f'"{DEVICE_RELEASED}"'.encode()


class Attributes(Protocol):
    """What is asked of an envelope."""

    def get(self, name: str, /) -> Any:
        """An attribute; None where there is none."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event. Values it refers to are shared, not copied: who holds an event changes nothing in it."""

    tenant: str
    customer: str
    source: str
    id: str
    type: str
    """As sent, but for an alias: the type it stands for."""
    occurred_at: int
    """Microseconds; where the event names no time, when Kafka received it."""
    user_id: str | None
    data: dict[str, Any]
    """As sent, with numbers exact. Of a built-in type also: defaults filled in, null optional fields left out, times in
    microseconds, `duration_seconds` and `tokens_used` computed, and an account event's money in nanos."""
    attributes: Attributes
    """The whole envelope as sent."""
    content: bytes
    """Digest of what events of one identity are compared by: the event as sent with defaults filled in."""
    identity: bytes
    """Digest of tenant, customer, source and id."""
    hold_id: str | None
    session_id: str | None
    device_id: str | None
    allocation_id: str | None
    final: bool
    """Whether the hold it names ends with it."""
    zero: bool
    """All counts of a session.tokens_used are zero."""
    claims: tuple[Claim, ...] = ()
    """What it claims beside its identity; of an event made after it those of the one that was sent."""


class Peek(NamedTuple):
    """What can be read of a record that is no event; empty where nothing can."""

    tenant: str
    customer: str
    source: str
    id: str
    type: str


class _Envelope(msgspec.Struct, gc=False):
    specversion: Literal["1.0"]
    id: Id
    source: Id
    type: Id
    subject: Id | None = None
    tenantid: Id | None = None
    time: Timestamp | None = None
    dataschema: str | None = None


class _Names(msgspec.Struct, gc=False):
    """Raw, so that one unreadable field takes none of the others with it."""

    id: msgspec.Raw = msgspec.Raw()
    source: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    subject: msgspec.Raw = msgspec.Raw()
    tenantid: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


class _UserOnly(msgspec.Struct, gc=False):
    user_id: msgspec.Raw = msgspec.Raw()


def decode(raw: bytes, received_at: int, max_future: int) -> Event:
    """The event that a record holds. `max_future`: microseconds its time may lie ahead of `received_at`."""
    event = None
    # A type that is spelled with an escape goes the general way, to the same event.
    if _RELEASE_MARK in raw:
        event = decode_release(raw, received_at, max_future)
    elif _TOKENS_MARK in raw:
        event = decode_plain(raw, received_at, max_future)
    return event if event is not None else decode_general(raw, received_at, max_future)


def decode_general(raw: bytes, received_at: int, max_future: int) -> Event:
    """As `decode`, of a record that is not plain."""
    attributes = parse(raw)
    envelope = read(attributes, _Envelope, "")
    event_type, tenant = envelope.type, envelope.tenantid or DEFAULT_TENANT
    sent = attributes.get("data")
    data: dict[str, Any] = sent if isinstance(sent, dict) else _NO_DATA
    customer = envelope.subject or _user_of(data)
    occurred_at = received_at
    if envelope.time is not None:
        occurred_at = instant_of(envelope.time, attributes["time"], "/time")
        if occurred_at > received_at + max_future:
            received = format_time(received_at)
            raise InvalidInput("future", f"time {attributes['time']} lies too far ahead of {received}", "/time")

    nulls = b"null" in raw
    get: Callable[[str], Any]
    content = {**attributes, "tenantid": tenant, "subject": customer}
    built_in = _BUILT_IN.get(event_type)
    if built_in is not None:
        if data is _NO_DATA:
            _refuse_data(sent)
        if envelope.dataschema is not None:
            _check_version(envelope.dataschema, event_type)
        filled = built_in.complete(built_in.without_nulls(data) if nulls else data)
        if event_type == PRODUCT_USAGE_RECORDED:
            event_type = USAGE_REPORTED
        content["data"] = data = filled.data
        if filled.computed is not None:
            data = data | filled.computed
        # Shapes of usage types hold their names to be ids; an account event's other fields are its sender's business.
        get, zero = data.get if event_type in USAGE_TYPES else _Named(data).get, filled.zero
    else:
        get, zero = _Named(data).get, False
    return Event(
        tenant,
        customer,
        envelope.source,
        envelope.id,
        event_type,
        occurred_at,
        get("user_id"),
        data,
        attributes,
        _content(_without_nulls(content) if nulls else content, event_type),
        identity_of(tenant, customer, envelope.source, envelope.id),
        get("hold_id"),
        get("session_id"),
        get("device_id"),
        get("allocation_id"),
        data.get("final") is not False,
        zero,
        claims_made(tenant, customer, event_type, data),
    )


def decode_plain(raw: bytes, received_at: int, max_future: int) -> Event | None:
    """The event of a plain record, as `decode` gives it; None for what has to go the general way, which also finds out
    what is wrong."""
    if len(raw) > EVENT_MAX_BYTES:
        return None
    plain = read_plain(raw)
    if plain is None or not is_plain(plain.data):
        return None
    occurred_at = received_at
    if plain.time is not None:
        try:
            occurred_at = parse_time(plain.time)
        except InvalidInput:
            return None
        if occurred_at > received_at + max_future:
            return None
    return event_of_plain(plain, occurred_at)


def event_of_plain(plain: PlainTokens, occurred_at: int) -> Event:
    """The event that a plain record holds."""
    tenant, sent = plain.tenant or DEFAULT_TENANT, plain.data
    data = asdict(sent)
    total = data["tokens_used"] = sent.input_tokens + sent.output_tokens
    return Event(
        tenant,
        plain.customer,
        plain.source,
        plain.id,
        TOKENS_USED,
        occurred_at,
        sent.user_id,
        data,
        plain,
        plain_content(plain),
        identity_of(tenant, plain.customer, plain.source, plain.id),
        sent.hold_id,
        sent.session_id,
        sent.device_id,
        sent.allocation_id,
        sent.final,
        not (total or sent.cache_write_tokens or sent.reasoning_tokens),
    )


def decode_release(raw: bytes, received_at: int, max_future: int) -> Event | None:
    """As `decode_plain`, of a device.released."""
    if len(raw) > EVENT_MAX_BYTES or (read := read_release(raw)) is None:
        return None
    sent, times = read
    told = sent.data
    try:
        start = instant_of(times.allocated_at, told.allocated_at, "")
        end = instant_of(times.released_at, told.released_at, "")
        if sent.time is UNSET or times.time is None:
            occurred_at = received_at
        else:
            occurred_at = instant_of(times.time, sent.time, "")
    except InvalidInput:
        return None
    if end < start or occurred_at > received_at + max_future:
        return None
    seconds = whole_seconds(start, end)
    data: dict[str, Any] = msgspec.to_builtins(told)
    data["allocated_at"], data["released_at"], data["duration_seconds"] = start, end, seconds
    if told.duration_seconds is UNSET:
        told.duration_seconds = seconds
    elif not duration_agrees(told.duration_seconds, start, end):
        return None
    tenant = sent.tenantid
    content = sent
    if tenant is UNSET:
        tenant = DEFAULT_TENANT
        content = msgspec.structs.replace(sent, tenantid=tenant)
    return Event(
        tenant,
        sent.subject,
        sent.source,
        sent.id,
        DEVICE_RELEASED,
        occurred_at,
        data.get("user_id"),
        data,
        sent,
        content_of(content),
        identity_of(tenant, sent.subject, sent.source, sent.id),
        data.get("hold_id"),
        data.get("session_id"),
        told.device_id,
        told.allocation_id,
        told.final,
        False,
        claims_made(tenant, sent.subject, DEVICE_RELEASED, data),
    )


def _content(content: dict[str, Any], event_type: str) -> bytes:
    """The digest of a content with its defaults; a plain event's is the same by either road."""
    plain = content_of_plain(content) if event_type == TOKENS_USED else None
    return content_of(content) if plain is None else plain


def topic_of(event_type: str) -> str:
    """The input topic that events of a type belong in."""
    return ACCOUNT_EVENTS if event_type in ACCOUNT_TYPES else USAGE_EVENTS


def peek(raw: bytes) -> Peek:
    """The names in a record, each as far as it can be read; never raises."""
    if len(raw) > INPUT_RECORD_MAX_BYTES:
        return Peek("", "", "", "", "")
    try:
        names = _read_names(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Peek("", "", "", "", "")
    customer = _text(names.subject)
    if not customer:
        try:
            customer = _text(_read_user(names.data).user_id)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            customer = ""
    tenant = _text(names.tenantid) or DEFAULT_TENANT
    return Peek(tenant, customer, _text(names.source), _text(names.id), _text(names.type))


_read_names = msgspec.json.Decoder(_Names).decode
_read_user = msgspec.json.Decoder(_UserOnly).decode
_read_text = msgspec.json.Decoder(str).decode


def _text(raw: msgspec.Raw) -> str:
    try:
        return _read_text(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


class _Named:
    """The names in free data: what is no id names nothing."""

    __slots__ = ("data",)

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def get(self, field: str) -> str | None:
        """The id in a field, if there is one."""
        value = self.data.get(field)
        return value if isinstance(value, str) and 0 < len(value) <= ID_MAX_CHARACTERS else None


def _without_nulls(attributes: dict[str, Any]) -> dict[str, Any]:
    """An attribute that is null is as if it were absent (CloudEvents 1.0, JSON format, 2.2)."""
    return {name: value for name, value in attributes.items() if value is not None}


def _user_of(data: dict[str, Any]) -> str:
    if data.get("user_id") is None:
        raise InvalidInput("no_customer", "neither subject nor data.user_id names a customer", "/subject")
    return check_id(data["user_id"], "/data/user_id")


def _refuse_data(sent: Any) -> None:
    if sent is None:
        raise InvalidInput("missing_field", "data is missing", "/data")
    if sent.__class__ is not dict:
        raise InvalidInput("wrong_type", "data is no object", "/data")


def _check_version(dataschema: str, event_type: str) -> None:
    if not dataschema.endswith(f"/{event_type}/{MAJOR}"):
        raise InvalidInput(
            "unknown_version",
            f"dataschema {dataschema[:200]!r} does not end in /{event_type}/{MAJOR}, the version that is known",
            "/dataschema",
        )
