"""The decision: records of one partition, what stands, and a catalogue version in; ledger entries and new values out.

Pure and deterministic: no clock (times come with the records), no I/O, no float, no unordered iteration in an amount.
The order of steps for a record is the same for all: can it be read; does its customer live here; is its identity
booked; is what it claims booked; then what its type does. The accounts handed in are owned by the decision and
changed in place; if deciding raises, the caller drops them all and reads them again.

Entry i of a decision is record i of its chunk: names and times are copied in columns, once, at the end; only outcomes,
charges and postings are decided one by one. This is the hot path of the whole system, and it is written for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from rating.book import PriceBook
from rating.claims import CLAIMING, Claim, claims
from rating.effects import EFFECTS, Posting, expired, invoice_payment_identity, payment_identity
from rating.tariff import Tariff, Tariffs
from rating.wallet import Burnt, burn_first, charge, check_balance, check_debt, check_room, settle_currency
from schemas.account import Account, counter_key, new_account, pack_account
from schemas.errors import InvalidInput
from schemas.event import ACCOUNT_TYPES, Event, Peek
from schemas.ledger import BELOW_ZERO, FINGERPRINT_BYTES, HOLD_NOT_OPEN, LATE, Entries, PostingKind, Rate
from schemas.limits import AMOUNT_MAX_NANOS, DETAIL_MAX_CHARACTERS, ID_MAX_CHARACTERS, LEDGER_CHUNK_MAX_BYTES
from schemas.money import decimal_text, pack_int
from schemas.outcome import Outcome, books_identity
from schemas.period import Period, month_of, month_start

CHARGEABLE = frozenset({"session.tokens_used", "device.released", "usage.reported"})
"""Types that are a dead letter when nothing measures them: not to charge them is to lose money."""

UNCHARGED = frozenset({"session.ended"})
"""Built-in types that need no meter."""

UNSUPPORTED = frozenset({"device.heartbeat", "usage.corrected"})
"""Built-in types that this version does not yet decide: kept as dead letters, to be retried."""

_MODEST = AMOUNT_MAX_NANOS // 4
_WIRE_INT = _PLAIN_QUANTITY = 2**63
_CHARGE = int(PostingKind.CHARGE)

# Bytes in an encoded record, from above. The names of an entry weigh no more than in the event they were read from, but
# for the customer's, which may stand there once and in the entry twice.
_UTF8 = 4
_ENTRY_BYTES = 200
_CHARGE_BYTES = 24
_WIDE_BYTES = 40
_POSTING_BYTES = 100
_COUNTER_BYTES = 80
_GRANT_BYTES = 64


class Received(msgspec.Struct, frozen=True, gc=False):
    """One record of an input topic."""

    input: int
    """schemas.ledger.USAGE or ACCOUNT."""
    offset: int
    received_at: int
    key: bytes | None
    value: bytes | None


class Unreadable:
    """A record that is no event, with as much of its names as can be read; in columns it stands like an event."""

    __slots__ = ("customer", "id", "occurred_at", "refusal", "source", "tenant", "type")
    user_id = session_id = device_id = allocation_id = hold_id = None

    def __init__(self, seen: Peek, received_at: int, refusal: InvalidInput) -> None:
        self.tenant = seen.tenant[:ID_MAX_CHARACTERS]
        self.customer = seen.customer[:ID_MAX_CHARACTERS]
        self.source = seen.source[:ID_MAX_CHARACTERS]
        self.id = seen.id[:ID_MAX_CHARACTERS]
        self.type = seen.type[:ID_MAX_CHARACTERS]
        self.occurred_at = received_at
        self.refusal = refusal


Judged = Event | Unreadable
"""What decoding made of a record."""


class DeadLetter(NamedTuple):
    """A record that goes to the dead letter topic, by its place in the chunk."""

    place: int
    reason: str
    detail: str


@dataclass(slots=True)
class Standing:
    """What stands when a chunk is decided; the decision writes on in it."""

    accounts: dict[str, Account]
    """By account key: every account that the chunk's events name and that there is."""
    booked: dict[bytes, bytes]
    """Identity to content: of the identities and claims the chunk's events name, those that are booked."""
    elsewhere: Mapping[str, int]
    """By account key: the partition of customers that do not live here."""


@dataclass(slots=True)
class Decision:
    """What becomes of a chunk."""

    entries: Entries
    touched: dict[str, Account] = field(default_factory=dict)
    """By account key: the accounts whose values changed."""
    identities: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    """Of all that is newly booked, in order."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    reroutes: list[tuple[int, int]] = field(default_factory=list)
    """Index in the chunk and the partition it is sent on to."""


def identities_named(event: Event) -> list[bytes]:
    """All that must be looked up before an event can be decided."""
    named = [event.identity]
    if event.type in CLAIMING:
        named.extend(claim.identity for claim in claims(event))
    if event.type == "payment.refunded":
        named += [payment_identity(event), invoice_payment_identity(event)]
    return named


def decide(
    received: Sequence[Received],
    judged: Sequence[Judged],
    keys: Sequence[str],
    standing: Standing,
    book: PriceBook,
    position: int,
) -> Decision:
    """Decides a chunk in its order under the catalogues of `position`: as many records as fit a ledger record, at least
    one; `len(decision.entries.offset)` says how many.

    `judged[i]` and the account key `keys[i]` (of no meaning for an Unreadable) belong to `received[i]`.
    """
    chunk = _Chunk(len(received), standing, book, position)
    for index, event in enumerate(judged):
        if not chunk.has_room(index, received[index], keys[index]):
            return chunk.finish(received[:index], judged[:index])
        if isinstance(event, Unreadable):
            chunk.dead_letter(index, event.refusal)
            continue
        try:
            chunk.one(index, received[index], event, keys[index])
        except InvalidInput as refusal:
            chunk.dead_letter(index, refusal)
    return chunk.finish(received, judged)


def internal_failure(received: Received, judged: Judged, detail: str) -> Decision:
    """The entry of a record that our own code cannot decide: a dead letter that may be retried after a fix."""
    chunk = _Chunk(1, Standing({}, {}, {}), PriceBook(), 0)
    chunk.dead_letter(0, InvalidInput("internal_error", detail))
    return chunk.finish([received], [judged])


def _rate_bytes(rate: Rate) -> int:
    names = len(rate.meter) + len(rate.price_id) + len(rate.unit_amount)
    return 40 + _UTF8 * (names + sum(len(name) + len(text) + 2 for name, text in rate.dimensions))


def _burnt_bytes(burnt: Burnt) -> int:
    if len(burnt) == 1:  # nearly always, and a generator costs more than all the rest
        return 22 + _UTF8 * len(burnt[0][0])
    return 8 + sum(14 + _UTF8 * len(credit_id) for credit_id, _ in burnt) if burnt else 0


def _account_bytes(account: Account | None, key: str) -> int:
    """An account's values after and their key, but for what the event itself adds to them."""
    if account is None:
        return 64 + 2 * _UTF8 * len(key)
    grants = account.grants
    if not account.counters and (not grants or (len(grants) == 1 and not grants[0].scope)):
        credit = _GRANT_BYTES + _UTF8 * len(grants[0].credit_id) if grants else 0
        return 64 + _UTF8 * (2 * len(key) + len(account.plan)) + credit
    return 16 + _UTF8 * len(key) + len(pack_account(account))


class _Chunk:
    """One run of `decide`: columns that grow, and what the events of the chunk have in common."""

    def __init__(self, count: int, standing: Standing, book: PriceBook, position: int) -> None:
        self.entries = Entries()
        self.decision = Decision(self.entries)
        self.accounts = standing.accounts
        self.booked = standing.booked
        self.elsewhere = standing.elsewhere
        self.book = book
        self.position = position
        self.entries.outcome = [int(Outcome.RATED)] * count
        self.entries.fingerprints = [b""] * count
        self.entries.charges = [0] * count
        self.entries.postings = [0] * count
        self.tariffs: dict[str, Tariffs | None] = {}
        self.charged = 0
        """Charges in the columns that stand; what a refused event left beyond is cut off."""
        self.month = Period(0, 0)
        self.weight = 0
        """Bytes of the record from above, but for its charges."""
        self.weighed_rates = 0

    def has_room(self, index: int, record: Received, key: str) -> bool:
        """Whether the record's entry still fits; the first one always does."""
        rates = self.entries.rates
        if len(rates) > self.weighed_rates:
            self.weight += sum(map(_rate_bytes, rates[self.weighed_rates :]))
            self.weighed_rates = len(rates)
        weight = self.weight + _ENTRY_BYTES + _UTF8 * len(key)
        if record.value is not None:
            weight += len(record.value)
        if key not in self.decision.touched:
            weight += _account_bytes(self.accounts.get(key), key)
        if index and weight + _CHARGE_BYTES * self.charged > LEDGER_CHUNK_MAX_BYTES:
            return False
        self.weight = weight
        return True

    def one(self, index: int, record: Received, event: Event, key: str) -> None:
        """Decides one event. Raises InvalidInput, before anything is changed, for what becomes a dead letter."""
        if key in self.elsewhere:
            self.ignore(index, "rerouted")
            self.decision.reroutes.append((index, self.elsewhere[key]))
            return
        stands = self.booked.get(event.identity)
        if stands is not None:
            if stands != event.content:
                raise InvalidInput(
                    "conflict", f"id {event.id!r} of source {event.source!r} is booked with other content", "/id"
                )
            self.entries.outcome[index] = Outcome.DUPLICATE
            self.entries.reason[index] = "same_identity"
            return
        made: tuple[Claim, ...] = ()
        if event.type in CLAIMING:
            made = claims(event)
            for claim in made:
                told = self.booked.get(claim.identity)
                if told is not None:
                    self._told_before(index, event, claim, told)
                    return
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = new_account(event.tenant, event.customer)
        if event.type not in ACCOUNT_TYPES:
            if event.zero:
                self.ignore(index, "zero")
            elif (tariff := self._tariff(event, account)) is None:
                self._unmeasured(index, event)
            else:
                if account.grants:
                    self._expire(index, key, account, record.received_at)
                self._usage(index, record, event, account, tariff)
                self.decision.touched[key] = account
        elif (effect := EFFECTS.get(event.type)) is not None:
            self._expire(index, key, account, record.received_at)
            for posting in effect(account, event, self.booked):
                self.post(index, posting, account.currency)
            self.decision.touched[key] = account
        else:
            self.ignore(index, "no_effect")
        self._book(index, event, made)

    def dead_letter(self, index: int, refusal: InvalidInput) -> None:
        """Remembers that the original goes to the dead letter topic; charges it was about to have are undone."""
        entries = self.entries
        if len(entries.charge_rate) > self.charged:
            for column in (entries.charge_rate, entries.charge_quantity, entries.charge_amount):
                del column[self.charged :]
            for at in [at for at in entries.charge_before if at >= self.charged]:
                del entries.charge_before[at]
        self.entries.outcome[index] = Outcome.DEAD_LETTER
        self.entries.reason[index] = refusal.reason
        self.decision.dead_letters.append(DeadLetter(index, refusal.reason, refusal.detail[:DETAIL_MAX_CHARACTERS]))

    def ignore(self, index: int, reason: str) -> None:
        """An outcome without effect."""
        self.entries.outcome[index] = Outcome.IGNORED
        self.entries.reason[index] = reason

    def post(self, index: int, posting: Posting, currency: str) -> None:
        """One wallet posting of an entry."""
        entries = self.entries
        at = len(entries.posting_kind)
        self.weight += _POSTING_BYTES + _UTF8 * len(posting.cause) + _burnt_bytes(posting.burnt)
        if posting.cause:
            entries.posting_cause[at] = posting.cause
        if posting.burnt:
            entries.burnt[at] = posting.burnt
        entries.posting_kind.append(posting.kind)
        entries.posting_amount.append(posting.amount)
        entries.posting_balance.append(posting.balance)
        entries.posting_currency.append(currency)
        entries.postings[index] += 1

    def finish(self, received: Sequence[Received], judged: Sequence[Judged]) -> Decision:
        """Copies what is the same for every outcome."""
        entries = self.entries
        count = len(received)
        for column in (entries.outcome, entries.fingerprints, entries.charges, entries.postings):
            del column[count:]
        entries.input = [record.input for record in received]
        entries.offset = [record.offset for record in received]
        entries.received_at = [record.received_at for record in received]
        entries.tenant = [event.tenant for event in judged]
        entries.customer = [event.customer for event in judged]
        entries.source = [event.source for event in judged]
        entries.event_id = [event.id for event in judged]
        entries.event_type = [event.type for event in judged]
        entries.occurred_at = [event.occurred_at for event in judged]
        entries.user_id = [event.user_id or "" for event in judged]
        entries.session_id = [event.session_id or "" for event in judged]
        entries.device_id = {i: event.device_id for i, event in enumerate(judged) if event.device_id is not None}
        entries.allocation_id = {
            i: event.allocation_id for i, event in enumerate(judged) if event.allocation_id is not None
        }
        entries.hold_id = {i: event.hold_id for i, event in enumerate(judged) if event.hold_id is not None}
        return self.decision

    def _told_before(self, index: int, event: Event, claim: Claim, told: bytes) -> None:
        if claim.kind != "allocation":
            self.ignore(index, "no_effect")
            self._book(index, event, ())
            return
        if told != claim.content:
            raise InvalidInput(
                "conflict",
                f"allocation {event.allocation_id!r} is released already, with other times",
                "/data/allocation_id",
            )
        self.entries.outcome[index] = Outcome.DUPLICATE
        self.entries.reason[index] = "same_allocation"

    def _book(self, index: int, event: Event, made: Sequence[Claim]) -> None:
        """Makes the event's identity and claims known, for the rest of the chunk and for ever."""
        entries = self.entries
        if index in entries.reason and not books_identity(entries.outcome[index], entries.reason[index]):
            return
        identity, content = event.identity, event.content
        self.booked[identity] = content
        self.decision.identities.append(identity)
        self.decision.contents.append(content)
        fingerprint = identity + content
        for claim in made:
            self.booked[claim.identity] = claim.content
            self.decision.identities.append(claim.identity)
            self.decision.contents.append(claim.content)
            fingerprint += claim.identity + claim.content
            self.weight += FINGERPRINT_BYTES
        entries.fingerprints[index] = fingerprint

    def _tariff(self, event: Event, account: Account) -> Tariff | None:
        """What measures and prices the event; None if nothing measures it."""
        tenant = event.tenant
        try:
            tariffs = self.tariffs[tenant]
        except KeyError:
            catalogue = self.book.catalogue(tenant, self.position)
            tariffs = self.tariffs[tenant] = Tariffs(catalogue, self.entries.rates) if catalogue is not None else None
        return tariffs.of(event, account.plan) if tariffs is not None else None

    def _expire(self, index: int, key: str, account: Account, now: int) -> None:
        """Books what expired by now. That stands whatever becomes of the event."""
        for posting in expired(account, now):
            self.post(index, posting, account.currency)
            self.decision.touched[key] = account

    def _usage(self, index: int, record: Received, event: Event, account: Account, tariff: Tariff) -> None:
        entries = self.entries
        rates, quantities, amounts = entries.charge_rate, entries.charge_quantity, entries.charge_amount
        occurred_at = event.occurred_at
        total = 0
        first = self.charged
        counted: list[tuple[str, int]] | None = None
        for line in tariff.lines:
            quantity = line.measure(event)
            if not line.start <= occurred_at < line.end:
                line.move(occurred_at)
            price = line.price
            if price is not None and line.denominator and 0 <= quantity < _PLAIN_QUANTITY:
                # What PerEventPrice.charge does, written out, for it is nearly every charge.
                if not quantity:
                    continue
                amount, rest = divmod(quantity * line.numerator, line.denominator)
                if rest and (2 * rest > line.denominator or (2 * rest == line.denominator and amount & 1)):
                    amount += 1
                if amount > AMOUNT_MAX_NANOS:
                    amount = price.charge(quantity)  # which refuses it
            elif price is None:
                if not quantity:
                    continue
                if line.priced:
                    raise line.no_price()
                amount = 0
            elif price.cumulative:
                counter = counter_key(price.id, month_start(occurred_at))
                before = account.counted(counter)
                after = quantity if before is None else before + quantity
                self.weight += _COUNTER_BYTES
                if before is None:
                    check_room(account, counter)
                    self.weight += _UTF8 * len(counter)
                amount = price.charge_after(before, after)
                if counted is None:
                    counted = []
                counted.append((counter, after))
                if before:
                    entries.charge_before[len(rates)] = pack_int(before)
            else:
                amount = price.charge(quantity)
                if not quantity and not amount:
                    continue
            rates.append(line.rate)
            quantities.append(quantity if -_WIRE_INT <= quantity < _WIRE_INT else self._wide(quantity))
            amounts.append(amount)
            total += amount
        found = account.balance
        if not (-AMOUNT_MAX_NANOS <= total <= AMOUNT_MAX_NANOS >= found - total >= -AMOUNT_MAX_NANOS):
            check_balance(-total)
            check_balance(found - total)
        grants = account.grants
        if grants and (len(grants) > 1 or total > _MODEST or grants[0].remaining > _MODEST or found < -_MODEST):
            check_debt(account, total)  # three modest numbers do not add up to what it refuses
        if account.currency != tariff.currency:
            settle_currency(account, tariff.currency)
        # From here on nothing raises.
        if total:
            if grants:
                burnt = burn_first(account, total)
                if burnt is None:
                    meters = [entries.rates[rate].meter for rate in rates[first:]]
                    burnt = charge(account, total, list(zip(meters, amounts[first:], strict=True)))
                if burnt:
                    entries.burnt[len(entries.posting_kind)] = burnt
                    self.weight += _burnt_bytes(burnt)
            else:
                account.balance = found - total
            entries.posting_kind.append(_CHARGE)
            entries.posting_amount.append(-total)
            entries.posting_balance.append(account.balance)
            entries.posting_currency.append(tariff.currency)
            entries.postings[index] += 1
        if counted:
            for counter, after in counted:
                account.count(counter, after)
        self.charged = len(rates)
        entries.charges[index] = self.charged - first
        self._flag(index, record, event, total > 0 and (account.balance < 0 or found < 0))

    def _wide(self, quantity: int) -> int | str:
        self.weight += _WIDE_BYTES
        return pack_int(quantity)

    def _flag(self, index: int, record: Received, event: Event, below_zero: bool) -> None:
        """What is worth a second look, and the upstream cost that is kept and never charged."""
        received_at = record.received_at
        if not self.month.start <= received_at < self.month.end:
            self.month = month_of(received_at)
        flags = 0
        if event.occurred_at < self.month.start:
            flags = LATE
        if below_zero:
            flags |= BELOW_ZERO
        if event.hold_id is not None:
            flags |= HOLD_NOT_OPEN
        if flags:
            self.entries.flags[index] = flags
        upstream = event.data.get("cost_usd")
        if upstream is not None:
            self.entries.upstream_cost[index] = decimal_text(upstream)

    def _unmeasured(self, index: int, event: Event) -> None:
        tariffs = self.tariffs[event.tenant]
        if event.type in CHARGEABLE:
            raise InvalidInput("no_meter", f"no meter of the catalogue measures {event.type} events", "/type")
        if event.type in UNSUPPORTED:
            raise InvalidInput("unsupported", f"{event.type} events are not decided by this version", "/type")
        if event.type == "device.allocated":
            return
        if event.type not in UNCHARGED and (tariffs is None or not tariffs.catalogue.knows_type(event.type)):
            raise InvalidInput("unknown_type", f"no meter names the type {event.type!r}, nor is it built in", "/type")
        self.ignore(index, "no_meter")
