"""Wallets, customers, orders and payments over HTTP on the real parts: once under retries, not overdrawn by a crowd."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from schemas.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, BILLING_EVENTS
from tests.deployment import until
from tests.integration.topic_reader import TopicReader, topic_from_now
from tests.served import Served, known

LISTENING = re.compile(r"listening on (http://\S+)")
CATALOG = """\
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
"""


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("wallets")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@pytest.fixture
def tenant(served: Served, tmp_path: Path) -> str:
    """A tenant of the test's own, with the catalogue."""
    name = f"wallets-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    served.apply(tmp_path / "catalog.yaml", name)
    return name


@pytest.fixture
async def client(served: Served, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token of its own tenant."""
    issued = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
    address = LISTENING.findall(served.log.read_text())[-1]
    headers = {"Authorization": f"Bearer {issued}"}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
        yield client


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """A request that is asked for again as long as its outcome is not known."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return await known(lambda: client.post(path, json=body, headers=headers))


async def wallet(client: httpx.AsyncClient, customer: str) -> dict[str, Any]:
    answer = await known(lambda: client.get(f"/v1/customers/{customer}/balance"))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["balances"][0]
    return found


def events(tenant: str, *, about: str, more: dict[str, Any], customer: str = "c") -> bytes:
    made = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "test",
        "type": about,
        "subject": customer,
        "tenantid": tenant,
        "data": more,
    }
    return json.dumps(made).encode()


def reading(served: Served, topic: str) -> AbstractAsyncContextManager[TopicReader]:
    """What comes into a topic from now on."""
    bootstrap = served.settings.kafka_bootstrap
    assert bootstrap is not None
    return topic_from_now(bootstrap, topic, served.settings.partitions)


async def values(reader: TopicReader) -> list[bytes]:
    return [record.value for records in (await reader.read()).values() for record in records]


def ledger(served: Served, tenant: str) -> list[tuple[str, str, str]]:
    """Customer, kind and amount of all movements of a tenant, in order of customer and seq."""
    return [
        (str(customer), str(kind), f"{amount.normalize():f}")
        for customer, kind, amount in served.ask(
            "SELECT customer, kind, amount FROM tollgate.ledger WHERE tenant = {tenant:String} ORDER BY customer, seq",
            tenant=tenant,
        )
    ]


async def test_from_a_customer_to_its_balance(served: Served, client: httpx.AsyncClient, tenant: str) -> None:
    """Put, deposit, use, read: what the ledger booked is what the API says, and every equation holds."""
    fields, key = {"name": "Ada", "overdraft": "5"}, {"Idempotency-Key": "put"}
    put = await known(lambda: client.put("/v1/customers/c", json=fields, headers=key))
    assert put.status_code == 200, put.text
    deposit = await post(client, "/v1/customers/c/wallet/deposit", {"amount": "10.00"}, key="first")
    assert deposit.json()["balance_after"] == "10"
    assert (
        await post(client, "/v1/customers/c/wallet/deposit", {"amount": "10.00"}, key="first")
    ).json() == deposit.json()
    served.send([events(tenant, about="usage.reported", more={"meter": "calls", "quantity": 3})])
    served.await_outcomes(tenant, 3)
    found = await wallet(client, "c")
    assert (found["balance"], found["available"]) == ("8.5", "13.5")
    assert ledger(served, tenant) == [("c", "deposit", "10"), ("c", "charge", "-1.5")]
    (entry,) = served.ask(
        "SELECT entry_id FROM tollgate.ledger WHERE tenant = {tenant:String} AND kind = 'deposit'", tenant=tenant
    )
    assert entry[0] == deposit.json()["entry_id"]
    assert (await client.get("/v1/customers/c")).json()["name"] == "Ada"
    assert [one["id"] for one in (await client.get("/v1/customers")).json()["data"]] == ["c"]
    assert served.reconcile() == (0, {})


async def test_one_key_under_a_storm_of_retries_is_one_movement(served: Served, client: httpx.AsyncClient) -> None:
    """Fifty requests at once under one key, all answered alike; another body among them is a conflict."""
    body = {"amount": "7", "currency": "USD"}
    answers = await asyncio.gather(
        *(post(client, "/v1/customers/c/wallet/deposit", body, key="same") for _ in range(50)),
        post(client, "/v1/customers/c/wallet/deposit", {"amount": "8"}, key="later"),
    )
    assert len({answer.text for answer in answers[:50]}) == 1
    assert (await wallet(client, "c"))["balance"] == "15"
    assert (await post(client, "/v1/customers/c/wallet/deposit", {"amount": "8"}, key="same")).status_code == 409


async def test_a_crowd_takes_out_no_more_than_there_is(served: Served, client: httpx.AsyncClient, tenant: str) -> None:
    """Two hundred at once on a wallet that can pay twenty: exactly twenty are paid, the others told so."""
    await post(client, "/v1/customers/c/wallet/deposit", {"amount": "20"})
    answers = await asyncio.gather(
        *(post(client, "/v1/customers/c/wallet/withdraw", {"amount": "1"}, key=f"w-{n}") for n in range(200))
    )
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(402)) == (20, 180)
    assert (await wallet(client, "c"))["balance"] == "0"
    assert served.reconcile() == (0, {})


ROUTES: list[tuple[str, dict[str, Any], str]] = [
    ("credits", {"amount": "3", "priority": 5, "expires_at": "2099-01-01T00:00:00Z"}, "103"),
    ("wallet/deposit", {"amount": "3"}, "103"),
    ("wallet/consume", {"amount": "3", "meter": "calls"}, "97"),
    ("wallet/withdraw", {"amount": "3"}, "97"),
    ("wallet/adjust", {"amount": "-3", "reason": "a mistake"}, "97"),
    ("wallet/refund", {"amount": "3", "payment_id": "first"}, "97"),
    ("wallet/transfer", {"amount": "3", "to_customer": "other"}, "97"),
]


async def test_every_route_counts_once_for_ever(served: Served, client: httpx.AsyncClient, tenant: str) -> None:
    """Twenty at once under one key are one entry; so is the same after Redis has forgotten the outcome, and answered
    alike; another body is a conflict then too; another tenant has none of it."""
    for number, (route, body, after) in enumerate(ROUTES):
        customer = f"c-{number}"
        first = {"amount": "100", "payment_id": "first"}
        await post(client, f"/v1/customers/{customer}/wallet/deposit", first, key="first")
        path = f"/v1/customers/{customer}/{route}"
        answers = await asyncio.gather(*(post(client, path, body, key="k") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}, answers[0].text
        assert len({answer.text for answer in answers}) == 1
        assert answers[0].json()["balance_after"] == after
        assert (await wallet(client, customer))["balance"] == after
    await _forget_operations(served, tenant)
    until(
        lambda: (
            served.ask(
                "SELECT count() FROM tollgate.documents WHERE tenant = {t:String} AND kind = 'operation'", t=tenant
            )[0][0]
            >= 2 * len(ROUTES) + 1  # a transfer is two
        )
    )
    for number, (route, body, after) in enumerate(ROUTES):
        path = f"/v1/customers/c-{number}/{route}"
        again = await post(client, path, body, key="k")
        assert (again.status_code, again.json()["balance_after"]) == (200, after)
        assert (await post(client, path, {**body, "amount": "4"}, key="k")).status_code == 409
        found = await wallet(client, f"c-{number}")
        assert (found["balance"], found["held"]) == (after, "0")
    assert (await wallet(client, "other"))["balance"] == "3"
    stranger = served.tollgate("token", "issue", "--tenant", f"{tenant}-x").stdout.splitlines()[-1]
    headers = {"Authorization": f"Bearer {stranger}"}
    for path in (
        "/v1/customers/c-0",
        "/v1/customers/c-0/balance",
        f"/v1/operations/{answers[0].json()['operation_id']}",
    ):
        assert (await client.get(path, headers=headers)).status_code == 404
    assert served.reconcile() == (0, {})


async def _forget_operations(served: Served, tenant: str) -> None:
    """As after the time that Redis keeps outcomes."""
    assert served.settings.redis_url is not None
    async with Redis.from_url(served.settings.redis_url) as redis:
        names = [name async for name in redis.scan_iter(match=f"*:d:operation:*{tenant}:*", count=1_000)]
        assert names
        await redis.delete(*names)


async def test_what_is_held_cannot_be_taken_out(served: Served, client: httpx.AsyncClient, tenant: str) -> None:
    """A hold has its money until it ends; a refused withdrawal may be asked for again then, under its key."""
    await post(client, "/v1/customers/c/wallet/deposit", {"amount": "10"})
    asked = {"customer": "c", "amount": "7", "hold_id": "h"}
    hold = await known(lambda: client.post("/v1/holds", json=asked))
    assert hold.status_code in (200, 201), hold.text
    out = {"amount": "5"}
    assert (await post(client, "/v1/customers/c/wallet/withdraw", out, key="k")).status_code == 402
    found = await wallet(client, "c")
    assert (found["balance"], found["held"], found["available"]) == ("10", "7", "3")
    assert (await post(client, "/v1/customers/c/wallet/withdraw", {"amount": "3"}, key="other")).status_code == 200
    assert (await client.post("/v1/holds/h/release", json={})).status_code == 200
    assert (await post(client, "/v1/customers/c/wallet/withdraw", out, key="k")).json()["balance_after"] == "2"
    found = await wallet(client, "c")
    assert (found["balance"], found["held"], found["available"]) == ("2", "0", "2")
    assert served.reconcile() == (0, {})


async def test_a_deleted_user_has_no_hold_and_no_money_left(
    served: Served, client: httpx.AsyncClient, tenant: str
) -> None:
    """Open holds are released with it, what was paid goes back, its open order ends; no more is held or ordered."""
    await post(client, "/v1/customers/c/wallet/deposit", {"amount": "10"})
    order = (await post(client, "/v1/orders", {"customer": "c", "total_amount": "20"})).json()
    for name in ("one", "two"):
        asked = {"customer": "c", "amount": "4", "hold_id": name}
        held = await known(lambda asked=asked: client.post("/v1/holds", json=asked))  # type: ignore[misc]
        assert held.status_code in (200, 201), held.text
    served.send([events(tenant, about="user.deleted", more={"user_id": "c"})])
    served.await_outcomes(tenant, 4)
    for name in ("one", "two"):
        assert (await client.get(f"/v1/holds/{name}")).json()["state"] == "released"
    found = await wallet(client, "c")
    assert (found["balance"], found["held"]) == ("0", "0")
    assert (await client.get(f"/v1/orders/{order['order_id']}")).json()["status"] == "canceled"
    assert (await client.get("/v1/customers/c")).json()["closed_at"] is not None
    late = await client.post("/v1/holds", json={"customer": "c", "amount": "1", "hold_id": "late"})
    assert late.status_code in (402, 409), late.text
    assert (await post(client, "/v1/orders", {"customer": "c", "total_amount": "20"})).status_code == 409
    assert served.reconcile() == (0, {})


async def test_transfers_sum_to_zero_whoever_sends(served: Served, client: httpx.AsyncClient, tenant: str) -> None:
    """A round of transfers among customers of many partitions: nothing is made, nothing lost."""
    names = [f"t-{number}" for number in range(8)]
    for name in names:
        await post(client, f"/v1/customers/{name}/credits", {"amount": "10", "credit_id": f"of-{name}"})
    answers = await asyncio.gather(
        *(
            post(client, f"/v1/customers/{one}/wallet/transfer", {"to_customer": other, "amount": "0.1"})
            for one in names
            for other in names
            if one != other
        )
    )
    assert {answer.status_code for answer in answers} == {200}

    def sums() -> list[str]:
        return [amount for _, kind, amount in ledger(served, tenant) if kind.startswith("transfer")]

    until(lambda: len(sums()) == 2 * len(answers))
    assert sorted(sums()).count("0.1") == sorted(sums()).count("-0.1") == len(answers)
    assert {(await wallet(client, name))["balance"] for name in names} == {"10"}
    assert served.reconcile() == (0, {})


async def test_an_order_on_the_real_parts(served: Served, client: httpx.AsyncClient, tenant: str) -> None:
    """Ordered over HTTP, paid by an event of the payment service, told of on billing.events, refunded over HTTP."""
    async with reading(served, BILLING_EVENTS) as told:
        await _order_and_refund(served, client, tenant)
        types: list[str] = []
        for _ in range(300):  # an answer comes a moment before what its transaction told is read
            types += [one["type"] for one in map(json.loads, await values(told)) if one["tenantid"] == tenant]
            if "order.refunded" in types:
                break
            await asyncio.sleep(0.1)
    for name in ("order.created", "order.completed", "order.fulfilled", "order.refunded", "payment.completed"):
        assert types.count(name) == 1, types
    assert served.reconcile() == (0, {})


async def _order_and_refund(served: Served, client: httpx.AsyncClient, tenant: str) -> None:
    order = (await post(client, "/v1/orders", {"customer": "c", "total_amount": "20", "credit_amount": "25"})).json()
    path = f"/v1/orders/{order['order_id']}"
    assert order["status"] == "payment_pending"
    paid = {"payment_id": "ch-1", "payment_intent_id": order["payment_intent_id"], "amount": "20", "currency": "USD"}
    served.send([events(tenant, about="payment.completed", more=paid) for _ in range(2)])
    served.await_outcomes(tenant, 3)
    found = (await client.get(path)).json()
    assert (found["status"], (await wallet(client, "c"))["balance"]) == ("fulfilled", "25")
    until(lambda: len(served.ask("SELECT 1 FROM tollgate.documents WHERE tenant = {t:String}", t=tenant)) >= 4)
    assert [one["order_id"] for one in (await client.get("/v1/orders?status=fulfilled")).json()["data"]] == [
        order["order_id"]
    ]
    refunded = await post(client, f"{path}/refund", {})
    assert (refunded.status_code, refunded.json()["status"]) == (200, "refunded")
    assert (await wallet(client, "c"))["balance"] == "0"


async def test_nothing_is_written_for_a_request_that_is_refused(
    client: httpx.AsyncClient, served: Served, tenant: str
) -> None:
    """No key, no amount, no right: account.events has no record of it."""
    async with reading(served, ACCOUNT_EVENTS) as written:
        assert (await client.post("/v1/customers/c/wallet/deposit", json={"amount": "1"})).status_code == 428
        assert (await post(client, "/v1/customers/c/wallet/deposit", {"amount": 1})).status_code == 422
        assert (await post(client, "/v1/orders/never/cancel", {})).status_code == 404
        assert (await client.get("/v1/operations/never")).status_code == 404
        assert [value for value in await values(written) if tenant.encode() in value] == []
