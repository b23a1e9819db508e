"""The customer object: replaced, merged, listed, and what of it decides."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.documents import Query
from schemas.account import POSTPAID, pack_account
from schemas.account import account_key as key_of
from tests.unit.api.conftest import World

FULL: dict[str, Any] = {
    "name": "Ada",
    "email": "ada@example.org",
    "address": {"line1": "1 Road", "country": "GB"},
    "tax_id": "GB1",
    "tax_rate": "0.2",
    "currency": "USD",
    "timezone": "Europe/London",
    "collection": "postpaid",
    "credit_limit": "100",
    "overdraft": "5.5",
    "auto_topup": {"below": "5", "amount": "20", "cool_off": "30m"},
    "price_overrides": [{"id": "own", "meter": "input_tokens", "model": "per_unit", "unit_amount": "0.1"}],
    "quota_overrides": [{"meter": "input_tokens", "limit": 1000, "window": "month"}],
    "stripe_customer_id": "cus_1",
    "metadata": {"team": "red", "tier": "gold"},
}


async def send(world: World, method: str, body: Any, customer: str = "c", **headers: str) -> httpx.Response:
    all_headers = world.token("wallet:write") | headers
    return await world.client.request(method, f"/v1/customers/{customer}", json=body, headers=all_headers)


async def read(world: World, customer: str = "c", tenant: str = "acme") -> httpx.Response:
    world.accounts.packed = world.commands.partition.told()
    return await world.client.get(f"/v1/customers/{customer}", headers=world.token("usage:read", tenant=tenant))


async def test_all_fields_come_back_as_they_were_sent(world: World) -> None:
    """Put, answered and read alike; another tenant has no such customer."""
    put = await send(world, "PUT", FULL)
    assert put.status_code == 200, put.text
    assert {name: put.json()[name] for name in FULL} == FULL
    assert (await read(world)).json() == put.json()
    assert (await read(world, tenant="other")).status_code == 404
    assert (await read(world, customer="nobody")).status_code == 404


async def test_put_replaces_and_patch_merges(world: World) -> None:
    """What a patch does not name stays, null takes out; what a put does not name is gone."""
    await send(world, "PUT", FULL)
    patched = (await send(world, "PATCH", {"name": "Eve", "tax_id": None, "metadata": {"tier": None, "x": "y"}})).json()
    assert (patched["name"], patched["tax_id"], patched["email"]) == ("Eve", None, "ada@example.org")
    assert patched["metadata"] == {"team": "red", "x": "y"}
    replaced = (await send(world, "PUT", {"name": "Eve"})).json()
    assert (replaced["email"], replaced["collection"], replaced["metadata"]) == (None, "prepaid", {})
    assert replaced["created_at"] == patched["created_at"]
    assert (await send(world, "PATCH", {"name": "x"}, customer="nobody")).status_code == 404


async def test_terms_decide_from_then_on(world: World) -> None:
    """Collection, bounds, top-up and overrides are in the account."""
    await send(world, "PUT", FULL)
    terms = world.commands.partition.of("c", "acme").terms
    assert (terms.collection, terms.credit_limit, terms.overdraft) == (POSTPAID, 100 * 10**9, 5_500_000_000)
    assert (terms.top_up_below, terms.top_up_amount, terms.top_up_cool_off) == (5 * 10**9, 20 * 10**9, 1_800 * 10**6)
    assert b"own" in terms.own


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"tax_rate": 0.2}, "/tax_rate"),
        ({"tax_rate": "101"}, "/tax_rate"),
        ({"credit_limit": "-1"}, "/credit_limit"),
        ({"overdraft": 5}, "/overdraft"),
        ({"timezone": "Mars/Base"}, "/timezone"),
        ({"collection": "later"}, "/collection"),
        ({"nickname": "x"}, "/nickname"),
        ({"auto_topup": {"below": "5", "amount": "0"}}, "/auto_topup/amount"),
        ({"auto_topup": {"below": "5", "amount": "1", "cool_off": "soon"}}, "/auto_topup/cool_off"),
        ({"price_overrides": [{"id": "p", "meter": "input_tokens", "model": "per_unit"}]}, "/price_overrides/0/"),
        ({"metadata": {"a": 1}}, "/metadata"),
    ],
)
async def test_a_field_at_fault_is_named(world: World, body: dict[str, Any], pointer: str) -> None:
    """422 with its pointer; nothing is sent."""
    answer = await send(world, "PUT", body)
    assert answer.status_code == 422, answer.text
    assert any(fault["pointer"].startswith(pointer) for fault in answer.json()["errors"]), answer.text
    assert world.commands.sent == []


async def test_a_customer_that_came_by_an_event_is_there(world: World) -> None:
    """Without a document: what nobody said is null, the currency is its money's."""
    account = world.commands.partition.of("e", "acme")
    account.currency = "EUR"
    world.accounts.packed[key_of("acme", "e")] = pack_account(account)
    answer = await world.client.get("/v1/customers/e", headers=world.token("usage:read"))
    assert (answer.status_code, answer.json()["currency"], answer.json()["name"]) == (200, "EUR", None)


async def test_the_currency_is_fixed_by_the_first_money(world: World) -> None:
    """Free to change before, refused after; money in another than the stated one is refused too."""
    await send(world, "PUT", {"currency": "EUR"})
    deposit = {"json": {"amount": "1", "currency": "USD"}, "headers": world.token() | {"Idempotency-Key": "k"}}
    assert (await world.client.post("/v1/customers/c/wallet/deposit", **deposit)).status_code == 422  # type: ignore[arg-type]
    await send(world, "PUT", {"currency": "USD"})
    assert (await world.client.post("/v1/customers/c/wallet/deposit", **deposit)).status_code == 200  # type: ignore[arg-type]
    assert (await send(world, "PUT", {"currency": "EUR"})).status_code == 422
    assert (await send(world, "PATCH", {"name": "x"})).json()["currency"] == "USD"


async def test_customers_are_listed_by_page(world: World) -> None:
    """With and without a document; the cursor goes on behind the last."""

    def rows(query: Query) -> list[list[Any]]:
        known = [["a", '{"customer":"a","name":"A"}'], ["b", ""], ["c", '{"customer":"c"}']]
        return [row for row in known if row[0] > str(query.parameters["after"])][: int(query.parameters["limit"])]

    world.rows.answer = rows
    headers = world.token("usage:read")
    first = (await world.client.get("/v1/customers?limit=2", headers=headers)).json()
    assert [(one["id"], one["name"]) for one in first["data"]] == [("a", "A"), ("b", None)]
    rest = (await world.client.get(f"/v1/customers?cursor={first['next_cursor']}", headers=headers)).json()
    assert ([one["id"] for one in rest["data"]], rest["next_cursor"]) == (["c"], None)
