"""What Stripe tells: only what it signed, only what is ours, each payment and refund under a name of its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from invoicing.stripe.amounts import from_stripe, to_stripe
from invoicing.stripe.webhook import account_event, verified
from schemas.errors import InvalidInput
from schemas.event import decode

OURS = {"tollgate_tenant": "acme", "tollgate_customer": "cust-42"}
CREATED = 1_795_000_000


def signed(body: bytes, secret: str = "whsec_1", at: int | None = None) -> str:
    """As https://docs.stripe.com/webhooks#verify-manually says."""
    stamp = int(time.time()) if at is None else at
    made = hmac.new(secret.encode(), b"%d." % stamp + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={made}"


def told(kind: str, about: dict[str, Any], **data: Any) -> dict[str, Any]:
    """An event of Stripe."""
    return {"id": "evt_1", "type": kind, "created": CREATED, "data": {"object": about, **data}}


def invoice(**changes: Any) -> dict[str, Any]:
    """One of ours that was paid."""
    metadata = {**OURS, "tollgate_invoice": "inv_1"}
    return {"id": "in_1", "amount_paid": 1250, "currency": "usd", "metadata": metadata, **changes}


def intent(**changes: Any) -> dict[str, Any]:
    """One of ours for an order."""
    metadata = {**OURS, "tollgate_payment_intent": "pi_o1", "tollgate_order": "o1"}
    return {"id": "pi_9", "amount": 1250, "currency": "jpy", "metadata": metadata, **changes}


def charge(refunded: int, before: int = 0) -> dict[str, Any]:
    """A charge of which this much was given back."""
    about = {"id": "ch_1", "payment_intent": "pi_9", "currency": "usd", "amount_refunded": refunded, "metadata": OURS}
    return told("charge.refunded", about, previous_attributes={"amount_refunded": before})


@pytest.mark.parametrize("secrets", [["whsec_1"], ["whsec_0", "whsec_1"]])
def test_any_of_the_secrets_may_have_signed(secrets: list[str]) -> None:
    """While one replaces the other both hold."""
    body = json.dumps(told("invoice.paid", invoice())).encode()
    assert verified(body, signed(body), secrets)["id"] == "evt_1"


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "t=1,v1=00",
        "nonsense",
        signed(b"another body"),
        signed(b'{"data": {}}', "whsec_other"),
        signed(b'{"data": {}}', at=int(time.time()) - 3600),
    ],
    ids=["empty", "false", "no signature", "of another body", "by another secret", "an hour old"],
)
def test_what_was_not_signed_now_is_refused(signature: str) -> None:
    """Another body, another secret, an old delivery played again."""
    with pytest.raises(InvalidInput) as refused:
        verified(b'{"data": {}}', signature, ["whsec_1"])
    assert refused.value.reason == "bad_signature"


@pytest.mark.parametrize("body", [b"[]", b"{}", b"\xff", b'{"data": 1}', b"{"])
def test_what_is_signed_and_no_event_is_refused(body: bytes) -> None:
    """By its form, not by an error of ours."""
    with pytest.raises(InvalidInput):
        verified(body, signed(body), ["whsec_1"])


@pytest.mark.parametrize(
    ("event", "kind", "data"),
    [
        (
            told("invoice.paid", invoice()),
            "payment.completed",
            {"payment_id": "in_1", "invoice_id": "inv_1", "amount": "12.5", "currency": "USD"},
        ),
        (
            told("payment_intent.succeeded", intent()),
            "payment.completed",
            {"payment_id": "pi_9", "payment_intent_id": "pi_o1", "order_id": "o1", "amount": "1250", "currency": "JPY"},
        ),
        (
            told("payment_intent.payment_failed", intent(last_payment_error={"message": "no"})),
            "payment.failed",
            {"payment_intent_id": "pi_o1", "order_id": "o1", "amount": "1250", "currency": "JPY", "error": "no"},
        ),
        (
            charge(700, before=200),
            "payment.refunded",
            {"payment_id": "pi_9", "refund_id": "ch_1:700", "amount": "5", "currency": "USD"},
        ),
    ],
)  # fmt: skip
def test_it_becomes_an_event_of_the_account(event: dict[str, Any], kind: str, data: dict[str, Any]) -> None:
    """With Stripe's id and time, and such as the worker's own decoder takes."""
    made = account_event(event)
    assert made is not None
    assert (made["id"], made["source"], made["type"], made["subject"], made["tenantid"]) == (
        "evt_1", "stripe", kind, "cust-42", "acme",
    )  # fmt: skip
    assert made["data"] == {"user_id": "cust-42", **data}
    read = decode(json.dumps(made).encode(), CREATED * 10**6 + 1, 0)
    assert (read.type, read.occurred_at) == (kind, CREATED * 10**6)


@pytest.mark.parametrize(
    "event",
    [
        told("invoice.paid", invoice(metadata={})),
        told("invoice.paid", invoice(metadata=OURS)),
        told("invoice.paid", invoice(amount_paid=0)),
        told("invoice.paid", invoice(metadata={**OURS, "tollgate_invoice": "i", "tollgate_settled": "yes"})),
        told("payment_intent.succeeded", intent(metadata=OURS)),
        told("customer.created", {"id": "cus_1", "metadata": OURS}),
    ],
)
def test_what_is_none_of_ours_or_an_echo_is_no_event(event: dict[str, Any]) -> None:
    """Other invoices of the account, what asked for nothing, and payments that were made with us."""
    assert account_event(event) is None


def test_an_event_of_ours_without_what_it_needs_is_refused_by_name() -> None:
    """And Stripe shows the refusal where its owner looks."""
    with pytest.raises(InvalidInput, match="currency"):
        account_event(told("invoice.paid", {"id": "in_1", "amount_paid": 1, "metadata": invoice()["metadata"]}))


@pytest.mark.parametrize(
    ("text", "currency", "number"),
    [
        ("12.5", "USD", 1250), ("-0.07", "EUR", -7), ("1250", "JPY", 1250), ("12", "ISK", 1200), ("3", "UGX", 300),
        ("1.23", "KWD", 1230),
    ],
)  # fmt: skip
def test_amounts_are_written_as_stripe_reads_them(text: str, currency: str, number: int) -> None:
    """docs.stripe.com/currencies: zero decimals, three decimals, and the two exceptions."""
    assert to_stripe(text, currency) == number
    assert from_stripe(number, currency.lower()) == text


@pytest.mark.parametrize(("text", "currency"), [("0.001", "USD"), ("1.234", "KWD"), ("0.5", "JPY")])
def test_an_amount_that_stripe_cannot_write_is_refused(text: str, currency: str) -> None:
    """Rather than rounded."""
    with pytest.raises(InvalidInput):
        to_stripe(text, currency)
