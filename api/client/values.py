"""What the client answers: money and quantities as Decimal, times as aware datetimes in UTC.

Each has `body`, the answer as it came, for what a later version of the API adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

Body = Mapping[str, Any]

PENDING: Final = frozenset({"draft", "open"})
"""States of an invoice that nobody has paid and that is not late."""
ACTIVE: Final = frozenset({"trialing", "active", "past_due"})
"""States of a subscription whose customer is served."""


class Fault(NamedTuple):
    """One thing that is wrong in a request."""

    pointer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a subscriber pays and may use."""

    id: str
    name: str
    interval: str
    """`month` or `year`."""
    amount: Decimal
    features: Mapping[str, Any]
    body: Body

    @classmethod
    def of(cls, body: Body) -> Plan:
        """From an answer."""
        return cls(
            body["id"],
            body.get("name") or "",
            body["interval"],
            Decimal(body["amount"]),
            body.get("features") or {},
            body,
        )


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's subscription."""

    id: str
    plan_id: str
    status: str
    body: Body

    @property
    def is_active(self) -> bool:
        """Whether its customer is served."""
        return self.status in ACTIVE

    @classmethod
    def of(cls, body: Body) -> Subscription:
        """From an answer."""
        found = body.get("subscription") if isinstance(body.get("subscription"), dict) else body
        assert found is not None
        return cls(found.get("subscription_id") or found["id"], found["plan_id"], found["status"], body)


@dataclass(frozen=True, slots=True)
class Usage:
    """A meter's quantity and what it cost, in the span that was asked for."""

    meter: str
    quantity: Decimal
    amount: Decimal
    currency: str
    events: int
    body: Body

    @classmethod
    def of(cls, body: Body) -> Usage:
        """From a row of an answer."""
        return cls(
            body["meter"], Decimal(body["quantity"]), Decimal(body["amount"]), body["currency"], body["events"], body
        )


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a customer may go on."""

    allowed: bool
    reason: str | None
    denial_id: str | None
    limit: Decimal | None
    """None: without limit."""
    remaining: Decimal | None
    resets_at: datetime | None
    available: Decimal | None
    """Money."""
    body: Body

    @classmethod
    def of(cls, body: Body) -> Check:
        """From an answer."""
        return cls(
            body["allowed"],
            body.get("reason"),
            body.get("denial_id"),
            _decimal(body.get("limit")),
            _decimal(body.get("remaining")),
            _time(body.get("resets_at")),
            _decimal(body.get("available")),
            body,
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """Money and quota reserved for usage that is to come."""

    id: str
    customer: str
    state: str
    """`open`, then one of `settled`, `released`, `expired`."""
    generation: int
    """1, and one more with every extension."""
    held: Decimal
    currency: str
    expires_at: datetime | None
    charged: Decimal | None
    """What the ledger charged with its end."""
    available: Decimal | None
    """What can be spent besides; where this answer opened, extended or found it again."""
    affordable: Mapping[str, Decimal | None]
    """By meter: how many whole units that still buys; None: they cost nothing."""
    body: Body

    @classmethod
    def of(cls, body: Body) -> Hold:
        """From an answer."""
        charged = body.get("charged")
        return cls(
            body["hold_id"],
            body["customer"],
            body["state"],
            body["generation"],
            Decimal(body["held"]["amount"]),
            body["held"]["currency"],
            _time(body.get("expires_at")),
            Decimal(charged["amount"]) if charged is not None else None,
            _decimal(body.get("available")),
            {meter: _decimal(units) for meter, units in (body.get("affordable") or {}).items()},
            body,
        )


@dataclass(frozen=True, slots=True)
class Quota:
    """How a quota of a customer stands."""

    meter: str | None
    """None: it is about money."""
    limit: Decimal | None
    remaining: Decimal | None
    resets_at: datetime | None
    body: Body

    @classmethod
    def of(cls, body: Body) -> Quota:
        """From a row of an answer."""
        return cls(
            body.get("meter"),
            _decimal(body.get("limit")),
            _decimal(body.get("remaining")),
            _time(body.get("resets_at")),
            body,
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """A wallet in one currency."""

    currency: str
    balance: Decimal
    held: Decimal
    available: Decimal
    body: Body

    @classmethod
    def of(cls, body: Body) -> Balance:
        """From a row of an answer."""
        balance, held, available = (Decimal(body[name]) for name in ("balance", "held", "available"))
        return cls(body["currency"], balance, held, available, body)


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line."""

    kind: str
    description: str
    amount: Decimal
    quantity: Decimal | None
    body: Body

    @classmethod
    def of(cls, body: Body) -> InvoiceLine:
        """From an invoice's line."""
        return cls(body["kind"], body["description"], Decimal(body["amount"]), _decimal(body.get("quantity")), body)


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice."""

    id: str
    number: str | None
    state: str
    currency: str
    total: Decimal
    amount_due: Decimal
    due_at: datetime | None
    lines: tuple[InvoiceLine, ...]
    """Empty in a listing that leaves them out."""
    body: Body

    @property
    def is_pending(self) -> bool:
        """Draft or open: not paid, and not late."""
        return self.state in PENDING

    @classmethod
    def of(cls, body: Body) -> Invoice:
        """From an answer."""
        return cls(
            body.get("id") or body["invoice_id"],
            body.get("number"),
            body["state"],
            body["currency"],
            Decimal(body["total"]),
            Decimal(body["amount_due"]),
            _time(body.get("due_at")),
            tuple(map(InvoiceLine.of, body.get("lines") or ())),
            body,
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """What became of a change; `location` where it is not known yet: ask there."""

    done: bool
    location: str | None
    body: Body


def _decimal(text: Any) -> Decimal | None:
    return Decimal(str(text)) if text is not None else None


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
