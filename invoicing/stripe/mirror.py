"""Keeps Stripe a mirror of our final invoices and open payment intents: one pass, as often as one likes.

What is there is said by the documents themselves (`stripe_invoice_id`, `stripe_status`, `stripe_payment_intent_id`),
which the commands sent here write. A pass that dies leaves what it made under idempotency keys and metadata; the next
one finds it and goes on. One customer's trouble is told and does not hold up the others.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from invoicing.stripe.gateway import Pushed, StripeGateway
from schemas.commands import Command
from schemas.errors import Conflict, InvalidInput
from schemas.stripe_commands import STRIPE_CUSTOMER, STRIPE_INVOICE, STRIPE_PAYMENT

log = logging.getLogger(__name__)

Body = Mapping[str, Any]
Send = Callable[[Command], Awaitable[None]]
"""Puts a command into the log with acks=all. Errors: Unavailable."""

_IN_STRIPE: Final = {"open": "open", "overdue": "open", "uncollectible": "open", "paid": "paid", "void": "void"}
"""How an invoice that is in such a state with us should stand there."""
_WAITING: Final = frozenset({"pending", "failed"})


@dataclass(slots=True)
class Tenant:
    """One tenant's documents, newest bodies, by id."""

    id: str
    customers: Mapping[str, Body]
    invoices: Mapping[str, Body] = field(default_factory=dict)
    payments: Mapping[str, Body] = field(default_factory=dict)


@dataclass(slots=True)
class Summary:
    """What a pass did."""

    pushed: int = 0
    settled: int = 0
    voided: int = 0
    intents: int = 0
    failed: list[str] = field(default_factory=list)
    """Ids of invoices and payments, with Stripe's words."""


async def mirror(gateway: StripeGateway, tenant: Tenant, send: Send) -> Summary:
    """Brings Stripe up to our documents. Errors: Unavailable, where Stripe or Kafka is away."""
    summary = Summary()
    pass_ = _Pass(gateway, tenant, send, summary)
    for invoice_id, invoice in sorted(tenant.invoices.items()):
        if needs_mirroring(invoice):
            await pass_.attempt(invoice_id, pass_.invoice(invoice))
    for payment_id, payment in sorted(tenant.payments.items()):
        if payment.get("object") == "intent" and is_waiting(payment):
            await pass_.attempt(payment_id, pass_.payment(payment))
    return summary


def needs_mirroring(invoice: Body) -> bool:
    """Whether Stripe lacks it or has it in another state. What asks for nothing is not sent."""
    wanted = _IN_STRIPE.get(invoice["state"])
    if wanted is None:
        return False
    if not invoice.get("stripe_invoice_id"):
        return wanted == "open"
    return wanted != "open" and invoice.get("stripe_status") != wanted


def is_waiting(payment: Body) -> bool:
    """Whether an intent still asks for money and Stripe does not know of it."""
    return payment["status"] in _WAITING and not payment.get("stripe_payment_intent_id")


def differences(ours: Iterable[Body], theirs: Iterable[Pushed], tenant: str) -> tuple[int, int, list[str]]:
    """Invoices of ours that Stripe should have, how many agree in total and state, and what differs, in words.

    An invoice whose end the next pass will tell Stripe of agrees as it stands; one that Stripe has an end of that we do
    not know of does not.
    """
    there = {pushed.tollgate_id: pushed for pushed in theirs if pushed.tenant == tenant and pushed.tollgate_id}
    known = equal = 0
    different: list[str] = []
    for invoice in ours:
        if not invoice.get("stripe_invoice_id"):
            continue
        known += 1
        pushed = there.pop(invoice["id"], None)
        wanted = _IN_STRIPE.get(invoice["state"])
        if pushed is None:
            different.append(f"{invoice['id']}: not in Stripe")
        elif (_number(pushed.total), pushed.currency) != (_number(invoice["total"]), invoice["currency"]):
            different.append(f"{invoice['id']}: {invoice['total']} {invoice['currency']}, in Stripe {pushed.total}")
        elif not _stands_as(pushed, wanted) and not (needs_mirroring(invoice) and pushed.status == "open"):
            different.append(f"{invoice['id']}: {invoice['state']}, in Stripe {pushed.status}")
        else:
            equal += 1
    return known, equal, different


def _stands_as(pushed: Pushed, wanted: str | None) -> bool:
    """Whether Stripe has it in a state; what it cannot void any more, for it is paid, it has credited in full."""
    if wanted == "void" and pushed.status == "paid":
        return _number(pushed.credited) == _number(pushed.total)
    return pushed.status == wanted


def _number(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


class _Pass:
    def __init__(self, gateway: StripeGateway, tenant: Tenant, send: Send, summary: Summary) -> None:
        self._gateway = gateway
        self._tenant = tenant
        self._send = send
        self._summary = summary
        self._stripe_ids: dict[str, str] = {}

    async def attempt(self, about: str, work: Awaitable[None]) -> None:
        """What Stripe refuses concerns the one object; that it is away concerns all."""
        try:
            await work
        except (Conflict, InvalidInput) as refusal:
            log.error("stripe: %s: %s", about, refusal.detail)
            self._summary.failed.append(f"{about}: {refusal.detail}")

    async def invoice(self, invoice: Body) -> None:
        name = invoice.get("stripe_invoice_id")
        if not name:
            pushed = await self._gateway.push_invoice(self._tenant.id, invoice, await self._customer(invoice))
            self._summary.pushed += 1
            await self._name(invoice, pushed.stripe_invoice_id, pushed.status, pushed.url)
        elif invoice["state"] == "void":
            await self._gateway.void_invoice(name)
            self._summary.voided += 1
            await self._name(invoice, name, "void", "")
        else:
            await self._gateway.settle_invoice(name)
            self._summary.settled += 1
            await self._name(invoice, name, "paid", "")

    async def payment(self, payment: Body) -> None:
        intent = await self._gateway.payment_intent(self._tenant.id, payment, await self._customer(payment))
        self._summary.intents += 1
        await self._send(
            Command(
                self._tenant.id,
                payment["customer"],
                STRIPE_PAYMENT,
                f"stripe:{payment['payment_intent_id']}"[:200],
                {
                    "payment_intent_id": payment["payment_intent_id"],
                    "stripe_payment_intent_id": intent.stripe_id,
                    "client_secret": intent.client_secret,
                },
            )
        )

    async def _name(self, invoice: Body, name: str, status: str, url: str) -> None:
        data = {"invoice_id": invoice["id"], "stripe_invoice_id": name, "stripe_status": status, "url": url}
        command_id = f"stripe:{invoice['id']}:{status}"
        await self._send(Command(self._tenant.id, invoice["customer"], STRIPE_INVOICE, command_id, data))

    async def _customer(self, document: Body) -> str:
        customer = document["customer"]
        if customer not in self._stripe_ids:
            body = self._tenant.customers.get(customer, {})
            self._stripe_ids[customer] = await self._gateway.customer(self._tenant.id, customer, body)
            if not body.get("stripe_customer_id"):
                data = {"stripe_customer_id": self._stripe_ids[customer]}
                command = Command(self._tenant.id, customer, STRIPE_CUSTOMER, f"stripe:{customer}"[:200], data)
                await self._send(command)
        return self._stripe_ids[customer]
