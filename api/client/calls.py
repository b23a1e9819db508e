"""Every call of the client as a value: what is sent, and how its answer is read. No I/O: both clients run the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from api.client.errors import Away
from api.client.values import Balance, Check, Hold, Invoice, Operation, Plan, Quota, Subscription, Usage

Answer = TypeVar("Answer")

_OK: Final = 200
PENDING: Final = 202
"""Asked again under its key, it is answered once its outcome is known."""

SOURCE: Final = "tollgate-client"
"""`source` of usage that names none."""


class Page(list[Answer]):
    """Rows of a listing, and the call for the rows behind them."""

    following: str | None = None


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One request."""

    method: str
    path: str
    read: Callable[[int, Mapping[str, str], Any], Answer]
    """Status, headers (names in small letters) and JSON of an answer that is no error."""
    query: Mapping[str, str] | None = None
    body: Any = None
    headers: Mapping[str, str] | None = None


def plans() -> Call[list[Plan]]:
    return Call("GET", "/v1/plans", _rows(Plan.of))


def plan(plan_id: str) -> Call[Plan]:
    return Call("GET", f"/v1/plans/{_segment(plan_id)}", _one(Plan.of))


def subscription(customer: str) -> Call[Subscription]:
    return Call("GET", _of(customer, "subscription"), _one(Subscription.of))


def create_subscription(customer: str, plan_id: str, options: Mapping[str, Any], key: str) -> Call[Subscription]:
    return Call(
        "POST", _of(customer, "subscription"), _one(Subscription.of), None, {"plan_id": plan_id, **options}, _key(key)
    )


def change_subscription(customer: str, plan_id: str, options: Mapping[str, Any], key: str) -> Call[Subscription]:
    return Call(
        "PATCH", _of(customer, "subscription"), _one(Subscription.of), None, {"plan_id": plan_id, **options}, _key(key)
    )


def cancel_subscription(customer: str, when: str, key: str) -> Call[Subscription]:
    return Call("DELETE", _of(customer, "subscription"), _one(Subscription.of), {"when": when}, None, _key(key))


def record_usage(
    customer: str, meter: str, quantity: int | str | Decimal, event_id: str, source: str, more: Mapping[str, Any]
) -> Call[None]:
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": "usage.reported",
        "subject": customer,
        "data": {"meter": meter, "quantity": _number(quantity), **more},
    }
    return Call("POST", "/v1/events", lambda *_: None, None, event)


def usage(customer: str, span: Mapping[str, str], cursor: str | None = None) -> Call[Page[Usage]]:
    return Call("GET", _of(customer, "usage"), _page(Usage.of), _with(span, cursor))


def check_quota(customer: str, meter: str, quantity: int | str | Decimal, user: str | None) -> Call[Check]:
    body = {"customer": customer, "meter": meter, "quantity": str(quantity)}
    return Call("POST", "/v1/quota/check", _one(Check.of), None, body | ({"user": user} if user else {}))


def check(customer: str, wish: Mapping[str, Any]) -> Call[Check]:
    return Call("POST", "/v1/quota/check", _one(Check.of), None, wished(customer, wish))


def consume(customer: str, meter: str, quantity: int | str | Decimal, user: str | None, key: str) -> Call[Check]:
    body = {"customer": customer, "meter": meter, "quantity": str(quantity)} | ({"user": user} if user else {})
    return Call("POST", "/v1/quota/consume", _one(Check.of), None, body, _key(key))


def hold(customer: str, wish: Mapping[str, Any]) -> Call[Hold]:
    return Call("POST", "/v1/holds", _one(Hold.of), None, wished(customer, wish))


def find_hold(hold_id: str) -> Call[Hold]:
    return Call("GET", f"/v1/holds/{_segment(hold_id)}", _one(Hold.of))


def extend_hold(hold_id: str, more: Mapping[str, Any]) -> Call[Hold]:
    return Call("POST", f"/v1/holds/{_segment(hold_id)}/extend", _one(Hold.of), None, _wished(more))


def settle_hold(hold_id: str, used: Mapping[str, Any]) -> Call[Hold | None]:
    """None: it is on its way, and not booked yet."""
    return Call(
        "POST",
        f"/v1/holds/{_segment(hold_id)}/settle",
        lambda status, headers, body: Hold.of(body) if status == _OK else None,
        None,
        _wished(used),
    )


def release_hold(hold_id: str) -> Call[Hold]:
    return Call("POST", f"/v1/holds/{_segment(hold_id)}/release", _one(Hold.of), None, {})


def quotas(customer: str) -> Call[list[Quota]]:
    return Call("GET", _of(customer, "quota"), _rows(Quota.of))


def balances(customer: str) -> Call[list[Balance]]:
    return Call(
        "GET", _of(customer, "balance"), lambda status, headers, body: [Balance.of(row) for row in body["balances"]]
    )


def deposit(customer: str, amount: Decimal | str, currency: str, key: str) -> Call[Operation]:
    body = {"amount": str(amount), "currency": currency}
    return Call("POST", _of(customer, "wallet/deposit"), _operation, None, body, _key(key))


def invoices(customer: str, cursor: str | None = None) -> Call[Page[Invoice]]:
    return Call("GET", _of(customer, "invoices"), _page(Invoice.of), _with({}, cursor))


def upcoming_invoice(customer: str) -> Call[Invoice]:
    return Call("GET", _of(customer, "invoices/upcoming"), _one(Invoice.of))


def invoice(invoice_id: str) -> Call[Invoice]:
    return Call("GET", f"/v1/invoices/{_segment(invoice_id)}", _one(Invoice.of))


def generate_invoice(customer: str, period: str) -> Call[Invoice]:
    return Call("POST", _of(customer, "invoices"), _one(Invoice.of), None, {"period": period})


def new_key() -> str:
    """A key for a call that its caller gives none."""
    return uuid.uuid4().hex


def _of(customer: str, what: str) -> str:
    return f"/v1/customers/{_segment(customer)}/{what}"


def wished(customer: str, wish: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a check or a hold."""
    return {"customer": customer, **_wished(wish)}


def _wished(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given of it, as JSON has it: quantities and money as decimal text."""
    return {
        name: str(value) if name in ("quantity", "amount") else value
        for name, value in given.items()
        if value is not None
    }


def _segment(name: str) -> str:
    return quote(name, safe="")


def _key(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def _with(query: Mapping[str, str], cursor: str | None) -> dict[str, str]:
    return {**query, "cursor": cursor} if cursor else dict(query)


def _number(quantity: int | str | Decimal) -> int | str:
    return quantity if isinstance(quantity, int) else str(quantity)


def _one(read: Callable[[Mapping[str, Any]], Answer]) -> Callable[[int, Mapping[str, str], Any], Answer]:
    def one(status: int, headers: Mapping[str, str], body: Any) -> Answer:
        if status == PENDING:
            raise Away(PENDING, "pending", f"what became of it is not known yet: {headers.get('location', '')}")
        return read(body)

    return one


def _rows(read: Callable[[Mapping[str, Any]], Answer]) -> Callable[[int, Mapping[str, str], Any], list[Answer]]:
    return lambda status, headers, body: [read(row) for row in _listed(body)]


def _page(read: Callable[[Mapping[str, Any]], Answer]) -> Callable[[int, Mapping[str, str], Any], Page[Answer]]:
    def page(status: int, headers: Mapping[str, str], body: Any) -> Page[Answer]:
        rows = Page(read(row) for row in _listed(body))
        rows.following = body.get("next_cursor") if isinstance(body, dict) else None
        return rows

    return page


def _listed(body: Any) -> list[Mapping[str, Any]]:
    if isinstance(body, list):
        return body
    found: list[Mapping[str, Any]] = body["data"] if "data" in body else body.get("quotas", [])
    return found


def _operation(status: int, headers: Mapping[str, str], body: Any) -> Operation:
    return Operation(status != PENDING, headers.get("location"), body or {})
