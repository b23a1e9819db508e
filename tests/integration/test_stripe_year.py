"""A year of billing mirrored into Stripe's peer as it goes: what stands there is what we say, whoever paid where."""

from __future__ import annotations

import random
import re
from typing import Any

import aiohttp

from invoicing.stripe.gateway import StripeGateway
from invoicing.stripe.mirror import Tenant, differences, mirror
from invoicing.stripe.reconcile import equations
from invoicing.stripe.webhook import account_event
from schemas.commands import Command
from schemas.documents import CUSTOMER, decode_body, document_key
from tests.billing_auditor import Paid
from tests.fakes.stripe_peer import ADDED
from tests.integration.stripe_peer import stripe_peer
from tests.simulation.billing_year import Decimal, Year, checked

KEY = "sk_test_12345"
LOCALSTRIPES_OWN = {"/v1/customers", "/v1/invoiceitems", "/v1/invoices/{id}"}
"""Calls that make something and that localstripe answers by itself; those that read are all its own."""


class Mirrored:
    """A year, and the Stripe that follows it."""

    def __init__(self, year: Year, gateway: StripeGateway, peer: str) -> None:
        self.year, self.gateway, self.peer = year, gateway, peer
        self.random = random.Random(year.now.year)
        self.paid_there = 0

    async def send(self, command: Command) -> None:
        """Into the log."""
        self.year.world.commands.take(command.encoded())

    async def ask(self, method: str, path: str, data: Any = None) -> Any:
        """Of the peer itself."""
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.request(method, self.peer + path, data=data) as got:
                assert got.status == 200, await got.text()
                return await got.json()

    def tenant(self) -> Tenant:
        """Documents as they stand."""
        documents = self.year.world.partition.documents
        customers = {name: decode_body(documents[document_key("default", CUSTOMER, name)]) for name in self.year.told}
        return Tenant("default", customers, {one["id"]: one for one in self.year.world.documents("invoice")})

    async def follow(self) -> None:
        """One pass; then somebody pays with Stripe, which tells us twice."""
        assert (await mirror(self.gateway, self.tenant(), self.send)).failed == []
        for one in self.year.world.documents("invoice"):
            if one["state"] == "open" and one.get("stripe_invoice_id") and self.random.random() < 0.2:
                await self.pay_there(one)

    async def pay_there(self, one: dict[str, Any]) -> None:
        """Of an invoice that nobody paid a part of: Stripe asks for all of it."""
        if one["payments"] or one["amount_paid"] != "0.00":
            return
        name = one["stripe_invoice_id"]
        await self.ask("POST", f"/v1/invoices/{name}/pay", {"paid_out_of_band": "true"})
        about = await self.ask("GET", f"/v1/invoices/{name}")
        assert about["status"] == "paid"
        about |= {"amount_paid": about["total"]}
        event = {"id": f"evt_{name}", "type": "invoice.paid", "created": int(self.year.now.timestamp())}
        told = account_event({**event, "data": {"object": about}})
        assert told is not None
        amount = Decimal(about["total"]) / 100
        self.year.told[one["customer"]].payments[name] = Paid(one["id"], amount, amount)
        self.year.sent(told)
        before = len(self.year.world.partition.decided)
        self.year.world.partition.account(told)
        assert len(self.year.world.partition.decided) == before + 1
        self.paid_there += 1


async def test_a_year_stands_in_stripe_as_it_stands_here() -> None:
    """Pushed, settled, voided and paid there while it goes on; then every total, state and line is equal, and the
    auditor finds nothing wrong either."""
    with stripe_peer() as peer:
        async with StripeGateway(KEY, peer, pauses_seconds=()) as gateway:
            year = Year(7, 3)
            mirrored = Mirrored(year, gateway, peer)
            await year.run(mirrored.follow)
            await mirror(gateway, mirrored.tenant(), mirrored.send)
            assert checked(year) == []
            theirs = [pushed async for pushed in gateway.invoices()]
            ours = {one["id"]: one for one in year.world.documents("invoice") if one.get("stripe_invoice_id")}
            assert differences(ours.values(), theirs, "default") == (len(ours), len(ours), [])
            assert {pushed.tollgate_id for pushed in theirs} == ours.keys()
            proved = equations({f"default\x1f{name}": one for name, one in ours.items()}, theirs)
            assert [one.difference for one in proved] == [0, 0, 0]
            assert {pushed.status for pushed in theirs} >= {"open", "paid"}
            assert mirrored.paid_there
            for pushed in theirs:
                lines = (await mirrored.ask("GET", f"/v1/invoices/{pushed.stripe_invoice_id}/lines?limit=100"))["data"]
                assert [line["amount"] for line in lines] == [
                    int(Decimal(line["amount"]) * 100) for line in ours[pushed.tollgate_id]["lines"]
                ]
            made = {re.sub(r"/in_[^/]+", "/{id}", path) for path in await mirrored.ask("GET", "/_peer/calls")}
            assert made <= ADDED.keys() | LOCALSTRIPES_OWN, made
