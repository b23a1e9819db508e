"""The commands that draft an invoice, finalize it and make it void; and whether a draft that stands is the one that
would be made. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from invoicing.material import Standing
from schemas import invoicing_commands as types
from schemas.commands import Command
from schemas.documents import encode_body
from schemas.invoice import PERIODIC, period_from
from schemas.period import Period


def draft_command(standing: Standing, data: dict[str, Any]) -> Command:
    """The command of a draft; built upon the same and with the same lines it is the same command."""
    body = data["invoice"]
    shown = {**data, "invoice": {**body, "created_at": ""}}
    digest = blake2b(encode_body(shown), digest_size=8).hexdigest()
    return Command(
        standing.tenant,
        standing.account.customer,
        types.INVOICE_DRAFT,
        f"draft:{body['id']}:{data['expects']}:{digest}",
        data,
    )


def finalize_command(tenant: str, body: Mapping[str, Any], due_days: int | None) -> Command:
    """The command that finalizes an invoice."""
    return _about(tenant, body, types.INVOICE_FINALIZE, "finalize", due_days=due_days)


def void_command(tenant: str, body: Mapping[str, Any], reason: str) -> Command:
    """The command that makes an invoice void, with the payments that are known to name it."""
    payments = [payment["payment_id"] for payment in body["payments"]]
    return _about(tenant, body, types.INVOICE_VOID, "void", reason=reason or None, payments=payments or None)


def _about(tenant: str, body: Mapping[str, Any], event_type: str, action: str, **more: Any) -> Command:
    """A command about an invoice, that names the subscription it bills."""
    data = {"subscription_id": (body.get("takes") or {}).get("subscription_id"), **more}
    given = {name: value for name, value in data.items() if value is not None}
    return Command(tenant, body["customer"], event_type, f"{action}:{body['id']}", {"invoice_id": body["id"], **given})


def alike(stands: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether nothing that counts differs."""
    body = data["invoice"]
    names = ("lines", "bill_to", "collection", "plan", "subscription_id")
    return all(stands[name] == body[name] for name in names) and stands.get("takes") == data["takes"]


def is_draft_of(draft: Mapping[str, Any], period: Period) -> bool:
    """Whether it is the draft of a period, and not just being finalized."""
    return draft["kind"] in PERIODIC and period_from(draft["period"]) == period and not draft.get("numbering")
