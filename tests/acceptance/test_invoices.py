"""Section 6 and what hangs on it: subscriptions, orders, test clocks, invoices by command and by HTTP, jobs."""

from __future__ import annotations

import hmac
import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.site import STRIPE_SECRET, Site, Tenant, fresh, is_problem, until

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
  - {id: pages, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.005"}
  - {id: call-of-plans, meter: calls, model: per_unit, unit_amount: "0.001"}
  - id: page
    meter: pages
    model: graduated
    tiers: [{up_to: 10, unit_amount: "1"}, {up_to: null, unit_amount: "0.5"}]
plans:
  - {id: pro, name: Pro, interval: month, amount: "20.00", prices: [call-of-plans]}
  - {id: team, name: Team, interval: month, amount: "50.00", prices: [call-of-plans]}
  - {id: year, name: Year, interval: year, amount: "200.00", prices: [call-of-plans],
     credits: [{amount: "5.00", every: month, expires_after: P1M}]}
"""
STATES = {"draft", "open", "paid", "overdue", "void", "uncollectible"}
JANUARY = "2026-01-31T00:00:00Z"


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with plans."""
    return site.tenant("invoices", CATALOGUE)


def customer(tenant: Tenant, **fields: Any) -> str:
    """A new customer with these fields."""
    name = fresh("cust")
    answer = tenant.settled("PUT", f"/v1/customers/{name}", body={"currency": "USD", **fields})
    assert answer.status_code in (200, 201), answer.text
    return name


def use(tenant: Tenant, name: str, time: str, **quantities: int) -> None:
    """Usage by meter at a time, rated."""
    events = [
        tenant.event(name, "usage.reported", {"meter": meter, "quantity": quantity}, time=time)
        for meter, quantity in quantities.items()
    ]
    tenant.post(*events)
    assert {outcome for found in tenant.outcomes([one["id"] for one in events]).values() for outcome in found} == {
        ("rated", "")
    }


def ask(tenant: Tenant, method: str, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
    """A request that is answered as expected; one that is not known in time is asked for again."""
    answer = tenant.settled(method, path, body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def on_a_clock(tenant: Tenant, *names: str, now: str = JANUARY) -> str:
    """A test clock with these customers on it."""
    made = ask(tenant, "POST", "/v1/test-clocks", {"now": now, "customers": list(names)}, 201)
    assert made["customers"] == list(names)
    return str(made["id"])


def advance(tenant: Tenant, clock: str, to: str) -> None:
    """Moves it, and all that falls due is done."""
    assert ask(tenant, "POST", f"/v1/test-clocks/{clock}/advance", {"to": to})["now"] == to


def invoices(tenant: Tenant, name: str) -> list[dict[str, Any]]:
    """All of a customer, by HTTP."""
    answer = tenant.http.get(f"/v1/customers/{name}/invoices")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def first_invoice(tenant: Tenant, name: str) -> dict[str, Any]:
    """The one invoice of a customer: final where it was made at once, and so with its number."""
    until(lambda: all(one["number"] for one in invoices(tenant, name)), f"numbers of {name}")
    (only,) = invoices(tenant, name)
    return only


def adds_up(invoice: dict[str, Any]) -> bool:
    """Sum of lines = total, subtotal + tax = total."""
    lines = sum(Decimal(line["amount"]) for line in invoice["lines"])
    assert invoice["state"] in STATES
    return lines == Decimal(invoice["total"]) == Decimal(invoice["subtotal"]) + Decimal(invoice["tax"])


def command(tenant: Tenant, *arguments: str) -> str:
    """`tollgate invoices …` for the tenant."""
    return tenant.site.tollgate("invoices", *arguments, "--tenant", tenant.name).stdout


def test_a_month_from_usage_to_a_paid_invoice_by_command(tenant: Tenant, tmp_path: Path) -> None:
    """`close`, `show`, `finalize`, `show --pdf`; a payment by HTTP; both views; line explained."""
    name = customer(tenant, collection="postpaid", tax_rate="0.19", name="Größe & Söhne")
    use(tenant, name, "2026-03-05T10:00:00Z", calls=1001, pages=12)
    use(tenant, name, "2026-04-01T00:00:00Z", calls=5)
    with tenant.site.without_jobs():  # the period's grace is over: a job would finalize the draft
        closed = json.loads(command(tenant, "close", "--period", "2026-03", "--customer", name, "--json"))
        (invoice_id,) = closed["invoices"]
        again = json.loads(command(tenant, "close", "--period", "2026-03", "--customer", name, "--json"))
        assert (again["drafted"], again["unchanged"]) == (0, 1)
        drafted = tenant.http.get(f"/v1/invoices/{invoice_id}").json()
        assert "19.05" in command(tenant, "show", invoice_id)
    assert (drafted["state"], drafted["number"], drafted["kind"], drafted["revision"]) == ("draft", None, "period", 1)
    assert (drafted["period_start"], drafted["period_end"]) == ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")
    usage = {line["price_id"]: line for line in drafted["lines"] if line["kind"] == "usage"}
    assert {price: (line["exact_amount"], line["amount"]) for price, line in usage.items()} == {
        "call": ("5.005", "5.01"),
        "page": ("11", "11.00"),
    }
    assert [tier["amount"] for tier in usage["page"]["tiers"]] == ["10", "1"]
    assert (drafted["subtotal"], drafted["tax"], drafted["total"]) == ("16.01", "3.04", "19.05")
    assert adds_up(drafted)
    numbered = command(tenant, "finalize", invoice_id)
    assert "INV-" in numbered
    assert command(tenant, "finalize", invoice_id) == numbered  # final already, by whomever: as it stands
    (seen,) = tenant.rows("invoices", "invoice_id = {id:String}", id=invoice_id)
    assert (seen["state"], seen["number"][:4]) == ("open", "INV-")  # the command ends when the views show it
    assert invoice_id in command(tenant, "ls", "--customer", name, "--state", "open")
    final = tenant.http.get(f"/v1/invoices/{invoice_id}").json()
    assert (final["state"], final["amount_due"]) == ("open", "19.05")
    pdf = tmp_path / "invoice.pdf"
    command(tenant, "show", invoice_id, "--pdf", str(pdf))
    assert pdf.read_bytes().startswith(b"%PDF")
    for form, kind in (("pdf", "application/pdf"), ("html", "text/html"), ("json", "application/json")):
        answer = tenant.http.get(f"/v1/invoices/{invoice_id}.{form}")
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
    page = tenant.http.get(f"/v1/invoices/{invoice_id}.html").text
    assert "Größe &amp; Söhne" in page
    assert "2026-03-05" in page
    half = ask(tenant, "POST", f"/v1/invoices/{invoice_id}/payments", {"amount": "9.05"}, 201)
    assert (half["state"], half["amount_paid"], half["amount_due"]) == ("open", "9.05", "10.00")
    paid = ask(tenant, "POST", f"/v1/invoices/{invoice_id}/payments", {}, 201)
    assert (paid["state"], paid["amount_due"]) == ("paid", "0.00")
    (row,) = until(lambda: tenant.rows("invoices", "invoice_id = {id:String} AND state = 'paid'", id=invoice_id))
    assert (row["number"], row["kind"], row["total"], row["amount_paid"]) == (
        final["number"], "period", "19.05", "19.05",
    )  # fmt: skip
    lines = tenant.rows("invoice_lines", "invoice_id = {id:String}", id=invoice_id)
    assert sum(Decimal(line["amount"]) for line in lines) == Decimal("19.05")
    line_id = f"{invoice_id}/{usage['call']['id']}"
    told = tenant.site.tollgate("explain", "line", line_id, "--tenant", tenant.name).stdout
    assert "5.005" in told
    assert tenant.http.get(f"/v1/explain/line/{line_id}").status_code == 200


def test_prepaid_a_credit_line_and_tax_from_the_wallet(tenant: Tenant) -> None:
    """The invoice lists the charges and a `credit` line of what they burnt of the wallet at or above zero; fees and tax
    post to the wallet at finalization; a payment naming the invoice deposits and marks it paid."""
    name = customer(tenant, tax_rate="10")
    tenant.grant(name, "6")
    use(tenant, name, "2026-03-05T10:00:00Z", pages=8)
    assert Decimal(tenant.balance(name)["balance"]) == Decimal(-2)
    drafted = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-03"}, 201)
    amounts = [(line["kind"], Decimal(line["amount"])) for line in drafted["lines"]]
    assert amounts == [("usage", Decimal(8)), ("credit", Decimal(-6)), ("tax", Decimal("0.8"))]
    final = ask(tenant, "POST", f"/v1/invoices/{drafted['id']}/finalize")
    assert (final["state"], Decimal(final["total"]), Decimal(final["amount_due"])) == (
        "open", Decimal("2.8"), Decimal("2.8"),
    )  # fmt: skip
    assert Decimal(tenant.balance(name)["balance"]) == Decimal("-2.8")
    paid = ask(tenant, "POST", f"/v1/invoices/{drafted['id']}/payments", {"payment_id": fresh("p")}, 201)
    assert paid["state"] == "paid"
    assert Decimal(tenant.balance(name)["balance"]) == 0


def test_void_and_the_next_revision(tenant: Tenant) -> None:
    """Void and close again makes the next revision; numbers stay without a gap; a void one is not finalized."""
    name = customer(tenant, collection="postpaid")
    use(tenant, name, "2026-03-05T10:00:00Z", pages=1)
    first = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-03"}, 201)
    ask(tenant, "POST", f"/v1/invoices/{first['id']}/finalize")
    assert "void" in command(tenant, "void", first["id"], "--reason", "wrong address")
    assert is_problem(tenant.settled("POST", f"/v1/invoices/{first['id']}/finalize"), 409, "state")
    second = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-03"}, 201)
    assert (second["revision"], second["total"]) == (2, first["total"])
    assert second["id"] != first["id"]
    final = ask(tenant, "POST", f"/v1/invoices/{second['id']}/finalize")
    assert final["number"] != first["number"]
    assert [one["state"] for one in invoices(tenant, name)] == ["void", "open"]
    assert is_problem(tenant.http.get(f"/v1/invoices/{fresh('inv')}"), 404)


def test_what_was_paid_of_an_invoice_that_is_void_is_the_wallets(tenant: Tenant) -> None:
    """Postpaid, partly paid: void by command, what was paid is a credit, which the next revision takes; void by API it is
    the wallet's again, and the payment can be given back as far as the customer has credit: the usage is owed again."""
    name = customer(tenant, collection="postpaid", credit_limit="10")
    use(tenant, name, "2026-03-05T10:00:00Z", pages=3)
    first = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-03"}, 201)
    ask(tenant, "POST", f"/v1/invoices/{first['id']}/finalize")
    payment = fresh("p")
    ask(tenant, "POST", f"/v1/invoices/{first['id']}/payments", {"amount": "2", "payment_id": payment}, 201)
    assert "void" in command(tenant, "void", first["id"])
    assert Decimal(tenant.balance(name)["balance"]) == 2
    second = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-03"}, 201)
    final = ask(tenant, "POST", f"/v1/invoices/{second['id']}/finalize")
    assert (final["revision"], final["state"], final["amount_paid"], final["amount_due"]) == (2, "open", "2.00", "1.00")
    assert Decimal(tenant.balance(name)["balance"]) == 0
    assert ask(tenant, "POST", f"/v1/invoices/{second['id']}/void")["state"] == "void"
    assert Decimal(tenant.balance(name)["balance"]) == 2
    assert ask(tenant, "POST", f"/v1/payments/{payment}/refund", {})["status"] == "refunded"
    assert Decimal(tenant.balance(name)["balance"]) == 0


def test_late_usage_is_an_adjustment_at_its_own_price(tenant: Tenant) -> None:
    """On the next invoice, naming its original period; before that the upcoming invoice has it, by the same builder."""
    name = customer(tenant, collection="postpaid")
    use(tenant, name, "2026-03-05T10:00:00Z", pages=10)
    first = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-03"}, 201)
    ask(tenant, "POST", f"/v1/invoices/{first['id']}/finalize")
    use(tenant, name, "2026-03-06T10:00:00Z", pages=4)  # in the second tier of March
    use(tenant, name, "2026-04-02T10:00:00Z", pages=1)  # in the first of April
    second = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-04"}, 201)
    found = [(line["kind"], line["amount"], line["period"]["start"]) for line in second["lines"]]
    assert found == [
        ("usage", "1.00", "2026-04-01T00:00:00Z"),
        ("adjustment", "2.00", "2026-03-01T00:00:00Z"),
    ]
    upcoming = ask(tenant, "GET", f"/v1/customers/{name}/invoices/upcoming")
    assert upcoming["state"] == "upcoming"


def test_a_subscription_over_months_on_a_clock(tenant: Tenant) -> None:
    """Created, upgraded with its proration stated, downgraded at the period's end, cancelled; anchored at a month's
    end; each fee billed once; the view follows."""
    name = customer(tenant)
    clock = on_a_clock(tenant, name)
    tenant.grant(name, "500")
    path = f"/v1/customers/{name}/subscription"
    made = ask(tenant, "POST", path, {"plan_id": "pro"}, 201)
    assert (made["status"], made["current_period"]) == (
        "active",
        {"start": JANUARY, "end": "2026-02-28T00:00:00Z"},
    )
    assert Decimal(tenant.balance(name)["balance"]) == 480
    advance(tenant, clock, "2026-02-14T00:00:00Z")
    upgraded = ask(tenant, "PATCH", path, {"plan_id": "team"})
    assert (upgraded["proration"]["credit"], upgraded["proration"]["charge"]) == ("-10", "25")
    advance(tenant, clock, "2026-03-02T00:00:00Z")
    assert Decimal(tenant.balance(name)["balance"]) == 480 - 15 - 50
    downgraded = ask(tenant, "PATCH", path, {"plan_id": "pro", "when": "period_end"})
    assert (downgraded["plan_id"], downgraded["next_plan_id"]) == ("team", "pro")
    advance(tenant, clock, "2026-04-02T00:00:00Z")
    now = ask(tenant, "GET", path)
    assert (now["plan_id"], now["current_period"]["start"]) == ("pro", "2026-03-31T00:00:00Z")
    assert Decimal(tenant.balance(name)["balance"]) == 480 - 15 - 50 - 20
    ended = ask(tenant, "DELETE", f"{path}?when=now")
    assert ended["status"] == "canceled"
    advance(tenant, clock, "2026-05-02T00:00:00Z")
    every = invoices(tenant, name)
    assert all(map(adds_up, every))
    fees = [line for one in every for line in one["lines"] if line["kind"] == "fee"]
    assert any(Decimal(line["amount"]) < 0 for line in fees)
    (row,) = until(lambda: tenant.rows("subscriptions", "customer = {of:String} AND status = 'canceled'", of=name))
    assert row["plan_id"] == "pro"


def test_a_yearly_plan_in_a_leap_year_grants_its_credits_each_month(tenant: Tenant) -> None:
    """Anchored on the 29th of February; credits come each month and expire."""
    name = customer(tenant)
    clock = on_a_clock(tenant, name, now="2024-02-29T12:00:00Z")
    tenant.grant(name, "300")
    made = ask(tenant, "POST", f"/v1/customers/{name}/subscription", {"plan": "year"}, 201)
    assert made["current_period"] == {"start": "2024-02-29T12:00:00Z", "end": "2025-02-28T12:00:00Z"}
    assert Decimal(tenant.balance(name)["balance"]) == 300 - 200 + 5
    advance(tenant, clock, "2024-05-30T00:00:00Z")
    assert Decimal(tenant.balance(name)["balance"]) == 300 - 200 + 5
    assert len([one for one in tenant.balance(name)["grants"] if one["expires_at"]]) == 1


def test_who_does_not_pay_is_tried_again_and_becomes_overdue(tenant: Tenant) -> None:
    """After 1, 3, 5 and 7 days, `past_due` meanwhile; overdue after 14 days, uncollectible 60 later; paid after all."""
    name = customer(tenant, collection="postpaid")
    clock = on_a_clock(tenant, name)
    ask(tenant, "POST", f"/v1/customers/{name}/subscription", {"plan_id": "pro"}, 201)
    first = first_invoice(tenant, name)
    assert (first["state"], first["kind"]) == ("open", "order")
    for day, attempts in (("02", 1), ("04", 2), ("06", 3), ("08", 4)):
        advance(tenant, clock, f"2026-02-{day}T00:00:00Z")
        assert tenant.http.get(f"/v1/invoices/{first['id']}").json()["attempt_count"] == attempts
    subscription = ask(tenant, "GET", f"/v1/customers/{name}/subscription")
    assert (subscription["status"], subscription["attempt_count"]) == ("past_due", 4)
    advance(tenant, clock, "2026-02-15T00:00:00Z")
    assert tenant.http.get(f"/v1/invoices/{first['id']}").json()["state"] == "overdue"
    advance(tenant, clock, "2026-04-16T00:00:00Z")
    assert tenant.http.get(f"/v1/invoices/{first['id']}").json()["state"] == "uncollectible"
    paid = ask(tenant, "POST", f"/v1/invoices/{first['id']}/payments", {}, 201)
    assert paid["state"] == "paid"


def test_a_top_up_pays_what_was_unpaid_at_once(tenant: Tenant) -> None:
    """Prepaid: an empty wallet leaves the fee open; a grant pays debt first, and the invoice is paid by it."""
    name = customer(tenant)
    clock = on_a_clock(tenant, name)
    ask(tenant, "POST", f"/v1/customers/{name}/subscription", {"plan_id": "pro"}, 201)
    first = first_invoice(tenant, name)
    assert (first["state"], first["amount_due"]) == ("open", "20.00")
    advance(tenant, clock, "2026-02-02T00:00:00Z")
    assert ask(tenant, "GET", f"/v1/customers/{name}/subscription")["status"] == "past_due"
    tenant.grant(name, "20")
    until(lambda: tenant.http.get(f"/v1/invoices/{first['id']}").json()["state"] == "paid", "paid by the top-up")
    until(lambda: ask(tenant, "GET", f"/v1/customers/{name}/subscription")["status"] == "active")


def test_orders_buy_credits_and_plans(tenant: Tenant) -> None:
    """Order, payment intent, payment, wallet, completion; the views; one that is refunded."""
    name = customer(tenant)
    order = ask(tenant, "POST", "/v1/orders", {"customer": name, "total_amount": "10.00", "credit_amount": "12"}, 201)
    assert order["status"] == "payment_pending"
    ask(tenant, "POST", f"/v1/payments/{order['payment_intent_id']}/confirm", {"payment_id": fresh("p")})
    until(lambda: tenant.http.get(f"/v1/orders/{order['order_id']}").json()["status"] == "fulfilled")
    assert Decimal(tenant.balance(name)["balance"]) == 12
    (row,) = until(
        lambda: tenant.rows("orders", "order_id = {id:String} AND status = 'fulfilled'", id=order["order_id"])
    )
    assert row["customer"] == name
    ask(tenant, "POST", f"/v1/orders/{order['order_id']}/refund", {})
    until(lambda: tenant.http.get(f"/v1/orders/{order['order_id']}").json()["status"] == "refunded")
    assert Decimal(tenant.balance(name)["balance"]) == 0
    buys = {"customer": name, "order_type": "subscription", "plan_id": "pro", "total_amount": "20.00"}
    plan = ask(tenant, "POST", "/v1/orders", buys, 201)
    ask(tenant, "POST", f"/v1/payments/{plan['payment_intent_id']}/confirm", {"payment_id": fresh("p")})
    until(lambda: tenant.http.get(f"/v1/orders/{plan['order_id']}").json()["status"] == "fulfilled")
    assert ask(tenant, "GET", f"/v1/customers/{name}/subscription")["plan_id"] == "pro"
    assert Decimal(tenant.balance(name)["balance"]) == 0


def test_stripe_tells_of_a_payment(tenant: Tenant) -> None:
    """Signed as Stripe signs; replays are harmless, and nobody else is believed."""
    name = customer(tenant, collection="postpaid")
    use(tenant, name, "2026-03-05T10:00:00Z", pages=1)
    drafted = ask(tenant, "POST", f"/v1/customers/{name}/invoices", {"period": "2026-03"}, 201)
    ask(tenant, "POST", f"/v1/invoices/{drafted['id']}/finalize")
    metadata = {"tollgate_tenant": tenant.name, "tollgate_customer": name, "tollgate_invoice": drafted["id"]}
    about = {"id": fresh("in"), "object": "invoice", "amount_paid": 100, "currency": "usd", "metadata": metadata}
    event = {"id": fresh("evt"), "object": "event", "type": "invoice.paid", "created": int(time.time())}
    body = json.dumps({**event, "data": {"object": about}}).encode()

    def deliver(secret: str) -> httpx.Response:
        at = int(time.time())
        mark = hmac.new(secret.encode(), f"{at}.".encode() + body, "sha256").hexdigest()
        headers = {"Stripe-Signature": f"t={at},v1={mark}", "Content-Type": "application/json"}
        return httpx.post(f"{tenant.site.url}/webhooks/stripe", content=body, headers=headers, timeout=30)

    assert is_problem(deliver("whsec_of_somebody_else"), 400)
    assert [deliver(STRIPE_SECRET).status_code for _ in range(3)] == [200, 200, 200]
    until(lambda: tenant.http.get(f"/v1/invoices/{drafted['id']}").json()["state"] == "paid", "paid by Stripe")
    paid = tenant.http.get(f"/v1/invoices/{drafted['id']}").json()
    assert (paid["amount_paid"], len(paid["payments"])) == ("1.00", 1)


def test_plans_are_shown_as_they_stand(tenant: Tenant) -> None:
    """All, one, none."""
    listed = {one["id"]: one for one in ask(tenant, "GET", "/v1/plans")["data"]}
    assert {name: (one["interval"], one["amount"]) for name, one in listed.items()} == {
        "pro": ("month", "20.00"), "team": ("month", "50.00"), "year": ("year", "200.00"),
    }  # fmt: skip
    assert ask(tenant, "GET", "/v1/plans/pro")["name"] == "Pro"
    assert is_problem(tenant.http.get("/v1/plans/none"), 404)


def test_jobs_are_listed_and_run(tenant: Tenant) -> None:
    """`tollgate jobs ls|run NAME`: last run, duration, result."""
    site = tenant.site
    for name in ("renew-subscriptions", "close", "finalize", "collect"):
        assert "done" in site.tollgate("jobs", "run", name).stdout
    listed = {one["name"]: one for one in json.loads(site.tollgate("jobs", "ls", "--json").stdout)}
    assert {"expire-credits", "orders", "collect", "retry-dead-letters", "reconcile"} <= listed.keys()
    assert listed["close"].keys() >= {"last_run", "seconds", "status", "result"}


def test_numbers_have_no_gap(tenant: Tenant) -> None:
    """Per tenant, given at finalization."""
    numbers = until(
        lambda: sorted(row["number"] for row in tenant.rows("invoices", "number IS NOT NULL")), "invoices with numbers"
    )
    assert numbers == [f"INV-{at:06d}" for at in range(1, len(numbers) + 1)]
