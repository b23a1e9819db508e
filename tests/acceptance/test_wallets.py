"""Section 4, money in and out: every route of a wallet, its key, its answer, and what the ledger says of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.acceptance.site import Site, Tenant, bearer, fresh, is_problem, until
from tests.deployment import halted

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
  - {id: images, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "1"}
  - {id: image, meter: images, model: per_unit, unit_amount: "1"}
"""


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("wallets", CATALOGUE)


def move(tenant: Tenant, customer: str, route: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """A request that moves money, asked for again while its outcome is not known."""
    return tenant.settled("POST", f"/v1/customers/{customer}/{route}", body, key)


def used(tenant: Tenant, customer: str, meter: str, quantity: int, expected: str, **changed: Any) -> None:
    """Reports usage and waits for the balance that it leaves."""
    tenant.post(tenant.event(customer, "usage.reported", {"meter": meter, "quantity": quantity}, **changed))
    until(lambda: tenant.balance(customer)["balance"] == expected, f"{expected}, not {tenant.balance(customer)}")


def grants(tenant: Tenant, customer: str) -> dict[str, str]:
    """What is left of each credit, in the order in which they are listed."""
    return {grant["credit_id"]: grant["remaining"] for grant in tenant.balance(customer)["grants"]}


def movements(tenant: Tenant, customer: str, count: int) -> list[tuple[str, str]]:
    """Kind and amount of a customer's movements in the ledger's order, once there are `count`."""

    def listed() -> list[dict[str, Any]]:
        rows = tenant.http.get(f"/v1/customers/{customer}/ledger").json().get("data", [])
        return rows if len(rows) >= count else []

    return [(row["kind"], row["amount"]) for row in until(listed, f"{count} movements of {customer}")]


# Route; body; balance after it of one who had 100 of them paid.
ROUTES: list[tuple[str, dict[str, Any], str]] = [
    ("credits", {"amount": "3.5", "currency": "USD"}, "103.5"),
    ("wallet/deposit", {"amount": "3", "currency": "USD"}, "103"),
    ("wallet/consume", {"amount": "3", "currency": "USD"}, "97"),
    ("wallet/withdraw", {"amount": "3", "currency": "USD"}, "97"),
    ("wallet/adjust", {"amount": "-3", "currency": "USD", "reason": "a mistake"}, "97"),
    ("wallet/refund", {"amount": "3", "currency": "USD"}, "97"),
    ("wallet/transfer", {"amount": "3", "currency": "USD", "to_customer": "wallets-receiver"}, "97"),
]
KIND = {
    "credits": "grant", "wallet/deposit": "deposit", "wallet/consume": "charge", "wallet/withdraw": "withdrawal",
    "wallet/adjust": "adjustment", "wallet/refund": "refund", "wallet/transfer": "transfer_out",
}  # fmt: skip


@pytest.mark.parametrize(("route", "body", "after"), ROUTES, ids=[route for route, *_ in ROUTES])
def test_a_key_is_required_counts_once_and_stands_for_one_request(
    tenant: Tenant, route: str, body: dict[str, Any], after: str
) -> None:
    """`Idempotency-Key` required (428); answers the ledger's outcome; the same key with another body 409."""
    customer, key = fresh(), fresh("key")
    path = f"/v1/customers/{customer}/{route}"
    assert is_problem(tenant.http.post(path, json=body), 428)
    assert is_problem(tenant.http.post(path, content=b"{", headers={"content-type": "application/json"}), 428)
    move(tenant, customer, "wallet/deposit", {"amount": "100.00", "currency": "USD"})
    first = move(tenant, customer, route, body, key)
    assert first.status_code in (200, 201), first.text
    assert first.json()["balance_after"] == after
    again = move(tenant, customer, route, body, key)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert is_problem(move(tenant, customer, route, {**body, "amount": "4"}, key), 409)
    other = "wallet/withdraw" if route != "wallet/withdraw" else "wallet/deposit"
    assert is_problem(move(tenant, customer, other, {"amount": "3", "currency": "USD"}, key), 409)
    assert tenant.balance(customer)["balance"] == after
    assert movements(tenant, customer, 2)[1] == (
        KIND[route],
        body["amount"] if route in ("credits", "wallet/deposit") else "-3",
    )
    listed = tenant.http.get(f"/v1/customers/{customer}/ledger").json()["data"][1]
    assert (listed["entry_id"], listed["balance_after"]) == (first.json()["entry_id"], after)
    stranger = fresh()
    move(tenant, stranger, "wallet/deposit", {"amount": "100", "currency": "USD"}, key)
    assert tenant.balance(stranger)["balance"] == "100", "a key is its customer's"


@pytest.mark.parametrize("route", [route for route, *_ in ROUTES])
def test_a_body_that_is_no_money_is_422_and_names_its_field(tenant: Tenant, route: str) -> None:
    """Money as a JSON number is 422."""
    customer = fresh()
    good = dict(next(body for name, body, _ in ROUTES if name == route))
    for fault in (5, 5.0, "five", "", "NaN", "1e3", None, "0.0000000001", True, {}, "99999999999999999999"):
        answer = move(tenant, customer, route, {**good, "amount": fault})
        assert is_problem(answer, 422), (fault, answer.text)
        assert answer.json()["errors"][0]["pointer"] == "/amount", (fault, answer.text)
    for fault in ("0", "-1") if route != "wallet/adjust" else ("0",):
        assert is_problem(move(tenant, customer, route, {**good, "amount": fault}), 422)
    for currency in (7, "DOLLARS", "usd", ""):
        assert is_problem(move(tenant, customer, route, {**good, "currency": currency}), 422), currency
    assert tenant.http.get(f"/v1/customers/{customer}").status_code == 404


def test_402_is_not_final_for_the_key(tenant: Tenant) -> None:
    """402 and 503 are not final for the key."""
    customer = fresh()
    for route, body, _ in ROUTES[2:]:
        key = fresh("key")
        refused = move(tenant, customer, route, body, key)
        assert is_problem(refused, 402), (route, refused.text)
        move(tenant, customer, "wallet/deposit", {"amount": "3", "currency": "USD"})
        paid = move(tenant, customer, route, body, key)
        assert (paid.status_code, paid.json()["balance_after"]) == (200, "0"), (route, paid.text)
        assert move(tenant, customer, route, body, key).json() == paid.json()


def test_two_hundred_at_once_take_out_what_is_there(tenant: Tenant) -> None:
    """A wallet that pays for 20 pays 20 of 200 who ask at once; of 200 with one key all are answered alike."""
    customer = fresh()
    move(tenant, customer, "wallet/deposit", {"amount": "20", "currency": "USD"})
    body = {"amount": "1", "currency": "USD"}
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: move(tenant, customer, "wallet/consume", body), range(200)))
    assert sorted(answer.status_code for answer in answers) == [200] * 20 + [402] * 180
    assert tenant.balance(customer)["balance"] == "0"
    key = fresh("key")
    with ThreadPoolExecutor(40) as pool:
        alike = list(pool.map(lambda _: move(tenant, customer, "wallet/deposit", body, key).text, range(200)))
    assert len(set(alike)) == 1
    assert tenant.balance(customer)["balance"] == "1"


def test_credits_are_burnt_by_priority_expiry_age_and_scope(tenant: Tenant) -> None:
    """Grants burnt in the order priority (lower first), expiry, age; each only for the meters of its scope."""
    customer = fresh()
    made = [
        ("old", {}), ("young", {}), ("late", {"expires_at": "2098-01-01T00:00:00Z"}), ("soon", {"expires_at": "2097-01-01T00:00:00+02:00"}),
        ("first", {"priority": -5}), ("last", {"priority": 5, "expires_at": "2096-01-01T00:00:00Z"}),
        ("images", {"priority": -9, "scope": ["images"]}),
    ]  # fmt: skip
    for name, more in made:
        booked = move(
            tenant, customer, "credits", {"amount": "10", "currency": "USD", "credit_id": f"{customer}-{name}", **more}
        )
        assert booked.status_code in (200, 201), booked.text
        assert booked.json()["credit_id"] == f"{customer}-{name}"
    listed = tenant.balance(customer)["grants"]
    assert [grant["credit_id"].rpartition("-")[2] for grant in listed] == [
        "images",
        "first",
        "soon",
        "late",
        "old",
        "young",
        "last",
    ]
    for grant in listed:
        assert grant.keys() >= {"credit_id", "amount", "remaining", "expires_at", "priority"}
    assert listed[2]["expires_at"] == "2096-12-31T22:00:00Z"

    def left() -> dict[str, str]:
        return {name.rpartition("-")[2]: amount for name, amount in grants(tenant, customer).items()}

    used(tenant, customer, "calls", 15, "55")
    assert left() == {"images": "10", "soon": "5", "late": "10", "old": "10", "young": "10", "last": "10"}
    used(tenant, customer, "images", 12, "43")
    assert left() == {"soon": "3", "late": "10", "old": "10", "young": "10", "last": "10"}
    used(tenant, customer, "calls", 26, "17")
    assert left() == {"young": "7", "last": "10"}
    used(tenant, customer, "calls", 20, "-3")
    move(tenant, customer, "credits", {"amount": "10", "currency": "USD", "credit_id": f"{customer}-debt"})
    assert left() == {"debt": "7"}, "a new grant pays debt first"
    assert is_problem(
        move(tenant, customer, "credits", {"amount": "9", "currency": "USD", "credit_id": f"{customer}-debt"}), 409
    )


def test_prepaid_goes_below_zero_and_available_counts_the_overdraft(tenant: Tenant) -> None:
    """prepaid: every charge is taken from the wallet as it is rated, and may take it below zero; `available` =
    balance - held + overdraft.
    """
    customer = fresh()
    put = tenant.settled("PUT", f"/v1/customers/{customer}", body={"currency": "USD", "overdraft": "5"})
    assert put.status_code in (200, 201), put.text
    assert put.json()["collection"] == "prepaid"
    move(tenant, customer, "wallet/deposit", {"amount": "10", "currency": "USD"})
    hold = tenant.http.post("/v1/holds", json={"customer": customer, "amount": "4"})
    assert hold.status_code == 201, hold.text
    found = tenant.balance(customer)
    assert (found["currency"], found["balance"], found["held"], found["available"]) == ("USD", "10", "4", "11")
    used(tenant, customer, "calls", 20, "-10")
    assert tenant.balance(customer)["available"] == "-9"
    assert movements(tenant, customer, 2) == [("deposit", "10"), ("charge", "-20")]
    for route in ("wallet/withdraw", "wallet/consume"):
        assert is_problem(move(tenant, customer, route, {"amount": "1", "currency": "USD"}), 402)


def test_postpaid_burns_grants_first_and_the_rest_is_receivable(tenant: Tenant) -> None:
    """postpaid: charges burn grants first, the rest goes to `receivable`; `available` = balance - held + credit_limit
    less what is receivable.
    """
    customer = fresh()
    body = {"currency": "USD", "collection": "postpaid", "credit_limit": "100"}
    assert tenant.settled("PUT", f"/v1/customers/{customer}", body=body).status_code in (200, 201)
    move(tenant, customer, "credits", {"amount": "10", "currency": "USD"})
    assert tenant.balance(customer)["available"] == "110"
    used(tenant, customer, "calls", 30, "0")
    found = tenant.balance(customer)
    assert (found["balance"], found["available"], found["receivable"]) == ("0", "80", "20")
    assert movements(tenant, customer, 2) == [("grant", "10"), ("charge", "-10")]
    assert tenant.http.post("/v1/holds", json={"customer": customer, "amount": "80.000000001"}).status_code == 402
    assert tenant.http.post("/v1/holds", json={"customer": customer, "amount": "80"}).status_code == 201


def test_a_transfer_sums_to_zero(tenant: Tenant) -> None:
    """`/wallet/transfer` `{to_customer, amount, currency}`."""
    one, other = fresh(), fresh()
    move(tenant, one, "wallet/deposit", {"amount": "10", "currency": "USD"})
    sent = move(tenant, one, "wallet/transfer", {"to_customer": other, "amount": "4", "currency": "USD"})
    assert sent.json()["balance_after"] == "6"
    until(lambda: tenant.http.get(f"/v1/customers/{other}/balance").status_code == 200)
    until(lambda: tenant.balance(other)["balance"] == "4")
    assert movements(tenant, one, 2) == [("deposit", "10"), ("transfer_out", "-4")]
    assert movements(tenant, other, 1) == [("transfer_in", "4")]
    assert is_problem(move(tenant, one, "wallet/transfer", {"to_customer": one, "amount": "1", "currency": "USD"}), 422)
    assert is_problem(move(tenant, one, "wallet/transfer", {"amount": "1", "currency": "USD"}), 422)
    back = fresh()
    tenant.settled("PUT", f"/v1/customers/{back}", body={"currency": "EUR"})
    move(tenant, back, "wallet/deposit", {"amount": "1", "currency": "EUR"})
    move(tenant, one, "wallet/transfer", {"to_customer": back, "amount": "2", "currency": "USD"})
    until(lambda: tenant.balance(one)["balance"] == "6", "a transfer that cannot be taken comes back")
    assert tenant.balance(back)["balance"] == "1"


def test_refunds_are_bounded_by_their_payment(tenant: Tenant) -> None:
    """`/wallet/refund`; `payment.refunded` takes back."""
    customer, payment = fresh(), fresh("pay")
    move(tenant, customer, "wallet/deposit", {"amount": "10", "currency": "USD", "payment_id": payment})
    move(tenant, customer, "wallet/deposit", {"amount": "5", "currency": "USD"})
    refund = {"amount": "4", "currency": "USD", "payment_id": payment}
    assert move(tenant, customer, "wallet/refund", refund).json()["balance_after"] == "11"
    assert is_problem(move(tenant, customer, "wallet/refund", {**refund, "amount": "16"}), 402)
    unknown = move(tenant, customer, "wallet/refund", {**refund, "payment_id": "never"})
    assert is_problem(unknown, 404)
    assert tenant.balance(customer)["balance"] == "11"


def test_an_adjustment_goes_either_way(tenant: Tenant) -> None:
    """`/wallet/adjust`: a correction by hand."""
    customer = fresh()
    assert move(tenant, customer, "wallet/adjust", {"amount": "2", "currency": "USD"}).json()["balance_after"] == "2"
    assert is_problem(move(tenant, customer, "wallet/adjust", {"amount": "-3", "currency": "USD"}), 402)
    down = move(tenant, customer, "wallet/adjust", {"amount": "-3", "currency": "USD", "allow_negative": True})
    assert down.json()["balance_after"] == "-1"
    assert movements(tenant, customer, 2) == [("adjustment", "2"), ("adjustment", "-3")]


def test_a_customer_has_one_currency(tenant: Tenant) -> None:
    """A customer has one currency."""
    customer = fresh()
    move(tenant, customer, "wallet/deposit", {"amount": "1", "currency": "EUR"})
    for route, body, _ in ROUTES:
        assert is_problem(move(tenant, customer, route, body), 422), route
    answer = tenant.settled("PATCH", f"/v1/customers/{customer}", body={"currency": "USD"})
    assert is_problem(answer, answer.status_code)
    assert answer.status_code in (409, 422)
    (only,) = tenant.http.get(f"/v1/customers/{customer}/balance").json()["balances"]
    assert (only["currency"], only["balance"]) == ("EUR", "1")


def test_one_who_has_no_money_yet_has_an_empty_balance(tenant: Tenant) -> None:
    """`GET …/balance`: also before the first money there is one balance, of nothing."""
    customer = fresh()
    tenant.settled("PUT", f"/v1/customers/{customer}", body={"currency": "EUR", "overdraft": "2"})
    answer = tenant.http.get(f"/v1/customers/{customer}/balance").json()
    nothing = {"currency": "EUR", "balance": "0", "held": "0", "available": "2", "receivable": "0", "grants": []}
    assert answer == {"customer": customer, "balances": [nothing]}
    assert is_problem(tenant.http.get(f"/v1/customers/{fresh()}/balance"), 404)


def test_expired_credit_is_taken_out(tenant: Tenant) -> None:
    """A credit lapses at `expires_at`; the ledger's kind is `expiry`."""
    customer = fresh()
    move(tenant, customer, "wallet/deposit", {"amount": "1", "currency": "USD"})
    past = {"amount": "5", "currency": "USD", "expires_at": "2020-01-01T00:00:00Z"}
    answer = move(tenant, customer, "credits", past)
    if answer.status_code != 422:
        used(tenant, customer, "calls", 1, "0")
        assert ("expiry", "-5") in movements(tenant, customer, 4)


def test_an_outcome_that_is_not_known_in_time_is_202_with_its_place(site: Site, tenant: Tenant) -> None:
    """202 with `Location` of the operation if it is not known within 2 s; the key answers for it in the end."""
    customer, key = fresh(), fresh("key")
    path, body = f"/v1/customers/{customer}/wallet/deposit", {"amount": "7", "currency": "USD"}
    assert tenant.settled("PUT", f"/v1/customers/{customer}", body={}).status_code == 200
    status = json.loads(site.tollgate("status", "--json").stdout)
    workers = [process["pid"] for process in status["processes"] if process["role"] == "worker"]
    with halted(*workers):
        taken = tenant.http.post(path, json=body, headers={"Idempotency-Key": key})
        assert taken.status_code == 202, taken.text
        asked = tenant.http.get(taken.headers["location"])
        assert (asked.status_code, asked.json()["status"]) == (200, "pending"), asked.text
    until(lambda: tenant.http.get(taken.headers["location"]).json()["status"] == "done")
    again = move(tenant, customer, "wallet/deposit", body, key)
    assert (again.status_code, again.json()["balance_after"]) == (200, "7")
    assert tenant.balance(customer)["balance"] == "7"


def test_the_scheduler_sees_a_number(site: Site, tenant: Tenant) -> None:
    """`GET /api/internal/balance/user/{userId}`: `balance` is a JSON number here alone; `hasBalance = available > 0`;
    an unknown user: 200, false, `unknown_user`.
    """
    customer = fresh()
    answer = tenant.http.get(f"/api/internal/balance/user/{customer}")
    assert answer.status_code == 200
    assert (answer.json()["hasBalance"], answer.json()["balance"], answer.json()["reason"]) == (
        False,
        0,
        "unknown_user",
    )
    move(tenant, customer, "wallet/deposit", {"amount": "1234567.123456789", "currency": "USD"})
    answer = tenant.http.get(f"/api/internal/balance/user/{customer}")
    assert '"balance":1234567.123456789' in answer.text.replace(" ", "")
    assert (answer.json()["hasBalance"], answer.json()["balanceText"], answer.json()["reason"]) == (
        True, "1234567.123456789", None,
    )  # fmt: skip
    tenant.http.post("/v1/holds", json={"customer": customer, "amount": "1234567.123456789"})
    assert tenant.http.get(f"/api/internal/balance/user/{customer}").json()["hasBalance"] is False
    service = httpx.get(f"{site.url}/api/internal/balance/user/{customer}", headers={"X-Service-Token": tenant.token})
    assert service.status_code == 200


def test_wallets_need_their_scope(site: Site, tenant: Tenant) -> None:
    """401, 403, 404, body: in this order."""
    weak = site.issue(tenant.name, "--scopes", "usage:read,events:write,quota:check,holds:write")
    for route, body, _ in ROUTES:
        path = f"{site.url}/v1/customers/{fresh()}/{route}"
        assert is_problem(httpx.post(path, content=b"{"), 401)
        assert is_problem(httpx.post(path, content=b"{", headers=bearer(weak)), 403)
        assert is_problem(httpx.post(path, json=body, headers=bearer(weak)), 403)


def test_the_sum_of_the_ledger_is_the_balance(tenant: Tenant) -> None:
    """View `ledger`: the sum is the balance."""
    customers = [one["id"] for one in tenant.http.get("/v1/customers?limit=1000").json()["data"]]
    query = "SELECT customer, toString(sum(amount)) AS total FROM tollgate.ledger WHERE tenant = {t:String} GROUP BY customer"

    def agree() -> bool:
        sums = {row["customer"]: Decimal(row["total"]) for row in tenant.site.sql(query, t=tenant.name)}
        return all(sums.get(one, Decimal(0)) == Decimal(tenant.balance(one)["balance"]) for one in customers)

    assert len(customers) > 5
    until(agree, "sums of the ledger")
