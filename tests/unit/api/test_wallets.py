"""Wallet routes: what is booked once, what is refused, and what may be asked for again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from schemas.account import Account
from tests.unit.api.conftest import World


async def moved(
    world: World, path: str, body: dict[str, Any], key: str | None = "k", customer: str = "c"
) -> httpx.Response:
    headers = world.token("wallet:write") | ({"Idempotency-Key": key} if key is not None else {})
    return await world.client.post(f"/v1/customers/{customer}/{path}", json=body, headers=headers)


def account(world: World, customer: str = "c") -> Account:
    return world.commands.partition.of(customer, "acme")


async def test_a_deposit_answers_the_ledgers_outcome_and_counts_once(world: World) -> None:
    """The same request under one key is one movement, answered alike; the wallet holds it once."""
    first = await moved(world, "wallet/deposit", {"amount": "12.50", "currency": "USD"})
    assert first.status_code == 200, first.text
    body = first.json()
    assert (body["amount"], body["currency"], body["balance_after"], body["status"]) == ("12.5", "USD", "12.5", "done")
    assert body["entry_id"] == "0-0-0"
    again = await moved(world, "wallet/deposit", {"amount": "12.50", "currency": "USD"})
    assert again.json() == body
    assert account(world).balance == 12_500_000_000


async def test_a_key_that_stands_for_another_request_is_a_conflict(world: World) -> None:
    """Another amount, or another route, under the same key changes nothing; another customer's key is another."""
    await moved(world, "wallet/deposit", {"amount": "5"})
    assert (await moved(world, "wallet/deposit", {"amount": "6"})).status_code == 409
    assert (await moved(world, "wallet/withdraw", {"amount": "5"})).status_code == 409
    assert account(world).balance == 5 * 10**9
    assert (await moved(world, "wallet/deposit", {"amount": "6"}, customer="d")).status_code == 200


@pytest.mark.parametrize("path", ["credits", *(f"wallet/{name}" for name in ("deposit", "consume", "withdraw"))])
async def test_without_a_key_nothing_is_asked_for(world: World, path: str) -> None:
    """428, whatever the body says."""
    answer = await moved(world, path, {"amount": 5}, key=None)
    assert answer.status_code == 428
    assert world.commands.sent == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"amount": 5}, "/amount"),
        ({"amount": "0"}, "/amount"),
        ({"amount": "-1"}, "/amount"),
        ({"amount": "1.0000000001"}, "/amount"),
        ({"currency": "USD"}, "/amount"),
        ({"amount": "1", "currency": "usd"}, "/currency"),
    ],
)
async def test_a_body_that_is_no_amount_is_refused_by_its_field(
    world: World, body: dict[str, Any], pointer: str
) -> None:
    """422, naming the field."""
    answer = await moved(world, "wallet/deposit", body)
    assert answer.status_code == 422, answer.text
    assert world.commands.sent == []
    assert [fault["pointer"].rstrip("/") for fault in answer.json()["errors"]] in ([pointer], [""])


async def test_money_that_is_not_there_is_refused_and_the_key_stays_usable(world: World) -> None:
    """402, nothing is booked; after a deposit the same key does what it asked for."""
    answer = await moved(world, "wallet/withdraw", {"amount": "5"}, key="out")
    assert (answer.status_code, answer.json()["type"]) == (402, "urn:tollgate:problem:insufficient_funds")
    await moved(world, "wallet/deposit", {"amount": "5", "currency": "USD"})
    answer = await moved(world, "wallet/withdraw", {"amount": "5"}, key="out")
    assert (answer.status_code, answer.json()["balance_after"]) == (200, "0")
    assert (await moved(world, "wallet/withdraw", {"amount": "5"}, key="out")).json() == answer.json()
    assert account(world).balance == 0


async def test_promotional_credit_is_spent_and_never_taken_out(world: World) -> None:
    """It pays for what is consumed, and no withdrawal, refund or transfer has it."""
    await moved(world, "credits", {"amount": "5", "currency": "USD", "kind": "promotional"}, key="a")
    await moved(world, "wallet/deposit", {"amount": "2"}, key="b")
    for path, more in (("withdraw", {}), ("refund", {}), ("transfer", {"to_customer": "d"})):
        assert (await moved(world, f"wallet/{path}", {"amount": "3", **more}, key=path)).status_code == 402
    assert (await moved(world, "wallet/consume", {"amount": "6"}, key="use")).json()["balance_after"] == "1"
    assert (await moved(world, "wallet/consume", {"amount": "2"}, key="more")).status_code == 402


async def test_a_transfer_takes_from_one_and_gives_to_the_other(world: World) -> None:
    """Both legs are booked, they sum to zero; to oneself there is none."""
    await moved(world, "wallet/deposit", {"amount": "10", "currency": "USD"}, key="a")
    answer = await moved(world, "wallet/transfer", {"to_customer": "d", "amount": "4"}, key="t")
    assert (answer.status_code, answer.json()["balance_after"], answer.json()["to_customer"]) == (200, "6", "d")
    assert (account(world).balance, account(world, "d").balance) == (6 * 10**9, 4 * 10**9)
    posted = [posting for row in world.commands.partition.rows() for posting in row["postings"]]
    assert sum(one["amount"] for one in posted if one["kind"].startswith("transfer")) == 0
    assert (await moved(world, "wallet/transfer", {"to_customer": "c", "amount": "4"}, key="u")).status_code == 422


async def test_a_transfer_that_cannot_arrive_comes_back(world: World) -> None:
    """A customer with other money takes none of it; the sender has it again."""
    await moved(world, "wallet/deposit", {"amount": "10", "currency": "USD"}, key="a")
    await moved(world, "wallet/deposit", {"amount": "1", "currency": "EUR"}, key="a", customer="d")
    answer = await moved(world, "wallet/transfer", {"to_customer": "d", "amount": "4"}, key="t")
    assert answer.status_code == 200
    assert (account(world).balance, account(world, "d").balance) == (10 * 10**9, 10**9)


async def test_an_outcome_that_is_not_known_in_time_can_be_asked_for(world: World) -> None:
    """202 names the place; there it is answered."""
    world.commands.late = True
    answer = await moved(world, "wallet/deposit", {"amount": "10", "currency": "USD"})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    found = await world.client.get(answer.headers["location"], headers=world.token("usage:read"))
    assert (found.status_code, found.json()["status"], found.json()["result"]["balance_after"]) == (200, "done", "10")
    other = await world.client.get(answer.headers["location"], headers=world.token("usage:read", tenant="other"))
    assert other.status_code == 404


async def test_a_payment_deposited_by_hand_is_not_credited_again(world: World) -> None:
    """Its event later has no effect; a second deposit of it is refused."""
    await moved(world, "wallet/deposit", {"amount": "10", "currency": "USD", "payment_id": "p"})
    assert (await moved(world, "wallet/deposit", {"amount": "10", "payment_id": "p"}, key="l")).status_code == 409
    assert account(world).balance == 10 * 10**9


async def test_an_adjustment_goes_below_only_where_it_says_so(world: World) -> None:
    """Either sign; a negative one beyond the balance is refused unless it is meant."""
    assert (await moved(world, "wallet/adjust", {"amount": "3", "currency": "USD"}, key="a")).status_code == 200
    assert (await moved(world, "wallet/adjust", {"amount": "-4"}, key="b")).status_code == 402
    answer = await moved(world, "wallet/adjust", {"amount": "-4", "allow_negative": True}, key="c")
    assert answer.json()["balance_after"] == "-1"
