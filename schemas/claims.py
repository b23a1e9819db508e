"""What an event claims besides its own identity: things that may happen once, whatever event tells of them.

An allocation is released once; a payment, a credit, a refund moves money once; an order credits once, by payment or by
completion. A claim is booked like an identity (16 bytes of digest, 8 of content) and lives in the same index, so it is
remembered for ever and costs no store in the path.

Claims of `claims_made` are part of their event, as its identity is. They end an event that tells of them again: with
the same content it has no effect, with another it is a conflict. An order's claim decides only who brings its credit,
so effects ask for it and make it themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from schemas.event import Event

ALLOCATION: Final = "allocation"
CREDIT: Final = "credit"
INVOICE_PAYMENT: Final = "invoice_payment"
"""Claimed beside the payment by one that pays an invoice: its refund takes nothing from the wallet it never came to."""
ORDER: Final = "order"
PAYMENT: Final = "payment"
REFUND: Final = "refund"
USER: Final = "user"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """`identity` is what may stand once; equal `content` makes a second telling harmless, another a conflict."""

    kind: str
    identity: bytes
    content: bytes


def claims_made(tenant: str, customer: str, event_type: str, data: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of an event that is well formed, in the order in which they are judged; most have none."""
    naming = _CLAIMS.get(event_type)
    if naming is None:
        return ()
    kind, field, one, other = naming
    name = data.get(field)
    if name is None:
        return ()
    told = f"{data.get(one)}\x1f{data.get(other)}"
    claim = Claim(kind, claim_identity(tenant, customer, kind, name), _content(told))
    if kind == PAYMENT and data.get("invoice_id") is not None:
        return claim, Claim(INVOICE_PAYMENT, claim_identity(tenant, customer, INVOICE_PAYMENT, name), _content(""))
    return (claim,)


def claim_of(event: Event, kind: str, name: str, *content: str) -> Claim:
    """One claim about the event's customer."""
    identity = claim_identity(event.tenant, event.customer, kind, name)
    return Claim(kind, identity, _content("\x1f".join(content)))


def claim_identity(tenant: str, customer: str, kind: str, name: str) -> bytes:
    """The digest under which a claim is booked; no event identity collides with it (the marker in front differs)."""
    text = f"{kind}:{len(tenant)}:{tenant}{len(customer)}:{customer}{name}"
    digest = _IDENTITY.copy()
    digest.update(text.encode())
    return digest.digest()


def _content(told: str) -> bytes:
    digest = _CONTENT.copy()
    digest.update(told.encode())
    return digest.digest()


# Digests before their text: to copy one costs less than to begin anew.
_IDENTITY: Final = blake2b(digest_size=16, person=b"tollgate.claim")
_CONTENT: Final = blake2b(digest_size=8)

# event type -> (kind, the field of data that names it, the two fields that must agree)
_CLAIMS: Final = {
    "device.released": (ALLOCATION, "allocation_id", "allocated_at", "released_at"),
    "credit.granted": (CREDIT, "credit_id", "amount", "currency"),
    "payment.completed": (PAYMENT, "payment_id", "amount", "currency"),
    "payment.refunded": (REFUND, "refund_id", "payment_id", "amount"),
}

CLAIMING: Final = frozenset(_CLAIMS)
"""Types of event that claim anything."""
