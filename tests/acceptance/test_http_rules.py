"""Section 4, what holds on every route: who may ask, what a fault looks like, and the routes that need no token."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.site import Site, Tenant, bearer, fresh, is_problem, until

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "1"}
plans:
  - {id: pro, name: Pro, interval: month, amount: "20.00", prices: [call], features: {sso: true}}
"""
ROUTES = """
POST /v1/events · GET /v1/events/{source}/{id} · GET /v1/events
PUT /v1/customers/{id} · GET /v1/customers/{id} · PATCH /v1/customers/{id} · GET /v1/customers
POST /v1/quota/check · POST /v1/quota/consume
POST /v1/holds · POST /v1/holds/{id}/extend · POST /v1/holds/{id}/settle · POST /v1/holds/{id}/release · GET /v1/holds/{id}
GET /v1/customers/{id}/balance · GET /v1/customers/{id}/quota · GET /v1/customers/{id}/entitlements
GET /v1/customers/{id}/usage · GET /v1/customers/{id}/charges · GET /v1/customers/{id}/ledger
GET /v1/customers/{id}/invoices · GET /v1/customers/{id}/invoices/upcoming · GET /v1/customers/{id}/subscription
POST /v1/customers/{id}/credits · POST /v1/customers/{id}/wallet/deposit · POST /v1/customers/{id}/wallet/consume
POST /v1/customers/{id}/wallet/withdraw · POST /v1/customers/{id}/wallet/adjust
POST /v1/customers/{id}/wallet/refund · POST /v1/customers/{id}/wallet/transfer
GET /v1/plans · GET /v1/plans/{id} · GET /v1/catalog · PUT /v1/catalog · POST /v1/prices/estimate
POST /v1/customers/{id}/subscription · PATCH /v1/customers/{id}/subscription · DELETE /v1/customers/{id}/subscription
POST /v1/orders · GET /v1/orders · GET /v1/orders/{id} · PATCH /v1/orders/{id}
POST /v1/orders/{id}/cancel · POST /v1/orders/{id}/fulfill · POST /v1/orders/{id}/refund
POST /v1/payments · GET /v1/payments/{id} · POST /v1/payments/{id}/cancel · POST /v1/payments/{id}/refund
POST /v1/customers/{id}/invoices · GET /v1/invoices/{id} · POST /v1/invoices/{id}/finalize · POST /v1/invoices/{id}/void
POST /v1/invoices/{id}/payments · POST /v1/test-clocks · POST /v1/test-clocks/{id}/advance
GET /v1/explain/{kind}/{id} · GET /v1/reconciliation · GET /v1/dead-letters · POST /v1/dead-letters/{id}/retry · GET /v1/audit
POST /webhooks/stripe
POST /api/internal/metering/device-usage · POST /api/internal/metering/device-usage/batch
GET /api/internal/balance/user/{userId} · GET /metering/users/{userId}
GET /healthz · GET /readyz · GET /metrics
"""
SCOPE = {
    "POST /v1/events": "events:write", "GET /v1/events": "usage:read", "GET /v1/customers": "usage:read",
    "GET /v1/customers/c/balance": "usage:read", "GET /v1/customers/c/usage": "usage:read",
    "POST /v1/quota/check": "quota:check", "POST /v1/quota/consume": "quota:check", "POST /v1/holds": "holds:write",
    "POST /v1/holds/h/settle": "holds:write", "GET /v1/holds/h": "holds:write", "PUT /v1/customers/c": "wallet:write",
    "POST /v1/customers/c/credits": "wallet:write", "POST /v1/orders": "wallet:write", "POST /v1/payments": "wallet:write",
    "POST /v1/customers/c/subscription": "subscriptions:write", "POST /v1/customers/c/invoices": "invoices:write",
    "PUT /v1/catalog": "admin", "GET /v1/reconciliation": "admin", "GET /v1/audit": "admin",
}  # fmt: skip


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("rules", CATALOGUE)


@pytest.fixture(scope="module")
def document(site: Site) -> dict[str, Any]:
    """The OpenAPI document, read without a token."""
    answer = httpx.get(f"{site.url}/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_every_route_is_there_and_documented(site: Site, tenant: Tenant, document: dict[str, Any]) -> None:
    """OpenAPI at `/openapi.json` has each route by its name, and each is served: no answer says that it is not."""
    named = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    wanted = set(re.findall(r"(?:GET|PUT|POST|PATCH|DELETE) [^\s·]+", ROUTES))
    assert wanted - named == set()
    for route in sorted(wanted):
        method, path = route.split()
        answer = tenant.http.request(method, re.sub(r"{\w+}", "x", path), timeout=120)  # a reconciliation takes long
        assert answer.status_code not in (405, 500), (route, answer.text)
        if answer.status_code == 404:
            assert "no such route" not in answer.text, route
        if answer.status_code >= 400 and path != "/readyz":
            assert is_problem(answer, answer.status_code), route


def test_four_routes_need_no_token(site: Site) -> None:
    """OpenAPI, `/healthz`, `/readyz`, `/metrics`."""
    for path in ("/openapi.json", "/healthz", "/readyz", "/metrics"):
        assert httpx.get(site.url + path).status_code == 200, path
    ready = httpx.get(f"{site.url}/readyz").json()
    assert ready["ready"] is True
    assert ready["unserved"] == []
    text = httpx.get(f"{site.url}/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    assert re.search(r"^tollgate_\w+(\{[^}]*\})? [0-9.e+-]+$", text.text, re.MULTILINE)
    for metric in ("billing_report_total", "billing_report_duration_seconds", "billing_report_errors_total"):
        assert metric in text.text


@pytest.mark.parametrize("route", SCOPE)
def test_401_then_403_before_all_else(site: Site, route: str, tenant: Tenant) -> None:
    """401, 403 first: whatever the body or the object."""
    method, path = route.split()
    lacking = site.issue(tenant.name, "--scopes", ",".join(sorted(set(SCOPE.values()) - {SCOPE[route]})))
    broken = {"content": b"{", "headers": {"content-type": "text/html"}} if method != "GET" else {}
    with httpx.Client(base_url=site.url, timeout=30) as client:
        for headers in (
            {},
            bearer("nonsense"),
            {"X-Service-Token": "nonsense"},
            {"Authorization": f"Basic {tenant.token}"},
        ):
            answer = client.request(method, path, **{**broken, "headers": {**broken.get("headers", {}), **headers}})
            assert is_problem(answer, 401)
        for headers in (bearer(lacking), {"X-Service-Token": lacking}):
            answer = client.request(method, path, **{**broken, "headers": {**broken.get("headers", {}), **headers}})
            assert is_problem(answer, 403)


BODIES = [
    "/v1/events", "/v1/quota/check", "/v1/holds", "/v1/prices/estimate", "/v1/orders", "/v1/payments", "/v1/test-clocks",
    "/v1/customers/c/credits", "/v1/customers/c/subscription", "/v1/customers/c/invoices",
    "/api/internal/metering/device-usage",
]  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
def test_a_bad_body_by_what_is_wrong_with_it(tenant: Tenant, path: str) -> None:
    """400 for what is not JSON, 422 for what is not valid, 413 too large, 415 another type."""
    key = {"Idempotency-Key": fresh("key")}
    for text in (b"{", b"{broken}", b"nonsense", b'{"a": \xff}', b'{"a": NaN}'):
        answer = tenant.http.post(path, content=text, headers={**key, "content-type": "application/json"})
        assert is_problem(answer, 400), (text, answer.text)
    for text in (b"[]", b"7", b'"text"', b"null", *([b"{}"] if path != "/v1/test-clocks" else [])):
        answer = tenant.http.post(path, content=text, headers={**key, "content-type": "application/json"})
        assert is_problem(answer, 422), (text, answer.text)
        assert answer.json()["errors"], (text, answer.text)
    for kind in (
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ):
        answer = tenant.http.post(path, content=b'{"a": 1}', headers={**key, "content-type": kind})
        assert is_problem(answer, 415), (kind, answer.text)
    large = b'{"a": "' + b"x" * (8 << 20) + b'"}'
    answer = tenant.http.post(path, content=large, headers={**key, "content-type": "application/json"})
    assert is_problem(answer, 413)
    utf8 = tenant.http.post(path, content=b"{}", headers={**key, "content-type": "application/json; charset=utf-8"})
    assert utf8.status_code == (422 if path != "/v1/test-clocks" else 201)


def test_a_chunked_body_is_held_to_its_bound(site: Site, tenant: Tenant) -> None:
    """A body is at most 8 MiB, also where nobody said how long it is; the answer is read by who sends on."""
    place = urlsplit(site.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    connection.request(
        "POST", "/v1/events", (b"x" * 65536 for _ in range(144)),
        {**bearer(tenant.token), "Content-Type": "application/json"}, encode_chunked=True,
    )  # fmt: skip
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
    connection.close()


def test_unknown_routes_and_methods_are_problems(site: Site, tenant: Tenant) -> None:
    """Unknown routes and methods answer problem+json too."""
    for method, path, code in (
        ("GET", "/v1/nothing", 404), ("GET", "/v1/customers/c/nothing", 404), ("POST", "/v1/holds/h/nothing", 404),
        ("DELETE", "/v1/events", 405), ("PUT", "/v1/holds", 405), ("PATCH", "/v1/catalog", 405), ("POST", "/healthz", 405),
        ("GET", "/v1/events/", 404), ("GET", "/v1/quota/check", 405), ("OPTIONS", "/v1/events", 405),
    ):  # fmt: skip
        answer = tenant.http.request(method, path)
        assert is_problem(answer, code), (method, path, answer.text)
        assert ("allow" in answer.headers) == (code == 405), (method, path)
    for path in ("/", "/nothing"):
        answer = httpx.get(site.url + path)
        assert answer.status_code in (401, 404)
        assert is_problem(answer, answer.status_code)


LISTINGS = [
    "/v1/events", "/v1/customers", "/v1/customers/{c}/charges", "/v1/customers/{c}/ledger", "/v1/orders",
    "/v1/dead-letters", "/v1/customers/{c}/usage", "/v1/customers/{c}/invoices", "/v1/audit",
]  # fmt: skip


def test_listings_are_paged_by_cursor(tenant: Tenant) -> None:
    """Listings are cursor-paged: no row twice, none missing, whatever comes meanwhile; a cursor of ours alone."""
    customers = [fresh() for _ in range(3)]
    for customer in customers:
        assert tenant.settled("PUT", f"/v1/customers/{customer}", body={}).status_code in (200, 201)
        tenant.grant(customer, "100")
        tenant.settled("POST", "/v1/orders", {"customer": customer, "total_amount": "5", "currency": "USD"})
    events = [tenant.event(customers[0], "usage.reported", {"meter": "calls", "quantity": 1}) for _ in range(7)]
    bad = [{**tenant.event(customers[0], "usage.reported", {"meter": "nobody_s"})} for _ in range(3)]
    tenant.post(*events, *bad)
    tenant.outcomes([event["id"] for event in events + bad])
    until(lambda: len(tenant.http.get("/v1/customers").json()["data"]) >= 3)
    until(lambda: len(tenant.http.get("/v1/orders").json()["data"]) >= 3)
    until(lambda: len(tenant.http.get("/v1/dead-letters").json()["data"]) >= 3)
    for listing in LISTINGS:
        path = listing.format(c=customers[0])
        if path.endswith("usage"):
            path += "?window=minute"
        whole = tenant.http.get(path)
        assert whole.status_code == 200, (path, whole.text)
        rows, cursor, pages = [], "", 0
        while cursor is not None and pages < 200:
            join = "&" if "?" in path else "?"
            page = tenant.http.get(f"{path}{join}limit=2" + (f"&cursor={cursor}" if cursor else "")).json()
            assert len(page["data"]) <= 2
            rows += page["data"]
            cursor = page["next_cursor"]
            pages += 1
        if path == "/v1/audit":
            assert len(rows) >= len(whole.json()["data"])
            continue
        assert rows == whole.json()["data"], path
        for wrong in ("limit=0", "limit=1001", "limit=x", "cursor=nonsense"):
            answer = tenant.http.get(f"{path}{join}{wrong}")
            assert is_problem(answer, 422), (path, wrong, answer.text)
            assert answer.json()["errors"], (path, wrong)


def test_reconciliation_says_what_the_command_says(site: Site, tenant: Tenant) -> None:
    """`GET /v1/reconciliation`: as the command."""

    def proven() -> dict[str, Any] | None:
        answer = tenant.http.get("/v1/reconciliation", timeout=120)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told if told["ok"] else None

    told = until(proven)
    assert told["equations"]
    for equation in told["equations"]:
        assert equation.keys() >= {"name", "left", "right", "difference"}
        assert equation["difference"] in (0, "0")
    command = json.loads(site.tollgate("reconcile", "--json", check=False).stdout)
    assert {one["name"] for one in command["equations"]} == {one["name"] for one in told["equations"]}
    assert is_problem(tenant.http.get("/v1/reconciliation?period=2026-13"), 422)


def test_what_changed_is_in_the_audit_log(tenant: Tenant) -> None:
    """`GET /v1/audit`: who changed what."""
    customer = fresh()
    tenant.settled("PUT", f"/v1/customers/{customer}", body={"name": "Ada"})

    def seen() -> list[dict[str, Any]]:
        rows = tenant.http.get("/v1/audit?limit=1000").json()["data"]
        return [row for row in rows if customer in json.dumps(row)]

    assert until(seen)
