"""The API as a process on real Kafka and Redis: events in, balances out, tokens that come and go, a drain."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.ids import partition_of
from schemas.settings import Settings
from schemas.topics import USAGE_EVENTS
from tests.deployment import Tollgate, end

PATIENCE_SECONDS = 60
LISTENING = re.compile(r"listening on (http://\S+)")
CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
prices:
  - {id: p, meter: input_tokens, model: per_unit, unit_amount: "0.0000025"}
"""


@dataclass
class Api:
    """A running API."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path


def until(reached: Callable[[], Any]) -> Any:
    """What `reached` answers once that is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := reached()):
        assert time.monotonic() < deadline, "it did not come to it in time"
        time.sleep(0.05)
    return answer


def started(tollgate: Tollgate, log: Path) -> Api:
    """An API at a free port; what it writes to standard output goes to `<log>.out`."""
    with log.open("wb") as errors, log.with_suffix(".out").open("wb") as output:
        process = subprocess.Popen(
            tollgate.command("api"),
            env=tollgate.environment | {"TOLLGATE_HTTP_PORT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    found = until(lambda: LISTENING.search(log.read_text()) or process.poll() is not None)
    assert not isinstance(found, bool), log.read_text()
    return Api(process, found[1], log)


@pytest.fixture(scope="module")
def api(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API on the shared services."""
    running = started(Tollgate(services), tmp_path_factory.mktemp("api") / "api.log")
    try:
        yield running
    finally:
        end(running.process)


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex}"


def issued(tollgate: Tollgate, tenant: str, *options: str) -> str:
    return tollgate("token", "issue", "--tenant", tenant, *options).stdout.splitlines()[-1]


@pytest.fixture
async def client(api: Api, tollgate: Tollgate, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token of its own tenant."""
    headers = {"Authorization": f"Bearer {issued(tollgate, tenant)}"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, timeout=30) as client:
        yield client


def event(number: int, customer: str, **changed: Any) -> dict[str, Any]:
    data = {"session_id": "s", "model": "gpt", "input_tokens": 1000 + number, "output_tokens": 1}
    return {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "chat",
        "type": "session.tokens_used",
        "subject": customer,
        "data": data,
        **changed,
    }


async def test_the_four_open_routes_answer_without_a_token(api: Api) -> None:
    """Alive, ready or not, measured and documented."""
    async with httpx.AsyncClient(base_url=api.url) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert ready.status_code in (200, 503)
        assert ready.json()["dependencies"]["kafka"]["ready"]
        assert "tollgate_http_requests_total" in (await client.get("/metrics")).text
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")


async def test_a_running_api_honours_issue_and_revoke_within_two_seconds(
    api: Api, tollgate: Tollgate, tenant: str
) -> None:
    """Neither needs a restart."""
    token = issued(tollgate, tenant, "--scopes", "usage:read", "--expires", "1h")
    token_id = token.split("_")[1]
    async with httpx.AsyncClient(base_url=api.url, headers={"X-Service-Token": token}) as client:
        assert (await client.get("/v1/events")).status_code == 200
        assert (await client.post("/v1/events")).status_code == 403
        tollgate("token", "revoke", token_id)
        await asyncio.sleep(1)
        assert (await client.get("/v1/events")).status_code == 401


async def test_accepted_events_are_in_kafka_as_they_were_sent(
    client: httpx.AsyncClient, services: Settings, tenant: str
) -> None:
    """In their customer's partition, keyed by it, with the token's tenant; a refused one is not there."""
    customer = f"customer-{uuid.uuid4().hex}"
    batch = [event(number, customer) for number in range(999)] + [event(999, customer, tenantid="other")]
    response = await client.post(
        "/v1/events", json=batch, headers={"Content-Type": "application/cloudevents-batch+json"}
    )
    assert response.status_code == 202
    assert response.json()["accepted"] == 999
    assert [(each["index"], each["reason"]) for each in response.json()["rejected"]] == [(999, "tenant_mismatch")]
    place = TopicPartition(USAGE_EVENTS, partition_of(customer, services.partitions))
    consumer = AIOKafkaConsumer(bootstrap_servers=services.kafka_bootstrap, isolation_level="read_committed")
    await consumer.start()
    try:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end_offset = (await consumer.end_offsets([place]))[place]
        values = []
        while await consumer.position(place) < end_offset:
            for record in (await consumer.getmany(place, timeout_ms=1000)).get(place, []):
                values += [json.loads(record.value)] if record.key == customer.encode() else []
    finally:
        await consumer.stop()
    assert values == [{**sent, "tenantid": tenant} for sent in batch[:999]]


async def test_a_catalogue_put_is_the_tenants_own_at_once(client: httpx.AsyncClient, tenant: str) -> None:
    """The answer to PUT and the GET behind it are of the same version."""
    applied = await client.put("/v1/catalog", content=CATALOGUE, headers={"Content-Type": "application/yaml"})
    assert applied.status_code == 200
    shown = (await client.get("/v1/catalog")).json()
    assert (shown["version"], shown["tenant"]) == (applied.json()["version"], tenant)


async def test_a_body_beyond_its_bound_is_cut_in_whatever_way_it_comes(client: httpx.AsyncClient) -> None:
    """Declared or in pieces, with a token or without one, the answer is read by who sent it."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(1024 * 1024)

    headers = {"Content-Type": "application/json"}
    assert (await client.post("/v1/events", content=bytes(9 * 1024 * 1024), headers=headers)).status_code == 413
    assert (await client.post("/v1/events", content=pieces(), headers=headers)).status_code == 413
    stranger = {**headers, "Authorization": "Bearer nobody"}
    assert (await client.post("/v1/events", content=pieces(), headers=stranger)).status_code == 401


def test_the_way_of_an_event_is_seen_from_outside(
    services: Settings, tollgate: Tollgate, tenant: str, tmp_path: Path
) -> None:
    """Credit and usage in by HTTP; balance, usage, charges, ledger and outcome out, all of the same numbers."""
    log = tmp_path / "serve.log"
    served = Tollgate(services)
    token = issued(tollgate, tenant)
    process = subprocess.Popen(
        served.command("serve"),
        env=served.environment | {"TOLLGATE_HTTP_PORT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        listening = until(lambda: LISTENING.search(log.read_text()))
        with httpx.Client(base_url=listening[1], headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            _walk(client)
    finally:
        assert end(process) == 0, log.read_text()


def _walk(client: httpx.Client) -> None:
    yaml = {"Content-Type": "application/yaml"}
    assert client.put("/v1/catalog", content=CATALOGUE, headers=yaml).status_code == 200
    until(lambda: client.get("/readyz").status_code == 200)

    customer = f"a/b {uuid.uuid4().hex}"
    at = f"/v1/customers/{customer.replace('/', '%2F').replace(' ', '%20')}"
    until(lambda: client.get(f"{at}/balance").status_code == 404)
    grant = event(0, customer, id="g", type="credit.granted")
    grant["data"] = {"credit_id": "welcome", "amount": "5", "currency": "USD", "priority": 3}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sent = [grant, *(event(number, customer, time=now) for number in range(10)), event(0, customer, time=now)]
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    assert client.post("/v1/events", json=sent, headers=batch).json() == {"accepted": 12, "rejected": []}
    spent = sum(1000 + number for number in range(10)) * 25  # in units of 1e-7

    expected = f"{5 - spent / 10**7:.7f}".rstrip("0")
    wallet: dict[str, Any] = until(
        lambda: (
            (answer := client.get(f"{at}/balance")).status_code == 200
            and (found := answer.json()["balances"])
            and found[0]["balance"] == expected
            and found[0]
        )
    )
    assert (wallet["held"], wallet["available"]) == ("0", expected)
    assert [(each["credit_id"], each["remaining"]) for each in wallet["grants"]] == [("welcome", expected)]

    movements = until(
        lambda: len(found := client.get(f"{at}/ledger?limit=1000").json().get("data", [])) == 11 and found
    )
    assert {each["kind"] for each in movements} == {"grant", "charge"}
    assert movements[-1]["balance_after"] == expected
    usage = client.get(f"{at}/usage?group_by=model&window=day").json()["data"]
    assert [(row["meter"], row["dimensions"], row["quantity"], row["events"]) for row in usage] == [
        ("input_tokens", {"model": "gpt"}, "10045", 10)
    ]
    charges = client.get(f"{at}/charges?meter=input_tokens").json()["data"]
    assert len(charges) == 10
    until(lambda: len(client.get("/v1/events/chat/e-0").json().get("records", [])) == 2)
    known = client.get("/v1/events/chat/e-0").json()
    assert (known["outcome"], [each["outcome"] for each in known["records"]]) == ("rated", ["rated", "duplicate"])
    assert client.get("/v1/events?outcome=dead_letter").json()["data"] == []


def test_sigterm_drains_and_ends_with_0(services: Settings, tmp_path: Path) -> None:
    """Within seconds, with nothing on standard output."""
    running = started(Tollgate(services), tmp_path / "api.log")
    httpx.get(f"{running.url}/readyz")
    assert end(running.process, bound_s=15) == 0
    assert running.log.with_suffix(".out").read_bytes() == b""
