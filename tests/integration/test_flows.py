"""Every flow of the services around us on the real parts: what comes in, what is told in which order, who is notified.

A row of FLOWS is one flow: steps (events as other services send them, or requests), and for each what must have been
told of its customer on `billing.events` by then. Each event in is sent twice; each is told of once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from schemas.settings import Settings
from tests.deployment import until
from tests.integration.topic_reader import TopicReader, topic_from_now
from tests.served import Served

LISTENING = re.compile(r"listening on (http://\S+)")
CATALOG = """\
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
plans:
  - {id: free, interval: month, amount: "0"}
  - {id: pro, interval: month, amount: "20.00", features: {calls: 2}}
  - {id: team, interval: month, amount: "50.00"}
"""
PATIENCE_S = 60


class Around(BaseHTTPRequestHandler):
    """Accounts, notifications and storage: every user is there, and every message is kept."""

    sent: ClassVar[list[tuple[str, str, str]]] = []

    def do_GET(self) -> None:
        self._answer({"id": "user", "active": True})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.sent.append((body["user_id"], body["template"], self.headers["Idempotency-Key"]))
        self._answer({})

    def _answer(self, body: dict[str, Any]) -> None:
        if self.path.endswith("/storage"):
            body = {"used_bytes": 10, "limit_bytes": 10}
        encoded = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: object) -> None:
        """Nobody listens."""


@pytest.fixture(scope="module")
def around() -> Iterator[str]:
    """The services around us; their address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Around)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def served(services: Settings, around: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A deployment that knows them."""
    folder: Path = tmp_path_factory.mktemp("flows")
    (folder / "catalog.yaml").write_text(CATALOG)
    settings = dataclasses.replace(services, accounts_url=around, notifications_url=around, storage_url=around)
    made = Served(settings, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@dataclass
class World:
    """One customer of one tenant, what is told of it, and ways to send."""

    served: Served
    client: httpx.AsyncClient
    reader: TopicReader
    tenant: str
    customer: str
    names: dict[str, str] = field(default_factory=dict)
    """Ids that an answer gave, for later steps: `{order}` in a step's data is its value."""

    async def told(self) -> list[dict[str, Any]]:
        """Our events about the customer so far, in order."""
        records = [record for found in (await self.reader.read()).values() for record in found]
        events = [json.loads(record.value) for record in records]
        return [one for one in events if (one["tenantid"], one["subject"]) == (self.tenant, self.customer)]

    async def await_told(self, tells: list[str]) -> list[dict[str, Any]]:
        """Waits until all of these were told, in this order among others; their events."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            told = await self.told()
            found = _in_order(tells, told)
            if found is not None:
                return found
            assert time.monotonic() < deadline, f"of {tells} not all in {[event['type'] for event in told]}"
            await asyncio.sleep(0.1)

    def send(self, kind: str, data: dict[str, Any]) -> None:
        """An event as another service sends it, twice."""
        event = {
            "specversion": "1.0", "id": uuid.uuid4().hex, "source": "around", "type": kind, "subject": self.customer,
            "tenantid": self.tenant, "data": self.filled(data),
        }  # fmt: skip
        self.served.send([json.dumps(event).encode()] * 2)

    def charges(self) -> int:
        """How many there are by now."""
        ((count,),) = self.served.ask(
            "SELECT count() FROM tollgate.rated_usage WHERE tenant = {tenant:String}", tenant=self.tenant
        )
        return int(count)

    async def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A request, repeated under its key until its outcome is known."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        for _ in range(200):
            answer = await self.client.request(method, self.text(path), json=self.filled(body), headers=headers)
            if answer.status_code not in (202, 503):
                assert answer.status_code < 300, answer.text
                found: dict[str, Any] = answer.json()
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(answer.text)

    def filled(self, value: Any) -> Any:
        """With the ids that earlier steps gave."""
        return json.loads(self.text(json.dumps(value)))

    def text(self, value: str) -> str:
        """As `filled`, of text."""
        for name, known in {"customer": self.customer, **self.names}.items():
            value = value.replace(f"<{name}>", known)
        return value


def _in_order(tells: list[str], events: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    rest = iter(events)
    found = [next((event for event in rest if _tells(tell, event)), None) for tell in tells]
    return [event for event in found if event is not None] if None not in found else None


def _tells(tell: str, event: dict[str, Any]) -> bool:
    kind, *values = tell.split()
    return event["type"] == kind and all(value in event["data"].values() for value in values)


@dataclass(frozen=True)
class Step:
    """An event in, or a request (`METHOD path`); what must be told then: types, with values that their data has.
    `keeps`: names for ids in its answer, or in what was told last."""

    what: str
    data: dict[str, Any]
    tells: list[str]
    keeps: dict[str, str] = field(default_factory=dict)


ORDER = {"customer": "<customer>", "total_amount": "10.00", "currency": "USD"}
ORDERED = Step(
    "POST /v1/orders", ORDER, ["order.created", "payment.intent.created", "order.payment_pending"],
    {"order": "order_id", "intent": "payment_intent_id"},
)  # fmt: skip
PAY = {"payment_id": "p-<customer>", "payment_intent_id": "<intent>", "order_id": "<order>", "amount": "10.00"}
PAID = Step(
    "payment.completed", {**PAY, "currency": "USD"},
    ["payment.completed", "order.completed", "order.fulfilled"],
)  # fmt: skip
SUBSCRIBED = Step(
    "POST /v1/customers/<customer>/subscription", {"plan_id": "pro"},
    ["subscription.created", "invoice.created", "invoice.finalized"], {"subscription": "subscription_id"},
)  # fmt: skip
GRANTED = Step(
    "credit.granted", {"credit_id": "k-<customer>", "amount": "100", "currency": "USD"}, ["wallet.deposited"]
)
THEIRS = {"order_id": "o-<customer>", "order_type": "credits", "total_amount": "7", "currency": "USD"}
OTHERS = {"subscription_id": "s-<customer>", "plan_id": "pro", "status": "active", "billing_cycle": "month"}

FLOWS: dict[str, tuple[list[Step], list[str]]] = {
    "an order is paid and fulfilled": (
        [ORDERED, PAID],
        ["order_confirmation", "order_status", "order_status", "payment_receipt"],
    ),
    "a payment fails, and the next one pays": (
        [
            ORDERED,
            Step(
                "payment.failed",
                {"payment_intent_id": "<intent>", "amount": "10", "currency": "USD", "error": "card declined"},
                ["payment.failed"],
            ),
            PAID,
        ],
        ["order_confirmation", "order_status", "order_status", "payment_receipt"],
    ),
    "an order is updated and canceled": (
        [
            ORDERED,
            Step("PATCH /v1/orders/<order>", {"items": [{"sku": "x"}]}, ["order.updated"]),
            Step("POST /v1/orders/<order>/cancel", {"reason": "no"}, ["order.canceled"]),
        ],
        ["order_confirmation", "order_status"],
    ),
    "a paid order is refunded": (
        [
            ORDERED,
            PAID,
            Step(
                "payment.refunded",
                {"payment_id": "p-<customer>", "refund_id": "r-<customer>", "amount": "10"},
                ["payment.refunded", "order.refunded"],
            ),
        ],
        ["order_confirmation", "order_status", "order_status", "order_status", "payment_receipt"],
    ),
    "another service's order credits once": (
        [
            Step("order.created", THEIRS, ["wallet.created"]),
            Step(
                "payment.completed",
                {"payment_id": "p-<customer>", "order_id": "o-<customer>", "amount": "7", "currency": "USD"},
                ["wallet.deposited", "payment.completed"],
            ),
            Step("order.completed", {**THEIRS, "payment_id": "p-<customer>"}, []),
            Step("order.fulfilled", THEIRS, []),
        ],
        ["payment_receipt"],
    ),
    "an order buys a plan": (
        [
            Step(
                "POST /v1/orders",
                {**ORDER, "order_type": "subscription", "plan_id": "pro", "total_amount": "20.00"},
                ["order.created"],
                {"order": "order_id", "intent": "payment_intent_id"},
            ),
            Step(
                "payment.completed",
                {**PAY, "amount": "20.00", "currency": "USD"},
                ["payment.completed", "order.completed", "subscription.created", "order.fulfilled"],
            ),
        ],
        ["invoice", "order_confirmation", "order_status", "order_status", "payment_receipt"],
    ),
    "a subscription ends, and its open orders with it": (
        [
            GRANTED,
            SUBSCRIBED,
            Step(
                "POST /v1/orders",
                {**ORDER, "subscription_id": "<subscription>"},
                ["order.payment_pending"],
                {"order": "order_id"},
            ),
            Step(
                "DELETE /v1/customers/<customer>/subscription?when=now",
                {},
                ["subscription.canceled", "order.canceled"],
            ),
        ],
        ["invoice", "order_confirmation", "order_status"],
    ),
    "another service's subscription goes its way": (
        [
            Step("subscription.created", {**OTHERS, "status": "created"}, ["subscription.created"]),
            Step("subscription.activated", OTHERS, ["subscription.activated"]),
            Step("subscription.canceled", {**OTHERS, "reason": "no"}, ["subscription.canceled"]),
        ],
        ["invoice"],
    ),
    "a quota is exceeded, and the next plan is proposed": (
        [
            GRANTED,
            SUBSCRIBED,
            Step(
                "usage.reported",
                {"meter": "calls", "quantity": 3},
                ["quota.exceeded", "order.created", "payment.intent.created"],
            ),
        ],
        ["invoice", "order_confirmation"],
    ),
    "a subscription is used beyond its plan, and billed at once": (
        [
            Step("PUT /v1/customers/<customer>", {"collection": "postpaid", "currency": "USD", "tax_rate": "10"}, []),
            SUBSCRIBED,
            Step("usage.reported", {"meter": "calls", "quantity": 3}, ["quota.exceeded", "order.created"]),
            Step(
                "subscription.usage_exceeded",
                {**OTHERS, "subscription_id": "<subscription>"},
                ["subscription.usage_exceeded", "invoice.created overage", "invoice.finalized overage 1.65"],
                {"overage": "invoice_id"},
            ),
            Step(
                "payment.completed",
                {"payment_id": "p-<customer>", "invoice_id": "<overage>", "amount": "1.65", "currency": "USD"},
                ["invoice.paid overage 1.65", "payment.completed"],
            ),
        ],
        ["invoice", "invoice", "order_confirmation", "payment_receipt"],
    ),
    "the storage is full, and a plan is proposed": (
        [Step("storage.quota_exceeded", {"used": 10}, ["storage.quota_exceeded", "order.created"])],
        ["order_confirmation"],
    ),
    "a wallet runs dry and is filled again": (
        [
            Step("usage.reported", {"meter": "calls", "quantity": 1}, ["wallet.insufficient_funds"]),
            GRANTED,
        ],
        [],
    ),
    "a user comes, rises and goes": (
        [
            Step("user.created", {"user_id": "<customer>", "tier": "free"}, ["wallet.created"]),
            Step("user.upgraded", {"user_id": "<customer>", "tier": "pro"}, []),
            ORDERED,
            Step("user.deleted", {"user_id": "<customer>"}, ["order.canceled"]),
        ],
        ["order_confirmation", "order_status"],
    ),
}


@pytest.fixture
async def world(served: Served, tmp_path: Path) -> AsyncIterator[World]:
    """A tenant with the catalogue, and a reader of what is told from now on."""
    tenant = f"flows-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    served.apply(tmp_path / "catalog.yaml", tenant)
    issued = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
    address = LISTENING.findall(served.log.read_text())[-1]
    bootstrap = served.settings.kafka_bootstrap
    assert bootstrap is not None
    async with contextlib.AsyncExitStack() as stack:
        headers = {"Authorization": f"Bearer {issued}"}
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=address, headers=headers, timeout=30))
        reader = await stack.enter_async_context(
            topic_from_now(bootstrap, "billing.events", served.settings.partitions)
        )
        yield World(served, client, reader, tenant, f"u-{uuid.uuid4().hex[:12]}")


@pytest.mark.parametrize("name", FLOWS)
async def test_a_flow(name: str, world: World) -> None:
    """Step by step: all that must be told is told, in order, once for each cause; who must be notified is, once."""
    steps, notified = FLOWS[name]
    wanted: list[str] = []
    for step in steps:
        method, _, path = step.what.partition(" ")
        if path:
            answer = await world.ask(method, path, step.data or None)
            world.names |= {known: str(answer[field]) for known, field in step.keeps.items()}
        else:
            await asyncio.to_thread(world.send, step.what, step.data)
        wanted += step.tells
        told = await world.await_told(wanted)
        if not path:
            world.names |= {known: str(told[-1]["data"][field]) for known, field in step.keeps.items()}
    sent = await asyncio.to_thread(_notified, world.customer, sorted(notified))
    assert sorted(template for template, _ in sent) == sorted(notified)
    assert len({key for _, key in sent}) == len(sent)
    ids = [event["id"] for event in await world.told()]
    assert len(ids) == len(set(ids))


async def test_a_line_of_overage_is_explained_by_the_charges_that_came_since_the_one_before(world: World) -> None:
    """Two overage invoices of one period, with a charge each."""
    await world.ask("PUT", "/v1/customers/<customer>", {"collection": "postpaid", "currency": "USD"})
    answer = await world.ask("POST", "/v1/customers/<customer>/subscription", {"plan_id": "pro"})
    exceeded = {**OTHERS, "subscription_id": answer["subscription_id"]}
    told: list[str] = []
    for number, (quantity, total) in enumerate(((3, "1.50"), (5, "2.50")), 1):
        await asyncio.to_thread(world.send, "usage.reported", {"meter": "calls", "quantity": quantity})
        await asyncio.to_thread(until, lambda charged=number: world.charges() == charged)
        await asyncio.to_thread(world.send, "subscription.usage_exceeded", exceeded)
        told.append(f"invoice.finalized overage {total}")
        invoices = await world.await_told(told)
    for invoice, amount in zip(invoices, ("1.5", "2.5"), strict=True):
        line = f"/v1/explain/line/{invoice['data']['invoice_id']}/1"
        for _ in range(PATIENCE_S * 5):
            found = await world.client.get(line)
            if found.status_code != 404:
                break
            await asyncio.sleep(0.2)  # its rows are on their way
        charges = found.json()["charges"]
        assert (charges["count"], charges["amount"], charges["is_all_of_the_line"]) == (1, amount, True)


def test_after_all_flows_every_equation_holds(served: Served) -> None:
    """Log, ledger, accounts, rows and invoices agree."""
    assert served.reconcile() == (0, {})


def _notified(customer: str, wanted: list[str]) -> list[tuple[str, str]]:
    def found() -> list[tuple[str, str]]:
        return [(template, key) for user, template, key in Around.sent if user == customer]

    with contextlib.suppress(AssertionError):  # what is missing is for the caller to say
        until(lambda: len(found()) >= len(wanted), PATIENCE_S)
    return found()
