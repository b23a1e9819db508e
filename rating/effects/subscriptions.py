"""Subscriptions: commands and events about them, the plan of the account over time, first fees, recurring credits.

What a subscription decides stands in two places: its document, and the spans of the account, by which usage is priced
at the plan of its own time. A change that lies ahead (cancellation or another plan at the period's end) stands in the
spans at once; the renewal that makes it the document's comes from a job, and may be late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from rating import recurring
from rating import subscriptions as pure
from rating.effects.credits import customer_named, put_in, tell_moved
from rating.effects.invoice_body import now_of
from rating.effects.invoices import drafted_and_finalized
from rating.effects.order_flow import cancel_open_orders
from rating.effects.plan_spans import respan, respan_after
from rating.effects.subscription_body import (
    allowed,
    discount_of,
    feeless,
    known_plan,
    moved,
    named,
    plan_named,
    put,
    tell,
    told_by_others,
    unheard_of,
)
from rating.subscription_document import from_document, item_document
from rating.subscriptions import LIVE, Subscription
from rating.turn import Effect, Naming, NoEffect, Refused, Turn
from schemas import invoicing_commands as types
from schemas.account import POSTPAID, PlanSpan
from schemas.catalog_shapes import Plan
from schemas.documents import COUNTER, CUSTOMER, SUBSCRIPTION
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.invoice import Draft, Identity, Line, tax_line, tax_ratio
from schemas.ledger import PostingKind
from schemas.money import format_nanos
from schemas.period import DAY, format_time, parse_time

_BILL_TO: Final = ("name", "email", "address", "tax_id")


def create(turn: Turn) -> None:
    """tollgate.subscription.create: a plan from now on (or from `start`), its first fee, its first credits."""
    data = turn.event.data
    plan = plan_named(turn, data["plan_id"])
    now = now_of(turn)
    at = parse_time(data["start"]) if data.get("start") else now
    span = turn.account.span_at(at)
    if span is not None and span.subscription_id and span.plan:
        raise Refused("subscription", f"the customer has the subscription {span.subscription_id!r}")
    if turn.document(SUBSCRIPTION, data["subscription_id"]) is not None:
        raise Refused("conflict", f"there is a subscription {data['subscription_id']!r} already")
    days = data["trial_days"] if data.get("trial_days") is not None else plan.trial_days or 0
    discount = data.get("discount")
    _begin(
        turn,
        pure.create(
            data["subscription_id"],
            plan,
            at,
            trial_end=at + days * DAY if days else 0,
            anchor=parse_time(data["anchor"]) if data.get("anchor") else 0,
            incomplete=data.get("status") == "incomplete",
            discount=discount_of(discount) if discount else None,
            metadata=data.get("metadata"),
        ),
        plan,
    )


def created(turn: Turn) -> None:
    """subscription.created by another service: as the command, from the event's time on. A plan that the catalogue
    lacks prices usage by its name, and has no fee."""
    data, at = turn.event.data, turn.event.occurred_at
    if turn.document(SUBSCRIPTION, data["subscription_id"]) is not None:
        raise NoEffect
    plan_id = data.get("new_plan") or data.get("plan_id")
    if not plan_id:
        raise InvalidInput("missing_field", "data.plan_id is missing", "/data/plan_id")
    plan = known_plan(turn, plan_id) or feeless(plan_id, data.get("billing_cycle"))
    waits = data.get("status") in ("incomplete", "pending", "payment_pending")
    _begin(turn, pure.create(data["subscription_id"], plan, at, incomplete=waits), plan)


def activated(turn: Turn) -> None:
    """subscription.activated and tollgate.subscription.paid: it is paid; one that waited for that begins."""
    if unheard_of(turn):
        created(turn)
        return
    subscription = named(turn)
    if subscription.status == "active" and not subscription.attempts:
        raise NoEffect
    status = moved(subscription, "activate")
    at = now_of(turn)
    began = subscription.status == "incomplete"
    if subscription.status == "trialing":
        raise NoEffect  # a trial ends by its time
    subscription = replace(subscription, status=status, attempts=0)
    if began:
        respan(turn, at, subscription)
        subscription = _granted(turn, subscription, known_plan(turn, subscription.plan), at)
    put(turn, subscription)
    tell(turn, "subscription.activated", subscription)


def change(turn: Turn) -> None:
    """tollgate.subscription.change: another plan now, with proration, or at the period's end."""
    data = turn.event.data
    subscription, plan, at = named(turn), plan_named(turn, data["plan_id"]), now_of(turn)
    if data.get("when") == "period_end":
        changed = allowed(lambda: pure.change_at_period_end(subscription, plan))
        end, kept = changed.period.end, plan.months == changed.months
        anchor = changed.anchor if kept else end
        ahead = [PlanSpan(end, plan.id, changed.id, anchor, plan.months)] if changed.next_plan else []
        respan_after(turn, end, ahead)
        put(turn, changed)
        tell(turn, "subscription.updated", changed, old_plan=subscription.plan, new_plan=plan.id, reason="scheduled")
        return
    _change_now(turn, subscription, plan, at)


def updated(turn: Turn) -> None:
    """subscription.updated by another service: its plan from the event's time on."""
    data = turn.event.data
    if unheard_of(turn):
        created(turn)
        return
    subscription = named(turn)
    plan_id = data.get("new_plan") or data.get("plan_id")
    if not plan_id or plan_id == subscription.plan:
        raise NoEffect
    plan = known_plan(turn, plan_id) or feeless(plan_id, data.get("billing_cycle"))
    _change_now(turn, subscription, plan, turn.event.occurred_at)


def cancel(turn: Turn) -> None:
    """tollgate.subscription.cancel: now, with what is unused given back, or at the period's end."""
    data = turn.event.data
    subscription, at = named(turn), now_of(turn)
    if data.get("when") == "period_end" and subscription.status in LIVE:
        ending = allowed(lambda: pure.cancel_at_period_end(subscription))
        respan(turn, ending.cancel_at, None)
        put(turn, ending)
        tell(turn, "subscription.updated", ending, reason="cancel_at_period_end")
        return
    prorate = data.get("prorate") is not False
    _end(turn, allowed(lambda: pure.cancel(subscription, at, turn.event.id, prorate=prorate)), at, subscription)


def canceled(turn: Turn) -> None:
    """subscription.canceled by another service, at the event's time."""
    subscription, at = named(turn), turn.event.occurred_at
    _end(turn, allowed(lambda: pure.cancel(subscription, at, turn.event.id)), at, subscription)


def expired(turn: Turn) -> None:
    """subscription.expired by another service: nothing is given back."""
    subscription, at = named(turn), turn.event.occurred_at
    _end(turn, allowed(lambda: pure.expire(subscription, at, turn.event.id)), at, subscription)


def reactivate(turn: Turn) -> None:
    """tollgate.subscription.reactivate: takes back a cancellation to come, or begins anew."""
    subscription, at = named(turn), now_of(turn)
    revived = allowed(lambda: pure.reactivate(subscription, at))
    plan = known_plan(turn, revived.plan)
    if subscription.status in LIVE:
        respan_after(turn, subscription.cancel_at, [])
        put(turn, revived)
        tell(turn, "subscription.updated", revived, reason="reactivated")
        return
    span = turn.account.span_at(at)
    if span is not None and span.subscription_id and span.plan:
        raise Refused("subscription", f"the customer has the subscription {span.subscription_id!r}")
    _begin(turn, revived, plan, told="subscription.activated")


def pause(turn: Turn) -> None:
    """tollgate.subscription.pause: no plan until it is resumed; what is billed is billed."""
    subscription, at = named(turn), now_of(turn)
    paused = allowed(lambda: pure.pause(subscription, at))
    respan(turn, at, paused, plan="")
    put(turn, paused)
    tell(turn, "subscription.updated", paused, reason="paused")


def resume(turn: Turn) -> None:
    """tollgate.subscription.resume: the plan again."""
    subscription, at = named(turn), now_of(turn)
    resumed = allowed(lambda: pure.resume(subscription, at))
    respan(turn, at, resumed)
    put(turn, resumed)
    tell(turn, "subscription.updated", resumed, reason="resumed")


def renew(turn: Turn) -> None:
    """tollgate.subscription.renew: what fell due at `due`: its end, the next period, credits. Once for each time."""
    subscription, due = named(turn), parse_time(turn.event.data["due"])
    if subscription.next_at() != due:
        raise NoEffect
    if due > now_of(turn):
        raise Refused("early", f"that is due at {format_time(due)}")
    if subscription.cancel_at == due:
        _end(turn, pure.cancel(subscription, due, turn.event.id, prorate=False), due, subscription)
        return
    if subscription.period.end == due:
        old = subscription
        subscription = pure.renew(old, known_plan(turn, old.next_plan or old.plan))
        respan(turn, due, subscription)
        trial = old.status == "trialing"
        tell(
            turn,
            "subscription.activated" if trial else "subscription.updated",
            subscription,
            reason="trial_ended" if trial else "renewed",
        )
    put(turn, _granted(turn, subscription, known_plan(turn, subscription.plan), due))


def unpaid(turn: Turn) -> None:
    """tollgate.subscription.unpaid: an attempt to be paid has failed."""
    subscription, attempt = named(turn), turn.event.data["attempt_count"]
    failed = allowed(
        lambda: replace(subscription, status=pure.moved(subscription.status, "payment_failed"), attempts=attempt)
    )
    put(turn, failed)
    tell(turn, "subscription.payment_failed", failed, invoice_id=turn.event.data["invoice_id"])


def payment_failed(turn: Turn) -> None:
    """subscription.payment_failed by another service."""
    subscription, data = named(turn), turn.event.data
    count = data.get("attempt_count")
    attempts = count if isinstance(count, int) else subscription.attempts + 1
    failed = allowed(
        lambda: replace(subscription, status=pure.moved(subscription.status, "payment_failed"), attempts=attempts)
    )
    put(turn, failed)


def usage_exceeded(turn: Turn) -> None:
    """subscription.usage_exceeded: the usage was charged as it came; told on, so that it is billed at once."""
    document = turn.document(SUBSCRIPTION, turn.event.data["subscription_id"])
    if document is None or document["status"] not in LIVE:
        raise NoEffect
    subscription, at = from_document(document), turn.account.clock or turn.event.occurred_at
    reason = turn.event.data.get("reason")
    tell(turn, "subscription.usage_exceeded", subscription, exceeded_at=format_time(at), reason=reason)


def end_all(turn: Turn, reason: str) -> None:
    """Asks for the end of every subscription that the customer has, decided next."""
    at = now_of(turn)
    for span in turn.account.spans:
        if span.plan and span.subscription_id and turn.account.span_at(max(at, span.start)) == span:
            turn.command(
                turn.event.customer,
                types.SUBSCRIPTION_CANCEL,
                f"cancel:{span.subscription_id}:{turn.event.id}"[:200],
                {"subscription_id": span.subscription_id, "reason": reason},
            )


def _begin(turn: Turn, subscription: Subscription, plan: Plan | None, told: str = "subscription.created") -> None:
    at = subscription.started_at
    live = subscription.status in LIVE
    if live:
        respan(turn, at, subscription)
    first = subscription.period
    amount = pure.fee_of(subscription, first) if subscription.status != "trialing" else 0
    tell(turn, told, subscription)
    if amount:
        subscription = replace(subscription, billed_to=first.end)
        _first_invoice(turn, subscription, plan, amount)
    if live:
        if told == "subscription.created" and subscription.status == "active":
            tell(turn, "subscription.activated", subscription)
        subscription = _granted(turn, subscription, plan, now_of(turn))
    put(turn, subscription)


def _first_invoice(turn: Turn, subscription: Subscription, plan: Plan | None, amount: int) -> None:
    """The fee of the first period is due at once."""
    catalogue = turn.catalogue
    customer = turn.document(CUSTOMER, turn.event.customer) or {}
    currency = turn.account.currency or customer.get("currency") or (catalogue.currency if catalogue else "")
    period = subscription.period
    name = plan.name if plan is not None and plan.name else subscription.plan
    lines = [Line("fee", f"{name}, {'year' if subscription.months == 12 else 'month'}", amount, period)]
    tax = tax_line(lines, currency, tax_ratio(customer.get("tax_rate")), period)
    identity = Identity(turn.event.tenant, turn.event.customer, currency, period, "order", subscription.id)
    draft = Draft(
        identity,
        "postpaid" if turn.account.terms.collection == POSTPAID else "prepaid",
        tuple(lines if tax is None else [*lines, tax]),
        subscription.plan,
        subscription.id,
        bill_to(customer),
    )
    drafted_and_finalized(turn, draft, subscription.id)
    turn.result["invoice_id"] = identity.id


def bill_to(customer: Mapping[str, Any]) -> dict[str, Any]:
    """Whom an invoice names."""
    return {name: customer[name] for name in _BILL_TO if customer.get(name)}


def _change_now(turn: Turn, subscription: Subscription, plan: Plan, at: int) -> None:
    changed = allowed(lambda: pure.change(subscription, plan, at, turn.event.id))
    if changed.anchor != subscription.anchor:
        changed = _granted(turn, changed, plan, at)  # its credits are counted from the new anchor
    respan(turn, at, changed)
    put(turn, changed)
    known = {item.id for item in subscription.items}
    added = [item for item in changed.items if item.id not in known]
    turn.result["proration"] = {
        "items": [item_document(item) for item in added],
        "credit": format_nanos(sum(item.amount for item in added if item.amount < 0)),
        "charge": format_nanos(sum(item.amount for item in added if item.amount > 0)),
        "net": format_nanos(sum(item.amount for item in added)),
    }
    tell(turn, "subscription.updated", changed, old_plan=subscription.plan, new_plan=plan.id)


def _end(turn: Turn, ended: Subscription, at: int, before: Subscription) -> None:
    span = turn.account.span_at(at)
    if before.status != "incomplete" and (span is None or span.subscription_id in ("", ended.id)):
        respan(turn, at, None)
    _expire_rolled(turn, ended)
    cancel_open_orders(turn, "subscription_ended", ended.id)
    put(turn, ended)
    tell(turn, f"subscription.{ended.status}", ended, reason=turn.event.data.get("reason"))


def _granted(turn: Turn, subscription: Subscription, plan: Plan | None, until: int) -> Subscription:
    """Grants the recurring credits that are due, and lets lapse what does not roll over."""
    if subscription.status not in LIVE:
        return subscription
    due, credited = recurring.credits_due(subscription, plan.credits if plan is not None else (), until)
    account = turn.account
    catalogue = turn.catalogue
    for one in due:
        for grant, part in list(recurring.lapsing(account.grants, subscription.id, one)):
            grant.remaining -= part
            account.balance -= part
            account.grants = [kept for kept in account.grants if kept.remaining]
            turn.post(PostingKind.EXPIRY, -part, grant.credit_id, [(grant.credit_id, part)])
            tell_moved(turn, PostingKind.EXPIRY, -part, grant.credit_id, reason="not_rolled_over")
        currency = account.currency or (catalogue.currency if catalogue is not None else "")
        put_in(turn, recurring.grant_of(subscription.id, one), currency, PostingKind.GRANT)
    return replace(subscription, credited=credited)


def _expire_rolled(turn: Turn, ended: Subscription) -> None:
    """What rolls over no more expires as the plan says."""
    plan = known_plan(turn, ended.plan)
    for index, credit in enumerate(plan.credits if plan is not None else ()):
        for grant in turn.account.grants:
            if grant.credit_id.startswith(recurring.prefix(ended.id, index)) and not grant.expires_at:
                grant.expires_at = recurring.expiry(grant.granted_at, credit)


def _names(event: Event) -> list[tuple[str, str]]:
    return [
        *customer_named(event),
        (SUBSCRIPTION, event.data["subscription_id"]),
        (COUNTER, types.billing_id(event.customer)),
    ]


EFFECTS: Final[dict[str, Effect]] = {
    types.SUBSCRIPTION_CREATE: create,
    types.SUBSCRIPTION_CHANGE: change,
    types.SUBSCRIPTION_CANCEL: cancel,
    types.SUBSCRIPTION_REACTIVATE: reactivate,
    types.SUBSCRIPTION_PAUSE: pause,
    types.SUBSCRIPTION_RESUME: resume,
    types.SUBSCRIPTION_RENEW: renew,
    types.SUBSCRIPTION_PAID: activated,
    types.SUBSCRIPTION_UNPAID: unpaid,
    "subscription.created": told_by_others(created),
    "subscription.activated": told_by_others(activated),
    "subscription.updated": told_by_others(updated),
    "subscription.canceled": told_by_others(canceled),
    "subscription.expired": told_by_others(expired),
    "subscription.payment_failed": told_by_others(payment_failed),
    "subscription.usage_exceeded": usage_exceeded,
}
DOCUMENTS: Final[dict[str, Naming]] = dict.fromkeys(EFFECTS, _names)
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
