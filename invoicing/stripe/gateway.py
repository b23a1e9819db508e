"""Stripe's API, as much of it as is used, behind typed methods.

Every call that makes something has an idempotency key made of the object of ours and the step, so that a call whose
answer was lost is made again with the same effect. Stripe forgets keys after a day; what is there by then is found by
the metadata that names our object. A busy or failing Stripe (408, 409, 429, 5xx, no answer) is tried again with
back-off, for some seconds, and is then Unavailable: nothing is known, and the caller calls again later.

Errors: Unavailable; Conflict where Stripe refuses what it is asked for, with its words; InvalidInput for an amount that
Stripe cannot write. The key is in none of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from invoicing.stripe.amounts import from_stripe, to_stripe
from schemas.errors import Conflict, Unavailable

if TYPE_CHECKING:
    import stripe  # where it is called, it is loaded then: a tenth of a second that most deployments have no use for

Answer = TypeVar("Answer")

TENANT: Final = "tollgate_tenant"
CUSTOMER: Final = "tollgate_customer"
INVOICE: Final = "tollgate_invoice"
LINE: Final = "tollgate_line"
INTENT: Final = "tollgate_payment_intent"
ORDER: Final = "tollgate_order"
SETTLED: Final = "tollgate_settled"
"""Names of metadata. An invoice with SETTLED was paid with us: Stripe's word of its payment is an echo."""

TIMEOUT_SECONDS: Final = 20.0
PAUSES_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between the tries of one call."""
PAGE: Final = 100

_BUSY: Final = frozenset({408, 409, 429})
_FAULT: Final = 500


@dataclass(frozen=True, slots=True)
class Pushed:
    """An invoice as Stripe has it."""

    stripe_invoice_id: str
    tollgate_id: str
    """Empty: it is none of ours."""
    tenant: str
    status: str
    """Stripe's word: draft, open, paid, void, uncollectible."""
    total: str
    """Plain decimal text."""
    currency: str
    url: str
    """Where its customer can pay it; may be empty."""
    credited: str = "0"
    """Plain decimal text: what credit notes took back after it was paid."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A payment intent as Stripe has it."""

    stripe_id: str
    status: str
    client_secret: str


class StripeGateway:
    """One Stripe account. Use as a context manager, or close it."""

    def __init__(
        self,
        api_key: str,
        api_base: str | None = None,
        *,
        pauses_seconds: tuple[float, ...] = PAUSES_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        import stripe

        self._pauses = pauses_seconds
        self._http = stripe.AIOHTTPClient(timeout=timeout_seconds)
        self._client = stripe.StripeClient(
            api_key,
            http_client=self._http,
            max_network_retries=0,  # which call is tried again, and how long, is said here
            base_addresses={"api": api_base.rstrip("/")} if api_base else {},
        )

    async def close(self) -> None:
        """Gives connections back."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> StripeGateway:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def customer(self, tenant: str, customer: str, body: Mapping[str, Any]) -> str:
        """Stripe's id of a customer of ours: the one its object names, or a new one."""
        known = body.get("stripe_customer_id")
        if known:
            return str(known)
        params: dict[str, Any] = {
            "name": body.get("name") or customer,
            "metadata": {TENANT: tenant, CUSTOMER: customer},
        }
        if body.get("email"):
            params["email"] = body["email"]
        made = await self._call(
            lambda: self._client.v1.customers.create_async(params, _keyed(f"customer:{tenant}:{customer}"))  # type: ignore[arg-type]
        )
        return str(made.id)

    async def push_invoice(self, tenant: str, document: Mapping[str, Any], stripe_customer: str) -> Pushed:
        """Makes a final invoice of ours stand in Stripe, line by line, with the same total; once, however often."""
        draft = await self._find_invoice(stripe_customer, document["id"]) or await self._draft(
            tenant, document, stripe_customer
        )
        if draft.status != "draft":
            return _pushed(draft)
        there = {line async for line in self._lines_of(str(draft.id))}
        for line in document["lines"]:
            if line["id"] not in there:
                await self._line(document, line, str(draft.id), stripe_customer)
        final = await self._call(
            lambda: self._client.v1.invoices.finalize_invoice_async(
                str(draft.id), {"auto_advance": False}, _keyed(f"{document['id']}:finalize")
            )
        )
        pushed = _pushed(final)
        if to_stripe(pushed.total, pushed.currency) != to_stripe(document["total"], document["currency"]):
            raise Conflict("stripe_total", f"invoice {document['id']} is {document['total']}, in Stripe {pushed.total}")
        return pushed

    async def settle_invoice(self, stripe_invoice_id: str) -> None:
        """Marks an invoice as paid that was paid with us, not through Stripe."""
        invoice = await self._retrieve(stripe_invoice_id)
        if invoice.status not in ("open", "uncollectible"):
            return
        marked: Any = {"metadata": {SETTLED: "yes"}}
        await self._call(
            lambda: self._client.v1.invoices.update_async(
                stripe_invoice_id, marked, _keyed(f"{stripe_invoice_id}:settled")
            )
        )
        await self._call(
            lambda: self._client.v1.invoices.pay_async(
                stripe_invoice_id, {"paid_out_of_band": True}, _keyed(f"{stripe_invoice_id}:pay")
            )
        )

    async def void_invoice(self, stripe_invoice_id: str) -> None:
        """Voids an invoice that is void with us. One that is paid there Stripe takes back by a credit note."""
        invoice = await self._retrieve(stripe_invoice_id)
        if invoice.status == "paid" and not _credited(invoice):
            params: Any = {"invoice": stripe_invoice_id, "amount": invoice.total, "out_of_band_amount": invoice.total}
            await self._call(
                lambda: self._client.v1.credit_notes.create_async(params, _keyed(f"{stripe_invoice_id}:credit"))
            )
        if invoice.status in ("open", "uncollectible"):
            await self._call(
                lambda: self._client.v1.invoices.void_invoice_async(
                    stripe_invoice_id, {}, _keyed(f"{stripe_invoice_id}:void")
                )
            )

    async def payment_intent(self, tenant: str, payment: Mapping[str, Any], stripe_customer: str) -> Intent:
        """Asks Stripe for the payment that an intent of ours is about."""
        currency = payment["currency"]
        metadata = {TENANT: tenant, CUSTOMER: payment["customer"], INTENT: payment["payment_intent_id"]}
        for name, key in ((ORDER, "order_id"), (INVOICE, "invoice_id")):
            if payment.get(key):
                metadata[name] = payment[key]
        params: Any = {
            "amount": to_stripe(payment["amount"], currency),
            "currency": currency.lower(),
            "customer": stripe_customer,
            "metadata": metadata,
        }
        made = await self._call(
            lambda: self._client.v1.payment_intents.create_async(
                params, _keyed(f"intent:{tenant}:{payment['payment_intent_id']}")
            )
        )
        return Intent(str(made.id), str(made.status), str(made.client_secret or ""))

    async def refund(self, tenant: str, refund_id: str, stripe_intent: str, amount: str, currency: str) -> str:
        """Gives money back through Stripe; Stripe's id of the refund."""
        params: Any = {
            "payment_intent": stripe_intent,
            "amount": to_stripe(amount, currency),
            "metadata": {TENANT: tenant, "tollgate_refund": refund_id},
        }
        made = await self._call(
            lambda: self._client.v1.refunds.create_async(params, _keyed(f"refund:{tenant}:{refund_id}"))
        )
        return str(made.id)

    async def invoices(self) -> AsyncIterator[Pushed]:
        """All invoices of the account, page by page, the newest first."""
        async for invoice in self._pages({}):
            yield _pushed(invoice)

    async def _draft(self, tenant: str, document: Mapping[str, Any], stripe_customer: str) -> stripe.Invoice:
        params: Any = {
            "customer": stripe_customer,
            "currency": document["currency"].lower(),
            "description": f"{document['number'] or document['id']}",
            "auto_advance": False,
            "collection_method": "send_invoice",
            "days_until_due": 30,
            # Only the lines that are put on it by name: what else waits for the customer is not this invoice's.
            "pending_invoice_items_behavior": "exclude",
            "metadata": {TENANT: tenant, CUSTOMER: document["customer"], INVOICE: document["id"]},
        }
        return await self._call(
            lambda: self._client.v1.invoices.create_async(params, _keyed(f"{document['id']}:create"))
        )

    async def _line(
        self, document: Mapping[str, Any], line: Mapping[str, Any], stripe_invoice_id: str, stripe_customer: str
    ) -> None:
        params: Any = {
            "customer": stripe_customer,
            "invoice": stripe_invoice_id,
            "currency": document["currency"].lower(),
            "amount": to_stripe(line["amount"], document["currency"]),
            "description": line["description"],
            "metadata": {LINE: line["id"], INVOICE: document["id"]},
        }
        await self._call(
            lambda: self._client.v1.invoice_items.create_async(params, _keyed(f"{document['id']}:line:{line['id']}"))
        )

    async def _retrieve(self, stripe_invoice_id: str) -> stripe.Invoice:
        return await self._call(lambda: self._client.v1.invoices.retrieve_async(stripe_invoice_id))

    async def _find_invoice(self, stripe_customer: str, invoice_id: str) -> stripe.Invoice | None:
        async for invoice in self._pages({"customer": stripe_customer}):
            if _metadata(invoice).get(INVOICE) == invoice_id:
                return invoice
        return None

    async def _pages(self, about: Mapping[str, Any]) -> AsyncIterator[stripe.Invoice]:
        after: dict[str, str] = {}
        while True:
            params: Any = {**about, "limit": PAGE, **after}
            page = await self._call(partial(self._client.v1.invoices.list_async, params))
            for invoice in page.data:
                yield invoice
            if not page.has_more:
                return
            after = {"starting_after": str(page.data[-1].id)}

    async def _lines_of(self, stripe_invoice_id: str) -> AsyncIterator[str]:
        after: dict[str, str] = {}
        while True:
            params: Any = {"limit": PAGE, **after}
            page = await self._call(partial(self._client.v1.invoices.line_items.list_async, stripe_invoice_id, params))
            for line in page.data:
                yield _metadata(line).get(LINE, "")
            if not page.has_more:
                return
            after = {"starting_after": str(page.data[-1].id)}

    async def _call(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        import stripe

        for pause in (*self._pauses, None):
            try:
                return await attempt()
            except stripe.StripeError as error:
                why = f"stripe: {error.user_message or type(error).__name__}"
                if not _passes(error):
                    raise Conflict("stripe", why) from None
                if pause is None:
                    raise Unavailable(why) from None
            await asyncio.sleep(pause)
        raise AssertionError("the last try answers or raises")


def _keyed(key: str) -> Any:
    return {"idempotency_key": f"tollgate:{key}"[:255]}


def _metadata(of: Any) -> dict[str, str]:
    metadata = of.metadata
    found: dict[str, str] = metadata.to_dict() if metadata is not None else {}
    return found


def _passes(error: stripe.StripeError) -> bool:
    """Whether the same call may be answered later."""
    import stripe

    if isinstance(error, stripe.APIConnectionError):
        return True
    return error.http_status in _BUSY or (error.http_status or 0) >= _FAULT


def _pushed(invoice: stripe.Invoice) -> Pushed:
    metadata = _metadata(invoice)
    return Pushed(
        stripe_invoice_id=str(invoice.id),
        tollgate_id=metadata.get(INVOICE, ""),
        tenant=metadata.get(TENANT, ""),
        status=str(invoice.status),
        total=from_stripe(invoice.total, invoice.currency),
        currency=invoice.currency.upper(),
        url=str(getattr(invoice, "hosted_invoice_url", None) or ""),
        credited=from_stripe(_credited(invoice), invoice.currency),
    )


def _credited(invoice: stripe.Invoice) -> int:
    return int(getattr(invoice, "post_payment_credit_notes_amount", None) or 0)
