"""Our own events on `billing.events`: the shape of each type's data, version 1.

A CloudEvent each; its id is the place of the ledger entry that it belongs to, so an event told again is the same event.
Money and quantities are decimal text, times RFC 3339. Readers leave out what they do not know: fields are only added.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.shape import Currency, Id

Amount = str
Time = str


class Announced(msgspec.Struct, kw_only=True, frozen=True):
    """What a transaction did to one customer's usage: `usage.recorded`, `billing.processed`."""

    events: int
    charges: int
    amount: Amount
    currency: str
    usage: dict[str, str]
    """Quantity by meter."""
    consumed: Amount
    """Taken from the wallet."""
    balance_after: Amount | None
    first_seq: int
    last_seq: int


class Consumed(msgspec.Struct, kw_only=True, frozen=True):
    """`wallet.consumed`: by usage, with what Announced has, or by a command, with what WalletMoved has."""

    amount: Amount
    currency: str
    balance_after: Amount | None
    consumed: Amount | None = None
    """By usage: what of `amount` was taken from the wallet."""
    events: int | None = None
    charges: int | None = None
    usage: dict[str, str] | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    user_id: Id | None = None
    kind: str | None = None
    transaction_id: str | None = None
    balance_before: Amount | None = None


class QuotaTold(msgspec.Struct, kw_only=True, frozen=True):
    """How a quota stands: `quota.threshold_reached`, `quota.exceeded`, `quota.recovered`."""

    quota: Id
    meter: str | None
    """Null: it is about money."""
    per: str
    scope: str | None
    window: str
    window_id: str
    used: str
    limit: str
    resets_at: Time | None
    threshold: int | None = None
    """Percent."""


class WalletCreated(msgspec.Struct, kw_only=True, frozen=True):
    """`wallet.created`."""

    user_id: Id
    created_at: Time


class WalletMoved(msgspec.Struct, kw_only=True, frozen=True):
    """A movement of a wallet: `wallet.deposited`, `withdrawn`, `transferred`, `refunded`, `balance_changed`."""

    user_id: Id
    kind: str
    transaction_id: str
    amount: Amount
    """Its size; of `wallet.balance_changed` with its sign."""
    currency: Currency
    balance_before: Amount
    balance_after: Amount


class InsufficientFunds(msgspec.Struct, kw_only=True, frozen=True):
    """`wallet.insufficient_funds`: the wallet has gone below zero."""

    currency: Currency
    user_id: Id | None = None
    amount: Amount | None = None
    balance: Amount | None = None
    balance_after: Amount | None = None
    overdraft: Amount | None = None
    transaction_id: str | None = None


class PaymentTold(msgspec.Struct, kw_only=True, frozen=True):
    """`payment.*`."""

    user_id: Id
    amount: Amount
    currency: Currency
    payment_id: Id | None = None
    payment_intent_id: Id | None = None
    status: str | None = None
    order_id: Id | None = None
    invoice_id: Id | None = None
    refund_id: Id | None = None
    reason: str | None = None
    error: Any = None


class OrderTold(msgspec.Struct, kw_only=True, frozen=True):
    """`order.*`."""

    user_id: Id
    order_id: Id
    status: str
    order_type: str | None = None
    total_amount: Amount | None = None
    credit_amount: Amount | None = None
    currency: Currency | None = None
    items: Any = None
    plan_id: Id | None = None
    subscription_id: Id | None = None
    payment_intent_id: Id | None = None
    payment_id: Id | None = None
    refund_id: Id | None = None
    reason: str | None = None
    expires_at: Time | None = None
    fulfillment_details: Any = None
    updated_fields: list[str] | None = None


class Span(msgspec.Struct, kw_only=True, frozen=True):
    """A half-open period."""

    start: Time
    end: Time


class SubscriptionTold(msgspec.Struct, kw_only=True, frozen=True):
    """`subscription.*`."""

    subscription_id: Id
    user_id: Id
    plan_id: Id
    status: str
    billing_cycle: str
    current_period: Span
    attempt_count: int
    old_plan: str | None = None
    new_plan: str | None = None
    reason: str | None = None
    exceeded_at: str | None = None
    """Of `subscription.usage_exceeded`: when, by the customer's time."""


class InvoiceTold(msgspec.Struct, kw_only=True, frozen=True):
    """`invoice.*`."""

    invoice_id: Id
    user_id: Id
    number: str | None
    kind: str
    state: str
    currency: Currency
    period: Span
    subtotal: Amount
    tax: Amount
    total: Amount
    amount_paid: Amount
    amount_due: Amount
    due_at: Time | None
    subscription_id: Id | None


class BillingTold(msgspec.Struct, kw_only=True, frozen=True):
    """`billing.calculated`, `billing.record_created`: what a period came to, and the invoice made of it."""

    user_id: Id
    total: Amount
    currency: Currency
    invoice_id: Id | None = None
    period: Span | None = None
    subtotal: Amount | None = None


class StorageExceeded(msgspec.Struct, kw_only=True, frozen=True):
    """`storage.quota_exceeded`, told on as the storage service told it."""

    user_id: Id


_PAYMENTS: Final = ("intent.created", "completed", "failed", "canceled", "refunded")
_ORDERS: Final = (
    "created", "updated", "payment_pending", "completed", "fulfilled", "expired", "canceled", "refunded",
)  # fmt: skip
_SUBSCRIPTIONS: Final = (
    "created", "activated", "updated", "canceled", "expired", "payment_failed", "usage_exceeded",
)  # fmt: skip
_INVOICES: Final = ("created", "finalized", "paid", "overdue", "voided")

BILLING_EVENTS: Final[dict[str, type[msgspec.Struct]]] = {
    **dict.fromkeys(("usage.recorded", "billing.processed"), Announced),
    "wallet.consumed": Consumed,
    **dict.fromkeys(("billing.calculated", "billing.record_created"), BillingTold),
    **dict.fromkeys(("quota.threshold_reached", "quota.exceeded", "quota.recovered"), QuotaTold),
    "wallet.created": WalletCreated,
    **dict.fromkeys(
        ("wallet.deposited", "wallet.withdrawn", "wallet.transferred", "wallet.refunded", "wallet.balance_changed"),
        WalletMoved,
    ),
    "wallet.insufficient_funds": InsufficientFunds,
    **{f"payment.{name}": PaymentTold for name in _PAYMENTS},
    **{f"order.{name}": OrderTold for name in _ORDERS},
    **{f"subscription.{name}": SubscriptionTold for name in _SUBSCRIPTIONS},
    **{f"invoice.{name}": InvoiceTold for name in _INVOICES},
    "storage.quota_exceeded": StorageExceeded,
}
"""By type."""
