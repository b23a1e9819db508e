"""A customer's billing document: which invoices it has, and a version that every change of them raises.

Whoever builds an invoice read this document first, and names the version it built upon: an invoice built upon anything
older is refused, so that no two builders, however late one of them is, bill the same thing twice. It also says up to
which entry of the ledger the usage of each period is billed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from schemas.invoice import period_from
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


def entry_of(invoice: Mapping[str, Any], seq: int | None, adjusts: Iterable[Mapping[str, Any]], state: str) -> Billing:
    """What the billing document says of an invoice. `seq`: its usage lies below; None: it has none."""
    return {
        "id": invoice["id"],
        "start": invoice["period"]["start"],
        "end": invoice["period"]["end"],
        "currency": invoice["currency"],
        "kind": invoice["kind"],
        "cause": invoice["cause"],
        "revision": invoice["revision"],
        "state": state,
        "seq": seq,
        "adjusts": [dict(one) for one in adjusts],
    }


def revision(billing: Mapping[str, Any], period: Period, currency: str, kind: str, cause: str = "") -> int:
    """Of the next invoice of an identity, or of the one there is that is not void."""
    found = [
        one
        for one in billing["invoices"]
        if (one["kind"], one["cause"], one["currency"]) == (kind, cause, currency) and period_from(one) == period
    ]
    return max((one["revision"] + (one["state"] == VOID) for one in found), default=1)


def billed_to(billing: Mapping[str, Any]) -> dict[tuple[Period, str], tuple[int, str]]:
    """By period and currency, of final period invoices: the seq below which its usage is billed, with the invoice."""
    reached: dict[tuple[Period, str], tuple[int, str]] = {}
    for one in billing["invoices"]:
        if one["state"] == FINAL and one["kind"] in ("period", "final"):
            reached[period_from(one), one["currency"]] = one["seq"] or 0, one["id"]
    for one in billing["invoices"]:
        if one["state"] != FINAL:
            continue
        for adjusted in one["adjusts"]:
            key = period_from(adjusted), one["currency"]
            if key in reached:
                reached[key] = max(reached[key][0], adjusted["to"]), reached[key][1]
    return reached
