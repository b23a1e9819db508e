"""The account events: the shape of each type's data, and with them the commands of our own processes.

What this version does not act on is held to the ids, amounts and currencies it names, so that it can be applied later.
See `schemas.account_shape` for money, times and errors.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from schemas.account_shape import Named, account_type
from schemas.commands import COMMAND_TYPES, Priority
from schemas.device_commands import DEVICE_COMMANDS
from schemas.hold_commands import HOLD_COMMANDS
from schemas.invoicing_commands import INVOICING_COMMANDS
from schemas.shape import Currency, Id
from schemas.stripe_commands import STRIPE_COMMANDS

CREDIT_GRANTED: Final = "credit.granted"
PAYMENT_COMPLETED: Final = "payment.completed"
PAYMENT_REFUNDED: Final = "payment.refunded"
USER_CREATED: Final = "user.created"


class _CreditGranted(Named, frozen=True, kw_only=True, gc=False):
    credit_id: Id
    amount: Any
    currency: Currency
    priority: Priority | None = None
    scope: list[Id] | None = None
    kind: Literal["paid", "promotional"] | None = None


class _PaymentCompleted(Named, frozen=True, kw_only=True, gc=False):
    payment_id: Id
    amount: Any
    currency: Currency
    payment_intent_id: Id | None = None
    order_id: Id | None = None
    invoice_id: Id | None = None


class _PaymentRefunded(Named, frozen=True, kw_only=True, gc=False):
    payment_id: Id
    refund_id: Id
    amount: Any
    reason: str | None = None


class _PaymentIntent(Named, frozen=True, kw_only=True, gc=False):
    payment_intent_id: Id
    amount: Any
    currency: Currency
    order_id: Id | None = None
    invoice_id: Id | None = None
    reason: str | None = None


class _User(Named, frozen=True, kw_only=True, gc=False):
    plan_id: Id | None = None
    tier: Id | None = None


class _Order(Named, frozen=True, kw_only=True, gc=False):
    order_id: Id
    order_type: Id | None = None
    payment_intent_id: Id | None = None
    payment_id: Id | None = None
    refund_id: Id | None = None


class _Subscription(Named, frozen=True, kw_only=True, gc=False):
    subscription_id: Id
    plan_id: Id | None = None
    old_plan: Id | None = None
    new_plan: Id | None = None


class _Signal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Its sender's own business: nothing of it moves money."""

    user_id: Id | None = None


_order: Final = account_type(_Order)
_subscription: Final = account_type(_Subscription)
_intent: Final = account_type(_PaymentIntent)
_user: Final = account_type(_User)
_signal: Final = account_type(_Signal)

ACCOUNT_TYPES: Final = {
    CREDIT_GRANTED: account_type(_CreditGranted, {"priority": 0, "kind": "paid"}),
    PAYMENT_COMPLETED: account_type(_PaymentCompleted),
    PAYMENT_REFUNDED: account_type(_PaymentRefunded),
    "payment.intent.created": _intent,
    "payment.failed": _intent,
    "order.created": _order,
    "order.updated": _order,
    "order.payment_pending": _order,
    "order.completed": _order,
    "order.fulfilled": _order,
    "order.expired": _order,
    "order.canceled": _order,
    "order.refunded": _order,
    "subscription.created": _subscription,
    "subscription.activated": _subscription,
    "subscription.updated": _subscription,
    "subscription.canceled": _subscription,
    "subscription.expired": _subscription,
    "subscription.payment_failed": _subscription,
    "subscription.usage_exceeded": _subscription,
    "wallet.credits_added": _signal,
    "billing.processed": _signal,
    "storage.quota_exceeded": _signal,
    USER_CREATED: _user,
    "user.upgraded": _user,
    "user.deleted": _user,
    **COMMAND_TYPES,
    **INVOICING_COMMANDS,
    **DEVICE_COMMANDS,
    **HOLD_COMMANDS,
    **STRIPE_COMMANDS,
}
