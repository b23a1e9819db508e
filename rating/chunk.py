"""The columns of a chunk while it is decided: what entries have in common, and how their parts are put down.

Entry i of a decision is record i of its chunk: names and times are copied in columns, once, at the end; only outcomes,
charges, postings and documents are put down one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rating.book import PriceBook
from rating.decision import Command, DeadLetter, Decision, Outgoing, Standing
from rating.draft import Draft, Taken
from rating.names import Names
from rating.tariff import RateTable, Tariff, Tariffs
from rating.wallet import Burnt
from rating.weights import (
    CHARGE_BYTES,
    DOCUMENT_BYTES,
    ENTRY_BYTES,
    POSTING_BYTES,
    UTF8,
    account_bytes,
    burnt_bytes,
    rate_bytes,
    utf8,
)
from schemas.account import Account
from schemas.claims import Claim
from schemas.documents import DOCUMENT_MAX_BYTES, document_key
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import FINGERPRINT_BYTES, PostingKind
from schemas.limits import DETAIL_MAX_CHARACTERS, LEDGER_CHUNK_MAX_BYTES
from schemas.outcome import Outcome, books_identity
from schemas.period import Period


class Chunk:
    """One run of `decide`: columns that grow, and what the events of the chunk have in common."""

    def __init__(self, count: int, standing: Standing, book: PriceBook, position: int) -> None:
        self.entries = Draft.of(count)
        self.decision = Decision()
        self.accounts = standing.accounts
        self.booked = standing.booked
        self.looked_up = standing.looked_up
        self.documents = standing.documents
        self.holds = standing.holds
        self.told_as: dict[int, str] = {}
        """By entry: its event type in the ledger, where that is not its record's."""
        self.elsewhere = standing.elsewhere
        self.book = book
        self.position = position
        self.table = RateTable(self.entries.rates)
        self.tariffs: dict[str, Tariffs] = {}
        self.used_by: dict[int, tuple[str, str]] = {}
        """By entry: user and device of an event that itself may name neither."""
        self._claimed: list[tuple[bytes, bytes]] = []
        self.charged = 0
        """Charges of general events in the columns that stand; what a refused event left beyond is cut off."""
        self.month = Period(0, 0)
        self.weight = 0
        """Bytes of the record from above, but for its charges."""
        self.weighed_rates = 0

    def has_room(self, index: int, names_bytes: int, key: str) -> bool:
        """Whether the record's entry still fits; the first one always does."""
        self.weigh_rates()
        weight = self.weight + ENTRY_BYTES + utf8(key) + names_bytes
        if key not in self.decision.touched:
            weight += account_bytes(self.accounts.get(key), key)
        if index and weight + CHARGE_BYTES * self.charged > LEDGER_CHUNK_MAX_BYTES:
            return False
        self.weight = weight
        return True

    def weigh_rates(self) -> None:
        """Adds what rates that were named since weigh in the record."""
        rates = self.entries.rates
        if len(rates) > self.weighed_rates:
            self.weight += sum(map(rate_bytes, rates[self.weighed_rates :]))
            self.weighed_rates = len(rates)

    def dead_letter(self, index: int, refusal: InvalidInput) -> None:
        """Remembers that the original goes to the dead letter topic; charges it was about to have are undone."""
        entries = self.entries
        self._cut_charges()
        self._claimed = []
        entries.outcome[index] = Outcome.DEAD_LETTER
        entries.reason[index] = refusal.reason
        self.decision.dead_letters.append(DeadLetter(index, refusal.reason, refusal.detail[:DETAIL_MAX_CHARACTERS]))

    def cut(self) -> None:
        """Undoes the charges and claims that were put down and not settled."""
        self._cut_charges()
        self._claimed = []

    def _cut_charges(self) -> None:
        entries = self.entries
        if len(entries.charge_rate) > self.charged:
            for column in (entries.charge_rate, entries.charge_quantity, entries.charge_amount):
                del column[self.charged :]
            for at in [at for at in entries.charge_before if at >= self.charged]:
                del entries.charge_before[at]

    def ignore(self, index: int, reason: str) -> None:
        """An outcome without effect."""
        self.entries.outcome[index] = Outcome.IGNORED
        self.entries.reason[index] = reason

    def post(
        self, index: int, kind: PostingKind, amount: int, balance: int, currency: str, cause: str, burnt: Burnt
    ) -> None:
        """One wallet posting of an entry, in nanos; `cause` empty: the event itself."""
        entries = self.entries
        at = len(entries.posting_kind)
        self.weight += POSTING_BYTES + utf8(cause) + burnt_bytes(burnt)
        if cause:
            entries.posting_cause[at] = cause
        if burnt:
            entries.burnt[at] = burnt
        entries.posting_kind.append(kind)
        entries.posting_amount.append(amount)
        entries.posting_balance.append(balance)
        entries.posting_currency.append(currency)
        entries.postings[index] += 1

    def put(self, index: int, tenant: str, kind: str, document_id: str, body: bytes) -> None:
        """A document of an entry; a second under the same name replaces the first."""
        written = [one for one in self.entries.documents.get(index, ()) if one[:2] != (kind, document_id)]
        written.append((kind, document_id, body))
        if sum(len(one[2]) for one in written) > DOCUMENT_MAX_BYTES:
            raise InvalidInput(
                "too_large", f"the documents of one event would be larger than {DOCUMENT_MAX_BYTES} bytes"
            )
        self.entries.documents[index] = written
        self.documents[document_key(tenant, kind, document_id)] = body
        self.weight += DOCUMENT_BYTES + utf8(document_id) + len(body)

    def claim(self, identity: bytes, content: bytes) -> None:
        """What the entry books beside its identity and its type's claims."""
        self._claimed.append((identity, content))

    def stands(self, identity: bytes) -> bool:
        """Whether an identity or claim is booked, by what came before or by the entry at hand."""
        return identity in self.booked or any(identity == claimed for claimed, _ in self._claimed)

    def mark(self, index: int) -> Callable[[], None]:
        """Remembers where an entry stands; the answer puts all that was added to it since away."""
        entries, decision = self.entries, self.decision
        postings, of_entry = len(entries.posting_kind), entries.postings[index]
        outgoing, commands, documents = len(decision.outgoing), len(decision.commands), self.documents.copy()
        counted = entries.charges[index]
        charged = self.charged

        def undo() -> None:
            for column in (
                entries.posting_kind,
                entries.posting_amount,
                entries.posting_balance,
                entries.posting_currency,
            ):
                del column[postings:]
            for by_posting in (entries.posting_cause, entries.burnt):
                for at in [at for at in by_posting if at >= postings]:
                    del by_posting[at]
            entries.postings[index], entries.charges[index] = of_entry, counted
            self.charged = charged
            self._cut_charges()
            del decision.outgoing[outgoing:], decision.commands[commands:]
            self.documents.clear()
            self.documents.update(documents)
            for by_entry in (entries.documents, entries.hold_ends, entries.subscription_id, entries.flags):
                by_entry.pop(index, None)
            self._claimed = []

        return undo

    def emit(self, outgoing: Outgoing) -> None:
        """An event of ours, in the chunk's transaction."""
        self.decision.outgoing.append(outgoing)

    def send(self, command: Command) -> None:
        """A command to another customer, in the chunk's transaction."""
        self.decision.commands.append(command)

    def end_hold(self, index: int, hold_id: str, state: str, charged: int) -> None:
        """A hold that ends with the entry."""
        self.entries.hold_ends.setdefault(index, []).append((hold_id, state, charged))
        self.weight += 32 + UTF8 * len(hold_id)

    def book_identity(self, index: int, event: Event, made: Sequence[Claim]) -> None:
        """Makes the event's identity and claims known, for the rest of the chunk and for ever."""
        entries = self.entries
        if index in entries.reason and not books_identity(entries.outcome[index], entries.reason[index]):
            return
        claimed_by_effect, self._claimed = self._claimed, []
        identity, content = event.identity, event.content
        self.booked[identity] = content
        fingerprint = identity + content
        for claimed, told in [*[(claim.identity, claim.content) for claim in made], *claimed_by_effect]:
            self.booked[claimed] = told
            fingerprint += claimed + told
            self.weight += FINGERPRINT_BYTES
        entries.fingerprints[index] = fingerprint

    def tariff(self, event: Event, account: Account) -> Tariff | None:
        """What measures and prices the event; None if nothing measures it."""
        tenant = event.tenant
        try:
            tariffs = self.tariffs[tenant]
        except KeyError:
            tariffs = self.tariffs[tenant] = Tariffs(self.book, tenant, self.position, self.table)
        plan = account.plan_at(event.occurred_at) if account.spans else account.plan
        return tariffs.of(event, plan, account.terms.own)

    def finish(self, names: Names, start: int, count: int, taken: Taken | None = None) -> Decision:
        """Makes the columns of the chunk, which is `count` records of the batch from `start` on; plain events among
        them are those that were `taken`."""
        self.decision.count = count
        if count:
            self.decision.columns = self.entries.columns(names, start, start + count, taken, self.told_as, self.used_by)
            self.decision.booked = self.entries.booked(taken)
        return self.decision
