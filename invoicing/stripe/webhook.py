"""What Stripe tells by webhook, as events of the account it is about. Pure, but for the check of the signature.

Only what carries our metadata concerns us. The event keeps Stripe's id, and a payment is claimed by its own id, so one
that is told twice, or by two events, counts once. A payment that was marked in Stripe because it had been made with us
is an echo, and no event.

    invoice.paid                    payment.completed that names our invoice
    payment_intent.succeeded        payment.completed that names our intent, and its order or invoice
    payment_intent.payment_failed   payment.failed
    charge.refunded                 payment.refunded, by what was added to the charge's refunds
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from invoicing.stripe.amounts import from_stripe
from invoicing.stripe.gateway import CUSTOMER, INTENT, INVOICE, ORDER, SETTLED, TENANT
from schemas.errors import InvalidInput

SOURCE: Final = "stripe"
TOLERANCE_SECONDS: Final = 300
"""How old a signature may be: a delivery that is recorded and played again later is refused."""


def verified(body: bytes, signature: str, secrets: Iterable[str]) -> dict[str, Any]:
    """The event in a delivery that one of the secrets signed (several: one is being replaced by the other).

    Errors: InvalidInput `bad_signature`, `not_json`.
    """
    import stripe  # not before it is called: see invoicing.stripe.gateway

    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body.decode(), signature, secret, TOLERANCE_SECONDS)
        except stripe.SignatureVerificationError:
            continue
        except UnicodeDecodeError:
            raise InvalidInput("not_json", "the delivery is not UTF-8") from None
        return _event(body)
    raise InvalidInput("bad_signature", "Stripe-Signature is not that of any secret, or too old")


def _event(body: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidInput("not_json", "the delivery is no JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        raise InvalidInput("not_json", "the delivery is no event of Stripe")
    return event


def account_event(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The CloudEvent that a Stripe event is with us; None where it is none of ours.

    Errors: InvalidInput for one that says it is ours and lacks what it needs.
    """
    about = event["data"].get("object")
    translate = _TRANSLATIONS.get(str(event.get("type")))
    if translate is None or not isinstance(about, dict):
        return None
    metadata = about.get("metadata") or {}
    if not metadata.get(CUSTOMER) or not metadata.get(TENANT):
        return None
    try:
        told = translate(about, metadata, event)
        if told is None:
            return None
        event_type, data = told
        return {
            "specversion": "1.0",
            "id": str(event["id"]),
            "source": SOURCE,
            "type": event_type,
            "subject": metadata[CUSTOMER],
            "tenantid": metadata[TENANT],
            "time": datetime.fromtimestamp(int(event["created"]), UTC).isoformat().replace("+00:00", "Z"),
            "data": {"user_id": metadata[CUSTOMER], **data},
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("missing_field", f"the event of Stripe has no usable {error}") from None


_Told = tuple[str, dict[str, Any]] | None


def _invoice_paid(invoice: Mapping[str, Any], metadata: Mapping[str, str], _: Mapping[str, Any]) -> _Told:
    if not metadata.get(INVOICE) or metadata.get(SETTLED) or not invoice["amount_paid"]:
        return None
    money = _money(invoice["amount_paid"], invoice["currency"])
    return "payment.completed", {"payment_id": invoice["id"], "invoice_id": metadata[INVOICE], **money}


def _intent_succeeded(intent: Mapping[str, Any], metadata: Mapping[str, str], _: Mapping[str, Any]) -> _Told:
    if not metadata.get(INTENT):
        return None
    named = {"payment_id": intent["id"], **_names(metadata)}
    return "payment.completed", {
        **named,
        **_money(intent.get("amount_received") or intent["amount"], intent["currency"]),
    }


def _intent_failed(intent: Mapping[str, Any], metadata: Mapping[str, str], _: Mapping[str, Any]) -> _Told:
    if not metadata.get(INTENT):
        return None
    error = (intent.get("last_payment_error") or {}).get("message") or "the payment failed"
    return "payment.failed", {**_names(metadata), **_money(intent["amount"], intent["currency"]), "error": error}


def _charge_refunded(charge: Mapping[str, Any], metadata: Mapping[str, str], event: Mapping[str, Any]) -> _Told:
    refunded = int(charge["amount_refunded"])
    before = int((event["data"].get("previous_attributes") or {}).get("amount_refunded") or 0)
    data = {
        "payment_id": charge["payment_intent"],
        # Named by how much was given back in all, so that one refund told by two events is one.
        "refund_id": f"{charge['id']}:{refunded}",
        **_money(refunded - before, charge["currency"]),
    }
    return "payment.refunded", data


def _names(metadata: Mapping[str, str]) -> dict[str, str]:
    named = (("payment_intent_id", INTENT), ("order_id", ORDER), ("invoice_id", INVOICE))
    return {name: metadata[key] for name, key in named if metadata.get(key)}


def _money(amount: int, currency: str) -> dict[str, str]:
    return {"amount": from_stripe(int(amount), currency), "currency": currency.upper()}


_TRANSLATIONS: Final = {
    "invoice.paid": _invoice_paid,
    "payment_intent.succeeded": _intent_succeeded,
    "payment_intent.payment_failed": _intent_failed,
    "charge.refunded": _charge_refunded,
}
