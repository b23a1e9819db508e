from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from api.queries import Query
from schemas.event import decode
from tests.unit.api.conftest import NOW, World

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "chat",
    "type": "session.tokens_used",
    "subject": "cust-42",
    "data": {"session_id": "s", "model": "gpt-4o", "input_tokens": 1200, "output_tokens": 340},
}
ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


async def send(world: World, body: Any, media_type: str = ONE, **token: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {**world.token(**token), "Content-Type": media_type}
    return await world.client.post("/v1/events", headers=headers, content=content)


async def test_one_event_is_accepted_once_kafka_has_it(world: World) -> None:
    """202, the record keyed by its customer, its tenant the token's, its own bytes untouched."""
    for media_type in (ONE, "application/json"):
        response = await send(world, EVENT, media_type)
        assert (response.status_code, response.json()) == (202, {"accepted": 1, "rejected": []})
    record = world.publisher.records[0]
    assert (record.topic, record.key) == ("usage.events", b"cust-42")
    assert decode(record.value, NOW, 0).tenant == "acme"
    assert record.value.startswith(json.dumps(EVENT).encode()[:-1])


async def test_account_events_go_to_their_own_topic(world: World) -> None:
    """The type says which topic."""
    grant = {**EVENT, "type": "credit.granted", "data": {"credit_id": "c", "amount": "5", "currency": "USD"}}
    assert (await send(world, grant)).status_code == 202
    assert world.publisher.records[0].topic == "account.events"


async def test_account_events_need_the_scope_of_wallets(world: World) -> None:
    """Whoever may write usage may not grant credit: 403 alone, rejected in a batch, and nothing of it is sent."""
    grant = {**EVENT, "type": "credit.granted", "data": {"credit_id": "c", "amount": "5", "currency": "USD"}}
    headers = {**world.token("events:write"), "Content-Type": ONE}
    response = await world.client.post("/v1/events", headers=headers, json=grant)
    assert (response.status_code, response.json()["type"]) == (403, "urn:tollgate:problem:missing_scope")
    headers["Content-Type"] = BATCH
    response = await world.client.post("/v1/events", headers=headers, json=[grant, EVENT])
    assert response.json()["accepted"] == 1
    assert [(each["index"], each["reason"]) for each in response.json()["rejected"]] == [(0, "missing_scope")]
    assert [record.topic for record in world.publisher.records] == ["usage.events"]
    assert (await send(world, grant)).status_code == 202


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"type": "tollgate.wallet.deposit"}, "unknown_type"),
        ({"type": "tollgate.invoice.paid", "source": "tollgate"}, "unknown_type"),
        ({"source": "tollgate"}, "out_of_range"),
    ],
)
async def test_nobody_sends_commands_of_ours(world: World, changed: dict[str, str], reason: str) -> None:
    """Neither with a token of all scopes, nor by an event that takes a command's identity."""
    response = await send(world, {**EVENT, **changed})
    assert (response.status_code, response.json()["errors"][0]["reason"]) == (422, reason)
    assert world.publisher.records == []


async def test_a_batch_says_which_of_its_events_are_refused_and_why(world: World) -> None:
    """The good ones are taken, the others named by their index."""
    other = {**EVENT, "tenantid": "globex"}
    batch = [EVENT, {**EVENT, "data": {}}, other, 5, {**EVENT, "id": "e-2", "tenantid": "acme"}]
    response = await send(world, batch, BATCH)
    assert response.status_code == 202
    assert response.json()["accepted"] == 2 == len(world.publisher.records)
    refused = [(each["index"], each["reason"]) for each in response.json()["rejected"]]
    assert refused == [(1, "missing_field"), (2, "tenant_mismatch"), (3, "not_json")]


async def test_a_thousand_events_are_a_batch_and_one_more_is_too_large(world: World) -> None:
    """The bound is on events, too."""
    assert (await send(world, [EVENT] * 1000, BATCH)).json()["accepted"] == 1000
    assert (await send(world, [EVENT] * 1001, BATCH)).status_code == 413
    assert (await send(world, [], BATCH)).json() == {"accepted": 0, "rejected": []}


@pytest.mark.parametrize(
    ("body", "media_type", "status", "reason"),
    [
        (b"", ONE, 400, "empty"),
        (b"{", ONE, 400, "not_json"),
        (b'{"a": NaN}', ONE, 400, "not_json"),
        (b'{"a": "\xff"}', ONE, 400, "bad_encoding"),
        (b"[]", ONE, 422, "wrong_type"),
        (b"7", ONE, 422, "wrong_type"),
        (b"{}", ONE, 422, "missing_field"),
        (b"[" * 40 + b"]" * 40, ONE, 422, "too_deep"),
        (json.dumps({**EVENT, "specversion": "0.3"}).encode(), ONE, 422, "wrong_type"),
        (json.dumps({**EVENT, "time": "yesterday"}).encode(), ONE, 422, "bad_time"),
        (json.dumps({**EVENT, "data": {"x": "y" * 256_000}}).encode(), ONE, 422, "too_large"),
        (json.dumps({**EVENT, "tenantid": "globex"}).encode(), ONE, 403, "tenant_mismatch"),
        (b"{}", BATCH, 422, "wrong_type"),
        (b"[", BATCH, 400, "not_json"),
        (b"[" * 100_000, BATCH, 400, "not_json"),
    ],
)
async def test_a_bad_event_alone_is_a_problem(
    world: World, body: bytes, media_type: str, status: int, reason: str
) -> None:
    """What is no JSON is 400, what is not valid 422, another tenant's 403; nothing is published."""
    response = await send(world, body, media_type)
    assert response.headers["content-type"] == "application/problem+json"
    answer = response.json()
    if body == b"[" * 100_000:  # a parser may call it either, but never fall over it
        assert response.status_code in (400, 422)
        return
    assert (response.status_code, answer["status"]) == (status, status), answer
    assert answer["errors"][0]["reason"] == reason
    assert not world.publisher.records


async def test_the_default_tenants_events_stay_as_they_are(world: World) -> None:
    """An event without a tenant is the default tenant's; nothing is added where nothing is needed."""
    await send(world, EVENT, tenant="default")
    assert world.publisher.records[0].value == json.dumps(EVENT).encode()


async def test_nothing_in_an_event_can_outdo_the_tokens_tenant(world: World) -> None:
    """A null, or a name given twice, does not hide the tenant that is written in."""
    raw = json.dumps(EVENT).encode()
    await send(world, raw[:-1] + b',"tenantid":null}')
    await send(world, raw[:-1] + b',"tenantid":"globex","tenantid":null}')
    assert {decode(record.value, NOW, 0).tenant for record in world.publisher.records} == {"acme"}


async def test_kafka_away_is_503_and_when_to_come_again(world: World) -> None:
    """Nothing is acknowledged that Kafka does not have."""
    world.publisher.away = True
    response = await send(world, EVENT)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


def entry(event_id: str, outcome: str, reason: str, seq: int, *, customer: str = "cust-42") -> list[Any]:
    charges = [["input_tokens"], ["p"], [1], ["0.0000025"], ["USD"], [{"model": "gpt-4o"}], [1200], [0], [3000000]]
    rated = charges if outcome == "rated" else [[] for _ in charges]
    return [NOW, 3, seq, "usage.events", 40 + seq, outcome, reason, customer, "chat", event_id, "session.tokens_used",
            NOW + 1, NOW + 2, *rated]  # fmt: skip


async def test_an_event_tells_what_became_of_it(world: World) -> None:
    """Outcome, charges, and every record that named it."""
    world.rows.answer = lambda query: [entry("e-1", "rated", "", 5), entry("e-1", "duplicate", "same_identity", 9)]
    response = await world.client.get("/v1/events/chat/e-1", headers=world.token())
    assert response.status_code == 200
    answer = response.json()
    assert (answer["outcome"], answer["reason"], answer["seq"]) == ("rated", None, 5)
    assert answer["charges"] == [
        {
            "charge_id": "3-5-0",
            "meter": "input_tokens",
            "quantity": "1200",
            "price_id": "p",
            "catalog_version": 1,
            "unit_amount": "0.0000025",
            "amount": "0.003",
            "currency": "USD",
            "dimensions": {"model": "gpt-4o"},
        }
    ]
    assert [(each["outcome"], each["reason"]) for each in answer["records"]] == [
        ("rated", None),
        ("duplicate", "same_identity"),
    ]


async def test_an_event_that_is_not_there_or_not_yours_is_404(world: World) -> None:
    """The question itself names the token's tenant, so that the two cannot be told apart."""
    response = await world.client.get("/v1/events/chat/e-1", headers=world.token(tenant="globex"))
    assert response.status_code == 404
    assert world.rows.asked[0].parameters["tenant"] == "globex"


@pytest.mark.parametrize(
    ("path", "source", "event_id"),
    [
        ("chat/e-1", "chat", "e-1"),
        ("https%3A%2F%2Fexample.com%2Fa/e-1", "https://example.com/a", "e-1"),
        ("/sensors/a/e-1", "/sensors/a", "e-1"),
        ("a%2Fb/c%2Fd", "a/b", "c/d"),
        ("a%20b%25/%C3%BC", "a b%", "ü"),
        ("a/%FF", "a", "\ufffd"),
    ],
)
async def test_source_and_id_may_hold_any_character(world: World, path: str, source: str, event_id: str) -> None:
    """Percent-encoded, a slash is part of a name; a source may also have slashes that nobody encoded."""
    await world.client.get(f"/v1/events/{path}", headers=world.token())
    asked = world.rows.asked[0].parameters
    assert (asked["source"], asked["event_id"]) == (source, event_id)


async def test_a_listing_is_paged_by_a_cursor(world: World) -> None:
    """A page of two of three has a cursor; the page behind it has none."""
    rows = [entry(f"e-{seq}", "rated", "", seq) for seq in range(3)]

    def answer(query: Query) -> list[list[Any]]:
        behind = query.parameters.get("after_2", -1)
        return [row for row in rows if row[2] > behind][: int(query.parameters["limit"])]

    world.rows.answer = answer
    headers = world.token()
    first = (await world.client.get("/v1/events?limit=2", headers=headers)).json()
    assert [each["id"] for each in first["data"]] == ["e-0", "e-1"]
    second = (await world.client.get(f"/v1/events?limit=2&cursor={first['next_cursor']}", headers=headers)).json()
    assert [each["id"] for each in second["data"]] == ["e-2"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=x",
        "cursor=%5B%5D",
        "cursor=WyJldmVudHMiLCAxXQ",
        "from=yesterday",
        "to=1969-01-01T00:00:00Z",
        "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z",
        "outcome=lost",
    ],
)
async def test_a_bad_query_names_its_parameter(world: World, query: str) -> None:
    """422, before anything is asked of a store."""
    response = await world.client.get(f"/v1/events?{query}", headers=world.token())
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"].startswith("/query/")
    assert not world.rows.asked


async def test_clickhouse_away_is_503(world: World) -> None:
    """What became of an event cannot be said then, and nothing else is."""
    world.rows.away = True
    for path in ("/v1/events", "/v1/events/a/b"):
        assert (await world.client.get(path, headers=world.token())).status_code == 503
