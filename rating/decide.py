"""The decision: records of one partition, what stands, and a catalogue version in; ledger entries and new values out.

Pure and deterministic: no clock (times come with the records), no I/O, no float, no unordered iteration in an amount.
The order of steps for a record is the same for all: can it be read; does its customer live here; is its identity booked;
is what it claims booked; then what its type does. The accounts handed in are owned by the decision and changed in place;
if deciding raises, the caller drops them all and reads them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rating.book import CompiledCatalogue, Price, PriceBook
from rating.claims import Claim, claim_identity, claims
from rating.wallet import Burnt, charge, check_balance, credit, expire, settle_currency, take_back
from schemas.account import PAID, PROMOTIONAL, Account, Grant, account_key, counter_key, new_account
from schemas.errors import InvalidInput
from schemas.event import ACCOUNT_TYPES, Event, peek
from schemas.ledger import BELOW_ZERO, HOLD_NOT_OPEN, LATE, Entries, PostingKind, Rate
from schemas.limits import DETAIL_MAX_CHARACTERS, ID_MAX_CHARACTERS
from schemas.money import decimal_text, pack_int
from schemas.outcome import Outcome, books_identity
from schemas.period import month_start

CHARGEABLE = frozenset({"session.tokens_used", "device.released", "usage.reported"})
"""Types that are a dead letter when nothing measures them: not to charge them is to lose money."""

UNCHARGED = frozenset({"session.ended", "device.allocated"})
"""Built-in types that carry no charge of their own."""

UNSUPPORTED = frozenset({"device.heartbeat", "usage.corrected"})
"""Built-in types that this version does not yet decide: kept as dead letters, to be retried."""


class Received(NamedTuple):
    """One record of an input topic."""

    input: int
    """schemas.ledger.USAGE or ACCOUNT."""
    offset: int
    received_at: int
    key: bytes | None
    value: bytes | None


Judged = Event | InvalidInput
"""What decoding made of a record."""


class DeadLetter(NamedTuple):
    """A record that goes to the dead letter topic, by its place in the chunk."""

    index: int
    reason: str
    detail: str


@dataclass(slots=True)
class Standing:
    """What stands when a chunk is decided; the decision writes on in it."""

    partition: int
    accounts: dict[str, Account]
    """By account key: at least every account the chunk's events name."""
    booked: dict[bytes, bytes]
    """Identity to content: of the identities and claims the chunk's events name, those that are booked."""
    elsewhere: Mapping[str, int]
    """By account key: the partition of customers that do not live here."""


@dataclass(slots=True)
class Decision:
    """What becomes of a chunk."""

    entries: Entries
    touched: dict[str, Account]
    """By account key: the accounts whose values changed."""
    claimed: list[tuple[bytes, bytes]]
    """Identity and content of all that is newly booked."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    reroutes: list[tuple[int, int]] = field(default_factory=list)
    """Index in the chunk and the partition it is sent on to."""


class Posting(NamedTuple):
    """One movement of a wallet."""

    kind: PostingKind
    amount: int
    balance: int
    cause: str
    burnt: Burnt


class ChargeLine(NamedTuple):
    """One charge before it is booked."""

    meter: str
    price: Price | None
    dimensions: tuple[tuple[str, str], ...]
    quantity: int
    amount: int
    counter: str
    before: int


def identities_named(event: Event) -> list[bytes]:
    """All that must be looked up before an event can be decided."""
    named = [event.identity]
    named.extend(claim.identity for claim in claims(event))
    if event.type == "payment.refunded":
        named.append(_payment_identity(event))
    return named


def decide(
    received: Sequence[Received], judged: Sequence[Judged], standing: Standing, book: PriceBook, position: int
) -> Decision:
    """Decides a chunk in its order under the catalogues of `position`; `judged[i]` belongs to `received[i]`."""
    return _Chunk(standing, book, position).run(received, judged)


def internal_failure(received: Received, detail: str) -> Decision:
    """The entry of a record that our own code cannot decide: a dead letter that may be retried after a fix."""
    decision = Decision(Entries(), {}, [])
    _Writer(decision).unreadable(0, received, InvalidInput("internal_error", detail))
    return decision


class _Writer:
    """Appends entries to the columns."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.entries = decision.entries
        self._rates: dict[tuple[object, ...], int] = {}

    def entry(
        self, received: Received, event: Event, outcome: Outcome, reason: str, claimed: Sequence[Claim] = ()
    ) -> int:
        """One entry without charges and postings yet; its index."""
        entries = self.entries
        index = len(entries.offset)
        entries.input.append(received.input)
        entries.offset.append(received.offset)
        entries.outcome.append(outcome)
        entries.tenant.append(event.tenant)
        entries.customer.append(event.customer)
        entries.source.append(event.source)
        entries.event_id.append(event.id)
        entries.event_type.append(event.type)
        entries.occurred_at.append(event.occurred_at)
        entries.received_at.append(received.received_at)
        entries.user_id.append(event.user_id or "")
        entries.session_id.append(event.session_id or "")
        entries.charges.append(0)
        entries.postings.append(0)
        if reason:
            entries.reason[index] = reason
        if event.device_id is not None:
            entries.device_id[index] = event.device_id
        if event.allocation_id is not None:
            entries.allocation_id[index] = event.allocation_id
        if event.hold_id is not None:
            entries.hold_id[index] = event.hold_id
        if books_identity(outcome, reason):
            fingerprint = event.identity + event.content
            self.decision.claimed.append((event.identity, event.content))
            for claim in claimed:
                fingerprint += claim.identity + claim.content
                self.decision.claimed.append((claim.identity, claim.content))
            entries.fingerprints.append(fingerprint)
        else:
            entries.fingerprints.append(b"")
        return index

    def unreadable(self, place: int, received: Received, refusal: InvalidInput) -> None:
        """The entry of a record that is no event, with as much of its names as can be read."""
        seen = peek(received.value or b"")
        entries = self.entries
        entries.reason[len(entries.offset)] = refusal.reason
        entries.input.append(received.input)
        entries.offset.append(received.offset)
        entries.outcome.append(Outcome.DEAD_LETTER)
        entries.tenant.append(seen.tenant[:ID_MAX_CHARACTERS])
        entries.customer.append(seen.customer[:ID_MAX_CHARACTERS])
        entries.source.append(seen.source[:ID_MAX_CHARACTERS])
        entries.event_id.append(seen.id[:ID_MAX_CHARACTERS])
        entries.event_type.append(seen.type[:ID_MAX_CHARACTERS])
        entries.fingerprints.append(b"")
        entries.occurred_at.append(received.received_at)
        entries.received_at.append(received.received_at)
        entries.user_id.append("")
        entries.session_id.append("")
        entries.charges.append(0)
        entries.postings.append(0)
        self.dead_letter(place, refusal)

    def dead_letter(self, place: int, refusal: InvalidInput) -> None:
        """Remembers that the original goes to the dead letter topic."""
        self.decision.dead_letters.append(DeadLetter(place, refusal.reason, refusal.detail[:DETAIL_MAX_CHARACTERS]))

    def charge(self, index: int, line: ChargeLine, catalogue: CompiledCatalogue) -> None:
        """One charge of the entry written last."""
        entries = self.entries
        price = line.price
        key = (catalogue.version, line.meter, price.id if price else "", line.dimensions)
        rate = self._rates.get(key)
        if rate is None:
            rate = self._rates[key] = len(entries.rates)
            entries.rates.append(
                Rate(
                    line.meter,
                    price.id if price else "",
                    catalogue.version,
                    (price.unit_amount_text or "") if price else "",
                    catalogue.currency,
                    line.dimensions,
                )
            )
        if line.before:
            entries.charge_before[len(entries.charge_rate)] = pack_int(line.before)
        entries.charge_rate.append(rate)
        entries.charge_quantity.append(pack_int(line.quantity))
        entries.charge_amount.append(line.amount)
        entries.charges[index] += 1

    def posting(self, index: int, posting: Posting, currency: str) -> None:
        """One wallet posting of the entry written last."""
        entries = self.entries
        at = len(entries.posting_kind)
        if posting.cause:
            entries.posting_cause[at] = posting.cause
        if posting.burnt:
            entries.burnt[at] = posting.burnt
        entries.posting_kind.append(posting.kind)
        entries.posting_amount.append(posting.amount)
        entries.posting_balance.append(posting.balance)
        entries.posting_currency.append(currency)
        entries.postings[index] += 1


class _Chunk:
    """One run of `decide`."""

    def __init__(self, standing: Standing, book: PriceBook, position: int) -> None:
        self.standing = standing
        self.book = book
        self.position = position
        self.decision = Decision(Entries(), {}, [])
        self.writer = _Writer(self.decision)
        self.catalogues: dict[str, CompiledCatalogue | None] = {}

    def run(self, received: Sequence[Received], judged: Sequence[Judged]) -> Decision:
        booked = self.standing.booked
        writer = self.writer
        claimed = self.decision.claimed
        seen = len(claimed)
        for place, (record, event) in enumerate(zip(received, judged, strict=True)):
            if isinstance(event, InvalidInput):
                writer.unreadable(place, record, event)
                continue
            try:
                self.one(place, record, event)
            except InvalidInput as refusal:
                writer.entry(record, event, Outcome.DEAD_LETTER, refusal.reason)
                writer.dead_letter(place, refusal)
            while seen < len(claimed):
                identity, content = claimed[seen]
                booked[identity] = content
                seen += 1
        return self.decision

    def one(self, place: int, record: Received, event: Event) -> None:
        """Decides one event. Raises InvalidInput, before anything is changed, for what becomes a dead letter."""
        key = account_key(event.tenant, event.customer)
        home = self.standing.elsewhere.get(key)
        if home is not None:
            self.writer.entry(record, event, Outcome.IGNORED, "rerouted")
            self.decision.reroutes.append((place, home))
            return
        stands = self.standing.booked.get(event.identity)
        if stands is not None:
            if stands != event.content:
                raise InvalidInput(
                    "conflict", f"id {event.id!r} of source {event.source!r} is booked with other content", "/id"
                )
            self.writer.entry(record, event, Outcome.DUPLICATE, "same_identity")
            return
        made = claims(event)
        for claim in made:
            told = self.standing.booked.get(claim.identity)
            if told is not None:
                self._told_before(record, event, claim, told)
                return
        account = self.standing.accounts.get(key)
        if account is None:
            account = self.standing.accounts[key] = new_account(event.tenant, event.customer)
        if event.type in ACCOUNT_TYPES:
            effect = _EFFECTS.get(event.type)
            if effect is None:
                self.writer.entry(record, event, Outcome.IGNORED, "no_effect")
                return
            postings = effect(self, account, event, record)
            index = self.writer.entry(record, event, Outcome.RATED, "", made)
            currency = account.currency
            for posting in postings:
                self.writer.posting(index, posting, currency)
            self.decision.touched[key] = account
            return
        self._usage(key, account, record, event, made)

    def _told_before(self, record: Received, event: Event, claim: Claim, told: bytes) -> None:
        if claim.kind == "allocation":
            if told != claim.content:
                raise InvalidInput(
                    "conflict",
                    f"allocation {event.allocation_id!r} is released already, with other times",
                    "/data/allocation_id",
                )
            self.writer.entry(record, event, Outcome.DUPLICATE, "same_allocation")
        else:
            self.writer.entry(record, event, Outcome.IGNORED, "no_effect")

    def _usage(
        self, key: str, account: Account, record: Received, event: Event, made: Sequence[Claim]
    ) -> None:
        if event.zero:
            self.writer.entry(record, event, Outcome.IGNORED, "zero", made)
            return
        catalogue = self._catalogue(event.tenant)
        meters = catalogue.meters_of(event.type, event.data) if catalogue is not None else ()
        if not meters or catalogue is None:
            self._unmeasured(record, event, made, catalogue)
            return
        lines: list[ChargeLine] = []
        total = 0
        occurred_at = event.occurred_at
        for meter in meters:
            quantity = meter.measure(event)
            dimensions = meter.dimensions(event)
            if not meter.priced:
                if quantity:
                    lines.append(ChargeLine(meter.id, None, dimensions, quantity, 0, "", 0))
                continue
            price = catalogue.price(meter.id, dimensions, occurred_at, account.plan or None)
            if price is None:
                if quantity:
                    named = ", ".join(f"{name}={value!r}" for name, value in dimensions) or "no dimensions"
                    raise InvalidInput("no_price", f"no price of meter {meter.id!r} matches {named} at its time")
                continue
            if price.cumulative:
                counter = counter_key(price.id, month_start(occurred_at))
                before = self._counted(account, lines, counter)
                amount = price.charge_after(before, before + quantity)
            else:
                counter, before = "", 0
                amount = price.charge(quantity)
            if quantity or amount:
                lines.append(ChargeLine(meter.id, price, dimensions, quantity, amount, counter, before))
                total += amount
        # From here on nothing may raise once the account is touched, so every check stands before the first change.
        if lines:
            check_balance(account.balance - total)
            settle_currency(account, catalogue.currency)
        expired = self._expired(account, record.received_at)
        found = account.balance
        burnt = charge(account, total, [(line.meter, line.amount) for line in lines]) if total else []
        writer = self.writer
        index = writer.entry(record, event, Outcome.RATED, "", made)
        for line in lines:
            writer.charge(index, line, catalogue)
            if line.counter:
                account.count(line.counter, line.before + line.quantity)
        for posting in expired:
            writer.posting(index, posting, account.currency)
        if total:
            writer.posting(index, Posting(PostingKind.CHARGE, -total, account.balance, "", burnt), account.currency)
        flags = 0
        if month_start(record.received_at) > month_start(occurred_at):
            flags |= LATE
        if total > 0 and (account.balance < 0 or found < 0):
            flags |= BELOW_ZERO
        if event.hold_id is not None:
            flags |= HOLD_NOT_OPEN
        if flags:
            writer.entries.flags[index] = flags
        upstream = event.data.get("cost_usd")
        if upstream is not None:
            writer.entries.upstream_cost[index] = decimal_text(upstream)
        self.decision.touched[key] = account

    def _unmeasured(
        self, record: Received, event: Event, made: Sequence[Claim], catalogue: CompiledCatalogue | None
    ) -> None:
        if event.type in CHARGEABLE:
            raise InvalidInput("no_meter", f"no meter of the catalogue measures {event.type} events", "/type")
        if event.type == "device.allocated":
            self.writer.entry(record, event, Outcome.RATED, "", made)
        elif event.type in UNCHARGED or (catalogue is not None and catalogue.knows_type(event.type)):
            self.writer.entry(record, event, Outcome.IGNORED, "no_meter", made)
        elif event.type in UNSUPPORTED:
            raise InvalidInput("unsupported", f"{event.type} events are not decided by this version", "/type")
        else:
            raise InvalidInput("unknown_type", f"no meter names the type {event.type!r}, nor is it built in", "/type")

    def _catalogue(self, tenant: str) -> CompiledCatalogue | None:
        try:
            return self.catalogues[tenant]
        except KeyError:
            found = self.catalogues[tenant] = self.book.catalogue(tenant, self.position)
            return found

    @staticmethod
    def _counted(account: Account, lines: list[ChargeLine], counter: str) -> int:
        """The quantity so far, with what earlier charges of the same event add to the same price."""
        for line in reversed(lines):
            if line.counter == counter:
                return line.before + line.quantity
        return account.counted(counter)

    @staticmethod
    def _expired(account: Account, now: int) -> list[Posting]:
        """Postings for credits that expired by then; an account without such credits pays one comparison a credit."""
        postings: list[Posting] = []
        for grant in account.grants:
            if 0 < grant.expires_at <= now:
                break
        else:
            return postings
        balance = account.balance
        for credit_id, amount in expire(account, now):
            balance -= amount
            postings.append(Posting(PostingKind.EXPIRY, -amount, balance, credit_id, [(credit_id, amount)]))
        return postings

    def credit_granted(self, account: Account, event: Event, record: Received) -> list[Posting]:
        """credit.granted: a credit with its own priority, expiry and scope."""
        data = event.data
        amount: int = data["amount"]
        grant = Grant(
            data["credit_id"],
            amount,
            amount,
            data.get("priority") or 0,
            data.get("expires_at") or 0,
            event.occurred_at,
            PROMOTIONAL if data.get("kind") == "promotional" else PAID,
            tuple(data.get("scope") or ()),
        )
        return self._credited(account, grant, data["currency"], PostingKind.GRANT, record)

    def payment_completed(self, account: Account, event: Event, record: Received) -> list[Posting]:
        """payment.completed: credits the wallet, unless it names the invoice it pays."""
        data = event.data
        if data.get("invoice_id") is not None:
            return []
        amount: int = data["amount"]
        grant = Grant(data["payment_id"], amount, amount, 0, 0, event.occurred_at, PAID, ())
        return self._credited(account, grant, data["currency"], PostingKind.DEPOSIT, record)

    def payment_refunded(self, account: Account, event: Event, record: Received) -> list[Posting]:
        """payment.refunded: takes back what a known payment brought."""
        payment_id = event.data["payment_id"]
        if _payment_identity(event) not in self.standing.booked:
            raise InvalidInput("unknown_payment", f"payment {payment_id!r} is not known here", "/data/payment_id")
        amount: int = event.data["amount"]
        check_balance(account.balance - amount)
        postings = self._expired(account, record.received_at)
        burnt = take_back(account, amount, payment_id)
        postings.append(Posting(PostingKind.REFUND, -amount, account.balance, event.data["refund_id"], burnt))
        return postings

    def user_created(self, account: Account, event: Event, record: Received) -> list[Posting]:
        """user.created: the wallet comes into being; a plan named is the account's plan."""
        plan = event.data.get("plan_id") or event.data.get("tier")
        if plan:
            account.plan = plan
        return []

    def _credited(
        self, account: Account, grant: Grant, currency: str, kind: PostingKind, record: Received
    ) -> list[Posting]:
        if account.currency and account.currency != currency:
            settle_currency(account, currency)
        check_balance(account.balance + grant.amount)
        postings = self._expired(account, record.received_at)
        cause, amount = grant.credit_id, grant.amount
        credit(account, grant, currency)
        postings.append(Posting(kind, amount, account.balance, cause, []))
        return postings


_EFFECTS: dict[str, Callable[[_Chunk, Account, Event, Received], list[Posting]]] = {
    "credit.granted": _Chunk.credit_granted,
    "payment.completed": _Chunk.payment_completed,
    "payment.refunded": _Chunk.payment_refunded,
    "user.created": _Chunk.user_created,
}


def _payment_identity(event: Event) -> bytes:
    return claim_identity(event.tenant, event.customer, "payment", event.data["payment_id"])
