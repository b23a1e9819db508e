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
    """Empty: none."""

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
