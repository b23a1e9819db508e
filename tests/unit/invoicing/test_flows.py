"""What is done about our own events: told once, asked for once, and waited for where a service is away."""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest
from aiohttp import web

from invoicing.flows.follow import concerns, handle, told_in
from invoicing.flows.handlers import HANDLERS, Around, next_plan
from invoicing.flows.http_services import HttpServices
from invoicing.flows.ports import StorageUsage, User
from schemas.catalog import parse
from schemas.catalog_shapes import Plan
from schemas.commands import Command
from schemas.errors import Unavailable
from schemas.event import decode
from schemas.settings import Settings
from tests.fakes.services import FakeServices

PLANS = parse(
    """
currency: EUR
meters: [{id: m, event_type: usage.reported}]
plans:
  - {id: free, interval: month, amount: "0"}
  - {id: pro, interval: month, amount: "20.00"}
  - {id: team, interval: month, amount: "50.00"}
  - {id: pro-yearly, interval: year, amount: "200.00"}
"""
).plans


class FakePlans:
    """Everybody is on one plan."""

    def __init__(self, current: str) -> None:
        self.current = current

    async def plan_of(self, tenant: str, customer: str) -> str:
        """See the port."""
        return self.current

    def plans(self, tenant: str) -> tuple[tuple[Plan, ...], str]:
        """See the port."""
        return PLANS, "EUR"


class World:
    """Services, plans and the commands that were sent."""

    def __init__(self, current: str = "pro") -> None:
        self.fake = FakeServices(users={"c": User("c", "c@x.example", "C", active=True)})
        self.around = Around(self.fake.services, FakePlans(current), self.overage)
        self.commands: list[Command] = []
        self.billed: set[tuple[str, str, str, int]] = set()

    async def overage(self, tenant: str, customer: str, cause: str, at: int) -> None:
        self.billed.add((tenant, customer, cause, at))

    async def send(self, command: Command) -> None:
        self.commands.append(command)

    async def tell(self, kind: str, customer: str = "c", event_id: str = "0-1-0", **data: Any) -> None:
        """One event of ours."""
        event = {"tenantid": "acme", "subject": customer, "id": event_id, "type": kind, "data": data}
        await handle(json.dumps(event).encode(), self.around, self.send)


@pytest.mark.parametrize(
    ("kind", "template"),
    [
        ("payment.completed", "payment_receipt"),
        ("invoice.finalized", "invoice"),
        ("invoice.overdue", "invoice"),
        ("order.created", "order_confirmation"),
        ("order.completed", "order_status"),
        ("order.fulfilled", "order_status"),
        ("order.expired", "order_status"),
        ("order.canceled", "order_status"),
        ("order.refunded", "order_status"),
    ],
)
async def test_a_customer_is_told_once(kind: str, template: str) -> None:
    """Whatever is told again, under the event's own id; a service that is away is waited for."""
    world = World()
    world.fake.away = 1
    await world.tell(kind)
    await world.tell(kind)
    assert world.fake.sent == [(template, "c", "0-1-0")]
    assert world.commands == []


@pytest.mark.parametrize(
    ("current", "proposed"), [("", "pro"), ("free", "pro"), ("pro", "team"), ("team", None), ("pro-yearly", None)]
)
def test_the_next_plan_is_the_cheapest_dearer_one_of_the_same_interval(current: str, proposed: str | None) -> None:
    """Nothing is proposed to who has the dearest."""
    plan = next_plan(PLANS, current)
    assert (plan.id if plan else None) == proposed


async def test_usage_beyond_a_subscription_is_billed() -> None:
    """For its own cause and time, and nothing is sold."""
    world = World()
    await world.tell("subscription.usage_exceeded", exceeded_at="2026-03-10T00:00:00Z")
    assert (world.billed, world.commands) == ({("acme", "c", "0-1-0", 1773100800000000)}, [])


@pytest.mark.parametrize("kind", ["quota.exceeded", "storage.quota_exceeded"])
async def test_a_quota_that_is_exceeded_becomes_an_order_of_the_next_plan(kind: str) -> None:
    """One for an event, however often it is told, in a form that the lane's own decoder takes."""
    world = World()
    await world.tell(kind)
    await world.tell(kind)
    first, second = world.commands
    assert first == second
    read = decode(first.encoded(), 0, 0)
    assert (read.customer, read.data["plan_id"], read.data["total_amount"]) == ("c", "team", 50 * 10**9)
    await world.tell(kind, event_id="0-2-0")
    assert world.commands[2].id != first.id


async def test_an_upgrade_is_proposed_to_who_may_buy_and_needs_it() -> None:
    """Not to an unknown or inactive user, and not once there is room again."""
    world = World()
    world.fake.users["gone"] = User("gone", "", "", active=False)
    world.fake.stored["c"] = StorageUsage(Decimal(5), Decimal(10))
    for customer in ("gone", "nobody"):
        await world.tell("quota.exceeded", customer)
    await world.tell("storage.quota_exceeded")
    assert world.commands == []
    world.fake.stored["c"] = StorageUsage(Decimal(10), Decimal(10))
    await world.tell("storage.quota_exceeded")
    assert len(world.commands) == 1


def test_what_nobody_handles_is_passed_over_by_its_type_alone() -> None:
    """What is told of usage is most of the topic. What cannot be read is left to `handle`, which says so."""
    assert all(concerns(json.dumps({"id": "1", "type": kind}).encode()) for kind in HANDLERS)
    for kind in ("usage.recorded", "billing.processed", "wallet.consumed"):
        assert not concerns(json.dumps({"data": {"type": "order.created"}, "type": kind}).encode())
    assert all(map(concerns, (b"", b"[]", b"{}", b"\xff", b'{"type": 1}', b'{"type": "\xff"}')))


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'"x"', b"\xff", b'{"type": "payment.completed"}'])
async def test_what_is_no_event_of_ours_is_passed_over(value: bytes) -> None:
    """And holds up nothing."""
    world = World()
    await handle(value, world.around, world.send)
    assert told_in(value) is None
    assert not world.fake.sent + world.commands


def test_every_handled_event_is_described() -> None:
    """The page of the flows names each."""
    page = (files("invoicing.flows") / "README.md").read_text("utf-8")
    assert [kind for kind in HANDLERS if f"`{kind}`" not in page] == []


class Peer:
    """The services as an HTTP server."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        """Everything."""
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path_qs, body))
        assert request.headers["Authorization"] == "Bearer shared"
        if self.status != 200:
            return web.json_response({}, status=self.status)
        path = request.path
        answers: dict[str, Any] = {
            "/users/c": {"id": "c", "email": "c@x.example", "name": "C", "active": True},
            "/users/c/tier": {"tier": "gold"},
            "/users/c/payment-methods": [{"id": "pm", "kind": "card", "default": True}],
            "/users/c/storage": {"used_bytes": 5, "limit_bytes": None},
            "/users/c/storage/quota": {"allowed": False},
            "/organizations/o": {"id": "o"},
            "/notifications": {},
        }
        return web.json_response(answers.get(path), status=200 if path in answers else 404)


async def test_the_services_over_http() -> None:
    """Each question its route; 404 is none, anything else that is not 2xx is Unavailable."""
    peer = Peer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", peer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = Settings.from_environment(
        {}, accounts_url=url, organizations_url=url, notifications_url=url, storage_url=url, services_token="shared"
    )
    made = HttpServices(settings)
    services = made.services
    try:
        assert await services.accounts.get_user("c") == User("c", "c@x.example", "C", active=True)
        assert await services.accounts.get_user("../x") is None
        assert (await services.accounts.validate_user("c"), await services.accounts.validate_user("y")) == (True, False)
        assert await services.accounts.get_user_tier("c") == "gold"
        assert [one.id for one in await services.accounts.get_payment_methods("c")] == ["pm"]
        assert await services.organizations.get_organization("o") == {"id": "o"}
        assert await services.storage.get_storage_usage("c") == StorageUsage(Decimal(5), None)
        assert not await services.storage.validate_quota("c", Decimal(1))
        await services.notifications.send_invoice("c", {"id": "inv"}, "key")
        sent = {"template": "invoice", "user_id": "c", "data": {"id": "inv"}}
        assert peer.asked[-1] == ("POST", "/notifications", sent)
        assert ("GET", "/users/..%2Fx", None) in peer.asked
        peer.status = 500
        with pytest.raises(Unavailable):
            await services.accounts.get_user("c")
    finally:
        await made.close()
        await runner.cleanup()
    with pytest.raises(Unavailable):
        await _closed_peer(url)


async def _closed_peer(url: str) -> None:
    made = HttpServices(Settings.from_environment({}, accounts_url=url))
    try:
        await made.services.accounts.get_user("c")
    finally:
        await made.close()


async def test_services_without_an_address_are_assumed() -> None:
    """Everybody is valid, nobody is told, nothing is known of storage."""
    made = HttpServices(Settings.from_environment({}))
    try:
        assert await made.services.accounts.validate_user("anybody")
        assert await made.services.storage.get_storage_usage("c") is None
        await made.services.notifications.send_invoice("c", {}, "key")
    finally:
        await made.close()
