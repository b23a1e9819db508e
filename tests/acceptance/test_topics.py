"""Section 5, topics: the ledger as it is printed, and what is told on `billing.events`, each once and by its schema."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.acceptance.site import Site, Tenant, fresh, until
from tests.deployment import ROOT

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "1"}
plans:
  - {id: pro, name: Pro, interval: month, amount: "20.00"}
  - {id: team, name: Team, interval: month, amount: "40.00"}
  - id: bounded
    name: Bounded
    interval: month
    amount: "0"
    quotas:
      - {meter: calls, limit: 10, window: hour, mode: soft, thresholds: [50, 80, 100]}
      - {spend: "8.00", window: "session:5h", mode: soft, thresholds: [100]}
"""
SCHEMAS = ROOT / "schemas" / "json" / "out"


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("topics", CATALOGUE)


def told(tenant: Tenant, customer: str) -> list[dict[str, Any]]:
    """What `billing.events` has of a customer, in order."""
    found = []
    for _, _, key, value in tenant.site.read("billing.events"):
        if value is not None and key == customer.encode():
            event = json.loads(value)
            if (event["tenantid"], event["subject"]) == (tenant.name, customer):
                found.append(event)
    return found


def awaited(tenant: Tenant, customer: str, kinds: Iterable[str]) -> list[dict[str, Any]]:
    """All that is told of a customer, once all of these are among it."""
    wanted = set(kinds)
    until(lambda: {event["type"] for event in told(tenant, customer)} >= wanted, f"{sorted(wanted)} of {customer}")
    return told(tenant, customer)


def well_formed(events: list[dict[str, Any]]) -> bool:
    """Whether each is a CloudEvent of ours with an id of its own and data as its checked-in schema says."""
    assert len({event["id"] for event in events}) == len(events)
    for event in events:
        assert (event["specversion"], event["source"]) == ("1.0", "tollgate")
        assert event["time"].endswith("Z")
        assert event["dataschema"].endswith(f"/{event['type']}/1")
        schema = json.loads((SCHEMAS / f"{event['type']}.v1.json").read_text())
        jsonschema_rs.validator_for(schema).validate(event["data"])
    return True


def post(tenant: Tenant, path: str, **body: Any) -> dict[str, Any]:
    answer = tenant.settled("POST", path, body)
    assert answer.status_code in (200, 201), answer.text
    done: dict[str, Any] = answer.json()
    return done


def count(events: list[dict[str, Any]]) -> Counter[str]:
    return Counter(event["type"] for event in events)


def test_usage_is_told_by_customer_and_batch(tenant: Tenant) -> None:
    """`usage.recorded` and `billing.processed` by customer and batch; `wallet.consumed` with what was taken."""
    customer = fresh()
    tenant.grant(customer, "100")
    events = [tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 2}) for _ in range(5)]
    tenant.post(*events, *events)
    tenant.outcomes([event["id"] for event in events], 10)
    found = awaited(tenant, customer, ["usage.recorded", "billing.processed", "wallet.consumed"])
    assert well_formed(found)
    for kind in ("usage.recorded", "billing.processed"):
        data = [event["data"] for event in found if event["type"] == kind]
        assert sum(one["events"] for one in data) == 5
        assert sum(float(one["amount"]) for one in data) == 10
        assert sum(float(one["usage"]["calls"]) for one in data) == 10
    assert [event["data"]["balance_after"] for event in found if event["type"] == "wallet.consumed"][-1] == "90"


def test_every_movement_of_a_wallet_is_told(tenant: Tenant) -> None:
    """`wallet.created|deposited|consumed|withdrawn|transferred|refunded|balance_changed|insufficient_funds`."""
    customer, other = fresh(), fresh()
    path = f"/v1/customers/{customer}/wallet"
    post(tenant, f"{path}/deposit", amount="10", currency="USD")
    post(tenant, f"{path}/withdraw", amount="1", currency="USD")
    post(tenant, f"{path}/refund", amount="2", currency="USD")
    post(tenant, f"{path}/consume", amount="3", currency="USD")
    post(tenant, f"{path}/transfer", amount="1", currency="USD", to_customer=other)
    tenant.post(tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 5}))
    kinds = [
        "wallet.created", "wallet.deposited", "wallet.withdrawn", "wallet.refunded", "wallet.consumed",
        "wallet.transferred", "wallet.balance_changed", "wallet.insufficient_funds",
    ]  # fmt: skip
    found = awaited(tenant, customer, kinds)
    assert well_formed(found)
    counted = count(found)
    for kind in set(kinds) - {"wallet.balance_changed", "wallet.consumed"}:
        assert counted[kind] == 1, (kind, counted)
    amounts = {event["type"]: event["data"].get("amount") for event in found}
    assert [amounts[f"wallet.{kind}"] for kind in ("deposited", "withdrawn", "refunded", "transferred")] == [
        "10",
        "1",
        "2",
        "1",
    ]
    assert well_formed(awaited(tenant, other, ["wallet.created", "wallet.transferred", "wallet.balance_changed"]))


def test_quotas_are_told_once_a_window(tenant: Tenant) -> None:
    """`quota.threshold_reached`, `quota.exceeded`: each once a window, and the recovery."""
    customer = fresh()
    tenant.post(
        tenant.event(
            customer, "user.upgraded", {"user_id": customer, "plan_id": "bounded"}, time="2026-11-20T09:00:00Z"
        )
    )
    until(lambda: tenant.http.get(f"/v1/customers/{customer}/quota").json().get("plan") == "bounded")
    for number, quantity in enumerate((4, 2, 2, 1, 1, 2, 3)):
        event = tenant.event(
            customer, "usage.reported", {"meter": "calls", "quantity": quantity}, time=f"2026-11-20T10:0{number}:00Z"
        )
        tenant.post(event)
        tenant.outcomes([event["id"]])
    later = tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 1}, time="2026-11-20T11:00:00Z")
    tenant.post(later)
    found = awaited(tenant, customer, ["quota.threshold_reached", "quota.exceeded", "quota.recovered"])
    assert well_formed(found)

    def of(kind: str, meter: str | None) -> list[tuple[Any, ...]]:
        return [
            (event["data"].get("threshold"), event["data"]["used"], event["data"]["limit"], event["data"]["window"])
            for event in found
            if event["type"] == kind and event["data"]["meter"] == meter
        ]

    assert of("quota.threshold_reached", "calls") == [
        (50, "6", "10", "hour"),
        (80, "8", "10", "hour"),
        (100, "10", "10", "hour"),
    ]
    assert of("quota.exceeded", "calls") == [(None, "12", "10", "hour")]
    assert len(of("quota.recovered", "calls")) == 1
    assert of("quota.threshold_reached", None) == [(100, "8", "8", "session:5h")]
    assert of("quota.exceeded", None) == [(None, "9", "8", "session:5h")]


def test_orders_and_payments_are_told(tenant: Tenant) -> None:
    """`order.*`, `payment.*`: order, intent, payment, wallet, completion, fulfilment; refund; cancel; failure."""
    customer = fresh()
    order = post(tenant, "/v1/orders", customer=customer, total_amount="20", currency="USD", credit_amount="25")
    assert (order["status"], order["customer"], order["total_amount"]) == ("payment_pending", customer, "20")
    path = f"/v1/orders/{order['order_id']}"
    changed = tenant.settled("PATCH", path, body={"metadata": {"a": "b"}})
    assert (changed.status_code, changed.json()["metadata"]) == (200, {"a": "b"})
    failed = {
        "user_id": customer,
        "payment_intent_id": order["payment_intent_id"],
        "amount": "20",
        "currency": "USD",
        "error": "card",
    }
    tenant.post(tenant.event(customer, "payment.failed", failed))
    paid = {
        "user_id": customer,
        "payment_id": fresh("pay"),
        "payment_intent_id": order["payment_intent_id"],
        "amount": "20",
        "currency": "USD",
    }
    tenant.post(tenant.event(customer, "payment.completed", paid))
    until(lambda: tenant.http.get(path).json()["status"] == "fulfilled")
    assert tenant.balance(customer)["balance"] == "25"
    again = post(tenant, f"{path}/fulfill")
    assert again["status"] == "fulfilled"
    assert tenant.settled("POST", f"{path}/cancel", {}).status_code == 409
    refunded = post(tenant, f"{path}/refund")
    assert refunded["status"] == "refunded"
    assert tenant.balance(customer)["balance"] == "0"
    gone = post(tenant, "/v1/orders", customer=customer, total_amount="5", currency="USD")
    assert post(tenant, f"/v1/orders/{gone['order_id']}/cancel")["status"] == "canceled"
    quick = post(tenant, "/v1/orders", customer=customer, total_amount="5", currency="USD", expires_in_seconds=1)
    intent = post(tenant, "/v1/payments", customer=customer, amount="3", currency="USD")
    assert tenant.http.get(f"/v1/payments/{intent['payment_id']}").json()["status"] == "pending"
    assert post(tenant, f"/v1/payments/{intent['payment_id']}/cancel")["status"] == "canceled"
    taken = post(tenant, "/v1/payments", customer=customer, amount="4", currency="USD")
    assert post(tenant, f"/v1/payments/{taken['payment_id']}/confirm")["status"] == "succeeded"
    assert tenant.balance(customer)["balance"] == "4"
    assert post(tenant, f"/v1/payments/{taken['payment_id']}/refund")["status"] == "refunded"
    assert tenant.balance(customer)["balance"] == "0"
    tenant.site.tollgate("jobs", "run", "orders", check=False)
    found = awaited(
        tenant, customer,
        [
            "order.created", "order.updated", "order.payment_pending", "order.completed", "order.fulfilled", "order.refunded",
            "order.canceled", "payment.intent.created", "payment.failed", "payment.completed", "payment.canceled",
            "payment.refunded", "wallet.deposited", "wallet.refunded",
        ],
    )  # fmt: skip
    assert well_formed(found)
    mine = Counter(event["type"] for event in found if event["data"].get("order_id") == order["order_id"])
    for kind in ("created", "updated", "payment_pending", "completed", "fulfilled", "refunded"):
        assert mine[f"order.{kind}"] == 1, mine
    assert (mine["payment.completed"], mine["payment.failed"]) == (1, 1)
    assert quick["expires_at"] > quick["created_at"]
    listed = until(
        lambda: rows if len(rows := tenant.http.get(f"/v1/orders?customer={customer}").json()["data"]) >= 3 else []
    )
    assert {one["order_id"] for one in listed} == {order["order_id"], gone["order_id"], quick["order_id"]}


def test_a_wallet_below_its_threshold_asks_for_payment_once(tenant: Tenant) -> None:
    """`auto_topup {below, amount, cool_off}`: `payment.intent.created`, once a cool-off."""
    customer = fresh()
    body = {"currency": "USD", "auto_topup": {"below": "5", "amount": "20", "cool_off": "1h"}}
    assert tenant.settled("PUT", f"/v1/customers/{customer}", body=body).status_code in (200, 201)
    tenant.grant(customer, "10")
    for _ in range(3):
        event = tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 3})
        tenant.post(event)
        tenant.outcomes([event["id"]])
    found = awaited(tenant, customer, ["payment.intent.created"])
    assert well_formed(found)
    (asked,) = [event["data"] for event in found if event["type"] == "payment.intent.created"]
    assert (asked["amount"], asked["currency"]) == ("20", "USD")


def test_a_deleted_user_is_closed_by_rule(tenant: Tenant) -> None:
    """`user.deleted`: paid remainder refunded, promotional expired, open orders canceled, holds released; later usage
    is charged.
    """
    customer = fresh()
    tenant.post(tenant.event(customer, "user.created", {"user_id": customer}))
    tenant.grant(customer, "5", kind="promotional")
    post(tenant, f"/v1/customers/{customer}/wallet/deposit", amount="10", currency="USD")
    order = post(tenant, "/v1/orders", customer=customer, total_amount="20", currency="USD")
    hold = post(tenant, "/v1/holds", customer=customer, amount="2")
    tenant.post(tenant.event(customer, "user.deleted", {"user_id": customer}))
    found = awaited(tenant, customer, ["wallet.refunded", "order.canceled", "wallet.balance_changed"])
    assert well_formed(found)
    assert count(found)["wallet.created"] == 1
    assert tenant.balance(customer)["balance"] == "0"
    assert tenant.http.get(f"/v1/holds/{hold['hold_id']}").json()["state"] == "released"
    assert tenant.http.get(f"/v1/orders/{order['order_id']}").json()["status"] == "canceled"
    late = tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 1})
    tenant.post(late)
    assert tenant.outcomes([late["id"]])[late["id"]] == [("rated", "")]
    assert tenant.balance(customer)["balance"] == "-1"


def test_plans_and_invoices_are_told(tenant: Tenant) -> None:
    """`subscription.*`, `invoice.created|finalized|paid|voided`, `billing.calculated`, `billing.record_created`."""
    customer = fresh()
    tenant.grant(customer, "100")
    path = f"/v1/customers/{customer}/subscription"
    assert tenant.settled("POST", path, {"plan_id": "pro"}).status_code == 201
    assert tenant.settled("PATCH", path, body={"plan_id": "team"}).status_code == 200
    assert tenant.settled("DELETE", path).status_code == 200
    tenant.post(
        tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 3}, time="2026-10-10T10:00:00Z")
    )
    until(lambda: tenant.http.get(f"/v1/customers/{customer}/charges?period=2026-10").json().get("data"))
    invoice = post(tenant, f"/v1/customers/{customer}/invoices", period="2026-10")
    name = invoice.get("id") or invoice["invoice_id"]
    assert tenant.settled("POST", f"/v1/invoices/{name}/finalize", {}).status_code == 200
    found = awaited(
        tenant, customer,
        [
            "subscription.created", "subscription.activated", "subscription.updated", "billing.calculated",
            "billing.record_created", "invoice.created", "invoice.finalized", "invoice.paid",
        ],
    )  # fmt: skip
    assert well_formed(found)
    assert count(found)["subscription.created"] == 1


def test_what_is_not_paid_in_time_is_told(tenant: Tenant) -> None:
    """`subscription.payment_failed` with its attempt, `invoice.overdue`, `invoice.voided`, `order.expired`: on a clock."""
    customer = fresh()
    body = {"currency": "USD", "collection": "postpaid"}
    assert tenant.settled("PUT", f"/v1/customers/{customer}", body=body).status_code in (200, 201)
    clock = post(tenant, "/v1/test-clocks", now="2026-01-31T00:00:00Z", customers=[customer])
    post(tenant, f"/v1/customers/{customer}/subscription", plan_id="pro")
    order = post(tenant, "/v1/orders", customer=customer, total_amount="20", currency="USD")
    assert order["expires_at"] == "2026-01-31T00:30:00Z"
    for day in ("2026-02-02", "2026-02-15"):
        post(tenant, f"/v1/test-clocks/{clock['id']}/advance", to=f"{day}T00:00:00Z")
    (invoice,) = tenant.http.get(f"/v1/customers/{customer}/invoices").json()["data"]
    assert invoice["state"] == "overdue"
    assert post(tenant, f"/v1/invoices/{invoice['id']}/void")["state"] == "void"
    tenant.site.tollgate("jobs", "run", "orders")
    found = awaited(
        tenant, customer, ["subscription.payment_failed", "invoice.overdue", "invoice.voided", "order.expired"]
    )
    assert well_formed(found)
    attempts = [one["data"]["attempt_count"] for one in found if one["type"] == "subscription.payment_failed"]
    assert attempts == list(range(1, len(attempts) + 1))
    counted = count(found)
    assert [counted[kind] for kind in ("invoice.overdue", "invoice.voided", "order.expired")] == [1, 1, 1]
    assert tenant.http.get(f"/v1/orders/{order['order_id']}").json()["status"] == "expired"


def test_a_subscription_of_another_service_is_used_up_and_expires(tenant: Tenant) -> None:
    """`subscription.usage_exceeded`, `subscription.expired`, as its service tells of them: each is told on, once."""
    customer = fresh()
    named = {"subscription_id": fresh("s"), "plan_id": "pro", "status": "active", "billing_cycle": "monthly"}
    kinds = [f"subscription.{kind}" for kind in ("created", "usage_exceeded", "expired")]
    for kind in kinds:
        event = tenant.event(customer, kind, {"user_id": customer, **named})
        tenant.post(event, event)
    found = awaited(tenant, customer, kinds)
    assert well_formed(found)
    assert [count(found)[kind] for kind in kinds] == [1, 1, 1]


def test_the_ledger_is_printed_and_dense(site: Site, tenant: Tenant) -> None:
    """`usage.rated`: entries of both inputs with a dense `seq`, source position, charges, postings, values after."""
    printed = site.tollgate("rated", "tail", "--from-beginning", "--until-end", timeout_s=120).stdout
    entries = [json.loads(line) for line in printed.splitlines()]
    by_partition: dict[int, list[int]] = {}
    for entry in entries:
        by_partition.setdefault(entry["partition"], []).append(entry["seq"])
    for partition, seqs in by_partition.items():
        assert seqs == list(range(len(seqs))), partition
    assert {entry["topic"] for entry in entries} == {"usage.events", "account.events"}
    assert {entry["outcome"] for entry in entries} <= {"rated", "duplicate", "ignored", "dead_letter"}
    places = Counter((entry["topic"], entry["partition"], entry["offset"]) for entry in entries)
    assert set(places.values()) == {1}


def test_topics_are_there_and_kept(site: Site) -> None:
    """`usage.rated`, `billing.events`, `usage.dlq`, `account.dlq`, `catalog.versions`."""
    for topic in (
        "usage.events",
        "account.events",
        "usage.rated",
        "billing.events",
        "usage.dlq",
        "account.dlq",
        "catalog.versions",
    ):
        records = site.read(topic)
        assert isinstance(records, list)
        if topic not in ("usage.dlq", "account.dlq"):
            assert records, topic


def test_every_event_name_has_its_schema() -> None:
    """All event names of `billing.events` have a checked-in JSON Schema."""
    names = {path.name.removesuffix(".v1.json") for path in Path(SCHEMAS).glob("*.v1.json")}
    wanted = {
        "usage.recorded", "billing.processed", "billing.calculated", "billing.record_created", "quota.threshold_reached",
        "quota.exceeded",
        *(f"wallet.{name}" for name in ("created", "deposited", "consumed", "withdrawn", "transferred", "refunded", "balance_changed", "insufficient_funds")),
        *(f"invoice.{name}" for name in ("created", "finalized", "paid", "overdue", "voided")),
        *(f"subscription.{name}" for name in ("created", "activated", "updated", "canceled", "expired", "payment_failed", "usage_exceeded")),
        *(f"order.{name}" for name in ("created", "updated", "payment_pending", "completed", "fulfilled", "expired", "canceled", "refunded")),
        *(f"payment.{name}" for name in ("intent.created", "completed", "failed", "refunded")),
    }  # fmt: skip
    assert wanted <= names
