"""What an invoice of a customer's billing period is made of: the account, its documents and sums of charges in, a
draft command out. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from invoicing.build import Fee, Late, Material, Shortfall, UsageSum, build, without_tiers
from invoicing.usage_rows import Ask, PriceSum
from rating.billing import DRAFT, VOID, finals, gaps, overages, reserved, revision
from rating.book import CompiledCatalogue
from rating.commitment import Commitment
from rating.effects.subscriptions import bill_to
from rating.subscription_document import from_document, item_document
from rating.subscriptions import LIVE, Item, Subscription, fee, share
from schemas.account import POSTPAID, Account
from schemas.catalog_shapes import Plan
from schemas.documents import encode_body
from schemas.errors import InvariantBroken
from schemas.invoice import PERIODIC, Draft, Identity, InvoiceKind, Tier, period_document, period_from, tax_ratio
from schemas.money import format_nanos, round_half_even
from schemas.period import Period, format_time, parse_time, period_of

BODY_MAX_BYTES = 120_000
"""An invoice's document: with its billing document it fits an entry of the ledger."""


PERIODS_MAX = 64
"""Periods whose fees one invoice catches up."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A customer as it stands when its period is closed."""

    tenant: str
    account: Account
    billing: Mapping[str, Any]
    customer: Mapping[str, Any] = field(default_factory=dict)
    subscriptions: Sequence[Subscription] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Numbers of invoices by id, where they are at hand."""
    partition: int = 0


def standing_of(
    tenant: str,
    account: Account,
    billing: Mapping[str, Any] | None,
    customer: Mapping[str, Any] | None,
    subscriptions: Iterable[Mapping[str, Any]],
    partition: int,
) -> Standing:
    """From documents as they are read."""
    return Standing(
        tenant,
        account,
        billing or {"version": 0, "invoices": []},
        customer or {},
        tuple(from_document(one) for one in subscriptions),
        partition=partition,
    )


def subscription_ids(account: Account) -> list[str]:
    """The subscriptions that any of the account's plans came from."""
    return list(dict.fromkeys(span.subscription_id for span in account.spans if span.subscription_id))


def usage_asks(standing: Standing, currency: str, period: Period, to_seq: int) -> list[Ask]:
    """The period's own charges, but for those that an adjustment has billed."""
    found = gaps(standing.billing, period, currency, to_seq, _draft_of(standing, period))
    return [Ask(standing.account.customer, period, first, last) for first, last in found]


def late_asks(standing: Standing, currency: str, period: Period, to_seq: int) -> list[Ask]:
    """Charges of earlier periods that came after those were billed."""
    draft = _draft_of(standing, period)
    return [
        Ask(standing.account.customer, earlier, first, last)
        for earlier in sorted(finals(standing.billing, currency), key=lambda one: one.start)
        if earlier.end <= period.start
        for first, last in gaps(standing.billing, earlier, currency, to_seq, draft)
    ]


def before_asks(standing: Standing, currency: str, period: Period) -> list[Ask]:
    """The period's charges that overage invoices have billed while it ran."""
    return [
        Ask(standing.account.customer, period, first, last)
        for one in overages(standing.billing, period, currency)
        if one["state"] != VOID
        for first, last in one["covers"]
    ]


def draft_data(
    standing: Standing,
    catalogue: CompiledCatalogue | None,
    period: Period,
    used: Sequence[PriceSum],
    late: Sequence[PriceSum],
    before: Sequence[PriceSum],
    to_seq: int,
    now: int,
) -> dict[str, Any] | None:
    """The data of the command that drafts the period's invoice; None where there is nothing to bill, or its invoice
    is final already. What was billed `before` counts towards minimums and commitment, which are the whole period's."""
    account = standing.account
    currency = currency_of(standing, catalogue, used)
    if not currency:
        return None
    if period in finals(standing.billing, currency):
        return None
    number = revision(standing.billing, period, currency)
    identity = Identity(standing.tenant, account.customer, currency, period, _kind(standing, period), revision=number)
    plan_id = plan_of(account, period)
    plan = catalogue.plan(plan_id) if catalogue is not None and plan_id else None
    span = account.span_at(period.end - 1)
    fees, takes, discount = _recurring(standing, catalogue, period, identity.id)
    sums = [one for one in used if one.currency == currency]
    draft = build(
        Material(
            identity,
            "postpaid" if account.terms.collection == POSTPAID else "prepaid",
            [usage_sum(one, catalogue, account) for one in sums if one.amount or one.price_id],
            fees,
            _shortfalls(catalogue, account, plan, period, [*sums, *before]) if catalogue is not None else [],
            _late(standing, late, catalogue, currency),
            discount.discount if discount is not None else None,
            tax_ratio(standing.customer.get("tax_rate")),
            plan_id,
            span.subscription_id if span is not None else "",
            bill_to(standing.customer),
        )
    )
    if draft is None:
        return None
    body = fitting(draft, now)
    billed = {one.period for one in late if one.currency == currency}
    adjusts = [
        {**period_document(ask.period), "from": ask.from_seq, "to": ask.to_seq}
        for ask in late_asks(standing, currency, period, to_seq)
        if ask.period in billed
    ]
    covers = [[ask.from_seq, ask.to_seq] for ask in usage_asks(standing, currency, period, to_seq)]
    return {
        "expects": standing.billing["version"],
        "invoice": body,
        "position": {"partition": standing.partition, "seq": to_seq, "covers": covers},
        "adjusts": adjusts,
        "takes": takes,
    }


def fitting(draft: Draft, now: int) -> dict[str, Any]:
    """The document of a draft; where it would be too large, with less detail."""
    body = draft.document(now)
    return body if len(encode_body(body)) <= BODY_MAX_BYTES else without_tiers(draft).document(now)


def currency_of(standing: Standing, catalogue: CompiledCatalogue | None, used: Sequence[PriceSum] = ()) -> str:
    """The customer's one currency."""
    own = standing.account.currency or str(standing.customer.get("currency") or "")
    if own:
        return own
    if used:
        return used[0].currency
    return catalogue.currency if catalogue is not None else ""


def _draft_of(standing: Standing, period: Period) -> str:
    """The id of the draft that stands of a period; empty: none."""
    draft = _standing_draft(standing, period)
    return str(draft["id"]) if draft is not None else ""


def _standing_draft(standing: Standing, period: Period) -> Mapping[str, Any] | None:
    for one in standing.billing["invoices"]:
        if one["state"] == DRAFT and one["kind"] in PERIODIC and period_from(one) == period:
            found: Mapping[str, Any] = one
            return found
    return None


def _kind(standing: Standing, period: Period) -> InvoiceKind:
    """Of a draft that stands the one it has, so that there is one; else `final` where the plan ends with the period."""
    draft = _standing_draft(standing, period)
    if draft is not None:
        return "final" if draft["kind"] == "final" else "period"
    account = standing.account
    ends = bool(account.plan_at(period.end - 1)) and not account.plan_at(period.end)
    return "final" if ends else "period"


def plan_of(account: Account, period: Period) -> str:
    """The plan that a period ends with, or else began with; empty: none."""
    return account.plan_at(period.end - 1) or account.plan_at(period.start)


def usage_sum(one: PriceSum, catalogue: CompiledCatalogue | None, account: Account) -> UsageSum:
    """Charges of a price as a line has them."""
    return UsageSum(
        one.price_id,
        one.meter,
        _description(one, catalogue),
        one.quantity,
        one.amount,
        one.covered,
        one.unit_amount or None,
        _tiers(one, catalogue, account),
    )


def _description(one: PriceSum, catalogue: CompiledCatalogue | None) -> str:
    if catalogue is not None:
        if name := catalogue.price_name(one.price_id):
            return name
        meter = catalogue.meter(one.meter)
        if meter is not None and meter.name:
            return f"{meter.name} ({one.price_id})" if one.price_id else str(meter.name)
    return " ".join(part for part in (one.meter or "Usage", f"({one.price_id})" if one.price_id else "") if part)


def _tiers(one: PriceSum, catalogue: CompiledCatalogue | None, account: Account) -> tuple[Tier, ...]:
    """The walk through the steps of a price that depends on the period, where it comes to what was charged."""
    price = catalogue.price_by_id(one.price_id, account.terms.own) if catalogue is not None else None
    if price is None or not price.cumulative or one.catalog_version != (catalogue.version if catalogue else 0):
        return ()
    steps = price.walk(None, one.quantity)
    amounts = [round_half_even(Fraction(step.amount).numerator, Fraction(step.amount).denominator) for step in steps]
    if len(steps) < 2 or abs(sum(amounts) - one.amount) > len(steps):
        return ()
    return tuple(
        Tier(
            step.name,
            round_half_even(Fraction(step.quantity).numerator, Fraction(step.quantity).denominator),
            _unit(step.unit_amount),
            amount,
        )
        for step, amount in zip(steps, amounts, strict=True)
    )


def _unit(amount: Fraction | None) -> str | None:
    return format_nanos(round_half_even(amount.numerator * 10**9, amount.denominator)) if amount is not None else None


def _shortfalls(
    catalogue: CompiledCatalogue, account: Account, plan: Plan | None, period: Period, sums: Sequence[PriceSum]
) -> list[Shortfall]:
    """Minimums and what prices ask for no usage; the plan's commitment. A customer that had neither a plan nor a
    charge in the period was not there."""
    if plan is None and not sums:
        return []
    charged: dict[str, int] = {}
    for one in sums:
        charged[one.price_id] = charged.get(one.price_id, 0) + one.amount
    missing = []
    named = {price_id for of in catalogue.catalog.plans for price_id in of.prices}
    standing: dict[tuple[str, tuple[tuple[str, str], ...]], Any] = {}
    for price in catalogue.catalog.prices:
        mine = price.id in plan.prices if plan is not None and price.id in named else price.id not in named
        effective = price.effective_from or 0
        if not mine or effective >= period.end:
            continue
        key = price.meter, tuple(sorted(price.match.items()))
        if key not in standing or (standing[key].effective_from or 0) <= effective:
            standing[key] = price
    asked = {price.id: price for price in standing.values()}
    asked |= {price.id: price for price in catalogue.catalog.prices if price.id in charged}
    for price_id in sorted(asked):
        compiled = catalogue.price_by_id(price_id, account.terms.own)
        if compiled is None:
            continue
        due = compiled.due_at_close(charged.get(price_id))
        if due > 0:
            price = asked[price_id]
            missing.append(Shortfall(f"Minimum of {price.name or price_id}", due, price_id, price.meter))
    return missing + _commitment(plan, sum(charged.values()))


def _commitment(plan: Plan | None, usage: int) -> list[Shortfall]:
    if plan is None or plan.commitment is None:
        return []
    settled = Commitment.of(plan.commitment).settle(usage)
    return [
        Shortfall(text, round_half_even(amount.numerator, amount.denominator))
        for text, amount in (
            (f"True-up to the commitment of {plan.name or plan.id}", settled.true_up),
            (f"Overage beyond the commitment of {plan.name or plan.id}", settled.surcharge),
        )
        if amount
    ]


def _recurring(
    standing: Standing, catalogue: CompiledCatalogue | None, period: Period, invoice_id: str
) -> tuple[list[Fee], dict[str, Any] | None, Subscription | None]:
    """What changes gave back or added, and the fee of the period that follows; of the one subscription that has any."""
    account = standing.account
    elsewhere, billed_there = reserved(standing.billing, invoice_id)
    for subscription in standing.subscriptions:
        items = [
            item
            for item in subscription.items
            if item.id not in elsewhere and (item.period.start < period.end or 0 < subscription.ended_at <= period.end)
        ]
        there = billed_there.get(subscription.id)
        since = max(subscription.billed_to, parse_time(there) if there else 0)
        advance = _advance(account, subscription, catalogue, period, since)
        if not items and not advance:
            continue
        fees = [Fee(item.description, item.amount, item.period) for item in items]
        billed = since
        if advance:
            fees += advance
            billed = advance[-1].period.end
        return fees, _takes(subscription, items, (since, billed), advance, invoice_id), subscription
    live = [one for one in standing.subscriptions if one.status in LIVE]
    return [], None, live[0] if live else None


def _takes(
    subscription: Subscription,
    items: Iterable[Item],
    billed: tuple[int, int],
    advance: Iterable[Fee],
    invoice_id: str,
) -> dict[str, Any]:
    return {
        "subscription_id": subscription.id,
        "items": [item_document(item) for item in items],
        "billed_from": format_time(billed[0]),
        "billed_to": format_time(billed[1]),
        "advance": [
            item_document(Item(f"{invoice_id}:fee-{place}", one.description, one.amount, one.period))
            for place, one in enumerate(advance)
        ],
    }


def _advance(
    account: Account, subscription: Subscription, catalogue: CompiledCatalogue | None, period: Period, since: int
) -> list[Fee]:
    """The fee for the period after this one, if the subscription goes on and has not billed it yet; and those from
    `since` on that a void left unbilled, each plan for its own time."""
    fees: list[Fee] = []
    at = since
    while at <= period.end and len(fees) < PERIODS_MAX:
        span = account.span_at(at)
        if span is None or span.subscription_id != subscription.id:
            return fees
        whole = period_of(span.anchor, span.months, at)
        end = min([whole.end, *(later.start for later in account.spans if later.start > at)])
        if span.plan:
            plan = catalogue.plan(span.plan) if catalogue is not None else None
            basis = plan.proration if plan is not None else subscription.proration
            amount = fee(plan) if plan is not None else subscription.amount
            due = share(amount, whole, at, basis) - share(amount, whole, end, basis)
            name = plan.name if plan is not None and plan.name else span.plan
            if due:
                description = f"{name}, {'year' if span.months == 12 else 'month'}"
                fees.append(Fee(description, due, Period(at, end)))
        at = end
    return fees


def _late(
    standing: Standing, late: Sequence[PriceSum], catalogue: CompiledCatalogue | None, currency: str
) -> list[Late]:
    invoices = finals(standing.billing, currency)
    found = []
    for one in late:
        if one.currency != currency or not (one.amount or one.quantity) or one.period not in invoices:
            continue
        name = invoices[one.period]
        found.append(Late(one.period, standing.numbers.get(name, name), usage_sum(one, None, standing.account)))
    return found


def check_bound(data: Mapping[str, Any]) -> None:
    """InvariantBroken for a document that the ledger would not take: the bounds of `build` keep it below."""
    if len(encode_body(dict(data["invoice"]))) > BODY_MAX_BYTES:
        raise InvariantBroken(f"invoice {data['invoice']['id']} is larger than {BODY_MAX_BYTES} bytes")
