from __future__ import annotations

from typing import Any

import pytest

from api.queries import Query
from schemas.account import PAID, Account, Grant, account_key, pack_account
from schemas.period import parse_time
from tests.unit.api.conftest import NOW, World

LISTINGS = ("usage", "charges", "ledger")


def wallet(balance: int) -> Account:
    grants = [Grant("g-1", 10_000_000_000, 2_500_000_000, 10, NOW, NOW - 1, PAID, ())]
    return Account(1, "acme", "c/1", "USD", balance, grants, {}, "")


async def test_a_balance_has_the_wallet_and_its_grants(world: World) -> None:
    """Amounts are exact decimal text, also at 2^53 nanos and one more."""
    for balance, text in ((2**53, "9007199.254740992"), (2**53 + 1, "9007199.254740993"), (-1, "-0.000000001")):
        world.accounts.packed[account_key("acme", "c/1")] = pack_account(wallet(balance))
        response = await world.client.get("/v1/customers/c%2F1/balance", headers=world.token())
        assert response.status_code == 200
        assert response.json() == {
            "customer": "c/1",
            "balances": [
                {
                    "currency": "USD",
                    "balance": text,
                    "held": "0",
                    "available": text,
                    "receivable": "0",
                    "grants": [
                        {
                            "credit_id": "g-1",
                            "amount": "10",
                            "remaining": "2.5",
                            "expires_at": "2027-01-15T08:00:00Z",
                            "priority": 10,
                        }
                    ],
                }
            ],
        }


async def test_a_customer_without_money_has_a_balance_of_nothing(world: World) -> None:
    """In the currency that its first money will have."""
    world.accounts.packed[account_key("acme", "c")] = pack_account(Account(1, "acme", "c", "", 0, [], {}, ""))
    response = await world.client.get("/v1/customers/c/balance", headers=world.token())
    (only,) = response.json()["balances"]
    assert (only["currency"], only["balance"], only["available"], only["grants"]) == ("USD", "0", "0", [])


async def test_an_unknown_customer_and_another_tenants_are_both_404(world: World) -> None:
    """Whoever asks cannot tell the two apart."""
    world.accounts.packed[account_key("acme", "c")] = pack_account(wallet(1))
    for path in ("nobody", "c"):
        response = await world.client.get(f"/v1/customers/{path}/balance", headers=world.token(tenant="globex"))
        assert (response.status_code, response.json()["detail"]) == (404, "there is no customer with this id")
    for listing in LISTINGS:
        response = await world.client.get(f"/v1/customers/c/{listing}", headers=world.token(tenant="globex"))
        assert response.status_code == 404
    assert {query.parameters["tenant"] for query in world.rows.asked} == {"globex"}


async def test_a_known_customer_without_rows_has_an_empty_page(world: World) -> None:
    """Nothing in a span is not the same as nobody."""
    world.rows.answer = lambda query: [[1]] if query.sql.startswith("SELECT 1") else []
    for listing in LISTINGS:
        response = await world.client.get(f"/v1/customers/c/{listing}?period=2026-11", headers=world.token())
        assert response.json() == {"customer": "c", "data": [], "next_cursor": None}


async def test_a_customer_is_known_before_its_first_row_is_there(world: World) -> None:
    """ClickHouse is seconds behind: who has an account has an empty page until then, not none."""
    world.accounts.packed[account_key("acme", "c")] = pack_account(wallet(1))
    for listing in LISTINGS:
        response = await world.client.get(f"/v1/customers/c/{listing}", headers=world.token())
        assert (response.status_code, response.json()["data"]) == (200, [])


async def test_redis_away_or_a_partition_unserved_is_503(world: World) -> None:
    """A balance that is not known to be right is not shown."""
    world.accounts.serving = False
    assert (await world.client.get("/v1/customers/c/balance", headers=world.token())).status_code == 503
    world.accounts.away = True
    assert (await world.client.get("/v1/customers/c/balance", headers=world.token())).status_code == 503


async def test_usage_is_grouped_as_asked(world: World) -> None:
    """Dimensions, columns and windows; meter always is one of the groups."""
    start = parse_time("2026-11-20T00:00:00Z")
    world.rows.answer = lambda query: [[str(start), "tokens", "USD", "gpt-4o", "u", "1200.5", "0.003", "2"]]
    path = "/v1/customers/c/usage?period=2026-11&window=day&group_by=model,meter&group_by=user_id"
    response = await world.client.get(path, headers=world.token())
    assert response.json()["data"] == [
        {
            "window_start": "2026-11-20T00:00:00Z",
            "meter": "tokens",
            "dimensions": {"model": "gpt-4o", "user_id": "u"},
            "currency": "USD",
            "quantity": "1200.5",
            "amount": "0.003",
            "events": 2,
        }
    ]
    asked = world.rows.asked[0].parameters
    assert asked["start"] == parse_time("2026-11-01T00:00:00Z")
    assert asked["end"] == parse_time("2026-12-01T00:00:00Z")
    assert asked["group_0"] == "model"


async def test_a_page_of_usage_goes_on_behind_its_last_group(world: World) -> None:
    """The cursor has the whole key, which the next question compares with."""
    row = ["0", "tokens", "USD", "gpt", "1", "1", "1"]
    world.rows.answer = lambda query: [row, row]
    headers = world.token()
    path = "/v1/customers/c/usage?group_by=model&limit=1"
    cursor = (await world.client.get(path, headers=headers)).json()["next_cursor"]
    await world.client.get(f"{path}&cursor={cursor}", headers=headers)
    asked = world.rows.asked[-1].parameters
    assert [asked[f"after_{place}"] for place in range(4)] == [0, "tokens", "USD", "gpt"]
    other = await world.client.get(f"/v1/customers/c/usage?cursor={cursor}", headers=headers)
    assert (other.status_code, other.json()["errors"][0]["reason"]) == (422, "bad_cursor")


@pytest.mark.parametrize(
    "query",
    [
        "window=decade",
        "period=2026-13",
        "period=2026-11&from=2026-11-01T00:00:00Z",
        "group_by=",
        "group_by=a,b,c,d,e,f,g,h,i",
        "from=0",
    ],
)
async def test_a_bad_question_of_usage_is_422(world: World, query: str) -> None:
    """The parameter is named."""
    response = await world.client.get(f"/v1/customers/c/usage?{query}", headers=world.token())
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"].startswith("/query/")


async def test_charges_and_movements_have_their_places(world: World) -> None:
    """Each names the entry of the ledger it stands in."""

    def answer(query: Query) -> list[list[Any]]:
        if "tollgate.ledger\n" in query.sql:
            return [[5, 5, "1-5-0", "charge", "-0.003", "9.997", "USD", NOW, ""]]
        return [[NOW, 1, 5, 2, "usage.events", 7, "chat", "e-1", "t", "", "s-1", "", "", NOW, 1, "tokens", "p", 1,
                 "", "USD", {"model": "m"}, -1, 500_000_000, -3_000_000]]  # fmt: skip

    world.rows.answer = answer
    headers = world.token()
    charge = (await world.client.get("/v1/customers/c/charges", headers=headers)).json()["data"][0]
    assert (charge["charge_id"], charge["quantity"], charge["amount"]) == ("1-5-1", "-0.5", "-0.003")
    assert (charge["user_id"], charge["session_id"], charge["unit_amount"], charge["late"]) == (None, "s-1", None, True)
    movement = (await world.client.get("/v1/customers/c/ledger?kind=charge", headers=headers)).json()["data"][0]
    assert movement == {
        "entry_id": "1-5-0",
        "seq": 5,
        "kind": "charge",
        "amount": "-0.003",
        "balance_after": "9.997",
        "currency": "USD",
        "occurred_at": "2027-01-15T08:00:00Z",
        "cause": "",
    }
