"""Documents: what the log knows of a customer besides money - its orders, payments, subscriptions, invoices.

A document is a JSON object under a kind and an id that is unique in its tenant. An entry of the ledger writes it whole;
the newest stands in Redis, beside the accounts and by the same position, and in ClickHouse. Every body names its
`customer`; money in it is decimal text, times are RFC 3339.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

DOCUMENT_MAX_BYTES: Final = 150_000
"""All documents of one entry together: with a chunk they still fit a ledger record."""

CUSTOMER: Final = "customer"
SUBSCRIPTION: Final = "subscription"
ORDER: Final = "order"
PAYMENT: Final = "payment"
INVOICE: Final = "invoice"
OPERATION: Final = "operation"
"""What became of a command, for whoever sent it; it stands in Redis for OPERATION_KEPT_MS."""
CORRECTION: Final = "correction"
COUNTER: Final = "counter"
"""The last number given, by series."""

KINDS: Final = frozenset({CUSTOMER, SUBSCRIPTION, ORDER, PAYMENT, INVOICE, OPERATION, CORRECTION, COUNTER})

OPERATION_KEPT_MS: Final = 24 * 60 * 60 * 1000


class Written(NamedTuple):
    """A document as an entry wrote it."""

    kind: str
    id: str
    body: bytes


def document_key(tenant: str, kind: str, document_id: str) -> str:
    """One text for a document; kinds have no colon, and the length in front keeps tenants apart."""
    return f"{kind}:{len(tenant)}:{tenant}:{document_id}"


def kind_of(key: str) -> str:
    """The kind in a document's key."""
    return key.partition(":")[0]


def encode_body(body: dict[str, Any]) -> bytes:
    """The one form of a body: keys sorted, so that equal bodies are equal bytes."""
    return _encode(body)


def decode_body(body: bytes) -> dict[str, Any]:
    """A fresh copy of a body."""
    return _decode(body)


# What a sender put into its order may be any number that JSON has; orjson takes none beyond 64 bits, and no Decimal.
_encode: Final = msgspec.json.Encoder(order="sorted", decimal_format="number").encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
