"""Section 4, customers, what they used and what they may: every field, every listing, quotas of every kind."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.site import Site, Tenant, fresh, is_problem, until

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported, dimensions: [region, model]}
  - {id: images, event_type: usage.reported}
  - {id: chats, event_type: usage.reported}
  - {id: peak, event_type: usage.reported, quantity: data.quantity, aggregation: max}
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
  - {id: image, meter: images, model: per_unit, unit_amount: "2"}
plans:
  - id: pro
    name: Pro
    interval: month
    amount: "20.00"
    features: {chats: 10, agent_seats: 5, devices_open: 2, sso: true, sms: false}
    quotas:
      - {meter: calls, limit: 100, window: month, mode: hard, thresholds: [50, 80, 100]}
      - {meter: images, limit: 3, window: day, mode: soft}
      - {meter: calls, limit: 40, window: "session:5h", per: user, mode: hard}
      - {meter: calls, limit: 30, window: hour, per: region, mode: hard}
      - {spend: "50.00", window: day, mode: hard}
"""
FIELDS: dict[str, Any] = {
    "name": "Ada Lovelace", "email": "ada@example.org", "address": {"line1": "1 Way", "city": "London", "country": "GB"},
    "tax_id": "GB123", "tax_rate": "0.19", "currency": "USD", "timezone": "Europe/Berlin", "collection": "postpaid",
    "credit_limit": "100", "overdraft": "5", "auto_topup": {"below": "5", "amount": "20", "cool_off": "30m"},
    "price_overrides": [{"id": "own-call", "meter": "calls", "model": "per_unit", "unit_amount": "0.25"}],
    "quota_overrides": [{"meter": "calls", "limit": 500, "window": "month", "mode": "hard"}],
    "stripe_customer_id": "cus_1", "metadata": {"team": "a"},
}  # fmt: skip


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("customers", CATALOGUE)


def test_every_field_comes_back(tenant: Tenant) -> None:
    """`PUT/GET/PATCH /v1/customers/{id}`: all optional."""
    customer = fresh()
    path = f"/v1/customers/{customer}"
    made = tenant.settled("PUT", path, body=FIELDS)
    assert made.status_code in (200, 201), made.text
    found = tenant.http.get(path).json()
    assert {name: found[name] for name in FIELDS} == FIELDS
    assert found["id"] == customer
    changed = tenant.settled(
        "PATCH", path, body={"name": "Ada", "email": None, "metadata": {"team": None, "cost": "1"}}
    )
    assert changed.status_code == 200, changed.text
    found = tenant.http.get(path).json()
    assert (found["name"], found["email"], found["metadata"], found["tax_id"]) == ("Ada", None, {"cost": "1"}, "GB123")
    assert tenant.settled("PUT", path, body={"name": "B"}).status_code == 200
    found = tenant.http.get(path).json()
    assert (found["name"], found["tax_id"], found["collection"], found["auto_topup"]) == ("B", None, "prepaid", None)
    assert tenant.settled("PUT", f"/v1/customers/{fresh()}", body={}).status_code in (200, 201)
    assert is_problem(tenant.settled("PATCH", f"/v1/customers/{fresh()}", body={"name": "x"}), 404)
    assert is_problem(tenant.http.get(f"/v1/customers/{fresh()}"), 404)


BAD = [
    {"name": 7}, {"tax_rate": 0.19}, {"tax_rate": "-1"}, {"tax_rate": "101"}, {"currency": "DOLLARS"}, {"currency": "usd"},
    {"timezone": "Mars/Base"}, {"collection": "barter"}, {"credit_limit": 100}, {"credit_limit": "-1"}, {"overdraft": 5},
    {"auto_topup": {}}, {"auto_topup": {"below": 5, "amount": "20"}}, {"auto_topup": {"below": "5", "amount": "0"}},
    {"auto_topup": {"below": "5", "amount": "20", "cool_off": "soon"}}, {"price_overrides": "x"},
    {"price_overrides": [{"id": "a", "meter": "nobody_s", "model": "per_unit", "unit_amount": "1"}]},
    {"price_overrides": [{"id": "a", "meter": "calls", "model": "per_unit"}]}, {"quota_overrides": [{"meter": "calls"}]},
    {"metadata": "x"}, {"nothing": 1}, {"balance": "5"},
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=str)
def test_a_field_that_cannot_be_is_422_and_named(tenant: Tenant, body: dict[str, Any]) -> None:
    """422 with `errors[] {pointer, reason}`; nothing of it is taken."""
    customer = fresh()
    answer = tenant.settled("PUT", f"/v1/customers/{customer}", body={"name": "x", **body})
    assert is_problem(answer, 422)
    assert answer.json()["errors"][0]["pointer"].startswith(f"/{next(iter(body))}")
    assert tenant.http.get(f"/v1/customers/{customer}").status_code == 404


def test_a_customer_comes_into_being_by_its_first_event(tenant: Tenant) -> None:
    """A customer also comes into being by its first event."""
    customer = fresh()
    event = tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 2})
    tenant.post(event)
    tenant.outcomes([event["id"]])
    found = tenant.http.get(f"/v1/customers/{customer}")
    assert (found.status_code, found.json()["id"]) == (200, customer)
    assert tenant.balance(customer)["balance"] == "-1"
    until(lambda: customer in [one["id"] for one in tenant.http.get("/v1/customers?limit=1000").json()["data"]])


def test_a_customers_own_price_and_quota_hold(tenant: Tenant) -> None:
    """`price_overrides, quota_overrides`: from then on, for it alone."""
    customer = fresh()
    tenant.settled(
        "PUT",
        f"/v1/customers/{customer}",
        body={
            "price_overrides": [{"id": "own", "meter": "calls", "model": "per_unit", "unit_amount": "0.1"}],
            "quota_overrides": [{"meter": "calls", "limit": 20, "window": "month", "mode": "hard"}],
            "overdraft": "100",
        },
    )
    event = tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 10})
    tenant.post(event)
    tenant.outcomes([event["id"]])
    (row,) = tenant.rows("rated_usage", "event_id = {e:String}", e=event["id"])
    assert (row["price_id"], Decimal(row["amount"])) == ("own", 1)
    (quota,) = tenant.http.get(f"/v1/customers/{customer}/quota").json()["quotas"]
    assert (quota["limit"], quota["used"], quota["remaining"]) == ("20", "10", "10")
    assert (
        tenant.http.post("/v1/holds", json={"customer": customer, "meter": "calls", "quantity": 11}).status_code == 429
    )


def subscribed(tenant: Tenant) -> str:
    customer = fresh()
    tenant.settled("PUT", f"/v1/customers/{customer}", body={"overdraft": "1000"})
    tenant.post(tenant.event(customer, "user.upgraded", {"user_id": customer, "plan_id": "pro"}))
    until(lambda: tenant.http.get(f"/v1/customers/{customer}/entitlements").json()["plan"] == "pro")
    return customer


def used(tenant: Tenant, customer: str, meter: str, quantity: int, **data: Any) -> None:
    event = tenant.event(customer, "usage.reported", {"meter": meter, "quantity": quantity, **data})
    tenant.post(event)
    tenant.outcomes([event["id"]])


def quotas(
    tenant: Tenant, customer: str, query: str = ""
) -> dict[tuple[str | None, str, str | None], tuple[str, str, str]]:
    answer = tenant.http.get(f"/v1/customers/{customer}/quota{query}")
    assert answer.status_code == 200, answer.text
    return {
        (one["meter"], one["window"], one["scope"]): (one["limit"], one["used"], one["remaining"])
        for one in answer.json()["quotas"]
    }


def test_quotas_of_every_kind(tenant: Tenant) -> None:
    """`/quota`: by window, by user, by dimension, in money, hard and soft; levels; each with limit, used, remaining."""
    if (left := 3600 - time.time() % 3600) < 60:  # all of it must lie in one hour
        time.sleep(left + 1)
    customer = subscribed(tenant)
    used(tenant, customer, "calls", 20, user_id="u1", region="eu")
    used(tenant, customer, "calls", 5, user_id="u2", region="us")
    used(tenant, customer, "images", 4)
    found = quotas(tenant, customer)
    assert found[("calls", "month", None)] == ("100", "25", "75")
    assert found[("images", "day", None)] == ("3", "4", "0")
    assert found[(None, "day", None)] == ("50", "20.5", "29.5")
    assert found[("calls", "session:5h", "u1")] == ("40", "20", "20")
    assert found[("calls", "session:5h", "u2")] == ("40", "5", "35")
    assert found[("calls", "hour", "eu")] == ("30", "20", "10")
    assert found[("chats", "period", None)] == ("10", "0", "10")
    assert found[("devices_open", "period", None)][:2] == ("2", "0")

    def check(**body: Any) -> tuple[bool, str | None]:
        told = tenant.http.post("/v1/quota/check", json={"customer": customer, **body}).json()
        return told["allowed"], told["reason"]

    assert check(meter="calls", quantity=20, user="u1") == (True, None)
    assert check(meter="calls", quantity=21, user="u1") == (False, "quota")
    assert check(meter="calls", quantity=21, user="u2") == (True, None)
    assert check(meter="calls", quantity=11, dimensions={"region": "eu"}) == (False, "quota")
    assert check(meter="calls", quantity=11, dimensions={"region": "us"}) == (True, None)
    assert check(meter="images", quantity=5) == (True, None), "soft: beyond the limit is overage"
    assert check(meter="images", quantity=15) == (False, "budget")
    assert check(meter="calls", quantity=76) == (False, "quota")


def test_a_level_goes_up_and_down(tenant: Tenant) -> None:
    """`device.allocated` opens the built-in level `devices_open`, which the release closes."""
    customer = subscribed(tenant)
    sizes = {"device_id": "d", "cpu_cores": 1, "memory_mb": 1, "storage_mb": 1}
    names = [fresh("a") for _ in range(2)]
    for name in names:
        event = tenant.event(
            customer, "device.allocated", {"allocation_id": name, "allocated_at": "2026-11-20T10:00:00Z", **sizes}
        )
        tenant.post(event)
        assert tenant.outcomes([event["id"]])[event["id"]] == [("rated", "")]
    assert quotas(tenant, customer)[("devices_open", "period", None)] == ("2", "2", "0")
    wish = {"customer": customer, "event": {"type": "device.allocated", "data": {"cpu_cores": 1}}}
    assert tenant.http.post("/v1/holds", json=wish).status_code == 429
    told = tenant.http.post(
        "/v1/quota/check", json={"customer": customer, "meter": "devices_open", "quantity": 1}
    ).json()
    assert (told["allowed"], told["reason"], told["limit"], told["remaining"]) == (False, "quota", "2", "0")
    end = {
        "allocation_id": names[0],
        "allocated_at": "2026-11-20T10:00:00Z",
        "released_at": "2026-11-20T10:01:00Z",
        **sizes,
    }
    tenant.post(tenant.event(customer, "device.released", end))
    until(lambda: quotas(tenant, customer)[("devices_open", "period", None)] == ("2", "1", "1"))
    assert tenant.http.post("/v1/holds", json=wish).status_code == 201


def test_entitlements_tell_the_features(tenant: Tenant) -> None:
    """`/entitlements`: booleans, and numbers with what is left."""
    customer = subscribed(tenant)
    used(tenant, customer, "chats", 4)
    told = tenant.http.get(f"/v1/customers/{customer}/entitlements").json()
    assert told["plan"] == "pro"
    features = {
        one["feature"]: (one["enabled"], one["limit"], one["used"], one["remaining"]) for one in told["features"]
    }
    assert features["sso"] == (True, None, None, None)
    assert features["sms"] == (False, None, None, None)
    assert features["chats"] == (True, "10", "4", "6")
    assert features["agent_seats"][:2] == (True, "5")
    for path in ("quota", "entitlements", "usage", "charges", "ledger", "balance", "subscription"):
        assert is_problem(tenant.http.get(f"/v1/customers/{fresh()}/{path}"), 404), path


def test_usage_by_group_window_and_period(tenant: Tenant) -> None:
    """`/usage?from&to&group_by&window` or `?period=YYYY-MM`."""
    customer = fresh()
    sent = [
        ("2026-10-31T23:59:59Z", 1, "eu"), ("2026-11-01T00:00:00Z", 2, "eu"), ("2026-11-01T10:30:00Z", 4, "us"),
        ("2026-11-02T10:45:00Z", 8, "eu"),
    ]  # fmt: skip
    events = [
        tenant.event(
            customer,
            "usage.reported",
            {"meter": "calls", "quantity": quantity, "region": region, "model": "m"},
            time=time,
        )
        for time, quantity, region in sent
    ]
    events.append(
        tenant.event(customer, "usage.reported", {"meter": "images", "quantity": 1}, time="2026-11-01T10:59:59.999Z")
    )
    tenant.post(*events)
    tenant.outcomes([event["id"] for event in events])

    def usage(query: str) -> list[tuple[Any, ...]]:
        answer = tenant.http.get(f"/v1/customers/{customer}/usage?{query}")
        assert answer.status_code == 200, answer.text
        return [
            (row["window_start"], row["meter"], row["dimensions"], row["quantity"], row["amount"], row["events"])
            for row in answer.json()["data"]
        ]

    assert usage("period=2026-11") == [
        (None, "calls", {}, "14", "7", 3), (None, "images", {}, "1", "2", 1),
    ]  # fmt: skip
    assert usage("from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z") == [(None, "calls", {}, "1", "0.5", 1)]
    by_region = {(row[1], row[2].get("region")): row[3] for row in usage("period=2026-11&group_by=region")}
    assert by_region[("calls", "eu")] == "10"
    assert by_region[("calls", "us")] == "4"
    two = {tuple(row[2].items()) for row in usage("period=2026-11&group_by=region,model") if row[1] == "calls"}
    assert two == {(("region", "eu"), ("model", "m")), (("region", "us"), ("model", "m"))}
    days = [(row[0], row[1], row[3]) for row in usage("period=2026-11&window=day")]
    assert sorted(days) == [
        ("2026-11-01T00:00:00Z", "calls", "6"), ("2026-11-01T00:00:00Z", "images", "1"), ("2026-11-02T00:00:00Z", "calls", "8"),
    ]  # fmt: skip
    hours = [row[0] for row in usage("period=2026-11&window=hour") if row[1] == "calls"]
    assert hours == ["2026-11-01T00:00:00Z", "2026-11-01T10:00:00Z", "2026-11-02T10:00:00Z"]
    for wrong in (
        "window=fortnight",
        "period=november",
        "period=2026-11&from=2026-11-01T00:00:00Z",
        "from=soon",
        "from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z",
    ):
        assert is_problem(tenant.http.get(f"/v1/customers/{customer}/usage?{wrong}"), 422), wrong
    charges = tenant.http.get(f"/v1/customers/{customer}/charges?period=2026-11").json()["data"]
    assert [(row["quantity"], row["amount"], row["price_id"]) for row in charges if row["meter"] == "calls"] in (
        [("2", "1", "call"), ("4", "2", "call"), ("8", "4", "call")], [("8", "4", "call"), ("4", "2", "call"), ("2", "1", "call")],
    )  # fmt: skip
    ledger = tenant.http.get(f"/v1/customers/{customer}/ledger").json()["data"]
    assert (
        sum(Decimal(row["amount"]) for row in ledger) == Decimal(tenant.balance(customer)["balance"]) == Decimal("-9.5")
    )
    assert ledger[-1]["balance_after"] == "-9.5"
    assert [row["seq"] for row in ledger] == sorted(row["seq"] for row in ledger)


def test_plans_catalogue_and_estimates(tenant: Tenant) -> None:
    """`GET /v1/plans`, `GET /v1/plans/{id}`, `GET/PUT /v1/catalog`, `POST /v1/prices/estimate`."""
    (plan,) = tenant.http.get("/v1/plans").json()["data"]
    assert (plan["id"], plan["name"], plan["interval"], plan["amount"]) == ("pro", "Pro", "month", "20.00")
    assert tenant.http.get("/v1/plans/pro").json() == plan
    assert is_problem(tenant.http.get("/v1/plans/nothing"), 404)
    shown = tenant.http.get("/v1/catalog").json()
    assert shown["version"] >= 1
    assert len(shown["checksum"]) >= 16
    estimate = tenant.http.post(
        "/v1/prices/estimate", json={"price": {"model": "per_unit", "unit_amount": "0.5"}, "quantity": 3}
    )
    assert (estimate.status_code, estimate.json()["amount"]) == (200, "1.5")
    for body in (
        {},
        {"price": {"model": "x"}, "quantity": "1"},
        {"price": {"model": "per_unit", "unit_amount": 0.5}, "quantity": "1"},
    ):
        assert is_problem(tenant.http.post("/v1/prices/estimate", json=body), 422), body
    broken = (
        "currency: USD\nmeters: [{id: m, event_type: usage.reported}]\nprices:\n"
        '  - {id: a, meter: nobody_s, model: flat, amount: "1"}\n  - {id: b, meter: m, model: per_unit}\n'
    )
    answer = tenant.http.put("/v1/catalog", content=broken, headers={"content-type": "application/yaml"})
    assert is_problem(answer, 422)
    assert {fault["pointer"] for fault in answer.json()["errors"]} >= {"/prices/0/meter", "/prices/1/unit_amount"}
    assert tenant.http.get("/v1/catalog").json()["version"] == shown["version"]
