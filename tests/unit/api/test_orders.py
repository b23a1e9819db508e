"""Orders and payments over HTTP: from the order to what it bought, and back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.unit.api.conftest import World

NANOS = 10**9


async def post(world: World, path: str, body: dict[str, Any] | None = None, key: str | None = None) -> httpx.Response:
    headers = world.token("wallet:write") | ({"Idempotency-Key": key} if key else {})
    return await world.client.post(path, json=body or {}, headers=headers)


async def get(world: World, path: str, tenant: str = "acme") -> httpx.Response:
    return await world.client.get(path, headers=world.token("usage:read", tenant=tenant))


async def ordered(world: World, **more: Any) -> dict[str, Any]:
    answer = await post(world, "/v1/orders", {"customer": "c", "total_amount": "10", "currency": "USD", **more})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def told(world: World) -> list[str]:
    """The types of all events of ours so far."""
    return [
        json.loads(message.value or b"")["type"]
        for chunk in world.commands.partition.decided
        for message in chunk.messages
        if message.topic == "billing.events"
    ]


def balance(world: World) -> int:
    return world.commands.partition.of("c", "acme").balance


async def test_an_order_of_credits_from_its_intent_to_its_fulfilment(world: World) -> None:
    """Its payment puts the credit into the wallet, completes it and fulfils it, each told once and in order."""
    order = await ordered(world, credit_amount="12")
    assert (order["status"], order["payment_intent_id"]) == ("payment_pending", f"pi_{order['order_id']}")
    intent = (await get(world, f"/v1/payments/{order['payment_intent_id']}")).json()
    assert (intent["status"], intent["amount"], intent["order_id"]) == ("pending", "10", order["order_id"])
    paid = await post(world, f"/v1/payments/{order['payment_intent_id']}/confirm")
    assert (paid.status_code, paid.json()["status"]) == (200, "succeeded"), paid.text
    found = (await get(world, f"/v1/orders/{order['order_id']}")).json()
    assert (found["status"], found["payment_id"], found["amount_paid"]) == ("fulfilled", intent["payment_id"], "10")
    assert balance(world) == 12 * NANOS
    assert told(world) == [
        "wallet.created", "order.created", "payment.intent.created", "order.payment_pending", "wallet.deposited",
        "wallet.balance_changed", "payment.completed", "order.completed", "order.fulfilled",
    ]  # fmt: skip
    assert (await post(world, f"/v1/payments/{order['payment_intent_id']}/confirm")).status_code == 409


async def test_a_payment_that_names_the_intent_alone_leads_to_its_order(world: World) -> None:
    """As the payment service tells of it, on Kafka and under an id of its own."""
    order = await ordered(world)
    data = {"payment_id": "ch_1", "payment_intent_id": order["payment_intent_id"], "amount": "10", "currency": "USD"}
    event = {"specversion": "1.0", "id": "1", "source": "payments", "type": "payment.completed", "subject": "c"}
    world.commands.take(json.dumps({**event, "tenantid": "acme", "data": data}).encode())
    found = (await get(world, f"/v1/orders/{order['order_id']}")).json()
    assert (found["status"], found["payment_id"], balance(world)) == ("fulfilled", "ch_1", 10 * NANOS)
    assert (await get(world, "/v1/payments/ch_1")).json()["status"] == "succeeded"
    assert (await get(world, f"/v1/payments/{order['payment_intent_id']}")).json()["payment_id"] == "ch_1"


async def test_an_order_refunded_takes_back_what_it_brought(world: World) -> None:
    """Whole, once; its payment says so too."""
    order = await ordered(world, credit_amount="12")
    await post(world, f"/v1/payments/{order['payment_intent_id']}/confirm")
    answer = await post(world, f"/v1/orders/{order['order_id']}/refund", {"reason": "unhappy"}, key="r")
    assert (answer.status_code, answer.json()["status"], answer.json()["refunded_amount"]) == (200, "refunded", "10")
    assert (await post(world, f"/v1/orders/{order['order_id']}/refund", {"reason": "unhappy"}, key="r")).is_success
    assert (await post(world, f"/v1/orders/{order['order_id']}/refund")).status_code in (402, 409, 422)
    assert balance(world) == 0
    payment = (await get(world, f"/v1/payments/{order['payment_intent_id']}")).json()
    assert (payment["status"], payment["refunded_amount"]) == ("refunded", "10")
    assert "order.refunded" in told(world)
    assert "payment.refunded" in told(world)


async def test_what_is_spent_is_not_refunded(world: World) -> None:
    """402 where the wallet has it no more; a part that is there goes back."""
    order = await ordered(world)
    await post(world, f"/v1/payments/{order['payment_intent_id']}/confirm")
    await post(world, "/v1/customers/c/wallet/consume", {"amount": "7"}, key="use")
    assert (await post(world, f"/v1/orders/{order['order_id']}/refund")).status_code == 402
    part = await post(world, f"/v1/payments/{order['payment_intent_id']}/refund", {"amount": "3"})
    assert (part.status_code, part.json()["status"]) == (200, "partially_refunded")
    assert balance(world) == 0


@pytest.mark.parametrize(("action", "status"), [("fulfill", 409), ("refund", 409), ("cancel", 200)])
async def test_an_unpaid_order_can_only_be_canceled(world: World, action: str, status: int) -> None:
    """What its state does not allow is a conflict."""
    order = await ordered(world)
    answer = await post(world, f"/v1/orders/{order['order_id']}/{action}")
    assert answer.status_code == status, answer.text


async def test_a_canceled_order_takes_its_intent_along(world: World) -> None:
    """It can no longer be confirmed, nor the order changed; canceled again it is canceled."""
    order = await ordered(world)
    path = f"/v1/orders/{order['order_id']}"
    patched = await world.client.patch(path, json={"metadata": {"a": "b"}}, headers=world.token())
    assert patched.json()["metadata"] == {"a": "b"}
    assert (await post(world, f"{path}/cancel", {"reason": "no"})).json()["status"] == "canceled"
    assert (await post(world, f"{path}/cancel", {"reason": "still no"})).json()["reason"] == "no"
    assert (await post(world, f"/v1/payments/{order['payment_intent_id']}/confirm")).status_code == 409
    assert (await world.client.patch(path, json={"items": []}, headers=world.token())).status_code == 409


async def test_a_key_makes_one_order(world: World) -> None:
    """The same request answers the same order; another under the key is a conflict."""
    body = {"customer": "c", "total_amount": "10", "currency": "USD"}
    first, again = await post(world, "/v1/orders", body, key="k"), await post(world, "/v1/orders", body, key="k")
    assert first.json() == again.json()
    assert (await post(world, "/v1/orders", {**body, "total_amount": "11"}, key="k")).status_code == 409
    other = await post(world, "/v1/orders", body)
    assert other.json()["order_id"] != first.json()["order_id"]
    named = {**body, "order_id": first.json()["order_id"]}
    assert (await post(world, "/v1/orders", named)).status_code == 409


async def test_another_tenants_order_is_not_there(world: World) -> None:
    """404 for reading and for every action."""
    order = await ordered(world)
    for path in (f"/v1/orders/{order['order_id']}", f"/v1/payments/{order['payment_intent_id']}"):
        assert (await get(world, path, tenant="other")).status_code == 404
    headers = world.token("wallet:write", tenant="other")
    for path in (f"orders/{order['order_id']}/cancel", f"payments/{order['payment_intent_id']}/confirm"):
        assert (await world.client.post(f"/v1/{path}", headers=headers)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"total_amount": "10"},
        {"customer": "c"},
        {"customer": "c", "total_amount": 10},
        {"customer": "c", "total_amount": "0"},
        {"customer": "c", "total_amount": "10", "order_type": "subscription"},
    ],
)
async def test_an_order_that_cannot_be_is_refused(world: World, body: dict[str, Any]) -> None:
    """422."""
    answer = await post(world, "/v1/orders", body)
    assert answer.status_code == 422, answer.text


async def test_a_payment_of_its_own_is_asked_for_taken_or_canceled(world: World) -> None:
    """It deposits when it comes in; canceled it does nothing."""
    asked = await post(world, "/v1/payments", {"customer": "c", "amount": "5", "currency": "USD"}, key="a")
    assert (asked.status_code, asked.json()["status"], asked.json()["object"]) == (201, "pending", "intent")
    assert balance(world) == 0
    done = await post(world, f"/v1/payments/{asked.json()['payment_id']}/confirm", {"payment_id": "ch_9"})
    assert (done.json()["payment_id"], balance(world)) == ("ch_9", 5 * NANOS)
    other = await post(world, "/v1/payments", {"customer": "c", "amount": "5"}, key="b")
    assert (await post(world, f"/v1/payments/{other.json()['payment_id']}/cancel")).json()["status"] == "canceled"
    assert (await post(world, f"/v1/payments/{other.json()['payment_id']}/confirm")).status_code == 409
    assert balance(world) == 5 * NANOS
