"""Bills a period's overage while the period still runs: all its charges so far that no invoice has.

The usage was charged as it came; what an overage invoice adds is that it is asked for at once, with its tax and the
subscription's discount in percent. The period's own invoice bills what comes after it; minimums, commitment and a
discount of a fixed amount are the whole period's, and stand there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from invoicing.build import Material, build
from invoicing.close import STALE_TRIES, Closer
from invoicing.drafting import draft_command
from invoicing.material import Standing, check_bound, currency_of, fitting, plan_of, usage_sum
from invoicing.periods import period_at
from invoicing.usage_rows import Ask, PriceSum
from rating.billing import DRAFT, finals, gaps, overage_of, overages
from rating.book import CompiledCatalogue
from rating.effects.subscriptions import bill_to
from rating.subscriptions import LIVE
from schemas.account import POSTPAID
from schemas.errors import InvalidInput, Unavailable
from schemas.invoice import OVERAGE, Identity, tax_ratio
from schemas.period import Period
from streams.commands import DONE

OVERAGES_MAX: Final = 10
"""Of one period. What is told beyond is on the period's own invoice: the billing document keeps INVOICES_MAX of all."""


async def bill_overage(closer: Closer, tenant: str, customer: str, cause: str, at: int) -> str:
    """Drafts and finalizes the invoice of the overage of the period that `at` lies in; its id, empty where there is
    nothing to bill. A cause has one invoice, however often it is told. Errors: Unavailable; InvalidInput for a draft
    that is refused."""
    for _ in range(STALE_TRIES):
        standing = (await closer.standings(tenant, [customer]))[customer]
        stands = overage_of(standing.billing, cause)
        if stands is not None:
            return await _finalized(closer, tenant, stands)
        period = period_at(standing.account.spans, at)
        catalogue = closer.catalogue(standing, period)
        currency = currency_of(standing, catalogue)
        known = len(overages(standing.billing, period, currency))
        if known >= OVERAGES_MAX or period in finals(standing.billing, currency):
            return ""
        asks = await _asks(closer, standing, currency, period)
        used = await asyncio.to_thread(closer.rows.sums, tenant, asks)
        identity = Identity(tenant, customer, currency, period, OVERAGE, cause)
        data = _draft_data(standing, catalogue, identity, used, asks, closer.now())
        if data is None:
            return ""
        operation = await closer.settled(draft_command(standing, data))
        if operation.status == DONE:
            return await _finalized(closer, tenant, {"id": identity.id, "state": DRAFT})
        if operation.reason != "stale":
            raise InvalidInput(operation.reason, operation.detail)
    raise Unavailable(f"invoices of {customer!r} change faster than its overage can be billed")


async def _finalized(closer: Closer, tenant: str, stands: Mapping[str, Any]) -> str:
    if stands["state"] == DRAFT:
        await closer.finalize_all([(tenant, stands["id"])])
    return str(stands["id"])


async def _asks(closer: Closer, standing: Standing, currency: str, period: Period) -> list[Ask]:
    reached = await closer.position([standing.partition])
    until = reached.get(standing.partition, 0)
    return [Ask(standing.account.customer, period, *one) for one in gaps(standing.billing, period, currency, until)]


def _draft_data(
    standing: Standing,
    catalogue: CompiledCatalogue | None,
    identity: Identity,
    used: Sequence[PriceSum],
    asks: Sequence[Ask],
    now: int,
) -> dict[str, Any] | None:
    """The data of the command that drafts it; None where nothing was charged, in all."""
    account = standing.account
    sums = [one for one in used if one.currency == identity.currency]
    if sum(one.amount for one in sums) <= 0:
        return None
    live = next((one for one in standing.subscriptions if one.status in LIVE), None)
    draft = build(
        Material(
            identity,
            "postpaid" if account.terms.collection == POSTPAID else "prepaid",
            [usage_sum(one, catalogue, account) for one in sums if one.amount or one.price_id],
            discount=live.discount
            if live is not None and live.discount is not None and live.discount.percent
            else None,
            tax=tax_ratio(standing.customer.get("tax_rate")),
            plan=plan_of(account, identity.period),
            subscription_id=live.id if live is not None else "",
            bill_to=bill_to(standing.customer),
        )
    )
    if draft is None:
        return None
    data = {
        "expects": standing.billing["version"],
        "invoice": fitting(draft, account.clock or now),
        "position": {
            "partition": standing.partition,
            "seq": asks[-1].to_seq,
            "covers": [[ask.from_seq, ask.to_seq] for ask in asks],
        },
        "adjusts": [],
        "takes": None,
    }
    check_bound(data)
    return data
