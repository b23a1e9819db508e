"""The commands about subscriptions, invoices and test clocks: their types and the shapes of their data.

As all commands they carry no time of their own: they happen when Kafka receives them, or at the time of the test clock
that their customer lives on. Names of documents lie in the data, so that all that is needed is read before deciding.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from schemas.account_shape import Named, account_type
from schemas.documents import COUNTER
from schemas.period import Timestamp
from schemas.shape import Id
from schemas.usage_types import BuiltIn

SUBSCRIPTION_CREATE: Final = "tollgate.subscription.create"
SUBSCRIPTION_CHANGE: Final = "tollgate.subscription.change"
SUBSCRIPTION_CANCEL: Final = "tollgate.subscription.cancel"
SUBSCRIPTION_REACTIVATE: Final = "tollgate.subscription.reactivate"
SUBSCRIPTION_PAUSE: Final = "tollgate.subscription.pause"
SUBSCRIPTION_RESUME: Final = "tollgate.subscription.resume"
SUBSCRIPTION_RENEW: Final = "tollgate.subscription.renew"
SUBSCRIPTION_PAID: Final = "tollgate.subscription.paid"
SUBSCRIPTION_UNPAID: Final = "tollgate.subscription.unpaid"
INVOICE_DRAFT: Final = "tollgate.invoice.draft"
INVOICE_FINALIZE: Final = "tollgate.invoice.finalize"
INVOICE_NUMBER: Final = "tollgate.invoice.number"
"""To the tenant's numbering customer."""
INVOICE_NUMBERED: Final = "tollgate.invoice.numbered"
"""And back."""
INVOICE_VOID: Final = "tollgate.invoice.void"
INVOICE_COLLECT: Final = "tollgate.invoice.collect"
"""Sees whether the wallet has come to pay it, and counts the attempt if not."""
INVOICES_COLLECT: Final = "tollgate.invoices.collect"
"""The same for all invoices that are owed."""
INVOICE_OVERDUE: Final = "tollgate.invoice.overdue"
INVOICE_PAY: Final = "tollgate.invoice.pay"
"""A payment of it that came in, as its sender knows."""
INVOICE_REFUNDED: Final = "tollgate.invoice.refunded"
INVOICE_UNCOLLECTIBLE: Final = "tollgate.invoice.uncollectible"
CLOCK_SET: Final = "tollgate.clock.set"
"""To the clock's own customer: makes it, moves it, puts customers on it."""
CLOCK_TOLD: Final = "tollgate.clock.told"
"""To each customer that lives on it."""

CLOCKS_CUSTOMER: Final = "tollgate:clocks"
"""Lives like a customer of the tenant, and keeps its test clocks."""

CLOCK_CUSTOMERS_MAX: Final = 1_000
"""Customers on one clock."""

PAYMENTS_MAX: Final = 1_000
"""Payments of an invoice that can be void."""

When = Literal["now", "period_end"]
_Words = Annotated[str, msgspec.Meta(max_length=1000)]


def billing_id(customer: str) -> str:
    """The counter document that lists a customer's invoices and numbers their changes."""
    return f"billing:{customer}"


def clock_id(name: str) -> str:
    """The counter document of a test clock."""
    return f"clock:{name}"


NUMBERS: Final = (COUNTER, "invoice_numbers")
"""The document of the last invoice number of a tenant."""


class _Command(Named, frozen=True, kw_only=True, gc=False):
    request: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    reason: _Words | None = None


class _Discount(msgspec.Struct, frozen=True):
    percent: str | None = None
    amount: str | None = None
    ends_at: Timestamp | None = None


class _Create(_Command, frozen=True, kw_only=True, gc=False):
    subscription_id: Id
    plan_id: Id
    trial_days: Annotated[int, msgspec.Meta(ge=0, le=3650)] | None = None
    anchor: Timestamp | None = None
    start: Timestamp | None = None
    status: Literal["active", "incomplete"] | None = None
    discount: _Discount | None = None
    metadata: dict[str, Any] | None = None


class _Change(_Command, frozen=True, kw_only=True, gc=False):
    subscription_id: Id
    plan_id: Id
    when: When = "now"


class _Cancel(_Command, frozen=True, kw_only=True, gc=False):
    subscription_id: Id
    when: When = "now"
    prorate: bool = True


class _Subscription(_Command, frozen=True, kw_only=True, gc=False):
    subscription_id: Id


class _Renew(_Subscription, frozen=True, kw_only=True, gc=False):
    due: Timestamp


class _Unpaid(_Subscription, frozen=True, kw_only=True, gc=False):
    invoice_id: Id
    attempt_count: int


class _Draft(_Command, frozen=True, kw_only=True, gc=False):
    expects: int
    """The version of the customer's billing document that it was built upon."""
    invoice: dict[str, Any]
    position: dict[str, Any]
    """Where the ledger was read up to: `partition`, `seq`; and `covers`, the ranges of seq it bills of its period."""
    adjusts: list[dict[str, Any]]
    """Periods whose late usage it has: `start`, `end`, `from`, `to` (seq)."""
    takes: dict[str, Any] | None = None
    """What of a subscription it bills: `subscription_id`, `items`, `billed_from`, `billed_to`."""


class _Invoice(_Command, frozen=True, kw_only=True, gc=False):
    invoice_id: Id
    subscription_id: Id | None = None
    due_days: Annotated[int, msgspec.Meta(ge=0, le=3650)] | None = None


class _Pay(_Invoice, frozen=True, kw_only=True, gc=False):
    payment_id: Id


class _Void(_Invoice, frozen=True, kw_only=True, gc=False):
    payments: Annotated[list[Id], msgspec.Meta(max_length=PAYMENTS_MAX)] | None = None
    """Ids of the payments that name it, as the sender read them."""


class _Refunded(_Invoice, frozen=True, kw_only=True, gc=False):
    payment_id: Id
    refund_id: Id


class _Number(_Command, frozen=True, kw_only=True, gc=False):
    invoice_id: Id
    customer: Id


class _Numbered(_Command, frozen=True, kw_only=True, gc=False):
    invoice_id: Id
    number: Annotated[int, msgspec.Meta(ge=1)]


class _Clock(_Command, frozen=True, kw_only=True, gc=False):
    clock: Id
    now: Timestamp | None = None
    """Absent: as it stands."""
    name: _Words | None = None
    customers: Annotated[list[Id], msgspec.Meta(max_length=CLOCK_CUSTOMERS_MAX)] | None = None


_invoice: Final = account_type(_Invoice)
_subscription: Final = account_type(_Subscription)

INVOICING_COMMANDS: Final[dict[str, BuiltIn]] = {
    SUBSCRIPTION_CREATE: account_type(_Create),
    SUBSCRIPTION_CHANGE: account_type(_Change),
    SUBSCRIPTION_CANCEL: account_type(_Cancel),
    SUBSCRIPTION_REACTIVATE: _subscription,
    SUBSCRIPTION_PAUSE: _subscription,
    SUBSCRIPTION_RESUME: _subscription,
    SUBSCRIPTION_RENEW: account_type(_Renew),
    SUBSCRIPTION_PAID: _subscription,
    SUBSCRIPTION_UNPAID: account_type(_Unpaid),
    INVOICE_DRAFT: account_type(_Draft),
    INVOICE_FINALIZE: _invoice,
    INVOICE_NUMBER: account_type(_Number),
    INVOICE_NUMBERED: account_type(_Numbered),
    INVOICE_VOID: account_type(_Void),
    INVOICE_COLLECT: _invoice,
    INVOICES_COLLECT: account_type(_Command),
    INVOICE_OVERDUE: _invoice,
    INVOICE_PAY: account_type(_Pay, positive=True),
    INVOICE_REFUNDED: account_type(_Refunded, positive=True),
    INVOICE_UNCOLLECTIBLE: _invoice,
    CLOCK_SET: account_type(_Clock),
    CLOCK_TOLD: account_type(_Clock),
}
"""By type."""
