"""The account events: the shape of each type's data, its money then in nanos and its times in microseconds.

Money in them is decimal text, or a number that is read from its text; at most 9 places and never negative. The content
that identical events are compared by keeps money as it was sent. What this version does not act on is held to the ids,
amounts and currencies it names, so that it can be applied later.

Errors: as `schemas.shape`, and InvalidInput `amount_overflow`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from schemas.period import Timestamp
from schemas.shape import Currency, Id, read, read_money, read_time
from schemas.usage_types import BuiltIn, Filled

CREDIT_GRANTED: Final = "credit.granted"
PAYMENT_COMPLETED: Final = "payment.completed"
PAYMENT_REFUNDED: Final = "payment.refunded"
USER_CREATED: Final = "user.created"

PRIORITY_MAX: Final = 10**6
"""Priorities lie in +-PRIORITY_MAX; a lower one burns first, and 0 is the default."""

_Priority = Annotated[int, msgspec.Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
_MONEY: Final[tuple[str, ...]] = ("amount", "credit_amount", "total_amount")
_TIMES: Final[tuple[str, ...]] = ("expires_at",)


class _Named(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What any account event may carry."""

    user_id: Id | None = None
    organization_id: Id | None = None
    expires_at: Timestamp | None = None
    amount: Any = None
    credit_amount: Any = None
    total_amount: Any = None
    currency: Currency | None = None


class _CreditGranted(_Named, frozen=True, kw_only=True, gc=False):
    credit_id: Id
    amount: Any
    currency: Currency
    priority: _Priority | None = None
    scope: list[Id] | None = None
    kind: Literal["paid", "promotional"] | None = None


class _PaymentCompleted(_Named, frozen=True, kw_only=True, gc=False):
    payment_id: Id
    amount: Any
    currency: Currency
    payment_intent_id: Id | None = None
    order_id: Id | None = None
    invoice_id: Id | None = None


class _PaymentRefunded(_Named, frozen=True, kw_only=True, gc=False):
    payment_id: Id
    refund_id: Id
    amount: Any
    reason: str | None = None


class _PaymentIntent(_Named, frozen=True, kw_only=True, gc=False):
    payment_intent_id: Id
    amount: Any
    currency: Currency


class _User(_Named, frozen=True, kw_only=True, gc=False):
    plan_id: Id | None = None
    tier: Id | None = None


class _Order(_Named, frozen=True, kw_only=True, gc=False):
    order_id: Id
    order_type: Id | None = None
    payment_intent_id: Id | None = None
    payment_id: Id | None = None
    refund_id: Id | None = None


class _Subscription(_Named, frozen=True, kw_only=True, gc=False):
    subscription_id: Id
    plan_id: Id | None = None


class _Signal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Its sender's own business: nothing of it moves money."""

    user_id: Id | None = None


def _account_type(shape: type[msgspec.Struct], defaults: dict[str, Any] | None = None) -> BuiltIn:
    required = frozenset(field.encode_name for field in msgspec.structs.fields(shape) if field.required)
    money = tuple(name for name in _MONEY if name in shape.__struct_fields__)
    times = tuple(name for name in _TIMES if name in shape.__struct_fields__)
    absent = defaults or {}

    def complete(data: dict[str, Any]) -> Filled:
        sent = read(data, shape, "/data")
        computed: dict[str, Any] = {}
        for name in money:
            if name in data or name in required:
                computed[name] = read_money(data.get(name), f"/data/{name}")
        for name in times:
            moment = getattr(sent, name)
            if moment is not None:
                computed[name] = read_time(moment, data, name)
        return Filled(absent | data, computed)

    return BuiltIn(shape, complete)


_order: Final = _account_type(_Order)
_subscription: Final = _account_type(_Subscription)
_intent: Final = _account_type(_PaymentIntent)
_user: Final = _account_type(_User)
_signal: Final = _account_type(_Signal)

ACCOUNT_TYPES: Final = {
    CREDIT_GRANTED: _account_type(_CreditGranted, {"priority": 0, "kind": "paid"}),
    PAYMENT_COMPLETED: _account_type(_PaymentCompleted),
    PAYMENT_REFUNDED: _account_type(_PaymentRefunded),
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
}
