"""Our invoices and payment intents in a Stripe that answers over HTTP: once each, whatever becomes of an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from invoicing.stripe.gateway import Pushed, StripeGateway
from invoicing.stripe.mirror import Tenant, differences, mirror
from schemas.commands import Command
from schemas.errors import Unavailable
from schemas.invoice import Draft, Identity, Line
from schemas.money import NANOS
from schemas.period import Period, parse_time
from tests.integration.stripe_peer import stripe_peer

OCTOBER = Period(parse_time("2026-10-01T00:00:00Z"), parse_time("2026-11-01T00:00:00Z"))
KEY = "sk_test_12345"


@pytest.fixture(scope="module")
def peer() -> Iterator[str]:
    """A Stripe of this module's own."""
    with stripe_peer() as url:
        yield url


@pytest.fixture
async def gateway(peer: str) -> AsyncIterator[StripeGateway]:
    """Waits little between tries, and for an answer."""
    async with StripeGateway(KEY, peer, pauses_seconds=(0.01,) * 4, timeout_seconds=0.5) as made:
        yield made


def invoice(tenant: str, customer: str = "c", currency: str = "USD", **changes: Any) -> dict[str, Any]:
    """An open invoice of three lines, one of which lessens it."""
    lines = (
        Line("fee", "Pro", 20 * NANOS, OCTOBER),
        Line("usage", "Tokens", 1_500_000_000_000, OCTOBER),
        Line("credit", "Paid from the balance", -7 * NANOS, OCTOBER),
    )
    document = Draft(Identity(tenant, customer, currency, OCTOBER), "postpaid", lines).document(OCTOBER.end)
    return {**document, "state": "open", "number": "INV-000001", **changes}


class World:
    """A tenant's documents, and what the commands that are sent make of them."""

    def __init__(self, tenant: str, *invoices: dict[str, Any], payments: tuple[dict[str, Any], ...] = ()) -> None:
        self.customers: dict[str, dict[str, Any]] = {"c": {"customer": "c", "name": "C"}}
        self.invoices = {one["id"]: one for one in invoices}
        self.payments = {one["payment_intent_id"]: one for one in payments}
        self.tenant = Tenant(tenant, self.customers, self.invoices, self.payments)

    async def send(self, command: Command) -> None:
        """As the effects do."""
        data = command.data
        if command.type == "tollgate.stripe.customer":
            self.customers[command.customer] |= data
        elif command.type == "tollgate.stripe.invoice":
            self.invoices[data["invoice_id"]] |= data
        else:
            self.payments[data["payment_intent_id"]] |= data


async def ask(peer: str, method: str, path: str, **body: Any) -> Any:
    """A question to the peer itself."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.request(method, peer + path, **body) as got:
        return await got.json() if got.content_type == "application/json" else None


async def all_of(gateway: StripeGateway, tenant: str) -> list[Pushed]:
    """What the peer has of a tenant."""
    return [pushed async for pushed in gateway.invoices() if pushed.tenant == tenant]


async def test_an_invoice_stands_in_stripe_with_its_lines_and_total(gateway: StripeGateway, peer: str) -> None:
    """Its customer is made, each line is one item, and a second pass has nothing to do."""
    world = World("plain", invoice("plain"))
    first = await mirror(gateway, world.tenant, world.send)
    assert (first.pushed, first.failed) == (1, [])
    (pushed,) = await all_of(gateway, "plain")
    assert (pushed.status, pushed.total, pushed.currency) == ("open", "1513", "USD")
    (ours,) = world.invoices.values()
    lines = await ask(peer, "GET", f"/v1/invoices/{ours['stripe_invoice_id']}/lines")
    assert [(line["amount"], line["description"]) for line in lines["data"]] == [
        (2000, "Pro"), (150_000, "Tokens"), (-700, "Paid from the balance"),
    ]  # fmt: skip
    assert world.customers["c"]["stripe_customer_id"].startswith("cus_")
    assert await mirror(gateway, world.tenant, world.send) == type(first)()
    assert differences(world.invoices.values(), [pushed], "plain") == (1, 1, [])


async def test_trouble_at_every_call_makes_one_invoice(gateway: StripeGateway, peer: str) -> None:
    """429, 500 and no answer before the effect, and answers lost after it."""
    world = World("trouble", invoice("trouble"))
    kinds = [(429, False), (500, False), (500, True), (429, True), (408, False), (408, True)]
    await ask(peer, "POST", "/_peer/trouble", json=[{"status": s, "after": a} for s, a in kinds * 3])
    for _ in range(6):
        try:
            await mirror(gateway, world.tenant, world.send)
        except Unavailable:
            continue
        break
    (pushed,) = await all_of(gateway, "trouble")
    assert (pushed.status, pushed.total) == ("open", "1513")


async def test_a_stripe_that_stays_away_is_unavailable() -> None:
    """Nothing is known, and nothing of ours has changed."""
    world = World("away", invoice("away"))
    async with StripeGateway(KEY, "http://127.0.0.1:9", pauses_seconds=(0.01,)) as gateway:
        with pytest.raises(Unavailable) as away:
            await mirror(gateway, world.tenant, world.send)
    assert KEY not in str(away.value)
    assert "stripe_invoice_id" not in next(iter(world.invoices.values()))


@pytest.mark.parametrize("died_after", range(5))
async def test_a_pass_that_died_is_gone_on_with_also_days_later(
    gateway: StripeGateway, peer: str, died_after: int
) -> None:
    """Idempotency keys are forgotten by then: what is there is found by its metadata."""
    tenant = f"died-{died_after}"
    world = World(tenant, invoice(tenant))
    world.customers["c"]["stripe_customer_id"] = await gateway.customer(tenant, "c", {})
    calls = [{"status": 0, "after": False}] * died_after + [{"status": 500, "after": died_after % 2 == 0}]
    await ask(peer, "POST", "/_peer/trouble", json=calls)
    async with StripeGateway(KEY, peer, pauses_seconds=()) as dying:
        with pytest.raises(Unavailable):
            await mirror(dying, world.tenant, world.send)
    await ask(peer, "POST", "/_peer/forget")
    await mirror(gateway, world.tenant, world.send)
    (pushed,) = await all_of(gateway, tenant)
    assert (pushed.status, pushed.total) == ("open", "1513")


async def test_what_was_paid_or_voided_with_us_is_so_in_stripe(gateway: StripeGateway) -> None:
    """Out of band, marked so that its echo is known; what asks for nothing is not sent at all."""
    paid, gone = invoice("ends", "c"), invoice("ends", "c", "EUR")
    world = World("ends", paid, gone, {**invoice("ends", "c", "GBP"), "state": "paid"})
    await mirror(gateway, world.tenant, world.send)
    paid["state"], gone["state"] = "paid", "void"
    ended = await mirror(gateway, world.tenant, world.send)
    assert (ended.settled, ended.voided, ended.failed) == (1, 1, [])
    found = await all_of(gateway, "ends")
    assert sorted((one.currency, one.status) for one in found) == [("EUR", "void"), ("USD", "paid")]
    assert differences(world.invoices.values(), found, "ends") == (2, 2, [])


async def test_what_is_void_with_us_after_it_was_paid_is_credited_in_stripe(gateway: StripeGateway) -> None:
    """Stripe voids nothing that is paid; a credit note takes it back, once."""
    one = invoice("credited")
    world = World("credited", one)
    for state in ("open", "paid", "void"):
        one["state"] = state
        assert (await mirror(gateway, world.tenant, world.send)).failed == []
    (found,) = await all_of(gateway, "credited")
    assert (found.status, found.credited) == ("paid", "1513")
    assert differences([one], [found], "credited") == (1, 1, [])


async def test_a_payment_intent_is_asked_for_once(gateway: StripeGateway, peer: str) -> None:
    """It names our intent and order, and its secret comes back for the customer's browser."""
    payment = {
        "customer": "c", "object": "intent", "payment_intent_id": "pi_o-1", "order_id": "o-1", "status": "pending",
        "amount": "12.5", "currency": "USD",
    }  # fmt: skip
    world = World("intents", payments=(payment,))
    assert (await mirror(gateway, world.tenant, world.send)).intents == 1
    assert (await mirror(gateway, world.tenant, world.send)).intents == 0
    made = await ask(peer, "GET", f"/v1/payment_intents/{payment['stripe_payment_intent_id']}")
    assert (made["amount"], made["currency"], made["metadata"]["tollgate_order"]) == (1250, "usd", "o-1")
    assert payment["client_secret"].startswith(made["id"])


async def test_differences_are_told_in_words(gateway: StripeGateway) -> None:
    """Another total, an end that only Stripe knows of, and an invoice that is not there."""
    one, other = invoice("differ"), invoice("differ", "c", "EUR")
    world = World("differ", one, other)
    await mirror(gateway, world.tenant, world.send)
    await gateway.settle_invoice(other["stripe_invoice_id"])
    found = await all_of(gateway, "differ")
    one["total"] = "1513.01"
    known, equal, told = differences(world.invoices.values(), found, "differ")
    assert (known, equal) == (2, 0)
    assert sorted(told) == sorted([f"{one['id']}: 1513.01 USD, in Stripe 1513", f"{other['id']}: open, in Stripe paid"])
    assert differences([one], [], "differ") == (1, 0, [f"{one['id']}: not in Stripe"])
