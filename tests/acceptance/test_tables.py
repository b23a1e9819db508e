"""Section 5, tables: the views by name, their columns by name and type, and that a plain SELECT shows nothing twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.site import Site, Tenant, fresh, until

CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: calls, event_type: usage.reported}
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
prices:
  - {id: in, meter: input_tokens, model: per_unit, unit_amount: "0.0015"}
  - {id: call, meter: calls, model: per_unit, unit_amount: "1"}
  - {id: core, meter: core_seconds, model: per_unit, unit_amount: "0.01"}
plans:
  - {id: pro, name: Pro, interval: month, amount: "20.00", features: {calls: 5}}
"""
VIEWS = {
    "rated_usage": "tenant, customer, user_id, event_id, source, event_type, occurred_at, meter, quantity, price_id, "
    "catalog_version, unit_amount, amount, currency, dimensions, session_id, device_id, allocation_id, upstream_cost, "
    "subscription_id, topic, partition, offset, seq, rated_at, late",
    "ledger": "tenant, customer, entry_id, kind, amount, balance_after, currency, occurred_at, cause, seq",
    "usage_hourly": "tenant, customer, meter, dimensions, currency, window_start, quantity, amount, events",
    "usage_daily": "tenant, customer, meter, dimensions, currency, window_start, quantity, amount, events",
    "event_outcomes": "topic, partition, offset, tenant, customer, source, event_id, event_type, outcome, reason, seq, decided_at",
    "dead_letters": "topic, partition, offset, tenant, customer, source, event_id, reason, detail, original, received_at, retried_at",
    "invoices": "tenant, customer, invoice_id, number, kind, revision, period_start, period_end, currency, state, subtotal, "
    "tax, total, amount_paid, amount_due, due_at, finalized_at, paid_at",
    "invoice_lines": "tenant, customer, invoice_id, line_id, kind, price_id, description, quantity, exact_amount, amount, "
    "period_start, period_end",
    "sessions": "tenant, customer, session_id",
    "credit_grants": "tenant, customer, credit_id, kind, amount, remaining, currency, granted_at",
    "subscriptions": "tenant, customer, subscription_id, plan_id, status, billing_cycle",
    "orders": "tenant, customer, order_id, order_type, status, total_amount, currency",
    "payments": "tenant, customer, payment_id, payment_intent_id, order_id, invoice_id, status, amount, currency",
    "denials": "tenant, customer, denial_id, denied_at, reason",
}
MONEY = (
    "amount", "balance_after", "exact_amount", "subtotal", "tax", "total", "amount_paid", "amount_due", "total_amount",
    "remaining", "refunded_amount",
)  # fmt: skip


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("tables", CATALOGUE)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_its_columns_and_no_float(site: Site, view: str) -> None:
    """In every view `amount` and `balance_after` are `Decimal(38, 9)`, `quantity` is a Decimal, `dimensions` a
    `Map(String, String)`; never a float.
    """
    columns = {row["name"]: row["type"] for row in site.sql(f"DESCRIBE TABLE tollgate.{view}")}
    assert set(VIEWS[view].split(", ")) <= columns.keys()
    for name, kind in columns.items():
        bare = kind.removeprefix("Nullable(").removesuffix(")") if kind.startswith("Nullable(") else kind
        assert "Float" not in kind, (name, kind)
        if name in MONEY:
            assert bare == "Decimal(38, 9)", (name, kind)
        if name in ("amount", "balance_after"):
            assert kind == "Decimal(38, 9)", (name, kind)
        if name == "quantity":
            assert bare.startswith("Decimal("), (name, kind)
        if name == "dimensions":
            assert kind == "Map(String, String)"
        if name.endswith("_at"):
            assert bare.startswith("DateTime"), (name, kind)
    assert len(site.sql(f"SELECT {VIEWS[view]} FROM tollgate.{view} LIMIT 1")) <= 1
    assert len(site.sql(f"SELECT count() AS n FROM tollgate.{view}")) == 1


def tokens(tenant: Tenant, customer: str, **data: Any) -> dict[str, Any]:
    whole = {
        "session_id": "s-1",
        "model": "gpt",
        "input_tokens": 1001,
        "output_tokens": 0,
        "user_id": "u-1",
        "cost_usd": 0.25,
    }
    return tenant.event(customer, "session.tokens_used", whole | data, time="2026-11-20T10:15:30.123Z")


def test_a_charge_in_rated_usage(tenant: Tenant) -> None:
    """One row an event and price, duplicates never show; beside it the outcome of each record, and the ledger."""
    customer = fresh()
    event = tokens(tenant, customer)
    tenant.post(event)
    tenant.post(event, event)
    tenant.outcomes([event["id"]], 3)
    (row,) = tenant.rows("rated_usage", "event_id = {e:String}", e=event["id"])
    assert {name: row[name] for name in ("customer", "user_id", "source", "event_type", "meter", "price_id", "session_id")} == {
        "customer": customer, "user_id": "u-1", "source": "acceptance", "event_type": "session.tokens_used",
        "meter": "input_tokens", "price_id": "in", "session_id": "s-1",
    }  # fmt: skip
    assert (row["currency"], row["dimensions"], row["topic"]) == ("USD", {"model": "gpt"}, "usage.events")
    assert [Decimal(row[name]) for name in ("quantity", "unit_amount", "amount", "upstream_cost")] == [
        Decimal(1001), Decimal("0.0015"), Decimal("1.5015"), Decimal("0.25"),
    ]  # fmt: skip
    assert row["occurred_at"].startswith("2026-11-20 10:15:30.123")
    outcomes = tenant.rows("event_outcomes", "event_id = {e:String}", e=event["id"])
    assert sorted(one["outcome"] for one in outcomes) == ["duplicate", "duplicate", "rated"]
    assert len({(one["partition"], one["seq"]) for one in outcomes}) == 3
    (first,) = [one for one in outcomes if one["outcome"] == "rated"]
    assert (first["partition"], first["offset"], first["seq"]) == (row["partition"], row["offset"], row["seq"])
    (moved,) = tenant.rows("ledger", "customer = {c:String}", c=customer)
    assert (moved["kind"], Decimal(moved["amount"]), Decimal(moved["balance_after"])) == (
        "charge",
        Decimal("-1.5015"),
        Decimal("-1.5015"),
    )
    assert (moved["cause"], moved["seq"]) == (event["id"], row["seq"])


def test_usage_by_hour_and_day(tenant: Tenant) -> None:
    """One row a customer, meter, dimensions and window."""
    customer = fresh()
    events = [
        tokens(tenant, customer, model=model, input_tokens=count) | {"time": time}
        for model, count, time in (
            ("a", 1, "2026-11-20T10:00:00Z"), ("a", 2, "2026-11-20T10:59:59.999Z"), ("a", 4, "2026-11-20T11:00:00Z"),
            ("b", 8, "2026-11-20T10:30:00Z"), ("a", 16, "2026-11-21T00:00:00Z"),
        )
    ]  # fmt: skip
    tenant.post(*events)
    tenant.outcomes([event["id"] for event in events])

    def windows(view: str) -> list[tuple[str, str, Decimal, Decimal, int]]:
        rows = tenant.rows(view, "customer = {c:String}", c=customer)
        return sorted(
            (
                row["window_start"],
                row["dimensions"]["model"],
                Decimal(row["quantity"]),
                Decimal(row["amount"]),
                row["events"],
            )
            for row in rows
        )

    price = Decimal("0.0015")
    assert windows("usage_hourly") == [
        ("2026-11-20 10:00:00", "a", 3, 3 * price, 2), ("2026-11-20 10:00:00", "b", 8, 8 * price, 1),
        ("2026-11-20 11:00:00", "a", 4, 4 * price, 1), ("2026-11-21 00:00:00", "a", 16, 16 * price, 1),
    ]  # fmt: skip
    assert windows("usage_daily") == [
        ("2026-11-20 00:00:00", "a", 7, 7 * price, 3), ("2026-11-20 00:00:00", "b", 8, 8 * price, 1),
        ("2026-11-21 00:00:00", "a", 16, 16 * price, 1),
    ]  # fmt: skip


def only(tenant: Tenant, view: str, where: str, **parameters: object) -> dict[str, Any]:
    """The one row of a view, once it is there."""
    rows = until(lambda: tenant.rows(view, where, **parameters), f"{view} where {where} {parameters}")
    assert len(rows) == 1, rows
    return rows[0]


def test_sessions(tenant: Tenant) -> None:
    """One row a session."""
    customer, name = fresh(), fresh("s")
    ended = {
        "session_id": name,
        "started_at": "2026-11-20T10:00:00Z",
        "ended_at": "2026-11-20T10:30:00Z",
        "user_id": "u-1",
    }
    events = [tokens(tenant, customer, session_id=name), tokens(tenant, customer, session_id=name)]
    end = tenant.event(customer, "session.ended", ended, time="2026-11-20T10:30:00Z")
    tenant.post(*events, end)
    tenant.outcomes([event["id"] for event in [*events, end]])
    row = only(tenant, "sessions", "session_id = {s:String}", s=name)
    assert (row["customer"], row["user_id"], Decimal(row["amount"])) == (customer, "u-1", Decimal("3.003"))
    assert row["ended"] in (True, 1)


def test_credit_grants(tenant: Tenant) -> None:
    """One row a credit, with what is left of it."""
    customer, name = fresh(), fresh("g")
    more = {
        "credit_id": name,
        "priority": 7,
        "expires_at": "2099-01-01T00:00:00Z",
        "scope": ["calls"],
        "kind": "promotional",
    }
    tenant.grant(customer, "10", **more)
    row = only(tenant, "credit_grants", "credit_id = {g:String}", g=name)
    assert (row["customer"], row["kind"], row["currency"]) == (customer, "grant", "USD")
    assert (Decimal(row["amount"]), Decimal(row["remaining"])) == (10, 10)
    tenant.post(tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 4}))
    until(lambda: Decimal(only(tenant, "credit_grants", "credit_id = {g:String}", g=name)["remaining"]) == 6)
    other = fresh()
    tenant.post(tenant.event(other, "usage.reported", {"meter": "calls", "quantity": 4}))
    until(lambda: tenant.http.get(f"/v1/customers/{other}/balance").status_code == 200)
    debt = fresh("g")
    tenant.grant(other, "10", credit_id=debt)
    until(lambda: Decimal(only(tenant, "credit_grants", "credit_id = {g:String}", g=debt)["remaining"]) == 6)


def test_orders_payments_subscriptions_and_denials(tenant: Tenant) -> None:
    """`orders, payments, subscriptions, denials`: one row each, as of now."""
    customer = fresh()
    order = tenant.settled("POST", "/v1/orders", {"customer": customer, "total_amount": "20", "currency": "USD"}).json()
    row = only(tenant, "orders", "order_id = {o:String}", o=order["order_id"])
    assert (row["customer"], row["order_type"], row["status"], Decimal(row["total_amount"])) == (
        customer,
        "credits",
        "payment_pending",
        20,
    )
    payment = fresh("pay")
    paid = {
        "user_id": customer,
        "payment_id": payment,
        "amount": "20",
        "currency": "USD",
        "order_id": order["order_id"],
    }
    tenant.post(tenant.event(customer, "payment.completed", paid))
    row = only(tenant, "payments", "payment_id = {p:String}", p=payment)
    assert (row["order_id"], row["status"], Decimal(row["amount"])) == (order["order_id"], "succeeded", 20)
    until(lambda: only(tenant, "orders", "order_id = {o:String}", o=order["order_id"])["status"] == "fulfilled")
    made = tenant.settled("POST", f"/v1/customers/{customer}/subscription", {"plan_id": "pro"})
    assert made.status_code == 201, made.text
    row = only(tenant, "subscriptions", "customer = {c:String}", c=customer)
    assert (row["plan_id"], row["billing_cycle"]) == ("pro", "month")
    used = tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 1})
    tenant.post(used)
    tenant.outcomes([used["id"]])
    (charge,) = tenant.rows("rated_usage", "event_id = {e:String}", e=used["id"])
    assert charge["subscription_id"] == row["subscription_id"]
    tenant.grant(customer, "100")
    denied = tenant.http.post("/v1/holds", json={"customer": customer, "meter": "calls", "quantity": 6})
    row = only(tenant, "denials", "denial_id = {d:String}", d=denied.json()["denial_id"])
    assert (row["customer"], row["reason"], row["meter"]) == (customer, "quota", "calls")


def test_a_dead_letter_in_its_view(tenant: Tenant) -> None:
    """One row a dead letter, with the bytes as they came; `retried_at` once it was sent again."""
    event = tenant.event(fresh(), "usage.reported", {"meter": "nobody_s", "quantity": 1})
    tenant.post(event)
    row = only(tenant, "dead_letters", "event_id = {e:String}", e=event["id"])
    assert (row["reason"], row["customer"], row["topic"], row["retried_at"]) == (
        "no_meter",
        event["subject"],
        "usage.events",
        None,
    )
    assert row["detail"]
    assert event["id"] in row["original"]
    assert tenant.http.post(
        f"/v1/dead-letters/{row['topic']}-{row['partition']}-{row['offset']}/retry", json={}
    ).status_code in (200, 404)


def test_an_invoice_and_its_lines(tenant: Tenant) -> None:
    """`invoices` and `invoice_lines`: the sum of an invoice's lines is its total; `exact_amount` is not rounded."""
    customer = fresh()
    tenant.grant(customer, "100")
    events = [tokens(tenant, customer, input_tokens=count) | {"time": "2026-10-10T10:00:00Z"} for count in (1001, 333)]
    tenant.post(*events)
    tenant.outcomes([event["id"] for event in events])
    made = tenant.settled("POST", f"/v1/customers/{customer}/invoices", {"period": "2026-10"})
    assert made.status_code == 201, made.text
    row = only(tenant, "invoices", "customer = {c:String}", c=customer)
    assert (row["currency"], row["kind"], row["revision"]) == ("USD", "period", 1)
    assert row["state"] in ("draft", "open", "paid")
    lines = tenant.rows("invoice_lines", "invoice_id = {i:String}", i=row["invoice_id"])
    assert sum(Decimal(line["amount"]) for line in lines) == Decimal(row["total"])
    (usage,) = [line for line in lines if line["kind"] == "usage"]
    assert (usage["price_id"], Decimal(usage["quantity"]), Decimal(usage["exact_amount"]), Decimal(usage["amount"])) == (
        "in", 1334, Decimal("2.001"), Decimal("2.00"),
    )  # fmt: skip
