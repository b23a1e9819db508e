"""A customer's billing document: which invoices it has, and a version that every change of them raises.

Whoever builds an invoice read this document first, and names the version it built upon: an invoice built upon anything
older is refused, so that no two builders, however late one of them is, bill the same thing twice. It also says which
entries of the ledger each invoice has billed of which period, by ranges of seq.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from schemas.invoice import OVERAGE, PERIODIC, period_from
from schemas.period import Period

INVOICES_MAX: Final = 400
"""Kept of a customer; those whose periods ended first go first. Their late usage is no longer found."""

DRAFT: Final = "draft"
FINAL: Final = "final"
VOID: Final = "void"

Billing = dict[str, Any]


def new_billing() -> Billing:
    """Of a customer that has no invoice yet."""
    return {"version": 0, "invoices": []}


def noted(billing: Mapping[str, Any], entry: Mapping[str, Any]) -> Billing:
    """With an invoice's entry put in, or replaced; one version on."""
    invoices = [one for one in billing["invoices"] if one["id"] != entry["id"]] + [dict(entry)]
    invoices.sort(key=lambda one: (one["end"], one["start"], one["kind"], one["cause"], one["revision"]))
    return {**billing, "version": billing["version"] + 1, "invoices": invoices[-INVOICES_MAX:]}


def with_state(billing: Mapping[str, Any], invoice_id: str, state: str) -> Billing:
    """With another state of an invoice; one version on."""
    return {
        **billing,
        "version": billing["version"] + 1,
        "invoices": [{**one, "state": state} if one["id"] == invoice_id else one for one in billing["invoices"]],
    }


def entry_of(
    invoice: Mapping[str, Any], covers: Iterable[Sequence[int]], adjusts: Iterable[Mapping[str, Any]], state: str
) -> Billing:
    """What the billing document says of an invoice. `covers`: seqs, from and before, of its own period's usage."""
    takes = invoice.get("takes") or {}
    return {
        "id": invoice["id"],
        "start": invoice["period"]["start"],
        "end": invoice["period"]["end"],
        "currency": invoice["currency"],
        "kind": invoice["kind"],
        "cause": invoice["cause"],
        "revision": invoice["revision"],
        "state": state,
        "covers": [list(one) for one in covers],
        "adjusts": [dict(one) for one in adjusts],
        "items": [item["id"] for item in takes.get("items", ())],
        "subscription_id": takes.get("subscription_id"),
        "billed_to": takes.get("billed_to"),
    }


def revision(billing: Mapping[str, Any], period: Period, currency: str) -> int:
    """Of the next invoice of a period, or of the one there is that is not void."""
    found = [
        one
        for one in billing["invoices"]
        if one["kind"] in PERIODIC and one["currency"] == currency and period_from(one) == period
    ]
    return max((one["revision"] + (one["state"] == VOID) for one in found), default=1)


def finals(billing: Mapping[str, Any], currency: str) -> dict[Period, str]:
    """Periods that have a final invoice, with its id."""
    return {
        period_from(one): one["id"]
        for one in billing["invoices"]
        if one["state"] == FINAL and one["kind"] in PERIODIC and one["currency"] == currency
    }


def overage_of(billing: Mapping[str, Any], cause: str) -> Billing | None:
    """The overage invoice of a cause, also where its period has other borders by now."""
    return next((one for one in billing["invoices"] if one["kind"] == OVERAGE and one["cause"] == cause), None)


def overages(billing: Mapping[str, Any], period: Period, currency: str) -> list[Billing]:
    """Invoices of a period's overage, those that are void too."""
    return [one for one in billing["invoices"] if one["currency"] == currency and _is_overage(one, period)]


def _is_overage(one: Mapping[str, Any], period: Period) -> bool:
    """Of a period, also where that ended earlier than it would have when its overage was billed."""
    if one["kind"] != OVERAGE:
        return False
    billed = period_from(one)
    return billed.start < period.end and period.start < billed.end


def gaps(billing: Mapping[str, Any], period: Period, currency: str, until: int, but: str = "") -> list[tuple[int, int]]:
    """Seqs below `until`, from and before, whose usage of a period no standing invoice bills. `but`: the draft that is
    built anew, which holds nothing against itself."""
    taken: list[tuple[int, int]] = []
    for one in _standing(billing, but):
        if one["currency"] != currency:
            continue
        if (one["kind"] in PERIODIC and period_from(one) == period) or _is_overage(one, period):
            taken += [(first, last) for first, last in one["covers"]]
        taken += [(of["from"], of["to"]) for of in one["adjusts"] if period_from(of) == period]
    found, reached = [], 0
    for first, last in sorted(taken):
        if first > reached:
            found.append((reached, min(first, until)))
        reached = max(reached, last)
    if reached < until:
        found.append((reached, until))
    return [(first, last) for first, last in found if first < last]


def reserved(billing: Mapping[str, Any], but: str = "") -> tuple[set[str], dict[str, str]]:
    """Items of subscriptions that other drafts bill, and by subscription up to when they bill its fees."""
    drafts = [one for one in _standing(billing, but) if one["state"] == DRAFT]
    items = {item for one in drafts for item in one.get("items", ())}
    billed: dict[str, str] = {}
    for one in drafts:
        of, until = one.get("subscription_id"), one.get("billed_to")
        if of and until:
            billed[of] = max(until, billed.get(of, ""))
    return items, billed


def _standing(billing: Mapping[str, Any], but: str) -> list[Billing]:
    return [one for one in billing["invoices"] if one["state"] != VOID and one["id"] != but]
