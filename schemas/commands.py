"""Commands: what our own processes ask the owner of a customer's account to do; CloudEvents of types `tollgate.…` on
`account.events`.

A command's id is its idempotency: who sends the same again under one id has one effect, and another content is a
conflict. So a command carries no time of its own; it happens when Kafka receives it. Its outcome is the document
`operation` of that id. No producer from outside may send one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from schemas.account_shape import Named, account_type, signed_type
from schemas.canonical import content_of, json_of
from schemas.period import Timestamp
from schemas.shape import Currency, Id
from schemas.usage_types import BuiltIn

SOURCE: Final = "tollgate"

CUSTOMER_PUT: Final = "tollgate.customer.put"
CUSTOMER_TICK: Final = "tollgate.customer.tick"
WALLET_CREDIT: Final = "tollgate.wallet.credit"
WALLET_DEPOSIT: Final = "tollgate.wallet.deposit"
WALLET_CONSUME: Final = "tollgate.wallet.consume"
WALLET_WITHDRAW: Final = "tollgate.wallet.withdraw"
WALLET_ADJUST: Final = "tollgate.wallet.adjust"
WALLET_REFUND: Final = "tollgate.wallet.refund"
WALLET_TRANSFER: Final = "tollgate.wallet.transfer"
WALLET_RECEIVE: Final = "tollgate.wallet.receive"
"""The second leg of a transfer."""
ORDER_CREATE: Final = "tollgate.order.create"
ORDER_UPDATE: Final = "tollgate.order.update"
ORDER_CANCEL: Final = "tollgate.order.cancel"
ORDER_EXPIRE: Final = "tollgate.order.expire"
ORDER_FULFILL: Final = "tollgate.order.fulfill"
ORDER_REFUND: Final = "tollgate.order.refund"
ORDER_MARK: Final = "tollgate.order.mark"
"""What became of an order's payment."""
PAYMENT_CREATE: Final = "tollgate.payment.create"
PAYMENT_COMPLETE: Final = "tollgate.payment.complete"
PAYMENT_CANCEL: Final = "tollgate.payment.cancel"
PAYMENT_REFUND: Final = "tollgate.payment.refund"

PRIORITY_MAX: Final = 10**6
"""Priorities of credits lie in +-PRIORITY_MAX; a lower one burns first, and 0 is the default."""

Priority = Annotated[int, msgspec.Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
Words = Annotated[str, msgspec.Meta(max_length=1000)]
Request = Annotated[str, msgspec.Meta(max_length=64)]


class Command(NamedTuple):
    """One command on its way to its customer."""

    tenant: str
    customer: str
    type: str
    id: str
    data: dict[str, Any]

    def encoded(self) -> bytes:
        """The record's value."""
        return encode_command(self.tenant, self.customer, self.type, self.id, self.data)


def encode_command(tenant: str, customer: str, event_type: str, command_id: str, data: dict[str, Any]) -> bytes:
    """A command as a CloudEvent."""
    return json_of(
        {
            "specversion": "1.0",
            "id": command_id,
            "source": SOURCE,
            "type": event_type,
            "subject": customer,
            "tenantid": tenant,
            "data": data,
        }
    )


def operation_id(customer: str, key: str) -> str:
    """The id of what a customer's Idempotency-Key asks for, unique in its tenant."""
    text = f"{len(customer)}:{customer}{key}"
    return "op_" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def request_digest(event_type: str, data: dict[str, Any]) -> str:
    """By which two requests under one key are told apart."""
    return content_of([event_type, data]).hex()


class _Command(Named, frozen=True, kw_only=True, gc=False):
    """What any command may carry."""

    request: Request | None = None
    """The digest of what was asked for, given back with the outcome."""
    hold_id: Id | None = None
    """The hold that has the amount until the command is booked."""


class _CustomerPut(_Command, frozen=True, kw_only=True, gc=False):
    fields: dict[str, Any]
    merge: bool | None = None
    """Fields that are not named stay as they are, null takes one out; else all is replaced."""


class _Tick(_Command, frozen=True, kw_only=True, gc=False):
    at: Timestamp | None = None


class _Money(_Command, frozen=True, kw_only=True, gc=False):
    amount: str
    currency: Currency | None = None
    description: Words | None = None
    reason: Words | None = None


class _Credit(_Money, frozen=True, kw_only=True, gc=False):
    credit_id: Id | None = None
    priority: Priority | None = None
    scope: list[Id] | None = None
    kind: Literal["paid", "promotional"] | None = None


class _Deposit(_Money, frozen=True, kw_only=True, gc=False):
    payment_id: Id | None = None


class _Consume(_Money, frozen=True, kw_only=True, gc=False):
    meter: Id | None = None


class _Adjust(_Money, frozen=True, kw_only=True, gc=False):
    allow_negative: bool | None = None
    """Also below what is available."""


class _Refund(_Money, frozen=True, kw_only=True, gc=False):
    payment_id: Id | None = None
    refund_id: Id | None = None


class _Transfer(_Money, frozen=True, kw_only=True, gc=False):
    to_customer: Id


class _Receive(_Money, frozen=True, kw_only=True, gc=False):
    transfer_id: Id
    from_customer: Id
    returned: bool | None = None
    """It comes back: the other customer could not take it."""


class _OrderCreate(_Command, frozen=True, kw_only=True, gc=False):
    order_id: Id
    order_type: Id
    total_amount: str
    currency: Currency | None = None
    items: list[Any] | None = None
    plan_id: Id | None = None
    subscription_id: Id | None = None
    reason: Words | None = None
    metadata: dict[str, Any] | None = None
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=1, le=31_536_000)] | None = None


class _OrderChange(_Command, frozen=True, kw_only=True, gc=False):
    order_id: Id
    order_type: Id | None = None
    plan_id: Id | None = None
    subscription_id: Id | None = None
    payment_id: Id | None = None
    refund_id: Id | None = None
    reason: Words | None = None
    items: list[Any] | None = None
    metadata: dict[str, Any] | None = None
    fulfillment_details: dict[str, Any] | None = None


class _OrderMark(_OrderChange, frozen=True, kw_only=True, gc=False):
    status: Literal["refunded", "canceled"]


class _PaymentCreate(_Command, frozen=True, kw_only=True, gc=False):
    payment_intent_id: Id
    amount: str
    currency: Currency | None = None
    order_id: Id | None = None
    invoice_id: Id | None = None
    description: Words | None = None
    metadata: dict[str, Any] | None = None


class _PaymentChange(_Command, frozen=True, kw_only=True, gc=False):
    payment_intent_id: Id | None = None
    payment_id: Id | None = None
    order_id: Id | None = None
    invoice_id: Id | None = None
    refund_id: Id | None = None
    reason: Words | None = None


class _IntentChange(_PaymentChange, frozen=True, kw_only=True, gc=False):
    payment_intent_id: Id


class _PaymentRefund(_PaymentChange, frozen=True, kw_only=True, gc=False):
    payment_id: Id


_order_change: Final = account_type(_OrderChange, positive=True)
_intent_change: Final = account_type(_IntentChange, positive=True)

COMMAND_TYPES: Final[dict[str, BuiltIn]] = {
    CUSTOMER_PUT: account_type(_CustomerPut, {"merge": False}),
    CUSTOMER_TICK: account_type(_Tick),
    WALLET_CREDIT: account_type(_Credit, {"priority": 0, "kind": "paid"}, positive=True),
    WALLET_DEPOSIT: account_type(_Deposit, positive=True),
    WALLET_CONSUME: account_type(_Consume, positive=True),
    WALLET_WITHDRAW: account_type(_Money, positive=True),
    WALLET_ADJUST: signed_type(_Adjust),
    WALLET_REFUND: account_type(_Refund, positive=True),
    WALLET_TRANSFER: account_type(_Transfer, positive=True),
    WALLET_RECEIVE: account_type(_Receive, positive=True),
    ORDER_CREATE: account_type(_OrderCreate),
    ORDER_UPDATE: _order_change,
    ORDER_CANCEL: _order_change,
    ORDER_EXPIRE: _order_change,
    ORDER_FULFILL: _order_change,
    ORDER_REFUND: _order_change,
    ORDER_MARK: account_type(_OrderMark, positive=True),
    PAYMENT_CREATE: account_type(_PaymentCreate, positive=True),
    PAYMENT_COMPLETE: _intent_change,
    PAYMENT_CANCEL: _intent_change,
    PAYMENT_REFUND: account_type(_PaymentRefund, positive=True),
}
"""The shapes of the commands about customers, wallets, orders and payments."""
