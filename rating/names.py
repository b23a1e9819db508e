"""A batch read: what its entries say of themselves, in columns, and which of its events are plain.

Plain records (see `schemas.plain_tokens`) are read to structs and taken apart by columns; nearly none of them is ever
made an Event, which costs as much as all the rest. `event` makes the one that is asked for. What is no plain record is
read before, and handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import add, attrgetter, itemgetter
from typing import Any, Final

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from rating.decision import Judged, Received, Unreadable
from schemas.canonical import identities_of
from schemas.event import DEFAULT_TENANT, event_of_plain
from schemas.limits import EVENT_MAX_BYTES
from schemas.period import UNREADABLE, parse_times
from schemas.plain_tokens import PlainData, PlainTokens, plain_contents, read_plain

Numbers = NDArray[np.int64]
General = Callable[[Received], Judged]
"""Reads a record that is not plain."""

_OF_ENVELOPE: Final = {name: place for place, name in enumerate(PlainTokens.__struct_fields__)}
_OF_DATA: Final = {name: place for place, name in enumerate(PlainData.__struct_fields__)}
_input, _offset, _received_at, _value = map(attrgetter, ("input", "offset", "received_at", "value"))


class PlainRows:
    """The plain records of a batch that name no hold, one row each, ascending."""

    def __init__(self, places: Numbers, events: list[PlainTokens], arrived: Numbers) -> None:
        self.places = places
        """By row: its place in the batch."""
        self.events = events
        self._envelopes = list(zip(*map(astuple, events), strict=True)) or [()] * len(_OF_ENVELOPE)
        self._parts = list(map(astuple, self.named("data")))
        self._data = list(zip(*self._parts, strict=True)) or [()] * len(_OF_DATA)
        self._numbers: dict[str, Numbers] = {}
        self.occurred_at = self._times(arrived)
        """Microseconds; UNREADABLE where it is no time."""

    def named(self, name: str) -> tuple[Any, ...]:
        """A field of each row's envelope."""
        return self._envelopes[_OF_ENVELOPE[name]]

    def column(self, name: str) -> tuple[Any, ...]:
        """A field of each row's data."""
        return self._data[_OF_DATA[name]]

    def numbers(self, name: str) -> Numbers:
        """A count of each row's data."""
        if name == "tokens_used":
            return self.numbers("input_tokens") + self.numbers("output_tokens")
        if name not in self._numbers:
            self._numbers[name] = np.array(self.column(name), np.int64)
        return self._numbers[name]

    def contents(self) -> list[bytes]:
        """The digest of each row's content."""
        return plain_contents(zip(self.named("time"), self.named("datacontenttype"), self._parts, strict=True))

    def _times(self, arrived: Numbers) -> Numbers:
        times = self.named("time")
        if None not in times:
            return parse_times(times)
        occurred_at = arrived.copy()
        named = [place for place, time in enumerate(times) if time is not None]
        occurred_at[named] = parse_times([times[place] for place in named])
        return occurred_at


@dataclass(slots=True)
class Names:
    """Columns of a batch; position i is its record i."""

    received: Sequence[Received]
    read: list[Any]
    """PlainTokens for what is in `plain`, else an Event or Unreadable."""
    plain: PlainRows
    tenant: list[str]
    customer: list[str]
    source: list[str]
    event_id: list[str]
    event_type: list[str]
    user_id: list[str]
    session_id: list[str]
    device_id: list[str | None]
    allocation_id: list[str | None]
    hold_id: list[str | None]
    input: list[int]
    offset: list[int]
    received_at: list[int]
    occurred_at: list[int]
    identity: list[bytes]
    """Of no meaning for an Unreadable."""
    key: list[str]
    """Account keys; empty for an Unreadable."""

    def event(self, place: int) -> Judged:
        """What a record was read as, whole."""
        read = self.read[place]
        if read.__class__ is PlainTokens:
            read = self.read[place] = event_of_plain(read, self.occurred_at[place])
        event: Judged = read
        return event

    @staticmethod
    def given(column: list[str | None], start: int, stop: int) -> dict[int, str]:
        """What there is of a column that most leave empty, by place after `start`."""
        part = column[start:stop]
        if part.count(None) == len(part):
            return {}
        return {place: value for place, value in enumerate(part) if value is not None}


def names_of(received: Sequence[Received], max_future: int, general: General, *, plainly: bool = True) -> Names:
    """Reads a batch; `max_future` in microseconds. Not `plainly`: `general` reads every record, to the same events.

    Errors: what `general` raises."""
    received_at = list(map(_received_at, received))
    arrived = np.array(received_at, np.int64)
    plain = _plain_rows(received, arrived, max_future) if plainly else _rows([], [], arrived)
    read: list[Any] = [None] * len(received)
    for place, event in zip(plain.places.tolist(), plain.events, strict=True):
        read[place] = event
    rest = [place for place, event in enumerate(read) if event is None]
    others = [general(received[place]) for place in rest]
    in_order = _gathering([*plain.places.tolist(), *rest]) if rest else tuple
    for place, other in zip(rest, others, strict=True):
        read[place] = other

    def of(plainly: Iterable[Any], name: str) -> list[Any]:
        return list(in_order((*plainly, *map(attrgetter(name), others))))

    tenant, customer = of(plain.named("tenant"), "tenant"), of(plain.named("customer"), "customer")
    source, event_id = of(plain.named("source"), "source"), of(plain.named("id"), "id")
    prefix = {name: f"{len(name)}:{name}:" for name in set(tenant)}  # account_key, taken apart
    key = list(map(add, map(prefix.__getitem__, tenant), customer))
    for place, other in zip(rest, others, strict=True):
        if isinstance(other, Unreadable):
            key[place] = ""
    return Names(
        received,
        read,
        plain,
        tenant,
        customer,
        source,
        event_id,
        of(plain.named("type"), "type"),
        _texts(of(plain.column("user_id"), "user_id")),
        _texts(of(plain.column("session_id"), "session_id")),
        of(plain.column("device_id"), "device_id"),
        of(plain.column("allocation_id"), "allocation_id"),
        of(plain.column("hold_id"), "hold_id"),
        list(map(_input, received)),
        list(map(_offset, received)),
        received_at,
        of(plain.occurred_at.tolist(), "occurred_at"),
        identities_of(zip(tenant, customer, source, event_id, strict=True)),
        key,
    )


def _plain_rows(received: Sequence[Received], arrived: Numbers, max_future: int) -> PlainRows:
    values = [value if value is not None and len(value) <= EVENT_MAX_BYTES else b"" for value in map(_value, received)]
    read = read_plain(values)
    places = [place for place, event in enumerate(read) if event is not None]
    rows = _rows(places, [event for event in read if event is not None], arrived)
    stays = (rows.numbers("cached_input_tokens") <= rows.numbers("input_tokens")) & (rows.occurred_at != UNREADABLE)
    stays &= rows.occurred_at <= arrived[rows.places] + max_future
    holds = rows.column("hold_id")
    if holds.count(None) < len(holds):
        stays &= np.array([hold is None for hold in holds], np.bool_)
    if stays.all():
        return rows
    chosen = np.flatnonzero(stays).tolist()
    return _rows([places[row] for row in chosen], [rows.events[row] for row in chosen], arrived)


def _rows(places: list[int], events: list[PlainTokens], arrived: Numbers) -> PlainRows:
    for event in events:
        if event.tenant is None:
            event.tenant = DEFAULT_TENANT
    at: Numbers = np.array(places, np.int64)
    return PlainRows(at, events, arrived[at])


def _gathering(order: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Puts values into the order of a batch, of which the i-th stands at `order[i]`."""
    places = [0] * len(order)
    for value, place in enumerate(order):
        places[place] = value
    return itemgetter(*places) if len(places) > 1 else tuple


def _texts(values: list[str | None]) -> list[str]:
    absent = values.count(None)
    if absent == len(values):
        return [""] * len(values)
    return [value or "" for value in values] if absent else values  # type: ignore[return-value]  # none is None


__all__: Final = ["Names", "PlainRows", "names_of"]
