"""What an event claims besides its own identity: things that may happen once, whatever event tells of them.

An allocation is released once; a payment, a credit, a refund moves money once; an order credits once, by payment or by
completion. A claim is booked like an identity (16 bytes of digest, 8 of content) and lives in the same index, so it is
remembered for ever and costs no store in the path.

A claim of `claims` ends an event that tells of it again: with the same content it has no effect, with another it is a
conflict. An order's claim decides only who brings its credit, so effects ask for it and make it themselves.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

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


def claims(event: Event) -> tuple[Claim, ...]:
    """The claims of an event that is well formed, in the order in which they are judged; most have none."""
    data = event.data
    return tuple(
        [
            claim_of(event, kind, name, *[str(data.get(field)) for field in content])
            for kind, name, content in _claimed(event)
        ]
    )


def identities_claimed(event: Event) -> list[bytes]:
    """Those of `claims`: all that has to be looked up, for half the work."""
    return [claim_identity(event.tenant, event.customer, kind, name) for kind, name, _ in _claimed(event)]


def _claimed(event: Event) -> list[tuple[str, str, tuple[str, ...]]]:
    """What an event claims: kind and name, and the fields of data that must agree."""
    naming = _CLAIMS.get(event.type)
    if naming is None:
        return []
    kind, field, content = naming
    data = event.data
    if data.get(field) is None:
        return []
    if event.type == "payment.completed" and data.get("invoice_id") is not None:
        return [(kind, str(data[field]), content), (INVOICE_PAYMENT, str(data[field]), ())]
    return [(kind, str(data[field]), content)]


def claim_of(event: Event, kind: str, name: str, *content: str) -> Claim:
    """One claim about the event's customer."""
    told = blake2b("\x1f".join(content).encode(), digest_size=8).digest()
    return Claim(kind, claim_identity(event.tenant, event.customer, kind, name), told)


def claim_identity(tenant: str, customer: str, kind: str, name: str) -> bytes:
    """The digest under which a claim is booked; no event identity collides with it (the marker in front differs)."""
    text = f"{kind}:{len(tenant)}:{tenant}{len(customer)}:{customer}{name}"
    digest = _BEGUN.copy()
    digest.update(text.encode())
    return digest.digest()


_BEGUN: Final = blake2b(digest_size=16, person=b"tollgate.claim")
"""The digest of every identity before its text: to copy it costs less than to begin anew."""

# event type -> (kind, the field of data that names it, the fields that must agree)
_CLAIMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "device.released": (ALLOCATION, "allocation_id", ("allocated_at", "released_at")),
    "credit.granted": (CREDIT, "credit_id", ("amount", "currency")),
    "payment.completed": (PAYMENT, "payment_id", ("amount", "currency")),
    "payment.refunded": (REFUND, "refund_id", ("payment_id", "amount")),
}

CLAIMING = frozenset(_CLAIMS)
"""Types of event that claim anything."""
