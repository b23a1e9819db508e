"""The OWASP API Security Top 10 (2023), one by one, on a running deployment.

What can be driven from the OpenAPI document is, so that a new route is covered by being there.
"""

from __future__ import annotations

import json
import re
import socket
import time
import uuid
from typing import Final
from urllib.parse import quote, urlsplit

import httpx
import pytest

from api.tokens import SCOPES
from tests.security.conftest import Owner, Site, bearer, operations

OPEN: Final = {"/healthz", "/readyz", "/metrics", "/openapi.json"}
SIGNED: Final = {"/webhooks/stripe"}

# What answers something else than 404 to the id of another tenant's object, and why that gives nothing away.
OF_ONES_OWN: Final[dict[tuple[str, str], tuple[set[int], str]]] = {
    ("put", "/v1/customers/{id}"): ({200, 201}, "makes a customer of the caller's own with that id"),
    ("get", "/api/internal/balance/user/{userId}"): ({200}, "answers unknown_user, as to any id that nobody has"),
}
# Commands on a customer who comes into being by them: refused for their empty body, whoever has the id.
MAKES_ITS_CUSTOMER: Final = re.compile(r"/v1/customers/\{id\}/(credits|wallet/\w+|subscription|invoices)")


def filled(owner: Owner, path: str) -> str:
    """A route's path with the ids of the owner's objects."""
    if path.startswith("/v1/explain/"):
        return f"/v1/explain/event/{quote(owner.ids['events'], safe='')}"
    if path.startswith("/v1/events/"):
        return f"/v1/events/{owner.ids['events']}"
    parts = path.split("/")
    return "/".join(owner.ids[parts[at - 1]] if part.startswith("{") else part for at, part in enumerate(parts))


# API1: broken object level authorization


def test_api1_another_tenants_ids_are_404_on_every_route(site: Site, owner: Owner, stranger: httpx.Client) -> None:
    """Read, change or end: to a stranger with every scope what the owner has is not there."""
    looked = 0
    for method, path, _ in operations(site.document):
        if "{" not in path or path.startswith("/api/internal/metering"):
            continue
        if method == "get":
            mine = owner.client.request(method, filled(owner, path))
            assert mine.status_code in (200, 404, 409), (method, path, mine.text)
        if (method, path) == ("put", "/v1/customers/{id}"):
            continue  # below
        answer = stranger.request(
            method,
            filled(owner, path),
            json=None if method == "get" else {},
            headers={"Idempotency-Key": uuid.uuid4().hex},
        )
        expected, _ = OF_ONES_OWN.get((method, path), ({404}, ""))
        if method in ("post", "patch") and MAKES_ITS_CUSTOMER.fullmatch(path):
            expected = {404, 422}
        assert answer.status_code in expected, (method, path, answer.status_code, answer.text)
        assert owner.secret not in answer.text, (method, path)
        looked += 1
    assert looked >= 30


def test_api1_every_object_of_the_owner_was_there_to_be_seen(owner: Owner) -> None:
    """The test above would hold of ids that nobody has as well."""
    for kind, path in (
        ("customers", "/v1/customers/{}"), ("customers", "/v1/customers/{}/balance"), ("holds", "/v1/holds/{}"),
        ("orders", "/v1/orders/{}"), ("payments", "/v1/payments/{}"), ("events", "/v1/events/{}"),
        ("dead-letters", "/v1/dead-letters/{}"), ("plans", "/v1/plans/{}"), ("invoices", "/v1/invoices/{}"),
        ("test-clocks", "/v1/test-clocks/{}"), ("customers", "/v1/customers/{}/subscription"),
    ):  # fmt: skip
        answer = owner.client.get(path.format(owner.ids[kind]))
        assert answer.status_code == 200, (path, answer.text)


def test_api1_no_listing_shows_another_tenants_rows(site: Site, owner: Owner, stranger: httpx.Client) -> None:
    """Whatever is listed without an id, also where the filter names the owner's customer."""
    for method, path, _ in operations(site.document):
        if method != "get" or "{" in path or path in OPEN:
            continue
        for query in ("", f"?customer={owner.ids['customers']}"):
            answer = stranger.get(path + query)
            assert answer.status_code in (200, 404), (path, answer.text)
            assert owner.secret not in answer.text, path


def test_api1_a_customer_of_the_same_id_is_another(site: Site, owner: Owner) -> None:
    """A stranger's customer of that id has nothing of the owner's, and the owner's is as before."""
    before = owner.client.get(f"/v1/customers/{owner.ids['customers']}").json()
    with site.client(f"other-{uuid.uuid4().hex}") as other:
        path = f"/v1/customers/{owner.ids['customers']}"
        assert other.put(path, json={"name": "mine"}).status_code in (200, 201, 202)
        for found in other.get(f"{path}/balance").json().get("balances", []):
            assert (found["balance"], found["held"], found["grants"]) == ("0", "0", [])
    assert owner.client.get(f"/v1/customers/{owner.ids['customers']}").json() == before


# API2: broken authentication


def test_api2_no_route_answers_without_a_token_that_holds(site: Site, owner: Owner) -> None:
    """None, a made-up one, a revoked and an expired one: 401 on every route but the open ones, before anything else."""
    tollgate = site.served.tollgate
    revoked, expired = site.token(owner.tenant), None
    tollgate("token", "revoke", revoked.split("_")[1])
    issued = tollgate("token", "issue", "--tenant", owner.tenant, "--expires", "1s").stdout
    expired = issued.splitlines()[-1]
    time.sleep(2)
    made_up = f"tg_{'0' * 16}_{'A' * 43}"
    with httpx.Client(base_url=site.url) as client:
        for method, path, _ in operations(site.document):
            if path in OPEN | SIGNED:
                continue
            assert client.request(method, filled(owner, path)).status_code == 401, path
        for text in (made_up, revoked, expired, "x", "Bearer", "null"):
            for headers in (bearer(text), {"X-Service-Token": text}):
                assert client.get("/v1/events", headers=headers).status_code == 401, text
        assert client.get(f"/v1/events?token={owner.client.headers['authorization']}").status_code == 401


def test_api2_a_token_in_another_scheme_is_none(site: Site, owner: Owner) -> None:
    """Nor does a token of one tenant with another's secret hold."""
    text = owner.client.headers["authorization"].removeprefix("Bearer ")
    other = site.token("globex")
    mixed = f"{other.rpartition('_')[0]}_{text.rpartition('_')[2]}"
    with httpx.Client(base_url=site.url) as client:
        for value in (f"Basic {text}", f"Token {text}", text, f"Bearer {mixed}", f"Bearer {text}x"):
            assert client.get("/v1/events", headers={"Authorization": value}).status_code == 401, value


# API3: broken object property level authorization


def test_api3_the_tenant_never_comes_from_the_request(owner: Owner, stranger: httpx.Client) -> None:
    """Neither as a header, a parameter nor a field."""
    path = f"/v1/customers/{owner.ids['customers']}/charges"
    for tenant in ({"X-Tenant": owner.tenant}, {"X-Tenant-Id": owner.tenant}, {"Tenant": owner.tenant}):
        assert stranger.get(path, headers=tenant).status_code == 404
    assert stranger.get(f"{path}?tenant={owner.tenant}&tenantid={owner.tenant}").status_code == 404
    event = {
        "specversion": "1.0", "id": "x", "source": "chat", "type": "usage.reported", "subject": "c",
        "tenantid": owner.tenant, "data": {"meter": "m"},
    }  # fmt: skip
    headers = {"Content-Type": "application/cloudevents+json"}
    assert stranger.post("/v1/events", content=json.dumps(event), headers=headers).status_code == 403


def test_api3_what_is_not_a_customers_to_set_is_refused(stranger: httpx.Client) -> None:
    """Balance, tenant and the like are no fields of a customer."""
    path = f"/v1/customers/c-{uuid.uuid4().hex}"
    for field in ("balance", "tenant", "available", "receivable", "clock", "numbers"):
        assert stranger.put(path, json={field: "1000"}).status_code == 422, field


def test_api3_money_as_a_json_number_is_refused(owner: Owner) -> None:
    """A float has lost before it is read."""
    path = f"/v1/customers/{owner.ids['customers']}/wallet/deposit"
    answer = owner.client.post(path, json={"amount": 0.1, "currency": "USD"}, headers={"Idempotency-Key": "float"})
    assert answer.status_code == 422


# API4: unrestricted resource consumption


def test_api4_bodies_batches_and_pages_are_bounded(site: Site, owner: Owner) -> None:
    """Eight MiB of body, 1,000 events, 1,000 rows, 32 levels; with a declared length and without."""
    client = owner.client
    nine = bytes(9 * 1024 * 1024)
    for method, path, operation in operations(site.document):
        for media_type in operation.get("requestBody", {}).get("content", {}):
            headers = {"Content-Type": media_type, "Idempotency-Key": uuid.uuid4().hex}
            declared = client.request(method, filled(owner, path), content=nine, headers=headers)
            assert declared.status_code in (413, 404, 400, 401), (method, path, declared.text)
            if "{" not in path and path not in SIGNED:
                assert declared.status_code == 413, (method, path, declared.text)
            pieces = (nine[: 1024 * 1024] for _ in range(9))
            sent = client.request(method, filled(owner, path), content=pieces, headers=headers)
            assert sent.status_code == declared.status_code, (method, path, sent.text)
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    assert client.post("/v1/events", content="[" + ",".join(["{}"] * 1001) + "]", headers=batch).status_code == 413
    assert client.get("/v1/events?limit=1001").status_code == 422


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_api4_deep_nesting_is_refused_on_every_route_that_takes_json(site: Site, owner: Owner, opening: str) -> None:
    """A million brackets are an attack on a parser's stack."""
    bomb = opening * 1_000_000
    for method, path, operation in operations(site.document):
        media_types = operation.get("requestBody", {}).get("content", {})
        for media_type in media_types:
            headers = {"Content-Type": media_type, "Idempotency-Key": uuid.uuid4().hex}
            answer = owner.client.request(method, filled(owner, path), content=bomb, headers=headers)
            assert 400 <= answer.status_code < 500, (method, path, media_type, answer.text)


def test_api4_a_yaml_bomb_is_refused(site: Site, owner: Owner) -> None:
    """Aliases of aliases of aliases: a few lines that would be gigabytes."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    begun = time.monotonic()
    with site.client(owner.tenant) as client:  # with an allowance of its own: the tests before use up the owner's
        answer = client.put("/v1/catalog", content="\n".join(lines), headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 422
    assert time.monotonic() - begun < 20


def test_api4_a_body_that_does_not_come_is_cut(site: Site, owner: Owner) -> None:
    """A hundred bytes promised, one sent: 408 within its half minute, and the connection is closed."""
    host = urlsplit(site.url)
    with socket.create_connection((host.hostname or "", host.port or 0), timeout=60) as connection:
        head = (
            "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            f"Authorization: {owner.client.headers['authorization']}\r\n\r\n{{"
        )
        connection.sendall(head.encode())
        begun = time.monotonic()
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert 20 < time.monotonic() - begun < 45


# API5: broken function level authorization


def test_api5_each_operation_needs_its_scope(site: Site, owner: Owner) -> None:
    """Of tokens with one scope each, exactly one gets in; the others get 403, whatever they send."""
    tokens = {scope: bearer(site.token(owner.tenant, scope)) for scope in SCOPES}
    with httpx.Client(base_url=site.url, timeout=30) as client:
        for method, path, _ in operations(site.document):
            if path in OPEN | SIGNED:
                continue
            address = filled(owner, path).replace(owner.mark, "nobody")
            let_in = [
                scope
                for scope, headers in tokens.items()
                if client.request(method, address, headers=headers).status_code != 403
            ]
            assert len(let_in) == 1, (method, path, let_in)


# API6: unrestricted access to sensitive business flows


def test_api6_money_moves_once_for_a_key_and_not_without_one(site: Site, owner: Owner) -> None:
    """A storm of one request is one movement; the key with another body is a conflict."""
    customer = f"once-{uuid.uuid4().hex}"
    path = f"/v1/customers/{customer}/credits"
    body = {"amount": "3", "currency": "USD"}
    assert owner.client.post(path, json=body).status_code == 428
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answers = {owner.client.post(path, json=body, headers=key).status_code for _ in range(10)}
    assert answers <= {200, 201, 202}
    assert owner.client.post(path, json={**body, "amount": "4"}, headers=key).status_code == 409
    assert owner.client.get(f"/v1/customers/{customer}/balance").json()["balances"][0]["balance"] == "3"


# API7: server side request forgery


def test_api7_no_caller_names_an_address_that_we_ask(site: Site) -> None:
    """No field and no parameter of any operation is a URL."""
    named = re.findall(
        r'"((?:\w*_)?(?:url|uri|callback|endpoint|host)(?:_\w*)?)":', json.dumps(site.document["paths"]), re.IGNORECASE
    )
    assert not named


# API8: security misconfiguration


def test_api8_answers_give_nothing_away(site: Site, owner: Owner) -> None:
    """No server, no stack, no docs, no permission for other sites' pages; unknown methods and routes are problems."""
    with httpx.Client(base_url=site.url, headers=owner.client.headers) as client:
        for method, path in (
            ("GET", "/docs"),
            ("GET", "/redoc"),
            ("TRACE", "/v1/events"),
            ("GET", "/v1/../etc/passwd"),
        ):
            answer = client.request(method, path, headers={"Origin": "https://evil.example"})
            assert answer.status_code in (404, 405)
            assert answer.headers["content-type"] == "application/problem+json"
            for header in ("server", "x-powered-by", "access-control-allow-origin"):
                assert header not in answer.headers
        ready = client.get("/readyz").text
        for secret in (site.served.settings.redis_url, site.served.settings.clickhouse_url):
            assert (urlsplit(secret or "").password or "?") not in ready


def test_api8_secrets_are_in_no_log_and_no_status(site: Site, owner: Owner) -> None:
    """Tokens, passwords of stores: not in what processes write, nor in metrics."""
    settings = site.served.settings
    secrets = [owner.client.headers["authorization"].removeprefix("Bearer ")]
    urls = (settings.redis_url, settings.clickhouse_url, settings.clickhouse_reader_url)
    secrets += [password for url in urls if (password := urlsplit(url or "").password)]
    written = site.served.log.read_text() + httpx.get(f"{site.url}/metrics").text
    written += "".join(file.read_text(errors="replace") for file in (settings.data_dir / "logs").glob("*.log"))
    for secret in secrets:
        assert secret not in written


# API9: improper inventory management


def test_api9_what_is_served_is_documented(site: Site) -> None:
    """Every operation says what it needs and answers; nothing answers beside the document."""
    for method, path, operation in operations(site.document):
        assert operation["responses"], (method, path)
        assert (operation.get("security") == []) == (path in OPEN | SIGNED), path
    for path in ("/v2/events", "/admin", "/debug", "/internal", "/v1", "/.env", "/metrics/"):
        assert httpx.get(f"{site.url}{path}").status_code in (401, 404)


# API10: unsafe consumption of APIs


def test_api10_nobody_speaks_for_stripe(site: Site, owner: Owner) -> None:
    """An unsigned or badly signed webhook changes nothing."""
    event = {"id": "evt_1", "type": "invoice.paid", "data": {"object": {"id": "in_1", "amount_paid": 100}}}
    for signature in (None, "t=1,v1=00", "nonsense", f"t={int(time.time())},v1={'0' * 64}"):
        headers = {"Stripe-Signature": signature} if signature is not None else {}
        answer = httpx.post(f"{site.url}/webhooks/stripe", json=event, headers=headers)
        assert 400 <= answer.status_code < 500 or answer.status_code == 503, answer.text
        assert answer.status_code != 200


@pytest.mark.parametrize(
    "hostile", ["' OR 1=1 --", "{tenant:String}", "%27", "\\'; DROP TABLE x; --", "a\u0000b", "\ud7ff"]
)
def test_api10_texts_that_mean_something_elsewhere_mean_nothing_here(owner: Owner, hostile: str) -> None:
    """In ids, filters and cursors: an answer that finds nothing, or a refusal."""
    encoded = quote(hostile, safe="")
    for path in (
        f"/v1/events/chat/{encoded}", f"/v1/customers/{encoded}/charges", f"/v1/customers/{encoded}/balance",
        f"/v1/events?customer={encoded}", f"/v1/dead-letters?reason={encoded}", f"/v1/events?cursor={encoded}",
        f"/v1/customers/{owner.ids['customers']}/usage?group_by={encoded}",
        f"/v1/customers/{owner.ids['customers']}/usage?window={encoded}",
    ):  # fmt: skip
        answer = owner.client.get(path)
        assert answer.status_code in (200, 404, 422), (path, answer.text)
        if answer.status_code == 200 and "usage" not in path:
            assert answer.json()["data"] == []
