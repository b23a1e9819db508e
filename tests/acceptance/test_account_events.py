"""Section 2: account events. What each is taken for, and what it does to wallet and plan."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.acceptance.site import Site, Tenant, fresh, plain, until

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
  - {id: pages, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "1"}
  - {id: page, meter: pages, model: per_unit, unit_amount: "1"}
  - {id: call-pro, meter: calls, model: per_unit, unit_amount: "0.5"}
plans:
  - {id: free, interval: month, amount: "0"}
  - {id: pro, interval: month, amount: "0", prices: [call-pro]}
"""
RATED = ("rated", "")
NO_EFFECT = ("ignored", "no_effect")
LETTER = ("dead_letter", "*")
CREDIT = {"credit_id": "k", "amount": "10", "currency": "USD"}
PAYMENT = {"payment_id": "p", "amount": "10", "currency": "USD"}
REFUND = {"payment_id": "p", "refund_id": "r", "amount": "4"}
INTENT = {"payment_intent_id": "pi", "amount": "10", "currency": "USD"}
FAILED = {**INTENT, "error": "declined"}
ORDER = {"order_id": "o", "order_type": "credits", "total_amount": "8", "currency": "USD", "items": []}
GIVEN = {**ORDER, "credit_amount": "10"}
PAID = {"payment_id": "p", "order_id": "o", "amount": "8", "currency": "USD"}
SUBSCRIPTION = {"subscription_id": "s", "plan_id": "pro", "status": "active", "billing_cycle": "monthly"}
CALL = ("usage.reported", {"meter": "calls", "quantity": 2})


class Number(str):
    """A JSON number by its text."""

    __slots__ = ()


Told = tuple[str, dict[str, Any]]
# Name; events of one customer with their outcomes; the balance at the end.
STORIES: list[tuple[str, list[tuple[Told, tuple[str, str]]], str]] = [
    ("a credit", [(("credit.granted", CREDIT), RATED)], "10"),
    ("what other fields there are is kept", [(("credit.granted", {**CREDIT, "timestamp": "2026-11-20T10:00:00Z", "note": 1}), RATED)], "10"),
    ("a credit told of twice counts once", [(("credit.granted", CREDIT), RATED), (("credit.granted", CREDIT), NO_EFFECT)], "10"),
    ("and otherwise never", [(("credit.granted", CREDIT), RATED), (("credit.granted", {**CREDIT, "amount": "11"}), ("dead_letter", "conflict"))], "10"),
    ("money as a number", [(("credit.granted", {**CREDIT, "amount": Number("5.123456789")}), RATED)], "5.123456789"),
    ("read from its text, beyond what a float holds", [(("credit.granted", {**CREDIT, "amount": Number("9007199.254740993")}), RATED)], "9007199.254740993"),
    ("with an exponent", [(("credit.granted", {**CREDIT, "amount": Number("1e2")}), RATED)], "100"),
    ("a number of ten places", [(("credit.granted", {**CREDIT, "amount": Number("0.1234567891")}), LETTER)], "0"),
    ("text of ten places", [(("credit.granted", {**CREDIT, "amount": "0.1234567891"}), LETTER)], "0"),
    ("no amount", [(("credit.granted", {"credit_id": "k", "currency": "USD"}), ("dead_letter", "missing_field"))], "0"),
    ("no currency", [(("credit.granted", {"credit_id": "k", "amount": "1"}), ("dead_letter", "missing_field"))], "0"),
    ("less than nothing", [(("credit.granted", {**CREDIT, "amount": "-1"}), LETTER)], "0"),
    ("beyond all bounds", [(("credit.granted", {**CREDIT, "amount": "9223372036.854775808"}), ("dead_letter", "amount_overflow"))], "0"),
    ("a balance beyond all bounds", [(("credit.granted", {**CREDIT, "amount": "9223372036.854775807"}), RATED), (("credit.granted", {**CREDIT, "credit_id": "k2", "amount": "0.000000001"}), ("dead_letter", "amount_overflow"))], "9223372036.854775807"),
    ("a kind there is not", [(("credit.granted", {**CREDIT, "kind": "stolen"}), LETTER)], "0"),
    ("another currency", [(("credit.granted", CREDIT), RATED), (("credit.granted", {**CREDIT, "credit_id": "k2", "currency": "EUR"}), LETTER)], "10"),
    ("a payment credits the wallet", [(("payment.completed", PAYMENT), RATED)], "10"),
    ("told of twice, once", [(("payment.completed", PAYMENT), RATED), (("payment.completed", PAYMENT), NO_EFFECT)], "10"),
    ("a payment of an invoice never does", [(("payment.completed", {**PAYMENT, "invoice_id": "nobody-s"}), ("dead_letter", "unknown_invoice"))], "0"),
    ("a refund takes back", [(("payment.completed", PAYMENT), RATED), (("payment.refunded", REFUND), RATED)], "6"),
    ("once", [(("payment.completed", PAYMENT), RATED), (("payment.refunded", REFUND), RATED), (("payment.refunded", REFUND), NO_EFFECT)], "6"),
    ("never more than was paid", [(("payment.completed", PAYMENT), RATED), (("payment.refunded", {**REFUND, "amount": "11"}), LETTER)], "10"),
    ("nothing of nobody's payment", [(("payment.refunded", REFUND), LETTER)], "0"),
    ("an intent fails, and is paid", [(("payment.intent.created", INTENT), RATED), (("payment.failed", FAILED), RATED), (("payment.completed", {**PAYMENT, "payment_intent_id": "pi"}), RATED), (("payment.failed", FAILED), NO_EFFECT)], "10"),
    ("an order goes forward, never back", [(("order.created", ORDER), RATED), (("order.payment_pending", {"order_id": "o"}), RATED), (("order.completed", {"order_id": "o"}), RATED), (("order.fulfilled", {"order_id": "o"}), RATED), (("order.expired", {"order_id": "o"}), NO_EFFECT), (("order.canceled", {"order_id": "o"}), NO_EFFECT), (("order.refunded", {"order_id": "o", "refund_id": "r"}), RATED)], "8"),
    ("an order changes", [(("order.created", ORDER), RATED), (("order.updated", {"order_id": "o", "changes": {"items": 1}, "updated_fields": ["items"]}), RATED), (("order.updated", {"order_id": "o", "changes": {"items": 1}, "updated_fields": ["items"]}), NO_EFFECT)], "0"),
    ("an order of credits credits its credit_amount", [(("order.completed", GIVEN), RATED)], "10"),
    ("else what was paid", [(("order.completed", ORDER), RATED)], "8"),
    ("once", [(("order.completed", GIVEN), RATED), (("order.completed", GIVEN), NO_EFFECT)], "10"),
    ("completion first, then its payment", [(("order.completed", GIVEN), RATED), (("payment.completed", PAID), RATED)], "10"),
    ("payment first, then its completion", [(("payment.completed", PAID), RATED), (("order.completed", GIVEN), RATED)], "8"),
    ("payment of an order whose credit is known", [(("order.created", GIVEN), RATED), (("payment.completed", PAID), RATED), (("order.completed", GIVEN), RATED)], "10"),
    ("an order of something else credits nothing", [(("order.completed", {**GIVEN, "order_type": "subscription"}), RATED)], "0"),
    ("a user comes into being once", [(("user.created", {"plan_id": "free"}), RATED), (("user.created", {"plan_id": "free"}), NO_EFFECT)], "0"),
    ("an upgrade to the plan that stands", [(("user.created", {"plan_id": "free"}), RATED), (("user.upgraded", {"plan_id": "free"}), NO_EFFECT), (("user.upgraded", {"tier": "pro"}), RATED)], "0"),
    ("who is deleted gets back what was paid", [(("credit.granted", CREDIT), RATED), (("user.deleted", {}), RATED), (("user.deleted", {}), NO_EFFECT)], "0"),
    ("and not what was given", [(("credit.granted", {**CREDIT, "kind": "promotional"}), RATED), (("user.deleted", {}), RATED)], "0"),
    ("a subscription's life", [(("subscription.created", SUBSCRIPTION), RATED), (("subscription.activated", SUBSCRIPTION), NO_EFFECT), (("subscription.payment_failed", {**SUBSCRIPTION, "attempt_count": 1}), RATED), (("subscription.updated", {**SUBSCRIPTION, "old_plan": "pro", "new_plan": "free"}), RATED), (("subscription.canceled", {**SUBSCRIPTION, "reason": "x"}), RATED), (("subscription.expired", SUBSCRIPTION), NO_EFFECT)], "0"),
    ("one whose beginning was missed", [(("subscription.updated", SUBSCRIPTION), RATED)], "0"),
    ("signals move no money", [(("wallet.credits_added", {"amount": "5"}), NO_EFFECT), (("billing.processed", {"amount": 5}), NO_EFFECT), (("subscription.usage_exceeded", SUBSCRIPTION), NO_EFFECT), (("storage.quota_exceeded", {"used": 1}), ("*", ""))], "0"),
]  # fmt: skip


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with plans of its own."""
    return site.tenant("accounts", CATALOGUE)


def test_account_events_do_what_their_row_says(tenant: Tenant) -> None:
    """Applied, an account event is `rated`, also without money; without effect it is `ignored` (`no_effect`). A wallet is
    credited at most once per `order_id`: `credit_amount`, else the paid amount.
    """
    customers, sent = [], []
    for _, told, _ in STORIES:
        customer = fresh("cust")
        customers.append(customer)
        sent.append([tenant.event(customer, kind, _of(data, customer)) for (kind, data), _ in told])
    tenant.send(*(_written(event) for events in sent for event in events))
    outcomes = tenant.outcomes([event["id"] for events in sent for event in events])
    wrong = []
    for (name, told, balance), customer, events in zip(STORIES, customers, sent, strict=True):
        for ((kind, _), (outcome, reason)), event in zip(told, events, strict=True):
            ((what, why),) = outcomes[event["id"]]
            if outcome not in ("*", what) or reason not in ("*", why):
                wrong.append((name, kind, what, why))
        if (found := _balance(tenant, customer)) != balance:
            wrong.append((name, "balance", found, balance))
    assert wrong == []


def _of(data: dict[str, Any], customer: str) -> dict[str, Any]:
    """With ids of the customer's own."""
    ids = ("credit_id", "payment_id", "refund_id", "payment_intent_id", "order_id", "subscription_id")
    return {name: f"{value}-{customer}" if name in ids else value for name, value in data.items()}


def _written(event: dict[str, Any]) -> bytes:
    """As JSON, with numbers by their text."""
    amount = event["data"].get("amount")
    written = json.dumps(event)
    return (written.replace(f'"{amount}"', amount) if isinstance(amount, Number) else written).encode()


def _balance(tenant: Tenant, customer: str) -> str:
    answer = tenant.http.get(f"/v1/customers/{customer}/balance")
    if answer.status_code == 404 or not answer.json()["balances"]:
        return "0"
    balance: str = answer.json()["balances"][0]["balance"]
    return balance


def test_movements_have_their_kinds(tenant: Tenant) -> None:
    """A credit is a grant, a payment a deposit, a refund a refund; usage a charge; the sum is the balance."""
    customer = fresh("cust")
    told = [("credit.granted", CREDIT), ("payment.completed", PAYMENT), ("payment.refunded", REFUND)]
    events = [tenant.event(customer, kind, _of(data, customer)) for kind, data in told]
    tenant.send(*events)
    tenant.outcomes([event["id"] for event in events])
    usage = tenant.event(customer, *CALL)
    tenant.send(usage)
    tenant.outcomes([usage["id"]])
    rows = sorted(tenant.rows("ledger", "customer = {c:String}", c=customer), key=lambda row: row["seq"])
    assert [(row["kind"], plain(row["amount"]), plain(row["balance_after"])) for row in rows] == [
        ("grant", "10", "10"),
        ("deposit", "10", "20"),
        ("refund", "-4", "16"),
        ("charge", "-2", "14"),
    ]


# Credits, in the order in which they are given; what is used; what is left of each.
BURNT: list[tuple[str, list[dict[str, Any]], str, dict[str, str], str]] = [
    ("lower burns first", [{"credit_id": "late", "priority": 5}, {"credit_id": "soon", "priority": 1}], "calls", {"soon": "8", "late": "10"}, "18"),
    ("its own scope alone", [{"credit_id": "pages", "scope": ["pages"]}], "calls", {"pages": "10"}, "8"),
    ("its own scope", [{"credit_id": "calls", "scope": ["calls"]}, {"credit_id": "any", "priority": 9}], "calls", {"calls": "8", "any": "10"}, "18"),
    ("what has expired is none", [{"credit_id": "gone", "expires_at": "2026-01-01T00:00:00Z"}, {"credit_id": "there"}], "calls", {"there": "8"}, "8"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "meter", "left", "balance"), BURNT, ids=[name for name, *_ in BURNT])
def test_credits_burn_in_their_order(
    tenant: Tenant, name: str, given: list[dict[str, Any]], meter: str, left: dict[str, str], balance: str
) -> None:
    """`priority` (lower burns first), `scope` (meters), `expires_at`."""
    customer = fresh("cust")
    granted = [
        tenant.event(customer, "credit.granted", {**CREDIT, **credit, "credit_id": f"{credit['credit_id']}-{customer}"})
        for credit in given
    ]
    tenant.send(*granted)
    tenant.outcomes([event["id"] for event in granted])
    used = tenant.event(customer, "usage.reported", {"meter": meter, "quantity": 2})
    tenant.send(used)
    tenant.outcomes([used["id"]])
    until(lambda: tenant.balance(customer)["balance"] == balance, name)
    grants = tenant.balance(customer)["grants"]
    assert {grant["credit_id"].partition("-")[0]: grant["remaining"] for grant in grants} == left


# What is told of a plan, at which second; what two calls cost at which second.
PLANS: list[tuple[str, list[tuple[int, Told]], dict[int, str]]] = [
    ("a user's plan holds from the beginning", [(10, ("user.created", {"plan_id": "pro"}))], {5: "1", 15: "1"}),
    ("an upgrade from its own time on", [(10, ("user.upgraded", {"plan_id": "pro"}))], {5: "2", 15: "1"}),
    ("a subscription from its own time on", [(10, ("subscription.created", SUBSCRIPTION))], {5: "2", 15: "1"}),
    ("until it is canceled", [(10, ("subscription.created", SUBSCRIPTION)), (20, ("subscription.canceled", SUBSCRIPTION))], {15: "1", 25: "2"}),
    ("or changes its plan", [(10, ("subscription.created", SUBSCRIPTION)), (20, ("subscription.updated", {**SUBSCRIPTION, "new_plan": "free"}))], {15: "1", 25: "2"}),
    ("one that waits is none", [(10, ("subscription.created", {**SUBSCRIPTION, "status": "pending"}))], {15: "2"}),
]  # fmt: skip


def test_a_plan_holds_by_event_time(tenant: Tenant) -> None:
    """Plan by event time."""
    customers = [fresh("cust") for _ in PLANS]
    told = [
        tenant.event(customer, kind, _of(data, customer), time=_at(second))
        for customer, (_, steps, _) in zip(customers, PLANS, strict=True)
        for second, (kind, data) in steps
    ]
    tenant.send(*told)
    assert set(map(tuple, tenant.outcomes([event["id"] for event in told]).values())) == {(RATED,)}
    calls = {
        (name, second): tenant.event(customer, *CALL, time=_at(second))
        for customer, (name, _, costs) in zip(customers, PLANS, strict=True)
        for second in costs
    }
    tenant.send(*calls.values())
    tenant.outcomes([event["id"] for event in calls.values()])
    charged = {row["event_id"]: plain(row["amount"]) for row in tenant.rows("rated_usage", "meter = 'calls'")}
    costs = {(name, second): cost for name, _, costs in PLANS for second, cost in costs.items()}
    assert {key: charged[event["id"]] for key, event in calls.items()} == costs


def _at(second: int) -> str:
    return f"2026-11-20T10:00:{second:02d}Z"
