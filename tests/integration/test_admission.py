"""Checks, holds and settlements on the whole pipeline: what is held is charged once, and free again."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from api.client import AsyncClient, BadRequest, Contradiction, NotFound, Refused
from api.client.in_process import in_process
from schemas.ids import partition_of
from schemas.settings import Settings
from streams.admission.journal import journal_ends, read_journal
from tests.deployment import until
from tests.served import Served, known

CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: output_tokens, event_type: session.tokens_used, quantity: data.output_tokens, dimensions: [model]}
  - {id: device_seconds, event_type: device.released, quantity: data.duration_seconds}
  - {id: image, event_type: usage.reported}
  - {id: ai_chat, event_type: usage.reported}
prices:
  - {id: in, meter: input_tokens, model: per_unit, unit_amount: "0.000001"}
  - {id: out, meter: output_tokens, model: per_unit, unit_amount: "0.00001"}
  - {id: second, meter: device_seconds, model: per_unit, unit_amount: "0.001"}
  - {id: picture, meter: image, model: per_unit, unit_amount: "1"}
plans:
  - id: pro
    interval: month
    amount: "0"
    features: {ai_chat: 3, sso: true, devices_open: 1}
    quotas:
      - {spend: "8.00", window: day, mode: hard}
"""
DENIAL = "SELECT limit FROM tollgate.denials WHERE tenant = {t:String} AND denial_id = {d:String}"
_numbers = itertools.count()


@dataclass
class World:
    """What serves, for one tenant."""

    served: Served
    tenant: str
    url: str
    headers: dict[str, str]

    def send(self, *events: dict[str, Any]) -> None:
        """Usage and account events, each of an identity of its own unless it has one."""
        lines = []
        for event in events:
            whole = {
                "specversion": "1.0",
                "id": f"e{next(_numbers)}",
                "source": "test",
                "tenantid": self.tenant,
                **event,
            }
            lines.append(json.dumps(whole).encode())
        self.served.send(lines)


@pytest.fixture(scope="module")
def world(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All processes, a catalogue and a token."""
    folder: Path = tmp_path_factory.mktemp("admission")
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    served = Served(services, folder / "serve.log")
    served.apply(folder / "catalogue.yaml", tenant)
    with served.serving():
        found: list[str] = []

        def listening() -> bool:
            found[:] = re.findall(r"listening on (http://\S+)", served.log.read_text())
            return bool(found)

        until(listening)
        token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
        yield World(served, tenant, found[-1], {"Authorization": f"Bearer {token}"})


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.url, headers=world.headers, timeout=30) as client:
        yield client


@pytest.fixture
async def customer(world: World, http: httpx.AsyncClient) -> str:
    """A customer with 10 USD."""
    name = f"c-{uuid.uuid4().hex[:8]}"
    world.send(
        {
            "type": "credit.granted",
            "subject": name,
            "data": {"user_id": name, "credit_id": name, "amount": "10", "currency": "USD"},
        }
    )
    await reached(http, name, "10")
    return name


async def balance(http: httpx.AsyncClient, customer: str) -> dict[str, str] | None:
    answer = await http.get(f"/v1/customers/{customer}/balance")
    balances = answer.json().get("balances") if answer.status_code == 200 else None
    return balances[0] if balances else None


async def reached(http: httpx.AsyncClient, customer: str, amount: str) -> None:
    """Waits for a balance."""
    for _ in range(600):
        found = await balance(http, customer)
        if found is not None and found["balance"] == amount:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{found}, {amount} was expected")


def tokens(customer: str, **data: Any) -> dict[str, Any]:
    filled = {"session_id": "s", "model": "m", "input_tokens": 0, "output_tokens": 100_000, **data}
    return {"type": "session.tokens_used", "subject": customer, "data": filled}


async def hold(http: httpx.AsyncClient, customer: str, **body: Any) -> dict[str, Any]:
    answer = await known(lambda: http.post("/v1/holds", json={"customer": customer, **body}))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def state(http: httpx.AsyncClient, hold_id: str) -> str:
    found: str = (await http.get(f"/v1/holds/{hold_id}")).json()["state"]
    return found


async def test_usage_that_names_a_hold_is_charged_and_ends_it(
    world: World, http: httpx.AsyncClient, customer: str
) -> None:
    """Reserved for the largest counts, charged for the real ones; what was not used is free."""
    asked = {"type": "session.tokens_used", "data": {"model": "m", "output_tokens": 900_000}}
    made = await hold(http, customer, event=asked, session_id="s")
    assert made["held"] == {"amount": "9", "currency": "USD"}
    assert (made["available"], made["affordable"]["output_tokens"]) == ("1", "100000")
    refused = await http.post("/v1/holds", json={"customer": customer, "amount": "1.01"})
    assert (refused.status_code, refused.headers["content-type"]) == (402, "application/problem+json")
    assert (refused.json()["reason"], refused.json()["available"]) == ("wallet", "1")
    world.send(tokens(customer, hold_id=made["hold_id"]))
    await reached(http, customer, "9")
    assert await state(http, made["hold_id"]) == "settled"
    found = await balance(http, customer)
    assert found is not None
    assert (found["held"], found["available"]) == ("0", "9")


async def test_a_hold_that_is_taken_from_stays_until_the_last(
    world: World, http: httpx.AsyncClient, customer: str
) -> None:
    """`final: false` takes its charge out of the hold: available stays what it was."""
    made = await hold(http, customer, meter="output_tokens", quantity=500_000)
    world.send(tokens(customer, hold_id=made["hold_id"], final=False))
    await reached(http, customer, "9")
    found = await balance(http, customer)
    assert found is not None
    assert (found["held"], found["available"]) == ("4", "5")
    world.send(tokens(customer, hold_id=made["hold_id"]))
    await reached(http, customer, "8")
    assert await state(http, made["hold_id"]) == "settled"


async def test_a_settlement_is_the_charge_and_its_event_a_duplicate(
    world: World, http: httpx.AsyncClient, customer: str
) -> None:
    """Settled by amount, by quantity, by data; above what was held too; settled again it stays as it is."""
    for number, (body, left) in enumerate(
        [({"amount": "2.5"}, "7.5"), ({"quantity": 100_000}, "6.5"), ({"data": {"output_tokens": 200_000}}, "4.5")]
    ):
        asked = {"type": "session.tokens_used", "data": {"model": "m", "output_tokens": 100_000}}
        wish = {"event": asked} if "data" in body else {"meter": "output_tokens", "quantity": 100_000}
        made = await hold(http, customer, **wish, hold_id=f"{customer}-{number}")
        path = f"/v1/holds/{made['hold_id']}/settle"
        settled = await known(lambda path=path, body=body: http.post(path, json=body))  # type: ignore[misc]
        assert (settled.status_code, settled.json()["state"]) == (200, "settled"), settled.text
        await reached(http, customer, left)
        again = await http.post(f"/v1/holds/{made['hold_id']}/settle", json={"amount": "1"})
        assert (again.status_code, again.json()["state"]) == (200, "settled")
        assert (await http.post(f"/v1/holds/{made['hold_id']}/release", json={})).json()["state"] == "settled"
        world.send(tokens(customer, hold_id=made["hold_id"]))
    query = (
        "SELECT reason, count() FROM tollgate.event_outcomes WHERE tenant = {t:String} AND customer = {c:String} "
        "AND outcome = 'duplicate' GROUP BY reason"
    )
    until(lambda: list(world.served.ask(query, t=world.tenant, c=customer)) == [("hold_settled", 3)])
    rated = (
        "SELECT event_type, price_id, toString(sum(amount)) FROM tollgate.rated_usage WHERE tenant = {t:String} AND "
        "customer = {c:String} GROUP BY event_type, price_id ORDER BY price_id"
    )
    rows = [tuple(row) for row in world.served.ask(rated, t=world.tenant, c=customer)]
    assert rows == [("hold.settled", "", "2.5"), ("hold.settled", "out", "3")]
    assert await reached(http, customer, "4.5") is None


async def test_a_released_hold_s_usage_is_charged_in_full(world: World, http: httpx.AsyncClient, customer: str) -> None:
    """Refusing to record usage would give it away."""
    made = await hold(http, customer, amount="5")
    assert (await http.post(f"/v1/holds/{made['hold_id']}/release", json={})).json()["state"] == "released"
    world.send(tokens(customer, hold_id=made["hold_id"]), tokens(customer, hold_id="never-there"))
    await reached(http, customer, "8")
    assert await state(http, made["hold_id"]) == "released"
    assert (await http.get("/v1/holds/never")).status_code == 404


async def test_the_end_of_a_session_ends_the_holds_made_with_it(
    world: World, http: httpx.AsyncClient, customer: str
) -> None:
    """And the release of a device those of its allocation."""
    one = await hold(http, customer, amount="1", session_id="s-1")
    other = await hold(http, customer, amount="1", session_id="s-2")
    device = await hold(http, customer, amount="1", allocation_id=f"a-{customer}")
    times = {"started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T10:00:10Z"}
    world.send({"type": "session.ended", "subject": customer, "data": {"session_id": "s-1", **times}})
    sizes = {"cpu_cores": 1, "memory_mb": 1, "storage_mb": 1, "device_id": "d", "allocation_id": f"a-{customer}"}
    released = {"allocated_at": times["started_at"], "released_at": times["ended_at"], **sizes}
    world.send({"type": "device.released", "subject": customer, "data": released})
    await reached(http, customer, "9.99")
    assert [await state(http, made["hold_id"]) for made in (one, other, device)] == ["settled", "open", "settled"]


async def test_consuming_checks_and_counts_in_one(world: World, http: httpx.AsyncClient, customer: str) -> None:
    """Once a key; what is denied says why and can be explained."""
    world.send({"type": "user.upgraded", "subject": customer, "data": {"user_id": customer, "plan_id": "pro"}})

    async def has_plan() -> bool:
        answer = await http.get(f"/v1/customers/{customer}/entitlements")
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["features"])

    for _ in range(400):
        if await has_plan():
            break
        await asyncio.sleep(0.05)
    body = {"customer": customer, "meter": "ai_chat"}
    for key in ("k1", "k1", "k2", "k3", "k2"):
        answer = await http.post("/v1/quota/consume", json=body, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["allowed"]) == (200, True), answer.text
    denied = (await http.post("/v1/quota/consume", json=body, headers={"Idempotency-Key": "k4"})).json()
    assert (denied["allowed"], denied["reason"], denied["limit"], denied["remaining"]) == (False, "quota", "3", "0")
    assert denied["resets_at"]
    assert (await http.post("/v1/quota/consume", json=body)).status_code == 428
    other = await http.post("/v1/quota/consume", json={**body, "quantity": 2}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 409
    for _ in range(400):
        (quota,) = [
            quota
            for quota in (await http.get(f"/v1/customers/{customer}/quota")).json()["quotas"]
            if quota["meter"] == "ai_chat"
        ]
        if quota["used"] == "3":
            break
        await asyncio.sleep(0.05)
    assert (quota["used"], quota["held"], quota["remaining"], quota["limit"]) == ("3", "0", "0", "3")
    checked = (await http.post("/v1/quota/check", json=body | {"quantity": 1})).json()
    assert (checked["allowed"], checked["limit"], checked["remaining"]) == (False, "3", "0")
    assert checked["denial_id"]
    assert (await http.post("/v1/quota/check", json={"customer": customer, "meter": "sso", "quantity": 1})).json()[
        "allowed"
    ]
    refused = await http.post("/v1/holds", json={"customer": customer, "meter": "ai_chat", "quantity": 1})
    assert (refused.status_code, refused.json()["reason"]) == (429, "quota")
    assert int(refused.headers["Retry-After"]) > 0
    budget = await http.post("/v1/holds", json={"customer": customer, "amount": "8.01"})
    assert (budget.status_code, budget.json()["reason"]) == (402, "budget")
    for denial_id in (checked["denial_id"], budget.json()["denial_id"]):
        explained = (await http.get(f"/v1/explain/denial/{denial_id}")).json()
        assert explained["customer"] == customer
        assert explained["reason"] in ("quota", "budget")
        until(lambda asked=denial_id: world.served.ask(DENIAL, t=world.tenant, d=asked))
        told = world.served.tollgate("explain", "denial", denial_id, "--json")
        assert json.loads(told.stdout)["limit"] == explained["limit"]
    assert (
        await http.post("/v1/quota/check", json={"customer": customer, "meter": "x", "quantity": 1})
    ).status_code == 422


@pytest.mark.parametrize("path", ["/v1/quota/check", "/v1/holds"])
async def test_the_short_way_and_the_long_way_answer_alike(
    world: World, http: httpx.AsyncClient, customer: str, path: str
) -> None:
    """A request in other than the usual words goes through all layers, and gets the same answer."""
    scopes = ("--scopes", "usage:read")
    narrow = world.served.tollgate("token", "issue", "--tenant", world.tenant, *scopes).stdout.splitlines()[-1]
    bodies: list[Any] = [
        {"customer": customer, "amount": "0.1"},
        {"customer": customer, "meter": "output_tokens", "quantity": 3, "dimensions": {"model": "m"}},
        {"customer": customer, "event": {"type": "session.tokens_used", "data": {"model": "m", "output_tokens": 2}}},
        {"customer": customer, "amount": "1000"},
        {"customer": customer, "amount": 1},
        {"customer": customer, "meter": "never-heard-of", "quantity": 1},
        {"customer": customer, "event": {"type": "session.tokens_used", "data": {"output_tokens": -1}}},
        {"customer": "", "amount": "1"},
        {"amount": "1"},
        {"customer": "nobody", "amount": "1"},
        {"customer": customer},
        [],
        "no object",
        b"{",
        b"\xff",
    ]
    for body in bodies:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        for token in (None, "tg_unknown", narrow, http.headers["Authorization"].removeprefix("Bearer ")):
            answers = []
            for media_type in ("application/json", 'application/json; charset="utf-8"'):
                headers = {"Content-Type": media_type, "Authorization": f"Bearer {token}" if token else "Basic x"}
                answer = await http.post(path, content=content, headers=headers)
                told = answer.json()
                for name in ("denial_id", "hold_id", "expires_at", "resets_at"):
                    assert isinstance(told.pop(name, None), str | None)
                if answer.status_code == 201:  # the one after it finds less
                    told.pop("available")
                    told.pop("affordable")
                answers.append((answer.status_code, answer.headers["content-type"], told))
            assert answers[0] == answers[1], (body, token)


async def test_holds_are_their_tenant_s_and_their_words(world: World, http: httpx.AsyncClient, customer: str) -> None:
    """The same id and body is the same hold, another body a conflict."""
    body = {"customer": customer, "amount": "1", "hold_id": f"mine-{customer}"}
    answers = [await http.post("/v1/holds", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    assert (await http.post("/v1/holds", json={**body, "amount": "2"})).status_code == 409
    longer = await http.post(f"/v1/holds/mine-{customer}/extend", json={"ttl_seconds": 600, "amount": "2"})
    assert (longer.json()["held"]["amount"], longer.json()["generation"]) == ("3", 2)
    too_much = await http.post(f"/v1/holds/mine-{customer}/extend", json={"ttl_seconds": 600, "amount": "8"})
    assert too_much.status_code == 402
    token = world.served.tollgate("token", "issue", "--tenant", f"{world.tenant}-b").stdout.splitlines()[-1]
    other = await http.get(f"/v1/holds/mine-{customer}", headers={"Authorization": f"Bearer {token}"})
    assert other.status_code == 404


async def test_of_two_hundred_at_once_those_that_can_be_paid_are_granted_and_all_usage_is_charged(
    world: World, http: httpx.AsyncClient, customer: str
) -> None:
    """A wallet for 20 grants 20 of 200; each then uses more than it held, which is charged, and nothing is held."""
    answers = await asyncio.gather(
        *(known(lambda: http.post("/v1/holds", json={"customer": customer, "amount": "0.5"})) for _ in range(200))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 20 + [402] * 180
    made = [answer.json()["hold_id"] for answer in answers if answer.status_code == 201]
    assert (await balance(http, customer) or {})["available"] == "0"
    world.send(*(tokens(customer, hold_id=hold_id, output_tokens=60_000) for hold_id in made))
    await reached(http, customer, "-2")
    assert [await state(http, hold_id) for hold_id in made] == ["settled"] * 20


async def test_a_stream_that_stops_in_time_never_ends_below_zero(
    world: World, http: httpx.AsyncClient, customer: str
) -> None:
    """It renews its hold by what it still needs and stops at `affordable`; one that goes on is charged in full."""
    shape = {"type": "session.tokens_used", "data": {"model": "m", "output_tokens": 300_000}}
    body = {"customer": customer, "event": shape, "ttl_seconds": 60}
    made = (await http.post("/v1/holds", json=body)).json()
    held, used, generation = 300_000, 0, 1
    while used < held:
        used = min(used + 250_000, held)
        left = int(made["affordable"]["output_tokens"])
        more = min(left, 250_000)
        if more:
            extended = await http.post(
                f"/v1/holds/{made['hold_id']}/extend",
                json={"ttl_seconds": 60, "amount": f"{more // 10**5}.{more % 10**5:05d}", "generation": generation},
            )
            assert extended.status_code == 200, extended.text
            made, generation, held = extended.json(), generation + 1, held + more
            assert made["generation"] == generation
    assert used == 1_000_000
    late = await http.post(f"/v1/holds/{made['hold_id']}/extend", json={"ttl_seconds": 60, "generation": 1})
    assert late.status_code == 409
    world.send(tokens(customer, hold_id=made["hold_id"], output_tokens=used))
    await reached(http, customer, "0")
    assert await state(http, made["hold_id"]) == "settled"
    world.send(tokens(customer, output_tokens=100_000))
    await reached(http, customer, "-1")
    assert (await http.post("/v1/holds", json={"customer": customer, "amount": "0.000000001"})).status_code == 402


async def test_both_clients_hold_alike(world: World, http: httpx.AsyncClient, customer: str) -> None:
    """In process and over HTTP: the same calls, answers and errors, and each sees what the other did."""
    settings = world.served.settings
    assert settings.kafka_bootstrap is not None
    assert settings.redis_url is not None
    token = world.headers["Authorization"].removeprefix("Bearer ")
    event = {"type": "session.tokens_used", "data": {"model": "m", "output_tokens": 100_000}}
    async with (
        AsyncClient(world.url, token) as over_http,
        in_process(world.tenant, kafka=settings.kafka_bootstrap, redis=settings.redis_url, timeout_seconds=5) as here,
    ):
        for one, other in ((over_http, here), (here, over_http)):
            checked = await one.check(customer, event=event)
            assert (checked.allowed, checked.available) == (True, (await other.check(customer, amount="1")).available)
            hold_ = await one.hold(customer, event=event, ttl_seconds=60)
            assert (hold_.state, hold_.held, hold_.generation) == ("open", 1, 1)
            assert hold_.available is not None
            assert hold_.affordable == {"output_tokens": hold_.available * 100_000}
            assert (await other.find_hold(hold_.id)).held == 1
            assert (await other.extend_hold(hold_.id, 60, amount="0.5", generation=1)).held == Decimal("1.5")
            with pytest.raises(Contradiction):
                await one.extend_hold(hold_.id, 60, generation=1)
            settled = await other.settle_hold(hold_.id, amount="2")
            assert (settled.state, settled.charged) == ("settled", 2)
            assert (await one.settle_hold(hold_.id, amount="3")).charged == 2
            with pytest.raises(Refused) as refused:
                await one.hold(customer, amount="100")
            assert (refused.value.status, refused.value.reason) == (402, "wallet")
            assert refused.value.denial_id
            with pytest.raises(BadRequest) as bad:
                await one.check(customer, meter="never-heard-of", quantity=1)
            assert bad.value.errors[0].pointer == "/meter"
            with pytest.raises(NotFound):
                await one.find_hold("never-there")
            named = await one.hold(customer, hold_id=f"{customer}-{id(one)}", amount="1")
            assert (await other.hold(customer, hold_id=named.id, amount="1")).held == 1
            with pytest.raises(Contradiction):
                await other.hold(customer, hold_id=named.id, amount="2")
            assert (await other.release_hold(named.id)).state == (await one.release_hold(named.id)).state == "released"
        for one, other in ((over_http, here), (here, over_http)):
            key = f"k-{id(one)}"
            for client in (one, other, one):
                assert (await client.consume(customer, "image", 2, key=key)).allowed
            with pytest.raises(Contradiction):
                await other.consume(customer, "image", 1, key=key)
            with pytest.raises(BadRequest) as bad:
                await one.consume(customer, "output_tokens")
            assert (bad.value.reason, bad.value.errors[0].pointer) == ("wrong_meter", "/meter")
        await reached(http, customer, "2")
        for client in (over_http, here):
            denied = await client.consume(customer, "image", 3)
            assert (denied.allowed, denied.reason, denied.available) == (False, "wallet", 2)
            assert denied.denial_id


async def journalled(world: World, customer: str, ended: list[str]) -> None:
    """Waits until the journal of holds, for which nobody who ends one waits, tells of these ends."""
    bootstrap = str(world.served.settings.kafka_bootstrap)
    home = partition_of(customer, world.served.settings.partitions)
    for _ in range(300):
        end = (await journal_ends(bootstrap, [home]))[home]
        told = {line.hold_id async for line in read_journal(bootstrap, home, None, end) if line.hold is None}
        if told >= set(ended):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{set(ended) - told} are not in the journal")


async def test_a_wiped_redis_gets_back_what_was_open_and_nothing_else(
    world: World, http: httpx.AsyncClient, customer: str
) -> None:
    """Of 1,000 holds half were ended by usage, some by their holders: they stay ended; the others are open again."""
    made = [hold_["hold_id"] for hold_ in [await hold(http, customer, amount="0.001") for _ in range(1_000)]]
    named = [f"named-{customer}-{number}" for number in range(5)]
    for hold_id in named:
        await hold(http, customer, amount="0.001", hold_id=hold_id)
    world.send(*(tokens(customer, hold_id=hold_id, output_tokens=1) for hold_id in made[::2]))
    for hold_id in made[1:21:2]:
        assert (await http.post(f"/v1/holds/{hold_id}/release", json={})).json()["state"] == "released"
    await reached(http, customer, "9.995")
    await journalled(world, customer, made[1:21:2])
    assert world.served.settings.redis_url is not None
    redis = Redis.from_url(world.served.settings.redis_url)
    traffic = asyncio.create_task(asyncio.to_thread(_others_use, world))
    await redis.flushall()
    await redis.aclose()
    await reached(http, customer, "9.995")

    async def open_again() -> bool:
        found = await balance(http, customer)
        return found is not None and found["held"] == "0.495"

    for _ in range(600):
        if await open_again():
            break
        await asyncio.sleep(0.05)
    assert await open_again(), await balance(http, customer)
    states = [await state(http, hold_id) for hold_id in (*made[::50], *made[21::50], *named)]
    assert states == ["settled"] * 20 + ["open"] * (len(states) - 20)
    await traffic
    longer = await http.post(f"/v1/holds/{named[0]}/extend", json={"ttl_seconds": 600})
    assert (longer.status_code, longer.json()["state"]) == (200, "open")


def _others_use(world: World) -> None:
    for _ in range(5):
        world.send(*(tokens(f"other-{number}", output_tokens=number) for number in range(200)))


async def test_after_all_of_it_the_stores_agree(world: World) -> None:
    """Log = ledger = accounts = rows."""
    until(lambda: world.served.reconcile()[0] == 0, 90)
