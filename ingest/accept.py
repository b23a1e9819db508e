"""What the write path takes and what it refuses: one event in, the record for Kafka out. Pure.

The decoder is the workers' own, so that what is accepted here is decodable there. The tenant is the sender's (of a
token, of a client): where the event names none, it is added behind everything else, so that nothing in the event can
stand after it; an event that names another is refused. Apart from that a record is its sender's bytes.

Errors: InvalidInput of `schemas.event.decode`, and `tenant_mismatch`; of a batch `not_json`, `wrong_type`, `too_deep`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from schemas.errors import InvalidInput
from schemas.event import DEFAULT_TENANT, Event, decode, topic_of
from schemas.limits import EVENT_MAX_BYTES


class Record(NamedTuple):
    """One record of an input topic."""

    topic: str
    key: bytes
    value: bytes


def accept(raw: bytes, tenant: str, now: int, max_future: int) -> Record:
    """The record of one event that a sender of `tenant` may send. `now` and `max_future` are microseconds."""
    return judge(raw, tenant, now, max_future)[1]


def judge(raw: bytes, tenant: str, now: int, max_future: int) -> tuple[Event, Record]:
    """As `accept`, with the event that the record holds."""
    event = decode(raw, now, max_future)
    named = _read_named(raw).tenantid
    if named is None:
        if tenant != DEFAULT_TENANT:
            raw = _with_tenant(raw, tenant)
    elif named != tenant:
        raise InvalidInput("tenant_mismatch", f"tenantid is {named!r}, the sender's is {tenant!r}", "/tenantid")
    return event, Record(topic_of(event.type), event.customer.encode(), raw)


def split_batch(body: bytes) -> list[bytes]:
    """The events of a JSON array, each as it was sent; any of them may still be no event."""
    try:
        return [bytes(raw) for raw in _batch(body)]
    except msgspec.ValidationError:
        raise InvalidInput("wrong_type", "a batch is a JSON array of events") from None
    except msgspec.DecodeError as error:
        raise InvalidInput("not_json", f"the batch is not JSON: {error}") from None
    except RecursionError:
        raise InvalidInput("too_deep", "the batch nests too deep") from None


class _Named(msgspec.Struct, gc=False):
    """The tenant as sent: an event's own has the default filled in."""

    tenantid: str | None = None


_read_named: Final = msgspec.json.Decoder(_Named).decode
_batch: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _with_tenant(raw: bytes, tenant: str) -> bytes:
    named = raw.rstrip()[:-1] + b',"tenantid":' + msgspec.json.encode(tenant) + b"}"
    if len(named) > EVENT_MAX_BYTES:
        raise InvalidInput("too_large", f"with its tenant the event has more than {EVENT_MAX_BYTES} bytes")
    return named
