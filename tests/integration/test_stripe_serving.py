"""A deployment with Stripe beside it: pushed through trouble, told by webhooks in any order and more than once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from invoicing.stripe.gateway import Pushed, StripeGateway
from schemas.settings import Settings
from tests.deployment import until
from tests.integration.stripe_peer import stripe_peer
from tests.integration.test_stripe import KEY
from tests.served import Served
from tests.unit.invoicing.test_stripe_webhook import signed

LISTENING: Final = re.compile(r"listening on (http://\S+)")
CATALOG: Final = """\
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "1.25"}
"""
CUSTOMERS: Final = 3
MONTH: Final = datetime.now(UTC).replace(day=1) - timedelta(days=2)


@dataclasses.dataclass
class World:
    """A tenant of a deployment, and the Stripe that it knows."""

    served: Served
    peer: str
    tenant: str
    http: httpx.Client

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Of our API, until it is known."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        answers: list[httpx.Response] = []

        def known() -> bool:
            answers.append(self.http.request(method, path, json=body, headers=key))
            return answers[-1].status_code not in (202, 503)

        until(known, 120)
        assert answers[-1].status_code < 300, answers[-1].text
        found: dict[str, Any] = answers[-1].json()
        return found

    def deliver(self, kind: str, about: dict[str, Any], name: str, **more: Any) -> int:
        """A webhook, signed by one of the two secrets; the status it is answered with."""
        event = {
            "id": name,
            "type": kind,
            "created": int(datetime.now(UTC).timestamp()),
            "data": {"object": about, **more},
        }
        body = json.dumps(event).encode()
        secret = random.choice(["whsec_old", "whsec_new"])
        headers = {"Content-Type": "application/json", "Stripe-Signature": signed(body, secret)}
        return httpx.post(
            f"{self.http.base_url}/webhooks/stripe", content=body, headers=headers, timeout=30
        ).status_code

    def mirrored(self) -> None:
        """The job, now, however often Stripe is in trouble."""
        for _ in range(10):
            done = self.served.tollgate("jobs", "run", "stripe", check=False)
            if done.returncode == 0:
                return
        raise AssertionError(done.stdout)


@pytest.fixture(scope="module")
def world(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Serving, with both secrets of a rotation."""
    folder: Path = tmp_path_factory.mktemp("stripe")
    (folder / "catalog.yaml").write_text(CATALOG)
    with stripe_peer() as peer:
        settings = dataclasses.replace(
            services, stripe_api_key=KEY, stripe_api_base=peer, stripe_webhook_secret="whsec_old,whsec_new"
        )
        served = Served(settings, folder / "serve.log")
        tenant = f"stripe-{uuid.uuid4().hex[:10]}"
        served.apply(folder / "catalog.yaml", tenant)
        token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
        with served.serving():
            address = LISTENING.findall(served.log.read_text())[-1]
            headers = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=address, headers=headers, timeout=60) as http:
                yield World(served, peer, tenant, http)


async def in_stripe(peer: str) -> list[Pushed]:
    """All invoices that the peer has."""
    async with StripeGateway(KEY, peer) as gateway:
        return [one async for one in gateway.invoices()]


def test_invoices_stand_in_stripe_once_and_are_paid_once(world: World) -> None:
    """429, 500 and time-outs while they are pushed; their webhooks doubled and shuffled; then every equation holds."""
    names = [f"c-{number}" for number in range(CUSTOMERS)]
    for name in names:
        world.ask("PUT", f"/v1/customers/{name}", {"collection": "postpaid", "currency": "USD"})
    time = f"{MONTH:%Y-%m-%dT%H:%M:%SZ}"
    event = {"specversion": "1.0", "source": "s", "type": "usage.reported", "tenantid": world.tenant, "time": time}
    data = {"meter": "calls", "quantity": 4}
    world.served.send([json.dumps(event | {"id": name, "subject": name, "data": data}).encode() for name in names])
    until(lambda: world.served.outcomes(world.tenant).get("rated", 0) >= 2 * CUSTOMERS, 240)
    ours = {}
    for name in names:
        drafted = world.ask("POST", f"/v1/customers/{name}/invoices", {"period": f"{MONTH:%Y-%m}"})
        ours[name] = world.ask("POST", f"/v1/invoices/{drafted['id']}/finalize")
    trouble = [(429, False), (500, True), (408, True), (500, False), (408, False), (429, True)]
    httpx.post(f"{world.peer}/_peer/trouble", json=[{"status": status, "after": after} for status, after in trouble])

    def pushed() -> bool:
        world.mirrored()
        return all(world.ask("GET", f"/v1/invoices/{one['id']}").get("stripe_invoice_id") for one in ours.values())

    until(pushed, 240)
    every = [one for one in asyncio.run(in_stripe(world.peer)) if one.tenant == world.tenant]
    there = {one.tollgate_id: one for one in every}
    assert len(there) == len(every) == CUSTOMERS
    deliveries = []
    for one in ours.values():
        name = there[one["id"]].stripe_invoice_id
        metadata = {
            "tollgate_tenant": world.tenant,
            "tollgate_customer": one["customer"],
            "tollgate_invoice": one["id"],
        }
        about = {"id": name, "amount_paid": 500, "currency": "usd", "metadata": metadata}
        deliveries += [("invoice.paid", about, f"evt_{name}_{copy}") for copy in (1, 1, 2)]
    random.Random(3).shuffle(deliveries)
    assert [world.deliver(*one) for one in deliveries] == [200] * len(deliveries)
    for one in ours.values():
        until(lambda: world.ask("GET", f"/v1/invoices/{one['id']}")["state"] == "paid", 60)  # noqa: B023
        paid = world.ask("GET", f"/v1/invoices/{one['id']}")
        assert [(payment["amount"], payment["applied"]) for payment in paid["payments"]] == [("5.00", "5.00")]
        assert Decimal(world.ask("GET", f"/v1/customers/{one['customer']}/balance")["balances"][0]["balance"]) == 0


def test_a_refund_that_is_told_before_its_payment_comes_again(world: World) -> None:
    """Of an order's intent: first the refund (to be told again), then the payment, both twice; nothing is left."""
    order = world.ask("POST", "/v1/orders", {"customer": "c-0", "total_amount": "8.00", "currency": "USD"})
    intent = order["payment_intent_id"]
    until(lambda: (world.mirrored(), world.ask("GET", f"/v1/payments/{intent}"))[1].get("client_secret"), 120)
    metadata = {
        "tollgate_tenant": world.tenant,
        "tollgate_customer": "c-0",
        "tollgate_payment_intent": intent,
        "tollgate_order": order["order_id"],
    }
    paid = {"id": "pi_there", "amount": 800, "currency": "usd", "metadata": metadata}
    charge = {
        "id": "ch_1",
        "payment_intent": "pi_there",
        "currency": "usd",
        "amount_refunded": 800,
        "metadata": metadata,
    }
    refund = ("charge.refunded", charge, "evt_refund")
    assert world.deliver(*refund, previous_attributes={"amount_refunded": 0}) == 503
    assert [world.deliver("payment_intent.succeeded", paid, f"evt_paid_{copy}") for copy in (1, 1, 2)] == [200] * 3
    until(lambda: world.ask("GET", f"/v1/orders/{order['order_id']}")["status"] == "fulfilled", 60)
    until(lambda: world.deliver(*refund, previous_attributes={"amount_refunded": 0}) == 200, 60)
    assert world.deliver(*refund, previous_attributes={"amount_refunded": 0}) == 200
    until(lambda: world.ask("GET", f"/v1/orders/{order['order_id']}")["status"] == "refunded", 60)
    assert Decimal(world.ask("GET", "/v1/customers/c-0/balance")["balances"][0]["balance"]) == 0


def test_stripes_side_is_proved_with_all_the_rest(world: World) -> None:
    """`tollgate reconcile` asks Stripe as well: what was paid is paid there too, and a difference is told."""
    world.mirrored()
    assert world.served.reconcile() == (0, {})
    listing = httpx.get(f"{world.peer}/v1/invoices", headers={"Authorization": f"Bearer {KEY}"}).json()
    name = listing["data"][0]["id"]
    form = {"metadata[tollgate_invoice]": "inv_of_nobody"}
    assert httpx.post(f"{world.peer}/v1/invoices/{name}", data=form, auth=(KEY, "")).status_code == 200
    code, wrong = world.served.reconcile()
    assert code == 1
    assert [said for said in wrong if "Stripe" in said]
