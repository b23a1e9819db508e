"""The real traces through every real part, equal to the nano to an auditor that shares no code with the pipeline."""

from __future__ import annotations

import asyncio
import json
import uuid
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

import console.demo
from ingest.traces import CARRIED
from schemas.settings import Settings
from tests.auditor import Sum, TraceAuditor
from tests.deployment import ROOT
from tests.served import Served

GRANT = 250 * 10**9
SHARED = ROOT.parent / "shared" / "data" / "alibaba_gpu_pods_2023.csv"
DEVICES = SHARED if SHARED.exists() else CARRIED["alibaba-gpu"]
"""The whole second trace where it lies beside the checkout, else the excerpt that the project carries."""

CALLS = CARRIED["azure-llm"]
CUSTOMERS, SEED = "300", "11"


@pytest.fixture
def tenant() -> str:
    return f"traces-{uuid.uuid4().hex[:12]}"


def made(served: Served, tenant: str, trace: str, file: Path) -> list[bytes]:
    """`tollgate events from-trace`."""
    options = ("--customers", CUSTOMERS, "--seed", SEED, "--tenant", tenant)
    return served.tollgate("events", "from-trace", trace, str(file), *options).stdout.encode().splitlines()


def grant(tenant: str, customer: str) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"grant-{customer}",
            "source": "test",
            "type": "credit.granted",
            "subject": customer,
            "tenantid": tenant,
            "data": {"user_id": customer, "credit_id": "first", "amount": "250", "currency": "USD"},
        }
    ).encode()


def nanos(value: Decimal) -> int:
    scaled = value.scaleb(9)
    assert scaled == int(scaled)
    return int(scaled)


def test_both_traces_come_out_as_the_auditor_says(services: Settings, tmp_path: Path, tenant: str) -> None:
    """Every call and allocation: quantity, price and amount of each, and every balance in Redis and in the ledger."""
    served = Served(services, tmp_path / "serve.log")
    served.apply(console.demo.CATALOGUE, tenant)
    auditor = TraceAuditor()
    with served.serving("--workers", "2"):
        calls, devices = made(served, tenant, "azure-llm", CALLS), made(served, tenant, "alibaba-gpu", DEVICES)
        auditor.llm_calls(CALLS, calls)
        auditor.devices(DEVICES, devices)
        assert len(calls) == 19_366
        assert len(devices) == (7_255 if DEVICES == SHARED else 274)
        charged = auditor.charged()
        served.send([grant(tenant, customer) for customer in charged])
        served.send(calls + devices)
        assert served.await_outcomes(tenant, auditor.events + len(charged)) == {"rated": auditor.events + len(charged)}
        compare_rows(served, auditor, tenant)
        compare_balances(served, charged, tenant)
        assert served.reconcile() == (0, {})


def compare_rows(served: Served, auditor: TraceAuditor, tenant: str) -> None:
    found = served.ask(
        """
        SELECT event_id, customer, meter, price_id, quantity, amount
        FROM tollgate.rated_usage
        WHERE tenant = {tenant:String}
        """,
        tenant=tenant,
    )
    rows = sorted((*names, nanos(quantity), nanos(amount)) for *names, quantity, amount in found)
    assert rows == sorted(map(tuple, auditor.lines))

    summed = served.ask(
        """
        SELECT customer, meter, price_id, count(), sum(quantity), sum(amount)
        FROM tollgate.rated_usage
        WHERE tenant = {tenant:String}
        GROUP BY customer, meter, price_id
        """,
        tenant=tenant,
    )
    sums = {
        (customer, meter, price_id): Sum(events, nanos(quantity), nanos(amount))
        for customer, meter, price_id, events, quantity, amount in summed
    }
    assert sums == auditor.sums()


def compare_balances(served: Served, charged: dict[str, int], tenant: str) -> None:
    expected = {customer: GRANT - amount for customer, amount in charged.items()}
    posted = served.ask(
        "SELECT customer, sum(amount), argMax(balance_after, seq) FROM tollgate.ledger "
        "WHERE tenant = {tenant:String} GROUP BY customer",
        tenant=tenant,
    )
    assert {customer: nanos(total) for customer, total, _ in posted} == expected
    assert {customer: nanos(last) for customer, _, last in posted} == expected
    assert asyncio.run(balances(served.settings, tenant)) == expected


async def balances(settings: Settings, tenant: str) -> dict[str, int]:
    """What lies in Redis, read past our own code: the third and fifth fields of an account are its customer and
    balance.
    """
    assert settings.redis_url is not None
    redis = Redis.from_url(settings.redis_url)
    try:
        keys = [key async for key in redis.scan_iter(match=f"*:a:*:{tenant}:*", count=1_000)]
        values = [msgspec.msgpack.decode(value) for value in await redis.mget(keys) if isinstance(value, bytes)]
    finally:
        await redis.aclose()
    return {value[2]: value[4] for value in values}
