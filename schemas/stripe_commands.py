"""Commands that write down what our objects are called in Stripe, once they are there."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from schemas.account_shape import Named, account_type
from schemas.shape import Id
from schemas.usage_types import BuiltIn

STRIPE_CUSTOMER: Final = "tollgate.stripe.customer"
STRIPE_INVOICE: Final = "tollgate.stripe.invoice"
STRIPE_PAYMENT: Final = "tollgate.stripe.payment"

_Text = Annotated[str, msgspec.Meta(max_length=2000)]


class _Customer(Named, frozen=True, kw_only=True, gc=False):
    stripe_customer_id: Id


class _Invoice(Named, frozen=True, kw_only=True, gc=False):
    invoice_id: Id
    stripe_invoice_id: Id
    stripe_status: Id
    url: _Text | None = None


class _Payment(Named, frozen=True, kw_only=True, gc=False):
    payment_intent_id: Id
    stripe_payment_intent_id: Id
    client_secret: _Text | None = None


STRIPE_COMMANDS: Final[dict[str, BuiltIn]] = {
    STRIPE_CUSTOMER: account_type(_Customer),
    STRIPE_INVOICE: account_type(_Invoice),
    STRIPE_PAYMENT: account_type(_Payment),
}
"""By type."""
