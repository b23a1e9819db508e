"""What the device scheduler asks and tells."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from schemas.account import Account, account_key, new_account, pack_account
from tests.unit.api.conftest import World

REPORT: dict[str, Any] = {
    "deviceId": "d-1",
    "userId": "u-1",
    "allocationId": "a-1",
    "durationSeconds": 5400,
    "cpuCores": 4,
    "memoryMB": 8192,
    "storageMB": 20480,
    "allocatedAt": "2026-11-20T10:00:00Z",
    "releasedAt": "2026-11-20T11:30:00Z",
}
ONE = "/api/internal/metering/device-usage"
BATCH = f"{ONE}/batch"


async def test_a_report_is_answered_once_kafka_has_it(world: World) -> None:
    """200, and the event is in usage.events under its customer; while Kafka is away 503 and the same again."""
    headers = {"X-Service-Token": world.token("events:write")["Authorization"].removeprefix("Bearer ")}
    world.publisher.away = True
    assert (await world.client.post(ONE, json=REPORT, headers=headers)).status_code == 503
    world.publisher.away = False
    response = await world.client.post(ONE, json=REPORT, headers=headers)
    assert (response.status_code, response.json()) == (200, {"success": True, "allocationId": "a-1"})
    (record,) = world.publisher.records
    sent = json.loads(record.value)
    assert (record.topic, record.key) == ("usage.events", b"u-1")
    assert (sent["source"], sent["id"], sent["tenantid"]) == ("device-scheduler", "a-1", "acme")


async def test_a_report_at_fault_is_refused_with_its_field(world: World) -> None:
    """422 by pointer, 403 for another tenant, 400 for what is not JSON, 415 and 403 as everywhere."""
    headers = world.token("events:write")
    response = await world.client.post(ONE, json={**REPORT, "cpuCores": "4"}, headers=headers)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/cpuCores")
    response = await world.client.post(ONE, json={**REPORT, "tenantId": "globex"}, headers=headers)
    assert (response.status_code, response.json()["type"]) == (403, "urn:tollgate:problem:tenant_mismatch")
    as_json = {**headers, "Content-Type": "application/json"}
    assert (await world.client.post(ONE, content=b"{", headers=as_json)).status_code == 400
    assert (await world.client.post(ONE, content=b"[]", headers=as_json)).status_code == 422
    assert (await world.client.post(ONE, content=b"x", headers=headers)).status_code == 415
    assert (await world.client.post(ONE, json=REPORT, headers=world.token("usage:read"))).status_code == 403
    assert world.publisher.records == []


async def test_a_batch_takes_what_it_can_and_names_the_rest(world: World) -> None:
    """Counts and errors add up to what was sent."""
    headers = world.token("events:write")
    reports = [REPORT, {**REPORT, "allocationId": "a-2", "cpuCores": -1}, {**REPORT, "allocationId": "a-3"}, 7]
    response = await world.client.post(BATCH, json=reports, headers=headers)
    body = response.json()
    assert (response.status_code, body["success"], body["failed"]) == (200, 2, 2)
    assert [(error["index"], error["allocationId"], error["reason"]) for error in body["errors"]] == [
        (1, "a-2", "out_of_range"),
        (3, None, "not_json"),
    ]
    assert body["errors"][0]["pointer"] == "/1/cpuCores"
    assert [json.loads(record.value)["id"] for record in world.publisher.records] == ["a-1", "a-3"]


async def test_a_batch_is_an_array_of_a_thousand_at_most(world: World) -> None:
    """An empty one is nothing; an object is 422, more than a thousand 413."""
    headers = world.token("events:write")
    response = await world.client.post(BATCH, json=[], headers=headers)
    assert (response.status_code, response.json()) == (200, {"success": 0, "failed": 0, "errors": []})
    assert (await world.client.post(BATCH, json=REPORT, headers=headers)).status_code == 422
    assert (await world.client.post(BATCH, json=[REPORT] * 1001, headers=headers)).status_code == 413
    world.publisher.away = True
    assert (await world.client.post(BATCH, json=[REPORT], headers=headers)).status_code == 503


def wallet(balance: int) -> bytes:
    account: Account = new_account("acme", "u/1")
    account.currency, account.balance = "USD", balance
    return pack_account(account)


@pytest.mark.parametrize(
    ("nanos", "has", "number", "text"),
    [
        (2**53 + 1, True, b"9007199.254740993", "9007199.254740993"),
        (1, True, b"0.000000001", "0.000000001"),
        (12_500_000_000, True, b"12.5", "12.5"),
        (0, False, b"0", "0"),
        (-1_000_000_000, False, b"-1", "-1"),
    ],
)
async def test_a_balance_is_a_number_with_the_digits_of_its_text(
    world: World, nanos: int, has: bool, number: bytes, text: str
) -> None:
    """Also where a double has not enough of them."""
    world.accounts.packed[account_key("acme", "u/1")] = wallet(nanos)
    response = await world.client.get("/api/internal/balance/user/u%2F1", headers=world.token("quota:check"))
    assert response.status_code == 200
    body = json.loads(response.content, parse_float=str, parse_int=str)
    assert set(body) == {"hasBalance", "balance", "balanceText", "reason"}
    assert (body["hasBalance"], body["balanceText"]) == (has, text)
    assert float(body["balance"]) == float(text)
    assert body["balance"].encode() == number
    assert body["reason"] == (None if has else "wallet")


async def test_an_unknown_user_has_no_balance(world: World) -> None:
    """Nor has another tenant's, which is the same to whoever asks."""
    world.accounts.packed[account_key("acme", "u")] = wallet(1)
    for user, headers in (("nobody", world.token()), ("u", world.token(tenant="globex"))):
        response = await world.client.get(f"/api/internal/balance/user/{user}", headers=headers)
        assert (response.status_code, response.json()) == (
            200,
            {"hasBalance": False, "balance": 0, "balanceText": "0", "reason": "unknown_user"},
        )


async def test_in_trouble_it_answers_as_it_is_set(world: World) -> None:
    """Deny by default; allow if an operator prefers that."""
    world.accounts.away = True
    denied = await world.client.get("/api/internal/balance/user/u", headers=world.token())
    assert (denied.status_code, denied.json()["hasBalance"], denied.json()["reason"]) == (200, False, "unavailable")
    application = world.app.state.application
    application.parts = dataclasses.replace(application.parts, admission_on_error="allow")
    allowed = (await world.client.get("/api/internal/balance/user/u", headers=world.token())).json()
    assert (allowed["hasBalance"], allowed["balance"]) == (True, 0)


async def test_a_users_usage_item_by_item(world: World) -> None:
    """With totals by currency; a user without usage is 404, a known one with nothing in the span is not."""
    world.rows.answer = lambda query: [
        ["core_seconds", "cs", "0.01", "USD", "5400", "54.000000001", "1"],
        ["gb_hours", "", "", "USD", "12.5", "0", "1"],
    ]
    response = await world.client.get("/metering/users/u-1?period=2026-11", headers=world.token())
    assert response.json() == {
        "userId": "u-1",
        "items": [
            {"meter": "core_seconds", "priceId": "cs", "unitAmount": "0.01", "quantity": "5400",
             "amount": "54.000000001", "currency": "USD", "events": 1},
            {"meter": "gb_hours", "priceId": "", "unitAmount": None, "quantity": "12.5", "amount": "0",
             "currency": "USD", "events": 1},
        ],
        "totals": {"USD": "54.000000001"},
    }  # fmt: skip
    assert world.rows.asked[-1].parameters["tenant"] == "acme"
    world.rows.answer = lambda query: []
    assert (await world.client.get("/metering/users/nobody", headers=world.token())).status_code == 404
    world.rows.answer = lambda query: [[1]] if query.sql.startswith("SELECT 1") else []
    assert (await world.client.get("/metering/users/u-1", headers=world.token())).json()["items"] == []
