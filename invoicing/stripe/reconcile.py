"""The equations of `reconcile` about Stripe: what of our invoices stands there is what we say it is.

Errors: Unavailable, where Stripe or ClickHouse cannot be read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from invoicing.reconcile import Equation
from invoicing.stripe.gateway import Pushed, StripeGateway
from invoicing.stripe.mirror import differences
from invoicing.usage_rows import UsageRows
from schemas.errors import Conflict, Unavailable
from schemas.money import parse_nanos
from schemas.settings import Settings

FOLLOW_SECONDS: Final = 5.0
"""How long what Stripe has just told of may take to be ours."""


async def stripe_equations(settings: Settings) -> list[Equation]:
    """None where no Stripe is used. `settings` with the addresses filled in."""
    if not settings.stripe_api_key:
        return []
    assert settings.clickhouse_url is not None
    rows = await asyncio.to_thread(UsageRows, settings.clickhouse_url)
    deadline = time.monotonic() + FOLLOW_SECONDS
    async with StripeGateway(settings.stripe_api_key, settings.stripe_api_base) as gateway:
        while True:
            found = equations(*await _both(gateway, rows))
            if not any(one.difference for one in found) or time.monotonic() > deadline:
                return found
            await asyncio.sleep(1.0)


def equations(ours: Mapping[str, Mapping[str, Any]], theirs: list[Pushed]) -> list[Equation]:
    """By tenant and id our invoices that Stripe was told of, and all that Stripe says are ours."""
    tenants = {tenant for tenant, _ in map(_parted, ours)}
    known = equal = 0
    for tenant in tenants:
        own = [body for name, body in ours.items() if _parted(name)[0] == tenant]
        of, alike, _ = differences(own, theirs, tenant)
        known, equal = known + of, equal + alike
    there = {f"{one.tenant}\x1f{one.tollgate_id}": one for one in theirs if one.tollgate_id}
    common = [name for name in ours if name in there]
    return [
        Equation("invoices in Stripe = those that are there as they are here", known, equal),
        Equation(
            "their totals here = in Stripe",
            sum(parse_nanos(ours[name]["total"]) for name in common),
            sum(parse_nanos(there[name].total) for name in common),
            money=True,
        ),
        Equation(
            "invoices in Stripe under one id of ours = one each",
            sum(bool(one.tollgate_id) for one in theirs),
            len(there),
        ),
    ]


async def _both(gateway: StripeGateway, rows: UsageRows) -> tuple[dict[str, Mapping[str, Any]], list[Pushed]]:
    try:
        theirs = [pushed async for pushed in gateway.invoices()]
    except Conflict as refused:
        raise Unavailable(refused.detail) from None
    found = await asyncio.to_thread(rows.documents, "invoice", "JSONExtractString(body, 'stripe_invoice_id') != ''", {})
    return {f"{tenant}\x1f{name}": orjson.loads(body) for tenant, _, name, body in found}, theirs


def _parted(name: str) -> tuple[str, str]:
    tenant, _, invoice_id = name.partition("\x1f")
    return tenant, invoice_id
