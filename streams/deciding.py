"""From raw records to ledger records: decodes a batch, cuts it into chunks, decides each and forms its record.

No I/O: what the batch needs to know (accounts, booked identities, where customers live) is named by `name` and
handed in by the lane. Everything that this makes and the caller then cannot make fact is dropped whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from rating.book import PriceBook
from rating.columns import FEWEST, price_plain
from rating.decide import decide, identities_named, internal_failure, values_counted
from rating.decision import Decision, Judged, Standing, Unreadable
from rating.effects import DOCUMENTS, IDENTITIES, documents_named
from rating.holds import ENDING, USER_DELETED, HoldName, holds_named
from rating.names import NOBODY, Names, names_of
from rating.plain import Plain
from rating.received import INPUT, OFFSET, Numbers, Octets, Received, Records
from schemas.account import Account, pack_account, unpack_account
from schemas.canonical import IDENTITY_BYTES
from schemas.documents import OPERATION, decode_body, document_key, encode_body
from schemas.errors import InvalidInput, InvariantBroken
from schemas.event import ACCOUNT_TYPES, Event, decode, peek
from schemas.hold_commands import HOLD_SETTLE
from schemas.ledger import ACCOUNT, LEDGER_FORMAT, USAGE, LedgerRecord, RecordKind
from schemas.ledger_packed import PackedRecord, encode_packed, unpacked
from schemas.limits import BLOCK_MAX_AGE_MICROSECONDS, BLOCK_MAX_ENTRIES, BLOCK_QUIET_ENTRIES
from streams.messages import messages_of
from streams.transaction import Message

CHUNK_MAX_RECORDS: Final = 5_000
"""Records decided in one go: some 40 ms, after which heartbeats and other lanes get their turn."""


@dataclass(slots=True)
class Named:
    """A batch read and what must be known before it can be decided."""

    names: Names
    customers: dict[str, str]
    """By account key: the customers that the batch is about."""
    identities: Octets
    """A row each; some may come twice."""
    documents: list[str]
    """Keys of the documents that its events name."""
    holds: list[HoldName]
    """What its events name of holds."""

    @property
    def received(self) -> Records:
        """The records."""
        return self.names.received


def name(received: Records, max_future: int, *, isolate: bool = False) -> Named:
    """Reads a batch; `max_future` in microseconds. With `isolate` a record at which our own code fails becomes a dead
    letter `internal_error`, as in `decide_singly`."""

    def general(record: Received) -> Judged:
        try:
            return decode(record.value or b"", record.received_at, max_future)
        except InvalidInput as refusal:
            # What was raised holds this call by its traceback, and with it the batch: a cycle of megabytes.
            why = InvalidInput(refusal.reason, refusal.detail, refusal.pointer)
            return Unreadable(peek(record.value or b""), record.received_at, why)
        except Exception as error:  # any fault of ours: the batch's, unless it is to cost the one record alone
            if not isolate:
                raise
            fault = InvalidInput("internal_error", f"decoding failed: {type(error).__name__}: {error}")
            return Unreadable(peek(b""), record.received_at, fault)

    names = names_of(received, max_future, general, plainly=not isolate)
    named = np.unique(names.account[names.account != NOBODY]).tolist()
    customers = {names.keys[account]: names.customers[account] for account in named}
    more: list[bytes] = []
    documents: list[str] = []
    holds: list[HoldName] = []
    for place, event in names.others.items():
        if event.__class__ is not Event:
            continue
        if event.hold_id is not None or event.claims or event.type in IDENTITIES:
            more.extend(identities_named(event)[1:])
        ends = event.type in ENDING or event.hold_id is not None
        if (ends and (event.type not in ACCOUNT_TYPES or event.type == HOLD_SETTLE)) or event.type == USER_DELETED:
            holds.extend(holds_named(event, names.key(place)))
        if event.type in DOCUMENTS:
            documents.extend(document_key(event.tenant, kind, of) for kind, of in documents_named(event))
    identities = names.identities()
    if more:
        identities = np.concatenate((identities, digests_of(more, IDENTITY_BYTES)))
    return Named(names, customers, identities, documents, holds)


def digests_of(digests: Sequence[bytes], size: int) -> Octets:
    """Digests of `size` bytes, a row each."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, size)


@dataclass(slots=True)
class Place:
    """Where a partition stands between two records: what the next record goes on from."""

    partition: int
    ledger_id: str
    seq: int
    usage_next: int
    account_next: int
    block_seq: int
    block_opened_at: int
    """Microseconds; of no meaning while the block is empty."""
    partitions: int = 1
    """How many there are: where a command to another customer goes."""
    ended_seq: int = 0
    """Where a record of its own last closed a block."""

    @property
    def block_entries(self) -> int:
        """Entries in the open block."""
        return self.seq - self.block_seq


@dataclass(slots=True)
class Decided:
    """One chunk, ready to become fact."""

    packed: PackedRecord
    encoded: bytes
    booked: Octets
    """See Decision."""
    messages: list[Message] = field(default_factory=list)
    strays: int = 0
    """Records that are sent on to their own partition."""

    @property
    def says_more(self) -> bool:
        """Whether it has documents, or ends of holds."""
        columns = self.packed.entries
        return columns is not None and bool(columns.documents or columns.hold_ends)

    @property
    def record(self) -> LedgerRecord:
        """The record with a value of Python for everything in it: for who looks at single entries."""
        return unpacked(self.packed)


Find = Callable[[Octets], Mapping[bytes, bytes]]
"""Of identities and claims, a row each, those that are booked, with their contents."""


def nothing_booked(identities: Octets) -> Mapping[bytes, bytes]:
    """The answer of an index that is empty."""
    return {}


def decide_batch(
    named: Named,
    standing: Standing,
    book: PriceBook,
    position: int,
    place: Place,
    now: Callable[[], int],
    find: Find = nothing_booked,
    fewest: int = FEWEST,
) -> Iterator[Decided | None]:
    """Decides a batch chunk by chunk, moving `place` on. The caller may let others run whenever it hears, also where
    there is nothing yet (None).

    All of a batch becomes fact in one transaction, so an account's values stand in the last of its records that changed
    the account, and are packed once.

    `find` answers for values of unique meters, which are known only when the accounts are. From `fewest` plain events
    of one tariff on they are priced in columns, which makes no difference but in speed."""
    start, names = 0, named.names
    decisions: list[tuple[Decision, int]] = []
    priced = price_plain(names, standing, book, position, fewest)
    plain = Plain(priced, names, standing.accounts) if priced is not None else None
    while start < len(named.received):
        decision = decide(names, start, start + CHUNK_MAX_RECORDS, standing, book, position, plain)
        stop = start + decision.count
        if stop > start:
            decisions.append((decision, start))
            yield None
        start = stop
        if decision.unseen:
            _look_up(named, start, decision.unseen, standing, book, position, find)
    if plain is not None:
        plain.flush()
    last: dict[str, int] = {}
    for number, (decision, _) in enumerate(decisions):
        last.update(dict.fromkeys(decision.touched, number))
    for number, (decision, start) in enumerate(decisions):
        # As they stand now: what a chunk changed, a later one may have put another in the place of.
        decision.touched = {key: standing.accounts[key] for key in decision.touched if last[key] == number}
        yield _form(decision, names, start, position, place, now())


def _look_up(
    named: Named, start: int, unseen: list[bytes], standing: Standing, book: PriceBook, position: int, find: Find
) -> None:
    """Looks up what deciding stopped for, and what the rest of the batch is likely to need."""
    wanted = unseen + values_counted(named.names, start, standing, book, position)
    for identity, content in find(digests_of(wanted, IDENTITY_BYTES)).items():
        standing.booked.setdefault(identity, content)
    standing.looked_up.update(wanted)


def decide_singly(
    named: Named,
    standing: Standing,
    book: PriceBook,
    position: int,
    place: Place,
    now: Callable[[], int],
    find: Find = nothing_booked,
) -> Iterator[Decided]:
    """As `decide_batch`, one record at a time: whoever makes deciding itself fail becomes a dead letter
    `internal_error`.

    For the batch that failed again and again. What a failed decision may have changed, its event's own account and what
    it booked, is put back."""
    for at in range(len(named.received)):
        restore = _snapshot(standing, named.names.key(at))
        try:
            decision = decide(named.names, at, at + 1, standing, book, position)
            while decision.unseen:
                _look_up(named, at, decision.unseen, standing, book, position, find)
                decision = decide(named.names, at, at + 1, standing, book, position)
            decided = _form(decision, named.names, at, position, place, now())
        except Exception as error:  # noqa: BLE001 - the point of it: any fault of ours costs the one record alone
            restore()
            decision = internal_failure(named.names, at, f"deciding failed: {type(error).__name__}: {error}")
            decided = _form(decision, named.names, at, position, place, now())
        yield decided


def block_end(place: Place, position: int, now: int) -> LedgerRecord:
    """The record that closes the open block when traffic stops."""
    record = LedgerRecord(
        LEDGER_FORMAT,
        RecordKind.BLOCK_END,
        place.partition,
        place.seq,
        0,
        place.usage_next,
        place.account_next,
        position,
        now,
        place.block_seq,
        True,
        None,
        {},
        "",
    )
    place.block_seq = place.ended_seq = place.seq
    return record


def block_is_due(place: Place, now: int, *, quiet: bool = False) -> bool:
    """Whether the open block is to be closed; `quiet`: nothing has come for a while."""
    return (quiet and closes_quietly(place)) or _is_due(place.block_entries, place.block_opened_at, now)


def closes_quietly(place: Place) -> bool:
    """Whether the open block need not wait for its age once nothing more comes: see BLOCK_QUIET_ENTRIES."""
    return place.block_entries > 0 and place.seq - place.ended_seq >= BLOCK_QUIET_ENTRIES


def _is_due(entries: int, opened_at: int, now: int) -> bool:
    return entries >= BLOCK_MAX_ENTRIES or (entries > 0 and now - opened_at >= BLOCK_MAX_AGE_MICROSECONDS)


def _form(decision: Decision, names: Names, start: int, position: int, place: Place, now: int) -> Decided:
    """The record of a decision on the batch's records from `start` on; `place` moves on only when that is made.
    OverflowError if it is too large."""
    first_seq, next_seq = place.seq, place.seq + decision.count
    opened_at = place.block_opened_at if place.block_entries else now
    columns_in = names.received.columns[:, start : start + decision.count]
    usage_next = _behind(columns_in, USAGE, place.usage_next)
    account_next = _behind(columns_in, ACCOUNT, place.account_next)
    closes = _is_due(next_seq - place.block_seq, opened_at, now)
    columns = decision.columns
    assert columns is not None
    _place_operations(columns.documents, place.partition, first_seq)
    record = PackedRecord(
        LEDGER_FORMAT,
        RecordKind.ENTRIES,
        place.partition,
        first_seq,
        decision.count,
        usage_next,
        account_next,
        position,
        now,
        place.block_seq,
        closes,
        columns,
        {key: pack_account(account) for key, account in decision.touched.items()},
        "",
    )
    try:
        encoded = encode_packed(record)
    except InvariantBroken as error:
        # Not for the process to end on: one record too large is one dead letter (see decide_singly).
        raise OverflowError(str(error)) from error
    place.seq, place.usage_next, place.account_next = next_seq, usage_next, account_next
    place.block_opened_at = opened_at
    if closes:
        place.block_seq = next_seq
    return Decided(
        record,
        encoded,
        decision.booked,
        messages_of(decision, names, start, place.partition, place.partitions, first_seq),
        len(decision.reroutes),
    )


def _behind(received: Numbers, topic: int, stands: int) -> int:
    """The offset behind the last record of an input; where there is none, as it stands."""
    of_topic = np.flatnonzero(received[INPUT] == topic)
    return int(received[OFFSET, of_topic[-1]]) + 1 if len(of_topic) else stands


def _place_operations(documents: dict[int, list[tuple[str, str, bytes]]], partition: int, first_seq: int) -> None:
    """Outcomes of commands name the ledger entry that booked them, whose seq only this place knows."""
    for index, written in documents.items():
        if any(kind == OPERATION for kind, _, _ in written):
            entry = f"{partition}-{first_seq + index}"
            documents[index] = [
                (kind, name, encode_body(decode_body(body) | {"entry": entry}) if kind == OPERATION else body)
                for kind, name, body in written
            ]


def _snapshot(standing: Standing, key: str) -> Callable[[], None]:
    """Remembers what a record may change; the answer puts it back."""
    account = standing.accounts.get(key)
    packed = pack_account(account) if account is not None else None
    booked = dict(standing.booked)
    documents = dict(standing.documents)

    def restore() -> None:
        standing.booked = booked
        standing.documents = documents
        if packed is None:
            standing.accounts.pop(key, None)
        else:
            standing.accounts[key] = unpack_account(packed)

    return restore


def unpack_accounts(keys: Sequence[str], values: Sequence[bytes | None]) -> dict[str, Account]:
    """The accounts that a store gave; customers it does not know are left out."""
    return {key: unpack_account(value) for key, value in zip(keys, values, strict=True) if value is not None}


def received_from(records: Sequence[Any], input_topic: int) -> Records:
    """Kafka's records (timestamps in milliseconds), as the decision takes them."""
    return Records.of(
        [Received(input_topic, record.offset, record.timestamp * 1000, record.key, record.value) for record in records]
    )


def elsewhere(customers: Mapping[str, str], partition: int, home_of: Callable[[str], int]) -> dict[str, int]:
    """Which of the customers live in another partition, and where."""
    homes = {key: home_of(customer) for key, customer in customers.items()}
    return {key: home for key, home in homes.items() if home != partition}
