"""Payments that name an invoice of who pays afterwards: before it is there, and after it is void; in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas import invoicing_commands as types
from schemas.commands import CUSTOMER_PUT, PAYMENT_REFUND
from schemas.invoice import Identity
from schemas.period import Period, parse_time
from tests.fakes.billing import ClockWorld
from tests.fakes.partition import paid, refunded

CATALOG = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
"""


class World(ClockWorld):
    """Also told of payments by others."""

    def told(self, value: dict[str, Any]) -> tuple[str, str]:
        """What became of an account event, with what follows from it."""
        before = len(self.partition.rows())
        self.commands.take(json.dumps(value).encode())
        row = self.partition.rows()[before]
        return row["outcome"], row["reason"]


@pytest.fixture
async def world() -> World:
    made = World(CATALOG)
    await made.do(CUSTOMER_PUT, fields={"currency": "USD", "collection": "postpaid"})
    await made.at("2026-03-10T00:00:00Z")
    return made


async def test_a_payment_that_came_before_its_invoice_pays_it_when_it_is_sent_again(world: World) -> None:
    """Until then it is a dead letter that names what is missing, and no money moved; then it counts once. It is no
    deposit, so its refund is no withdrawal."""
    march = Period(parse_time("2026-03-01T00:00:00Z"), parse_time("2026-04-01T00:00:00Z"))
    early = paid("early", "3", invoice_id=Identity("default", "c", "USD", march).id)
    early["subject"] = "c"
    assert world.told(early) == ("dead_letter", "unknown_invoice")
    assert world.documents("payment") == []
    world.use("2026-03-20T00:00:00Z", 6)
    await world.jobs_at("2026-04-03T00:00:00Z")
    assert [one["state"] for one in world.invoices()] == ["open"]
    assert [world.told(early), world.told(early)[0]] == [("rated", ""), "duplicate"]
    assert [(one["state"], one["amount_paid"]) for one in world.invoices()] == [("paid", "3.00")]
    assert world.told(refunded("back", "3")) == ("rated", "")
    assert (world.account("c").balance, world.account("c").receivable) == (0, 0)


async def test_what_was_paid_of_an_invoice_that_is_void_pays_its_next_revision(world: World) -> None:
    """Paid in two parts, of one of which some was given back: what is left is a credit of the wallet, and the next
    revision takes it; void again, it is free again."""
    world.use("2026-03-20T00:00:00Z", 6)
    await world.jobs_at("2026-04-02T00:00:00Z")
    (first,) = world.invoices()
    assert world.told(paid("one", "1", payment="one", invoice_id=first["id"])) == ("rated", "")
    await world.do(types.INVOICE_PAY, invoice_id=first["id"], payment_id="two", amount="2.5")
    assert world.told(refunded("back", "0.25", payment="one", refund="r1")) == ("rated", "")
    assert world.told(refunded("over", "0.5", payment="two", refund="r2")) == ("rated", "")
    assert (world.account("c").balance, world.account("c").receivable) == (0, 0)
    await world.closer.void("default", first["id"])
    assert (world.account("c").balance, world.account("c").receivable) == (2_750_000_000, 3_000_000_000)
    await world.jobs_at("2026-04-02T12:00:00Z")
    second = world.invoices()[-1]
    assert (second["revision"], second["state"], second["amount_paid"], second["amount_due"]) == (
        2,
        "open",
        "2.75",
        "0.25",
    )
    assert (world.account("c").balance, world.account("c").receivable) == (0, 250_000_000)
    await world.closer.void("default", second["id"])
    assert (world.account("c").balance, world.account("c").receivable) == (2_750_000_000, 3_000_000_000)
    await world.do(PAYMENT_REFUND, payment_id="two", amount="1")
    assert world.account("c").balance == 1_750_000_000
    await world.jobs_at("2026-04-03T00:00:00Z")
    third = world.invoices()[-1]
    assert (third["revision"], third["amount_due"]) == (3, "1.25")


async def test_an_invoice_whose_payment_was_given_back_can_be_void(world: World) -> None:
    """All of it: nothing is left of it, and the usage is owed again."""
    world.use("2026-03-20T00:00:00Z", 6)
    await world.jobs_at("2026-04-02T00:00:00Z")
    (first,) = world.invoices()
    await world.do(types.INVOICE_PAY, invoice_id=first["id"], payment_id="p")
    assert world.told(refunded("back", "3", payment="p")) == ("rated", "")
    await world.closer.void("default", first["id"])
    assert (world.account("c").balance, world.account("c").receivable) == (0, 3_000_000_000)
    assert world.documents("payment")[0]["credited"] == "0"


async def test_a_payment_that_comes_while_an_invoice_is_made_void_is_not_lost(world: World) -> None:
    """A void that does not name it is refused, and is asked for again with it."""
    world.use("2026-03-20T00:00:00Z", 6)
    await world.jobs_at("2026-04-02T00:00:00Z")
    (first,) = world.invoices()
    await world.do(types.INVOICE_PAY, invoice_id=first["id"], payment_id="p")
    refused = await world.command("c", types.INVOICE_VOID, f"void:{first['id']}", invoice_id=first["id"])
    assert (refused.status, refused.reason) == ("refused", "stale")
    assert (await world.closer.void("default", first["id"]))["state"] == "void"
    assert world.account("c").balance == 3_000_000_000
