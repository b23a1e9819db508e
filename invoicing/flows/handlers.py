"""What is done about each event of ours: HANDLERS, in one place, by type.

A handler may be called several times for one event, and in any order for events of different customers: what it sends
is named after the event, and what it asks for becomes a command whose id is made of the event's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Protocol

from invoicing.flows.ports import Services
from schemas.catalog_shapes import Plan
from schemas.commands import ORDER_CREATE, Command
from schemas.money import format_nanos
from schemas.period import parse_time

UPGRADE_DAYS: Final = 7
"""How long an order waits that proposes an upgrade."""


@dataclass(frozen=True, slots=True)
class Told:
    """One of our events."""

    tenant: str
    customer: str
    id: str
    type: str
    data: Mapping[str, Any]


class Plans(Protocol):
    """What flows ask of plans. Errors: Unavailable."""

    async def plan_of(self, tenant: str, customer: str) -> str:
        """The customer's plan now; empty: none."""

    def plans(self, tenant: str) -> tuple[tuple[Plan, ...], str]:
        """The tenant's plans and their currency."""


Billing = Callable[[str, str, str, int], Awaitable[object]]
"""Bills the overage of a tenant's customer for a cause, at a time; once. Errors: Unavailable."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a handler works with."""

    services: Services
    plans: Plans
    overage: Billing


Handler = Callable[[Told, Around], Awaitable[list[Command]]]
"""Errors: Unavailable, after which it is called again."""


async def receipt(told: Told, around: Around) -> list[Command]:
    """payment.completed: its receipt."""
    await around.services.notifications.send_payment_receipt(told.customer, told.data, told.id)
    return []


async def invoice(told: Told, around: Around) -> list[Command]:
    """invoice.finalized, invoice.overdue: the invoice, or that it is late."""
    await around.services.notifications.send_invoice(told.customer, {**told.data, "event": told.type}, told.id)
    return []


async def confirmation(told: Told, around: Around) -> list[Command]:
    """order.created: that it was made."""
    await around.services.notifications.send_order_confirmation(told.customer, told.data, told.id)
    return []


async def status(told: Told, around: Around) -> list[Command]:
    """An order came to a state that its customer wants to know of."""
    await around.services.notifications.send_order_status(told.customer, {**told.data, "event": told.type}, told.id)
    return []


async def upgrade(told: Told, around: Around) -> list[Command]:
    """quota.exceeded: an order for the next plan, if there is one to sell."""
    if not await around.services.accounts.validate_user(told.customer):
        return []
    current = await around.plans.plan_of(told.tenant, told.customer)
    plans, currency = around.plans.plans(told.tenant)
    better = next_plan(plans, current)
    if better is None:
        return []
    order_id = "upgrade_" + blake2b(f"{told.tenant}\x1f{told.id}".encode(), digest_size=12).hexdigest()
    data = {
        "order_id": order_id,
        "order_type": "subscription",
        "plan_id": better.id,
        "total_amount": format_nanos(int(better.amount.scaleb(9))),
        "currency": currency,
        "items": [{"plan_id": better.id, "instead_of": current or None}],
        "reason": told.type,
        "expires_in_seconds": UPGRADE_DAYS * 86_400,
    }
    return [Command(told.tenant, told.customer, ORDER_CREATE, f"flow:{order_id}", data)]


async def storage_upgrade(told: Told, around: Around) -> list[Command]:
    """storage.quota_exceeded: as for any quota, unless the storage service says that there is room again."""
    usage = await around.services.storage.get_storage_usage(told.customer)
    if usage is not None and usage.limit_bytes is not None and usage.used_bytes < usage.limit_bytes:
        return []
    return await upgrade(told, around)


async def overage(told: Told, around: Around) -> list[Command]:
    """subscription.usage_exceeded: an invoice of what the running period has come to."""
    await around.overage(told.tenant, told.customer, told.id, parse_time(told.data["exceeded_at"]))
    return []


def next_plan(plans: tuple[Plan, ...], current: str) -> Plan | None:
    """The cheapest plan of the same interval that is dearer than the current one; without one, the cheapest at all."""
    having = next((plan for plan in plans if plan.id == current), None)
    dearer = [
        plan
        for plan in plans
        if plan.amount > (having.amount if having is not None else 0)
        and (having is None or plan.interval == having.interval)
    ]
    return min(dearer, key=lambda plan: (plan.amount, plan.id), default=None)


HANDLERS: Final[dict[str, Handler]] = {
    "payment.completed": receipt,
    "invoice.finalized": invoice,
    "invoice.overdue": invoice,
    "order.created": confirmation,
    "order.completed": status,
    "order.fulfilled": status,
    "order.expired": status,
    "order.canceled": status,
    "order.refunded": status,
    "quota.exceeded": upgrade,
    "subscription.usage_exceeded": overage,
    "storage.quota_exceeded": storage_upgrade,
}
"""By event type; of all others nothing is done."""
