"""What the API asks, on a real ClickHouse with rows whose sums are known: pages, groups, windows, other tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.queries import Query
from api.rows import ClickHouseRows
from api.server import assemble
from api.tokens import TokenFile
from backing import launch
from schemas.errors import InvariantBroken, Unavailable
from tests.deployment import settings_in

TENANT = "acme \t\\ 'ü"
"""A name that would break any query it stood in."""

CUSTOMER = "c/1'"
HOUR = 3_600_000_000
START = 1_795_168_800_000_000
"""2026-11-20T10:00:00Z"""


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ClickHouse of its own, since what is written here never went through a ledger."""
    settings = settings_in(tmp_path_factory.mktemp("clickhouse"))
    try:
        url = launch.up(settings, backend="native", only=("clickhouse",)).clickhouse_url
        assert url is not None
        asyncio.run(fill(url))
        yield url
    finally:
        launch.down(settings, purge=True)


async def fill(url: str) -> None:
    """Ten rated events an hour apart, two at a time, each with two charges and two movements; one dead letter."""
    rows = ClickHouseRows(url)
    for tenant in (TENANT, "globex"):
        await rows.execute(
            Query(
                """INSERT INTO tollgate.ledger_entries
    (partition, block_seq, seq, ledger_id, topic, offset, outcome, tenant, customer, source, event_id, event_type,
     occurred_at, received_at, rated_at, user_id,
     charge.meter, charge.price_id, charge.catalog_version, charge.unit_amount, charge.currency, charge.dimensions,
     charge.quantity_units, charge.quantity_nanos, charge.amount,
     posting.kind, posting.amount, posting.balance_after, posting.currency, posting.cause)
SELECT 1, 0, number, 'l', 'usage.events', number, if(number = 9, 'duplicate', 'rated'), {tenant:String},
    {customer:String}, 's/s', if(number = 9, '8', toString(number)), 't',
    fromUnixTimestamp64Micro({start:Int64} + intDiv(number, 2) * 3600000000), now64(6), now64(6), 'u',
    if(number = 9, [], ['m', 'n']), if(number = 9, [], ['p', '']), if(number = 9, [], [1, 1]),
    if(number = 9, [], ['0.1', '']), if(number = 9, [], ['USD', 'USD']),
    if(number = 9, [], [map('model', if(number % 2 = 0, 'even', 'odd')), map()]),
    if(number = 9, [], [1000, -1]), if(number = 9, [], [0, 500000000]), if(number = 9, [], [9000000000000000001, 0]),
    if(number = 9, [], ['grant', 'charge']), if(number = 9, [], [1, -2]), if(number = 9, [], [1, -1]),
    if(number = 9, [], ['USD', 'USD']), if(number = 9, [], ['g', ''])
FROM numbers(10)""",
                {"tenant": tenant, "customer": CUSTOMER, "start": START},
            )
        )
        await rows.execute(
            Query(
                """INSERT INTO tollgate.dead_letter_records
    (topic, partition, offset, tenant, reason, detail, original, received_at)
VALUES ('usage.events', {partition:UInt16}, 7, {tenant:String}, 'not_json', 'no', unhex('ff00'), now64(6))""",
                {"tenant": tenant, "partition": int(tenant == TENANT)},
            )
        )
    await rows.close()


@pytest.fixture
async def client(clickhouse: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The API's real parts, of which none but the rows is asked for anything."""
    settings = settings_in(tmp_path)
    _, token = TokenFile(settings.tokens_file).issue(TENANT, (), None, 0)
    parts = assemble(settings, "127.0.0.1:1", "redis://127.0.0.1:1", clickhouse)
    headers = {"X-Service-Token": token}
    transport = httpx.ASGITransport(create_app(parts))
    async with httpx.AsyncClient(transport=transport, base_url="http://tollgate", headers=headers) as client:
        yield client
    await parts.rows.close()


async def everything(client: httpx.AsyncClient, path: str, limit: int) -> list[dict[str, Any]]:
    """All pages of a listing."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        joined = "&" if "?" in path else "?"
        response = await client.get(f"{path}{joined}limit={limit}{cursor}")
        assert response.status_code == 200, response.text
        page = response.json()
        assert len(page["data"]) <= limit
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


C = "/v1/customers/c%2F1'"


@pytest.mark.parametrize("path", ["/v1/events", f"{C}/charges", f"{C}/ledger", f"{C}/usage?window=hour&group_by=model"])
async def test_pages_of_any_size_are_the_whole_in_one_order(client: httpx.AsyncClient, path: str) -> None:
    """Ties in time included: nothing is left out, nothing comes twice."""
    whole = await everything(client, path, 1000)
    assert len(whole) > 9
    for limit in (1, 3, 7):
        assert await everything(client, path, limit) == whole


async def test_events_and_what_became_of_one(client: httpx.AsyncClient) -> None:
    """By outcome, by span, and by source and id."""
    assert len(await everything(client, "/v1/events?outcome=duplicate", 5)) == 1
    assert len(await everything(client, f"/v1/events?customer={CUSTOMER}&from=2026-11-20T11:00:00Z", 5)) == 8
    assert len(await everything(client, "/v1/events?to=2026-11-20T11:00:00Z", 5)) == 2
    assert await everything(client, "/v1/events?customer=nobody", 5) == []
    event = (await client.get("/v1/events/s%2Fs/8")).json()
    assert (event["outcome"], [each["outcome"] for each in event["records"]]) == ("rated", ["rated", "duplicate"])
    assert event["charges"][0]["amount"] == "9000000000.000000001"
    assert event["charges"][1]["quantity"] == "-0.5"
    assert (await client.get("/v1/events/s%2Fs/99")).status_code == 404


async def test_sums_do_not_wrap_and_windows_are_utc(client: httpx.AsyncClient) -> None:
    """Nine charges of 9e18 nanos are beyond 64 bit; groups and windows add up to the same."""
    total = {"m": "81000000000.000000009", "n": "0"}
    for window in ("minute", "hour", "day", "week", "month"):
        rows = await everything(client, f"{C}/usage?window={window}", 1000)
        assert {row["window_start"] for row in rows} >= {
            "minute": {"2026-11-20T10:00:00Z"},
            "hour": {"2026-11-20T14:00:00Z"},
            "day": {"2026-11-20T00:00:00Z"},
            "week": {"2026-11-16T00:00:00Z"},
            "month": {"2026-11-01T00:00:00Z"},
        }[window]
    rows = await everything(client, f"{C}/usage", 1000)
    assert {row["meter"]: row["amount"] for row in rows} == total
    assert {row["meter"]: (row["quantity"], row["events"]) for row in rows} == {"m": ("9000", 9), "n": ("-4.5", 9)}
    grouped = await everything(client, f"{C}/usage?group_by=model,user_id&period=2026-11", 1000)
    assert [(row["meter"], row["dimensions"], row["events"]) for row in grouped] == [
        ("m", {"model": "even", "user_id": "u"}, 5),
        ("m", {"model": "odd", "user_id": "u"}, 4),
        ("n", {"model": "", "user_id": "u"}, 9),
    ]
    assert await everything(client, f"{C}/usage?period=2026-12", 10) == []
    assert await everything(client, f"{C}/charges?meter=none", 10) == []


async def test_movements_are_in_the_ledgers_order(client: httpx.AsyncClient) -> None:
    """Two of one entry keep their order; one kind alone can be asked for."""
    movements = await everything(client, f"{C}/ledger", 4)
    assert [each["kind"] for each in movements[:4]] == ["grant", "charge", "grant", "charge"]
    assert movements[1]["amount"] == "-0.000000002"
    assert {each["kind"] for each in await everything(client, f"{C}/ledger?kind=grant", 4)} == {"grant"}


async def test_a_dead_letter_is_there_byte_for_byte_and_no_other_tenants(client: httpx.AsyncClient) -> None:
    """Bytes that are no text come as base64."""
    assert [each["id"] for each in await everything(client, "/v1/dead-letters", 5)] == ["usage.events-1-7"]
    answer = (await client.get("/v1/dead-letters/usage.events-1-7")).json()
    assert (answer["original"], answer["original_base64"], answer["retried_at"]) == (None, "/wA=", None)
    assert (await client.get("/v1/dead-letters/usage.events-0-7")).status_code == 404


async def test_who_has_rows_is_known_by_them_and_who_has_none_by_redis(client: httpx.AsyncClient) -> None:
    """On every listing. Redis is away here: whether a customer without rows is known cannot be told."""
    for listing in ("usage", "charges", "ledger"):
        assert (await client.get(f"{C}/{listing}?period=1999-01")).json()["data"] == []
        assert (await client.get(f"/v1/customers/nobody/{listing}")).status_code == 503


async def test_errors_of_clickhouse_have_their_remedy(clickhouse: str) -> None:
    """Not there is Unavailable, as is a wrong password; a query it does not understand is our fault."""
    rows, wrong, nowhere = (
        ClickHouseRows(url)
        for url in (clickhouse, clickhouse.replace("tollgate:", "tollgate:x"), "http://default:@127.0.0.1:1")
    )
    try:
        with pytest.raises(InvariantBroken):
            await rows.fetch(Query("SELECT nothing FROM tollgate.ledger_entries", {}))
        for away in (wrong, nowhere):
            with pytest.raises(Unavailable):
                await away.fetch(Query("SELECT 1", {}))
    finally:
        for each in (rows, wrong, nowhere):
            await each.close()
