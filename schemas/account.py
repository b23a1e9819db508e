"""The values of one customer's account: a pure function of the ledger up to a position.

The rating worker alone writes them. The packed form (MessagePack of the structs below, as arrays) travels in the
ledger as "values after" and lies in Redis byte for byte; whoever reads one knows the account without rating again.
Fields are only ever appended. Amounts are nanos, times microseconds, quantities nano-units.
"""

from __future__ import annotations

import msgspec

from schemas.money import pack_int, unpack_int

ACCOUNT_FORMAT = 1

PAID = 0
PROMOTIONAL = 1


class Grant(msgspec.Struct, array_like=True):
    """Credit that charges burn, in the order priority, expiry (none last), age. A used-up grant leaves the account."""

    credit_id: str
    amount: int
    remaining: int
    priority: int
    expires_at: int
    """0: never."""
    granted_at: int
    kind: int
    """PAID or PROMOTIONAL."""
    scope: tuple[str, ...]
    """Meters it pays for; empty: all."""

    def burn_order(self) -> tuple[int, int, int, str]:
        """Lower burns first."""
        return self.priority, self.expires_at or 2**62, self.granted_at, self.credit_id


class PlanSpan(msgspec.Struct, array_like=True, frozen=True):
    """A plan from `start` until the next span's start."""

    start: int
    plan: str
    """Empty: none."""
    subscription_id: str
    anchor: int
    """When its first billing period began; every border of a period is counted from it."""
    months: int
    """Of a billing period: 1 or 12."""


PREPAID = 0
POSTPAID = 1


class Terms(msgspec.Struct, array_like=True, frozen=True):
    """What of the customer object decides about money."""

    collection: int = PREPAID
    """PREPAID: every charge comes out of the wallet. POSTPAID: credits burn first, the rest is receivable."""
    credit_limit: int = 0
    """How much may be receivable, for admission; charges are never refused by it."""
    overdraft: int = 0
    """How far below zero admission lets a prepaid wallet go."""
    top_up_below: int = 0
    top_up_amount: int = 0
    """0: no automatic top-up."""
    top_up_cool_off: int = 0
    """Microseconds between two requests for payment."""
    own: bytes = b""
    """Canonical JSON `{"prices": [...], "quotas": [...]}` of the customer's own; empty: none."""


class Allocation(msgspec.Struct, array_like=True):
    """A device that is allocated and not yet released."""

    opened_at: int
    charged_to: int
    """Its time is charged up to here."""
    expires_at: int
    """0: never."""
    data: bytes
    """The event's data as JSON: what pieces of its time are charged with."""
    expired: bool = False
    """`expires_at` went by without a release: it is open no longer, and waits for what corrects it."""


NO_TERMS = Terms()


class Account(msgspec.Struct, array_like=True):
    """One customer. `balance` = the sum of what its grants have left - debt, so it may lie below zero."""

    format: int
    tenant: str
    customer: str
    currency: str
    """Empty until the first money moves; then for ever the same."""
    balance: int
    grants: list[Grant]
    """In burn order."""
    counters: dict[str, int | str]
    """Quantity so far of prices that depend on it, by `counter_key`; text beyond 64 bit."""
    plan: str
    """Where it has no spans; empty: none."""
    spans: list[PlanSpan] = []
    """Its plans by time, ascending."""
    terms: Terms = NO_TERMS
    receivable: int = 0
    """Postpaid: charged, and neither paid by a credit nor by an invoice's payment."""
    closed_at: int = 0
    """When the customer was deleted; 0: never."""
    topped_up_at: int = 0
    """When payment was last asked for by itself."""
    allocations: dict[str, Allocation] = {}
    clock: int = 0
    """The time on the test clock that it lives on; 0: real time."""

    def span_at(self, instant: int) -> PlanSpan | None:
        """The plan of a time; None before the first and without any."""
        found = None
        for span in self.spans:
            if span.start > instant:
                break
            found = span
        return found

    def plan_at(self, instant: int) -> str:
        """The plan's id at a time; empty: none."""
        if not self.spans:
            return self.plan
        span = self.span_at(instant)
        return span.plan if span is not None else ""

    def counted(self, key: str) -> int | None:
        """The quantity so far under a counter's key, in nano-units; None before its first event."""
        value = self.counters.get(key)
        return None if value is None else unpack_int(value)

    def count(self, key: str, quantity: int) -> None:
        """Sets the quantity so far."""
        self.counters[key] = pack_int(quantity)

    def next_expiry(self) -> int:
        """The earliest expiry among its grants, 0 if none expires."""
        return min((grant.expires_at for grant in self.grants if grant.expires_at), default=0)


def account_key(tenant: str, customer: str) -> str:
    """One text for a customer of a tenant; the length in front keeps any two apart."""
    return f"{len(tenant)}:{tenant}:{customer}"


def counter_key(price_id: str, period_start: int) -> str:
    """Key of the quantity so far of a price in the period that starts then."""
    return f"{period_start}:{price_id}"


def new_account(tenant: str, customer: str) -> Account:
    """An account with nothing in it: what a customer is before its first event."""
    return Account(ACCOUNT_FORMAT, tenant, customer, "", 0, [], {}, "")


pack_account = pack_grant = msgspec.msgpack.Encoder().encode
unpack_account = msgspec.msgpack.Decoder(Account).decode


def bytes_of_terms(account: Account, packed: bytes) -> int | None:
    """How many bytes of a packed account its plan, spans and terms take; None where other code has packed it."""
    terms = pack_account((account.plan, account.spans, account.terms))[1:]
    rest = (account.receivable, account.closed_at, account.topped_up_at, account.allocations, account.clock)
    return len(terms) if packed.endswith(terms + pack_account(rest)[1:]) else None
