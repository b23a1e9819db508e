"""A running deployment with two tenants, and everything that one of them has."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from schemas.settings import Settings
from tests.served import Served

CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
prices:
  - {id: p, meter: input_tokens, model: per_unit, unit_amount: "0.000001"}
plans:
  - {id: PLAN, name: Pro, amount: "10", interval: month}
"""

Document = dict[str, Any]


@dataclass
class Site:
    """The running API."""

    served: Served
    url: str
    document: Document
    """Its OpenAPI document."""

    def token(self, tenant: str, *scopes: str) -> str:
        """The text of a new token; all scopes without any."""
        options = ("--scopes", ",".join(scopes)) if scopes else ()
        return self.served.tollgate("token", "issue", "--tenant", tenant, *options).stdout.splitlines()[-1]

    def client(self, tenant: str, *scopes: str) -> httpx.Client:
        """A client with a new token."""
        return httpx.Client(base_url=self.url, headers=bearer(self.token(tenant, *scopes)), timeout=30)


@dataclass
class Owner:
    """A tenant with one of each."""

    tenant: str
    mark: str
    """In all of its ids."""
    secret: str
    """In what its objects hold, and in no id: nobody else may see it."""
    client: httpx.Client
    ids: dict[str, str] = field(default_factory=dict)
    """By the first part of a route's path: the id of an object of this tenant."""


def bearer(text: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {text}"}


def operations(document: Document) -> list[tuple[str, str, Document]]:
    """Method, path and description of every operation."""
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def until(reached: Callable[[], Any], seconds: float = 60) -> Any:
    """What `reached` answers once that is true."""
    deadline = time.monotonic() + seconds
    while not (answer := reached()):
        assert time.monotonic() < deadline, "it did not come to it in time"
        time.sleep(0.1)
    return answer


@pytest.fixture(scope="session")
def site(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`tollgate serve` on the shared services."""
    folder = tmp_path_factory.mktemp("security")
    served = Served(services, folder / "serve.log")
    catalogue = folder / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    served.tollgate("catalog", "apply", str(catalogue))
    with served.serving():
        (url,) = {one["metrics"].removesuffix("/metrics") for one in served.processes() if one["role"] == "api"}
        until(lambda: httpx.get(f"{url}/readyz", timeout=30).status_code == 200)
        yield Site(served, url, httpx.get(f"{url}/openapi.json", timeout=30).json())


@pytest.fixture(scope="session")
def owner(site: Site) -> Iterator[Owner]:
    """Acme, which has a customer with a wallet, a hold, an order, a payment, an invoice, a dead letter and all else."""
    mark = uuid.uuid4().hex
    tenant = f"acme-{mark}"
    with site.client(tenant) as client:
        made = Owner(tenant, mark, uuid.uuid4().hex, client)
        _seed(made)
        yield made


@pytest.fixture(scope="session")
def stranger(site: Site) -> Iterator[httpx.Client]:
    """Globex: another tenant, with a token of every scope."""
    with site.client(f"globex-{uuid.uuid4().hex}") as client:
        yield client


def _seed(owner: Owner) -> None:
    client, mark = owner.client, owner.mark
    plan = f"plan-{mark}"

    def post(path: str, body: Document, key: str | None = None) -> Document:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        answer = client.post(path, json=body, headers=headers)
        assert answer.status_code in (200, 201, 202), (path, answer.status_code, answer.text)
        found: Document = answer.json()
        return found

    yaml = {"Content-Type": "application/yaml"}
    assert client.put("/v1/catalog", content=CATALOGUE.replace("PLAN", plan), headers=yaml).status_code == 200
    customer = f"customer-{mark}"
    assert client.put(
        f"/v1/customers/{customer}", json={"name": owner.secret, "metadata": {"note": owner.secret}}
    ).status_code in (200, 201)
    owner.ids |= {"customers": customer, "plans": plan, "user": customer, "users": customer}
    granted = post(f"/v1/customers/{customer}/credits", {"amount": "100", "currency": "USD", "credit_id": f"c-{mark}"})
    owner.ids["operations"] = str(granted.get("operation_id") or granted.get("id") or f"credit-{mark}")
    hold = post("/v1/holds", {"customer": customer, "amount": "1", "hold_id": f"hold-{mark}"})
    owner.ids["holds"] = hold["hold_id"]
    order = {
        "customer": customer,
        "order_type": "credits",
        "credit_amount": "5",
        "total_amount": "5",
        "currency": "USD",
    }
    owner.ids["orders"] = post("/v1/orders", {**order, "order_id": f"order-{mark}"})["order_id"]
    payment = {"customer": customer, "amount": "5", "currency": "USD"}
    owner.ids["payments"] = post("/v1/payments", {**payment, "payment_id": f"payment-{mark}"})["payment_id"]
    clock = post("/v1/test-clocks", {"id": f"clock-{mark}", "now": "2026-01-01T00:00:00Z"})
    owner.ids["test-clocks"] = clock["id"]
    post(f"/v1/customers/{customer}/subscription", {"plan_id": plan})
    event = {
        "specversion": "1.0", "id": f"e-{mark}", "source": "chat", "type": "session.tokens_used", "subject": customer,
        "data": {"session_id": "s", "model": owner.secret, "input_tokens": 9, "output_tokens": 1, "user_id": customer},
    }  # fmt: skip
    broken = {**event, "id": f"broken-{mark}", "type": "usage.reported", "data": {"meter": f"unheard-{owner.secret}"}}
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    sent = client.post("/v1/events", content=json.dumps([event, broken]), headers=batch)
    assert sent.json()["accepted"] == 2, sent.text
    owner.ids["events"] = f"chat/e-{mark}"
    until(lambda: client.get(f"/v1/events/chat/e-{mark}").status_code == 200)
    letters = until(lambda: client.get("/v1/dead-letters").json()["data"])
    owner.ids["dead-letters"] = letters[0]["id"]
    last = time.gmtime(time.time() - 40 * 86_400)
    month = f"{last.tm_year:04}-{last.tm_mon:02}"
    late = {**event, "id": f"late-{mark}", "time": f"{month}-15T12:00:00Z"}
    assert client.post("/v1/events", content=json.dumps([late]), headers=batch).json()["accepted"] == 1
    until(lambda: client.get(f"/v1/events/chat/late-{mark}").status_code == 200)
    post(f"/v1/customers/{customer}/invoices", {"period": month})
    listed = until(lambda: client.get(f"/v1/customers/{customer}/invoices").json().get("data"))
    owner.ids["invoices"] = listed[0].get("invoice_id") or listed[0]["id"]
