"""Deliveries of Stripe: no token, a signature; 200 only once Kafka has what concerns us."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from api.app import create_app
from schemas.documents import PAYMENT, document_key, encode_body
from tests.unit.api.conftest import World
from tests.unit.invoicing.test_stripe_webhook import charge, invoice, signed, told

PATH = "/webhooks/stripe"


async def deliver(world: World, event: dict[str, Any], signature: str | None = None) -> httpx.Response:
    """As Stripe does."""
    body = json.dumps(event).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature or signed(body)}
    return await world.client.post(PATH, content=body, headers=headers)


async def test_a_payment_that_stripe_tells_of_goes_to_the_account(world: World) -> None:
    """Under its customer's key, with Stripe's id: told twice, it is the same event twice."""
    for _ in range(2):
        taken = await deliver(world, told("invoice.paid", invoice()))
        assert (taken.status_code, taken.json()) == (200, {"outcome": "accepted"})
    first, second = world.publisher.records
    assert first == second
    assert (first.topic, first.key) == ("account.events", b"cust-42")
    assert json.loads(first.value)["type"] == "payment.completed"


async def test_what_is_none_of_ours_is_taken_and_goes_nowhere(world: World) -> None:
    """So that Stripe does not tell it again."""
    taken = await deliver(world, told("customer.created", {"id": "cus_1"}))
    assert (taken.status_code, taken.json()) == (200, {"outcome": "ignored"})
    assert world.publisher.records == []


@pytest.mark.parametrize("signature", ["t=1,v1=00", "none", signed(b"other")], ids=["false", "none", "of another body"])
async def test_who_did_not_sign_is_refused(world: World, signature: str) -> None:
    """400, and nothing is published."""
    refused = await deliver(world, told("invoice.paid", invoice()), signature)
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:tollgate:problem:bad_signature")
    assert world.publisher.records == []


async def test_a_refund_of_a_payment_that_is_not_known_yet_has_to_come_again(world: World) -> None:
    """Deliveries come in no order: 503 until the payment is there."""
    assert (await deliver(world, charge(500))).status_code == 503
    world.accounts.bodies[document_key("acme", PAYMENT, "pi_9")] = encode_body({"customer": "cust-42"})
    assert (await deliver(world, charge(500))).status_code == 200
    assert [json.loads(record.value)["type"] for record in world.publisher.records] == ["payment.refunded"]


async def test_it_comes_again_when_kafka_was_away(world: World) -> None:
    """Nothing is taken before Kafka has it."""
    world.publisher.away = True
    assert (await deliver(world, told("invoice.paid", invoice()))).status_code == 503


async def test_without_a_secret_there_is_no_such_webhook(world: World) -> None:
    """404, whoever signed."""
    parts = replace(world.app.state.application.parts, stripe_webhook_secrets=())
    transport = httpx.ASGITransport(create_app(parts), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tollgate") as client:
        assert (await client.post(PATH, json={})).status_code == 404
