"""Device time on the real parts: a thousand releases, each told three times by two roads, are charged once each."""

from __future__ import annotations

import asyncio
import json
import random
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.publish import Publisher
from schemas.period import SECOND, format_time, parse_time
from schemas.settings import Settings
from streams.accounts.redis import RedisAccounts
from streams.correcting import Corrections
from streams.expiring import expire_allocations
from streams.ledger import partition_count
from tests.deployment import halted, until
from tests.served import Served

RELEASES = 1_000
CUSTOMERS = 40
BATCH = 250
LISTENING = re.compile(r"listening on (http://\S+)")
CATALOG = """\
currency: USD
meters:
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
  - {id: gib_seconds, event_type: device.released, quantity: data.duration_seconds * data.memory_mb / 1024}
prices:
  - {id: core, meter: core_seconds, model: per_unit, unit_amount: "0.00001"}
  - {id: core-dearer, meter: core_seconds, model: per_unit, unit_amount: "0.00002",
     effective_from: 2026-10-15T12:00:00Z}
"""


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("device-time")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving("--workers", "2"):
        yield made


@pytest.fixture
def tenant(served: Served, tmp_path: Path) -> str:
    """A tenant of the test's own, with the catalogue."""
    name = f"devices-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    served.apply(tmp_path / "catalog.yaml", name)
    return name


def client_of(served: Served, tenant: str) -> httpx.AsyncClient:
    """The scheduler's client: `X-Service-Token`, and eight seconds of patience."""
    found = LISTENING.findall(served.log.read_text())
    token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
    patience = httpx.Timeout(8, pool=None)
    return httpx.AsyncClient(base_url=found[-1], headers={"X-Service-Token": token}, timeout=patience)


async def posted(client: httpx.AsyncClient, path: str, body: Any) -> None:
    """Sent as the scheduler does it: up to three times, for what is not answered within its patience."""
    for attempt in range(3):
        await asyncio.sleep(attempt)
        try:
            answer = await client.post(path, json=body)
        except httpx.TimeoutException:
            if attempt == 2:
                raise
            continue
        if answer.status_code != 503 or attempt == 2:
            assert answer.status_code == 200, answer.text
            return


async def balance_of(client: httpx.AsyncClient, user: str) -> Any:
    """Once it can be told."""
    for _ in range(100):
        found = (await client.get(f"/api/internal/balance/user/{user}")).json()
        if found.get("reason") != "unavailable":
            break
        await asyncio.sleep(0.1)
    return found


def report(number: int, chance: random.Random) -> dict[str, Any]:
    """What the scheduler knows of a release."""
    begin = parse_time("2026-11-03T00:00:00Z") + chance.randrange(86_400 * SECOND)
    return {
        "deviceId": f"d-{number % 7}",
        "userId": f"user-{number % CUSTOMERS}",
        "allocationId": f"a-{number}",
        "cpuCores": chance.randrange(1, 65),
        "memoryMB": 1024 * chance.randrange(1, 9),
        "storageMB": 10,
        "allocatedAt": format_time(begin),
        "releasedAt": format_time(begin + chance.randrange(86_400 * SECOND)),
    }


def seconds(told: dict[str, Any]) -> int:
    duration = parse_time(told["releasedAt"]) - parse_time(told["allocatedAt"])
    return duration // SECOND + (duration % SECOND * 2 >= SECOND)


def by_kafka(told: dict[str, Any], tenant: str) -> bytes:
    """The same release as another producer tells it: another source, another id."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"release-of-{told['allocationId']}",
            "source": "device-agent",
            "type": "device.released",
            "subject": told["userId"],
            "tenantid": tenant,
            "time": told["releasedAt"],
            "data": {
                "device_id": told["deviceId"],
                "allocation_id": told["allocationId"],
                "allocated_at": told["allocatedAt"],
                "released_at": told["releasedAt"],
                "cpu_cores": told["cpuCores"],
                "memory_mb": told["memoryMB"],
                "storage_mb": told["storageMB"],
            },
        }
    ).encode()


async def by_http(served: Served, tenant: str, told: list[dict[str, Any]]) -> None:
    """All at once: half of them one by one and all of them in batches, so that each comes by both."""
    async with client_of(served, tenant) as client:
        url = "/api/internal/metering/device-usage"
        spelled = [
            {
                **{name: value for name, value in one.items() if name not in ("allocatedAt", "releasedAt")},
                "startTime": one["allocatedAt"],
                "endTime": one["releasedAt"],
            }
            for one in told
        ]
        places = asyncio.Semaphore(32)  # httpx walks over all that wait for a connection, for each of them

        async def one(path: str, body: Any) -> None:
            async with places:
                await posted(client, path, body)

        sent = [one(url, each) for each in told[::2]]
        sent += [one(f"{url}/batch", spelled[start : start + BATCH]) for start in range(0, len(told), BATCH)]
        await asyncio.gather(*sent)


def test_a_thousand_releases_told_three_times_by_two_roads_are_charged_once_each(served: Served, tenant: str) -> None:
    """To the second: every allocation's quantity is its own seconds times its cores, and the totals are theirs."""
    chance = random.Random(11)
    told = [report(number, chance) for number in range(RELEASES)]
    roads = [by_kafka(one, tenant) for one in told]

    async def at_once() -> None:
        await asyncio.gather(
            by_http(served, tenant, told), asyncio.to_thread(served.send, roads + chance.sample(roads, RELEASES // 2))
        )

    asyncio.run(at_once())
    served.await_outcomes(tenant, 3 * RELEASES)
    until(lambda: served.outcomes(tenant)["rated"] >= RELEASES)
    outcomes = served.outcomes(tenant)
    assert outcomes.keys() == {"rated", "duplicate"}
    assert outcomes["rated"] == RELEASES
    rows = served.ask(
        "SELECT allocation_id, toInt64(sum(quantity)), sum(amount) FROM tollgate.rated_usage "
        "WHERE tenant = {tenant:String} AND meter = 'core_seconds' GROUP BY allocation_id",
        tenant=tenant,
    )
    assert {name: quantity for name, quantity, _ in rows} == {
        one["allocationId"]: seconds(one) * one["cpuCores"] for one in told if seconds(one)
    }
    charged = sum(amount for *_, amount in rows)
    assert charged * 50_000 == sum(seconds(one) * one["cpuCores"] for one in told)


def test_a_lease_over_a_price_change_and_a_months_end_is_exact_with_kills_between(served: Served, tenant: str) -> None:
    """Thirty days with heartbeats, some of them twice, while the workers are killed; then a scheduler's release."""
    begin, end = parse_time("2026-10-05T07:00:00.250Z"), parse_time("2026-11-04T07:00:00.900Z")
    change = parse_time("2026-10-15T12:00:00Z")
    data = {"device_id": "d", "allocation_id": "lease", "cpu_cores": 3, "memory_mb": 2048, "storage_mb": 1}

    def told(kind: str, name: str, at: int, **more: Any) -> bytes:
        envelope = {"specversion": "1.0", "id": name, "source": "agent", "type": kind, "subject": "user-l"}
        body = {**envelope, "tenantid": tenant, "time": format_time(at), "data": {"allocation_id": "lease", **more}}
        return json.dumps(body).encode()

    served.send([told("device.allocated", "a", begin, **{**data, "allocated_at": format_time(begin)})])
    chance = random.Random(3)
    beats = sorted(chance.randrange(begin, end) for _ in range(200))
    sent = 1
    for start in range(0, len(beats), 50):
        some = [told("device.heartbeat", f"b-{at}", at, until=format_time(at)) for at in beats[start : start + 50]]
        served.send([*some, *some[:5]])
        sent += len(some) + 5
        if start in (50, 100):
            served.kill("worker")

    async def release() -> None:
        body = {"deviceId": "d", "userId": "user-l", "allocationId": "lease", "cpuCores": 3, "memoryMB": 2048}
        times = {"storageMB": 1, "allocatedAt": format_time(begin), "releasedAt": format_time(end)}
        async with client_of(served, tenant) as client:
            for _ in range(3):
                answer = await client.post("/api/internal/metering/device-usage", json=body | times)
                assert answer.status_code == 200

    asyncio.run(release())
    outcomes = served.await_outcomes(tenant, sent + 3)
    assert outcomes == {"rated": sent + 1 - 20, "duplicate": 22}
    before = (change - begin + SECOND // 2) // SECOND
    whole = (end - begin + SECOND // 2) // SECOND
    rows = served.ask(
        "SELECT price_id, toInt64(sum(quantity)), toString(sum(amount)) FROM tollgate.rated_usage "
        "WHERE tenant = {tenant:String} AND allocation_id = 'lease' GROUP BY price_id ORDER BY price_id",
        tenant=tenant,
    )
    assert [(price, quantity) for price, quantity, _ in rows] == [
        ("", whole * 2),
        ("core", before * 3),
        ("core-dearer", (whole - before) * 3),
    ]
    assert rows[1][2] == f"{before * 3 / 100_000:.5f}".rstrip("0")
    assert rows[2][2] == f"{(whole - before) * 6 / 100_000:.5f}".rstrip("0")


def test_the_scheduler_may_ask_for_a_balance_and_for_what_was_used(served: Served, tenant: str) -> None:
    """In its own words, from Redis and from ClickHouse."""

    async def ask() -> tuple[Any, Any, Any]:
        async with client_of(served, tenant) as client:
            unknown = await balance_of(client, "nobody")
            told = report(1, random.Random(1))
            assert (await client.post("/api/internal/metering/device-usage", json=told)).status_code == 200
            await asyncio.to_thread(served.await_outcomes, tenant, 1)
            balance = await balance_of(client, told["userId"])
            return unknown, balance, (await client.get(f"/metering/users/{told['userId']}")).json()

    unknown, balance, usage = asyncio.run(ask())
    assert unknown == {"hasBalance": False, "balance": 0, "balanceText": "0", "reason": "unknown_user"}
    amount = usage["totals"]["USD"]
    assert (balance["hasBalance"], balance["balanceText"]) == (False, f"-{amount}")
    assert {item["meter"] for item in usage["items"]} == {"core_seconds", "gib_seconds"}


def test_a_release_that_never_comes_and_a_correction_are_settled_by_the_jobs(served: Served, tenant: str) -> None:
    """An allocation is charged to its expiry, once; an event is taken back and charged as it should have been."""
    settings = served.settings
    bootstrap, clickhouse, redis = settings.kafka_bootstrap, settings.clickhouse_url, settings.redis_url
    assert bootstrap is not None
    assert clickhouse is not None
    assert redis is not None

    def told(kind: str, name: str, data: dict[str, Any]) -> bytes:
        envelope = {"specversion": "1.0", "id": name, "source": "agent", "type": kind, "subject": "user-x"}
        return json.dumps({**envelope, "tenantid": tenant, "time": "2026-11-10T00:00:00Z", "data": data}).encode()

    sizes = {"device_id": "d", "cpu_cores": 2, "memory_mb": 1024, "storage_mb": 1}
    begin = {"allocated_at": "2026-11-10T00:00:00Z"}
    lost = {**sizes, **begin, "allocation_id": "lost", "expires_at": "2026-11-10T01:00:00Z"}
    wrong = {**sizes, **begin, "allocation_id": "wrong", "released_at": "2026-11-10T02:00:00Z"}
    mend = {"source": "agent", "id": "wrong", "reason": "it had one core"}

    async def jobs() -> tuple[int, int]:
        accounts, publisher = RedisAccounts(redis), Publisher(bootstrap)
        corrections = Corrections(clickhouse, publisher.publish)
        now = parse_time("2030-01-01T00:00:00Z")
        try:
            partitions = await partition_count(bootstrap)
            return (
                await expire_allocations(clickhouse, accounts, partitions, publisher.publish, now),
                await corrections.resolve(now),
            )
        finally:
            corrections.close()
            await publisher.close()
            await accounts.close()

    with halted(served.pid("scheduler")):  # which does the same, each in its time
        served.send(
            [
                told("device.allocated", "lost", lost),
                told("device.released", "wrong", wrong),
                told("usage.corrected", "mend", {**mend, "replace": {**wrong, "cpu_cores": 1}}),
            ]
        )
        served.await_outcomes(tenant, 3)
        first = asyncio.run(jobs())
        assert first[0] >= 1
        assert first[1] == 1
        served.await_outcomes(tenant, 5)
        assert asyncio.run(jobs()) == (0, 0)
    rows = served.ask(
        "SELECT toString(sum(quantity)), toString(sum(amount)) FROM tollgate.rated_usage "
        "WHERE tenant = {tenant:String} AND meter = 'core_seconds'",
        tenant=tenant,
    )
    assert rows == [(str(3600 * 2 + 7200), f"{(3600 * 2 + 7200) / 50_000:.3f}")]
    kinds = served.ask(
        "SELECT kind FROM tollgate.ledger WHERE tenant = {tenant:String} ORDER BY seq, entry_id", tenant=tenant
    )
    assert sorted(kind for (kind,) in kinds) == ["charge", "charge", "charge", "correction"]


def test_all_equations_hold(served: Served) -> None:
    """Log, ledger, accounts and rows, after all of the above."""
    until(lambda: served.reconcile()[1] == {}, 60)
