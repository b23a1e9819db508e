"""What an event claims besides its own identity: things that may happen once, whatever event tells of them.

An allocation is released once; a payment, a credit, a refund moves money once; an order credits once, by payment or by
completion. A claim is booked like an identity (16 bytes of digest, 8 of content) and lives in the same index, so it is
remembered for ever and costs no store in the path.

A claim of `claims` ends an event that tells of it again: with the same content it has no effect, with another it is a
conflict. An order's claim decides only who brings its credit, so effects ask for it and make it themselves.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

from schemas.event import Event

ALLOCATION: Final = "allocation"
CREDIT: Final = "credit"
INVOICE_PAYMENT: Final = "invoice_payment"
"""Claimed beside the payment by one that pays an invoice: its refund takes nothing from the wallet it never came to."""
ORDER: Final = "order"
PAYMENT: Final = "payment"
REFUND: Final = "refund"
USER: Final = "user"


class Claim(NamedTuple):
    """`identity` is what may stand once; equal `content` makes a second telling harmless, another a conflict."""

    kind: str
    identity: bytes
    content: bytes


def claims(event: Event) -> tuple[Claim, ...]:
    """The claims of an event that is well formed, in the order in which they are judged; most have none."""
    naming = _CLAIMS.get(event.type)
    if naming is None:
        return ()
    data = event.data
    made = tuple(
        claim_of(event, kind, str(data[field]), *(str(data.get(name)) for name in content))
        for kind, field, content in naming
        if data.get(field) is not None
    )
    if event.type == "payment.completed" and data.get("invoice_id") is not None:
        made += (claim_of(event, INVOICE_PAYMENT, data["payment_id"]),)
    return made


def claim_of(event: Event, kind: str, name: str, *content: str) -> Claim:
    """One claim about the event's customer."""
    told = blake2b("\x1f".join(content).encode(), digest_size=8).digest()
    return Claim(kind, claim_identity(event.tenant, event.customer, kind, name), told)


def claim_identity(tenant: str, customer: str, kind: str, name: str) -> bytes:
    """The digest under which a claim is booked; no event identity collides with it (the marker in front differs)."""
    text = f"{kind}:{len(tenant)}:{tenant}{len(customer)}:{customer}{name}"
    return blake2b(text.encode(), digest_size=16, person=b"tollgate.claim").digest()


# event type -> (kind, the field of data that names it, the fields that must agree)
_CLAIMS: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "device.released": ((ALLOCATION, "allocation_id", ("allocated_at", "released_at")),),
    "credit.granted": ((CREDIT, "credit_id", ("amount", "currency")),),
    "payment.completed": ((PAYMENT, "payment_id", ("amount", "currency")),),
    "payment.refunded": ((REFUND, "refund_id", ("payment_id", "amount")),),
}

CLAIMING = frozenset(_CLAIMS)
"""Types of event that claim anything."""
