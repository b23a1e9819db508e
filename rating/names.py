"""A batch read: what its entries say of themselves, in columns, and which of its events are plain.

Plain records (see `schemas.plain_scan`) are never made values of Python: their names stay where they are in the bytes
that came, and are copied from there into the ledger's columns. `event` makes an Event of the one that is asked for.
What is no plain record is read before, and its names are laid behind those bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rating.decision import Judged, Unreadable
from rating.received import INPUT, OFFSET, RECEIVED_AT, VALUE, VALUE_SIZE, Received, Records
from schemas.account import account_key
from schemas.event import DEFAULT_TENANT, Event, event_of_plain
from schemas.plain_digests import digests
from schemas.plain_scan import (
    ABSENT,
    ALLOCATION,
    COUNTS,
    CUSTOMER,
    DEVICE,
    ID,
    MODEL,
    SESSION,
    SOURCE,
    TENANT,
    USER,
    Scanned,
    scan,
)
from schemas.plain_tokens import read_plain
from schemas.spans import Coded, Octets, Spans, coded, joined, numbered
from schemas.usage_types import TOKENS_USED

Numbers = NDArray[np.int64]
General = Callable[[Received], Judged]
"""Reads a record that is not plain."""

NOBODY: Final = -1
"""The customer of what is no event."""


@dataclass(slots=True)
class PlainRows:
    """The plain records of a batch, one row each, ascending."""

    places: Numbers
    """By row: its place in the batch."""
    occurred_at: Numbers
    models: Coded
    identities: Octets
    contents: Octets
    """By row, a digest each."""
    counts: Numbers
    """By count and row."""

    def numbers(self, name: str) -> Numbers:
        """A count of each row's data."""
        if name == "tokens_used":
            return self.numbers("input_tokens") + self.numbers("output_tokens")
        column: Numbers = self.counts[COUNTS.index(name)]
        return column


@dataclass(slots=True)
class Names:
    """Columns of a batch; position i is its record i."""

    received: Records
    others: dict[int, Judged]
    """By place: what was read one by one."""
    plain: PlainRows
    tenant: Coded
    customer: Spans
    source: Coded
    event_id: Spans
    event_type: Coded
    user_id: Spans
    session_id: Spans
    device_id: dict[int, str]
    """By place, where there is one; as the next two."""
    allocation_id: dict[int, str]
    hold_id: dict[int, str]
    input: NDArray[np.uint8]
    offset: Numbers
    received_at: Numbers
    occurred_at: Numbers
    weights: Numbers
    """Bytes that a record's names may come to in the ledger: those of a plain one, else all of its value."""
    identity: Octets
    """A digest each; zeros for an Unreadable."""
    account: NDArray[np.int32]
    """By place: whose it is, an index into the next two; NOBODY for an Unreadable."""
    keys: list[str]
    """Account keys."""
    customers: list[str]

    def key(self, place: int) -> str:
        """The account key of a record; empty for an Unreadable."""
        account = self.account[place]
        return self.keys[account] if account != NOBODY else ""

    def identities(self) -> Octets:
        """Of every event."""
        events: Octets = self.identity[self.account != NOBODY]
        return events

    def event(self, place: int) -> Judged:
        """What a record was read as, whole."""
        event = self.others.get(place)
        if event is None:
            plain = read_plain(self.received[place].value or b"")
            assert plain is not None
            event = self.others[place] = event_of_plain(plain, int(self.occurred_at[place]))
        return event

    @staticmethod
    def given(column: dict[int, str], start: int, stop: int) -> dict[int, str]:
        """What there is of a column that most leave empty, by place after `start`."""
        return {place - start: column[place] for place in sorted(column) if start <= place < stop} if column else {}


def names_of(received: Records, max_future: int, general: General, *, plainly: bool = True) -> Names:
    """Reads a batch; `max_future` in microseconds. Not `plainly`: `general` reads every record, to the same events.

    Errors: what `general` raises."""
    count = len(received)
    received_at = received.columns[RECEIVED_AT]
    weights = np.maximum(received.columns[VALUE_SIZE], 0)
    scanned = scan(received.buffer, received.columns[VALUE], weights if plainly else np.zeros(count, np.int64))
    occurred_at = np.where(scanned.times == ABSENT, received_at, scanned.times)
    is_plain = scanned.plain & (scanned.counts[COUNTS.index("cached_input_tokens")] <= scanned.counts[0])
    is_plain &= occurred_at <= received_at + max_future
    rest = np.flatnonzero(~is_plain)
    others = {place: general(received[place]) for place in rest.tolist()}
    told = list(others.values())
    if told:
        occurred_at[rest] = list(map(_occurred_at, told))
    buffer = _lay_behind(scanned, is_plain, rest, told)
    places = np.flatnonzero(is_plain)
    weights[places] = np.maximum(scanned.sizes[:, places], 0).sum(axis=0)
    tenant = _coded(buffer, scanned, TENANT, is_plain, [event.tenant for event in told])
    source = _coded(buffer, scanned, SOURCE, is_plain, [event.source for event in told])
    type_of = coded([TOKENS_USED, *(event.type for event in told)])
    event_type = Coded(type_of.words, np.zeros(count, np.int32))
    event_type.codes[rest] = type_of.codes[1:]
    identities, contents = digests(scanned, places)
    identity = np.zeros((count, identities.shape[1]), np.uint8)
    identity[places] = identities
    for place, event in others.items():
        if isinstance(event, Event):
            identity[place] = np.frombuffer(event.identity, np.uint8)
    customer = Spans(buffer, scanned.starts[CUSTOMER], scanned.sizes[CUSTOMER])
    nobody = [place for place, event in others.items() if isinstance(event, Unreadable)]
    account, keys, customers = _accounts(tenant, customer, nobody)
    models, firsts = numbered(buffer, scanned.starts[MODEL, places], scanned.sizes[MODEL, places])
    named = Spans(buffer, scanned.starts[MODEL], scanned.sizes[MODEL])
    rows = PlainRows(
        places,
        occurred_at[places],
        Coded([named[place] for place in places[firsts].tolist()], models),
        identities,
        contents,
        scanned.counts[:, places],
    )
    return Names(
        received,
        others,
        rows,
        tenant,
        customer,
        source,
        Spans(buffer, scanned.starts[ID], scanned.sizes[ID]),
        event_type,
        Spans(buffer, scanned.starts[USER], np.maximum(scanned.sizes[USER], 0)),
        Spans(buffer, scanned.starts[SESSION], scanned.sizes[SESSION]),
        _given(buffer, scanned, DEVICE, is_plain, others, "device_id"),
        _given(buffer, scanned, ALLOCATION, is_plain, others, "allocation_id"),
        {place: event.hold_id for place, event in others.items() if event.hold_id is not None},
        received.columns[INPUT].astype(np.uint8),
        received.columns[OFFSET],
        received_at,
        occurred_at,
        weights,
        identity,
        account,
        keys,
        customers,
    )


_occurred_at = attrgetter("occurred_at")


def _lay_behind(scanned: Scanned, is_plain: NDArray[np.bool_], rest: Numbers, told: Sequence[Judged]) -> Octets:
    """The buffer with what else its columns name: texts of the records that were read one by one, and the tenant of
    those that name none."""
    texts = [event.customer.encode() for event in told]
    texts += [event.id.encode() for event in told]
    texts += [(event.user_id or "").encode() for event in told]
    texts += [(event.session_id or "").encode() for event in told]
    laid = joined([*texts, DEFAULT_TENANT.encode()], scanned.buffer)
    size = len(told)
    for number, text in enumerate((CUSTOMER, ID, USER, SESSION)):
        part = slice(number * size, (number + 1) * size)
        scanned.starts[text, rest], scanned.sizes[text, rest] = laid.starts[part], laid.sizes[part]
    unnamed = is_plain & (scanned.sizes[TENANT] == ABSENT)
    scanned.starts[TENANT, unnamed], scanned.sizes[TENANT, unnamed] = laid.starts[-1], laid.sizes[-1]
    scanned.buffer = laid.buffer
    return laid.buffer


def _coded(buffer: Octets, scanned: Scanned, text: int, is_plain: NDArray[np.bool_], others: Sequence[str]) -> Coded:
    """A text of every record by few words; `others` are those of the records that are not plain."""
    codes, firsts = numbered(buffer, scanned.starts[text, is_plain], scanned.sizes[text, is_plain])
    spans = Spans(buffer, scanned.starts[text], scanned.sizes[text])
    words = [spans[place] for place in np.flatnonzero(is_plain)[firsts].tolist()]
    place_of = {word: code for code, word in enumerate(words)}
    of_others = [place_of.setdefault(word, len(place_of)) for word in others]
    column = np.empty(len(is_plain), np.int32)
    column[is_plain] = codes
    column[~is_plain] = of_others
    return Coded(list(place_of), column)


def _accounts(tenant: Coded, customer: Spans, nobody: Sequence[int]) -> tuple[NDArray[np.int32], list[str], list[str]]:
    """A number for each customer of a tenant, by place; of each its account key and its id."""
    account, firsts = numbered(customer.buffer, customer.starts, customer.sizes)
    if len(tenant.words) > 1:
        pairs = account.astype(np.int64) * len(tenant.words) + tenant.codes
        _, firsts, numbers = np.unique(pairs, return_index=True, return_inverse=True)
        account = numbers.astype(np.int32)
    account[list(nobody)] = NOBODY
    customers = [customer[place] for place in firsts.tolist()]
    keys = [account_key(tenant[place], one) for place, one in zip(firsts.tolist(), customers, strict=True)]
    return account, keys, customers


def _given(
    buffer: Octets,
    scanned: Scanned,
    text: int,
    is_plain: NDArray[np.bool_],
    others: dict[int, Judged],
    name: str,
) -> dict[int, str]:
    """What there is of a column that most leave empty."""
    spans = Spans(buffer, scanned.starts[text], scanned.sizes[text])
    given = {place: spans[place] for place in np.flatnonzero(is_plain & (scanned.sizes[text] != ABSENT)).tolist()}
    more: Iterable[tuple[int, str | None]] = zip(others, map(attrgetter(name), others.values()), strict=True)
    given.update((place, value) for place, value in more if value is not None)
    return given


__all__: Final = ["NOBODY", "Names", "PlainRows", "names_of"]
