"""One event's turn at its customer's account: what an effect may look at, and what it may do.

An effect is a function of a Turn. It checks first and changes then: what it raises means that nothing changed.

    InvalidInput  the event is a dead letter
    Refused       a command that the account does not allow: `ignored` (`refused`), its identity is not used up
    NoEffect      it changes nothing: `ignored` (`no_effect`)

Time is the event's own, or when Kafka received it: there is no clock here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rating.book import CompiledCatalogue
from rating.charging import Booked, rate_amount, rate_booked, rate_into, settle
from rating.chunk import Chunk
from rating.counting import Counted, Piece
from rating.decision import Command, Outgoing
from rating.devices import parts, release_of
from rating.holds import ALL, HOLD, HoldName
from rating.metering import meter_tariff
from rating.wallet import Burnt
from rating.weights import UTF8
from schemas.account import Account, account_key
from schemas.documents import CUSTOMER, decode_body, document_key, encode_body
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import PostingKind
from schemas.period import Period


class Refused(Exception):
    """The account does not allow a command. `reason` is a word for programs, `detail` a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class NoEffect(Exception):
    """The event changes nothing."""


class Turn:
    """What stands when an event's turn comes, and the ways to change it."""

    def __init__(self, chunk: Chunk, index: int, event: Event, received_at: int, account: Account) -> None:
        self._chunk = chunk
        self._index = index
        self.event = event
        self.received_at = received_at
        """When Kafka received it, microseconds."""
        self.account = account
        self.result: dict[str, Any] = {}
        """What the sender of a command is told; plain values."""

    @property
    def now(self) -> int:
        """The customer's time, microseconds: its test clock's, or the event's own."""
        return self.account.clock or self.event.occurred_at

    @property
    def booked(self) -> Mapping[bytes, bytes]:
        """Of the identities and claims that the event names, those that are booked, with their contents."""
        return self._chunk.booked

    @property
    def catalogue(self) -> CompiledCatalogue | None:
        """The tenant's catalogue at the event's time; None before its first version."""
        return self.catalogue_at(self.event.occurred_at)

    def catalogue_at(self, instant: int) -> CompiledCatalogue | None:
        """The tenant's catalogue for events of a time, microseconds; None where there was none."""
        return self._chunk.book.catalogue(self.event.tenant, self._chunk.position, instant)

    def document(self, kind: str, document_id: str) -> dict[str, Any] | None:
        """A fresh copy of a document that the event names. InvalidInput `conflict` for another customer's."""
        body = self._chunk.documents.get(document_key(self.event.tenant, kind, document_id))
        if body is None:
            return None
        found = decode_body(body)
        if found["customer"] != self.event.customer:
            raise InvalidInput("conflict", f"the {kind} {document_id!r} is another customer's")
        return found

    def put(self, kind: str, document_id: str, body: Mapping[str, Any]) -> None:
        """Writes a document whole. Its `customer` is filled in."""
        encoded = encode_body({**body, CUSTOMER: self.event.customer})
        self._chunk.put(self._index, self.event.tenant, kind, document_id, encoded)

    def post(self, kind: PostingKind, amount: int, cause: str = "", burnt: Burnt | None = None) -> str:
        """Writes down a movement of the wallet, `amount` nanos into it, that the account's balance contains already;
        the place of the posting in its entry, from 0."""
        account = self.account
        place = self._chunk.entries.postings[self._index]
        self._chunk.post(self._index, kind, amount, account.balance, account.currency, cause, burnt or [])
        return str(place)

    def emit(self, event_type: str, data: Mapping[str, Any]) -> None:
        """An event of ours on `billing.events`, in the same transaction."""
        self._chunk.emit(Outgoing(self._index, event_type, dict(data)))

    def command(self, customer: str, event_type: str, command_id: str, data: Mapping[str, Any]) -> None:
        """A command to another customer of the tenant (or to this one, decided later), in the same transaction."""
        self._chunk.send(Command(self._index, customer, event_type, command_id, dict(data)))

    def open_holds(self) -> tuple[str, ...]:
        """The customer's open holds, of an event that asks for all of them."""
        return self._chunk.holds.get(HoldName(account_key(self.event.tenant, self.event.customer), ALL, ""), ())

    def end_hold(self, hold_id: str, state: str, charged: int = 0) -> None:
        """Ends a hold: `settled`, `released` or `expired`; without effect if it has ended."""
        self._chunk.end_hold(self._index, hold_id, state, charged)

    def used_by(self, user: str, device: str) -> None:
        """Whose usage it is and on which device, where the event does not say; empty: nobody knows."""
        self._chunk.used_by[self._index] = (user, device)
        self._chunk.weight += UTF8 * (len(user) + len(device))

    def measured(self, event: Event) -> bool:
        """Whether any meter measures a usage event of the customer at its time."""
        return self._chunk.tariff(event, self.account) is not None

    def release_of(self, data: Mapping[str, Any], begin: int, end: int) -> Event:
        """The device.released of an allocation of this event, had it ended at `end`; microseconds."""
        return release_of(self.event, data, begin, end, begin)

    def parts(self, data: Mapping[str, Any], begin: int, interval: Period, *, taken_back: bool = False) -> list[Piece]:
        """The parts of an interval of the allocation that began at `begin`; see rating.devices."""
        return parts(self._chunk, self.event, self.account, data, begin, interval, taken_back=taken_back)

    def claim(self, identity: bytes, content: bytes) -> None:
        """Books what may happen once, beside the event's own identity."""
        self._chunk.claim(identity, content)

    def charge(self, *pieces: Event | Piece) -> int:
        """Charges usage events (the event itself, or made after it), or parts of such, as one: each at its own time's
        price, the sum in one posting; the sum in nanos. InvalidInput `no_meter` where nothing measures a piece."""
        chunk, account = self._chunk, self.account
        counted: Counted = []
        total = 0
        currency = ""
        for piece in pieces:
            part = piece if isinstance(piece, Piece) else None
            event = piece.event if isinstance(piece, Piece) else piece
            tariff = chunk.tariff(event, account)
            if tariff is None:
                raise InvalidInput("no_meter", f"no meter of the catalogue measures {event.type} events", "/type")
            currency = tariff.currency
            total += rate_into(chunk, event, account, tariff, counted, part)
        if pieces:
            settle(
                chunk, self._index, account, currency, total, counted, received_at=self.received_at, event=self.event
            )
        return total

    def charge_booked(self, charges: Sequence[Booked], counted: Counted) -> int:
        """Books charges of known amounts that correct others, with what the account has to count; the sum in nanos."""
        if not charges:
            return 0
        currencies = {charge.rate.currency for charge in charges}
        if len(currencies) > 1:
            raise InvalidInput("currency_mismatch", f"the charges are in {', '.join(sorted(currencies))}")
        for charge in charges:
            rate_booked(self._chunk, charge)
        total = sum(charge.amount for charge in charges)
        settle(
            self._chunk,
            self._index,
            self.account,
            currencies.pop(),
            total,
            counted,
            received_at=self.received_at,
            event=self.event,
            correcting=True,
        )
        return total

    def charge_meter(self, meter: str, quantity: int, dimensions: Mapping[str, str]) -> int:
        """Charges a quantity of one meter, in nano-units, that no event measured; nanos. InvalidInput `no_meter`."""
        chunk, account = self._chunk, self.account
        tariff = meter_tariff(self.catalogue, chunk, account, self.event, meter, quantity, dimensions)
        counted: Counted = []
        total = rate_into(chunk, self.event, account, tariff, counted)
        settle(
            chunk, self._index, account, tariff.currency, total, counted, received_at=self.received_at, event=self.event
        )
        return total

    def hold_state(self, hold_id: str) -> str:
        """How a hold of the customer stands, as far as is known; empty: it is not known."""
        name = HoldName(account_key(self.event.tenant, self.event.customer), HOLD, hold_id)
        return self._chunk.holds.get(name, ("",))[0]

    def tell_as(self, event_type: str) -> None:
        """The event type that the ledger has of this entry, in place of its command's."""
        self._chunk.told_as[self._index] = event_type

    def charge_amount(self, amount: int, meter: str, currency: str) -> None:
        """Charges `amount` nanos that no price made, as one charge without a price; `meter` may be empty."""
        chunk = self._chunk
        rate_amount(chunk, amount, meter, currency)
        settle(chunk, self._index, self.account, currency, amount, [], received_at=self.received_at, event=self.event)


Effect = Callable[[Turn], None]
"""What an event does. See the module for what it may raise."""

Naming = Callable[[Event], list[tuple[str, str]]]
"""Kind and id of the documents that an event's effect looks at; read before it is decided."""
