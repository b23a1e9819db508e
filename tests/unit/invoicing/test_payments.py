"""Payments that name an invoice of who pays afterwards: before it is there, and after it is void; in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas import invoicing_commands as types
from schemas.commands import CUSTOMER_PUT
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
