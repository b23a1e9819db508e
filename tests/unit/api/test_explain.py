"""An event and a charge explained from the ledger record that booked them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from api.queries import Query
from schemas.catalog import parse
from tests.fakes.partition import MemoryPartition, event, granted, reported, tokens
from tests.unit.api.conftest import NOW, World

CATALOG = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, aggregation: sum,
     dimensions: [model]}
  - {id: tiers, event_type: usage.reported, aggregation: sum}
  - {id: seats, event_type: usage.reported, aggregation: sum}
  - {id: paid, event_type: money.moved, quantity: data.amount}
  - {id: tools, event_type: tool.called, aggregation: count}
prices:
  - id: fee
    meter: paid
    model: percentage
    rate_percent: 10
    fixed_per_event: "1"
    free_events: 1
    max_per_event: "3"
  - {id: tool, meter: tools, model: dynamic, amount_field: data.cost, multiplier: "1.5"}
  - {id: input, meter: input_tokens, model: per_unit, unit_amount: "0.0000000015", discount_percent: 10}
  - id: tier
    meter: tiers
    model: graduated
    tiers: [{up_to: 10, unit_amount: "0.5"}, {up_to: null, unit_amount: "0.25", flat_amount: "5"}]
"""

LEDGER_OFFSET = 40


class Told:
    """A partition whose last decision is in the stores."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.partition = MemoryPartition(None)
        self.lines: list[list[Any]] = []
        self.partition.book = world.book

    def show(self, index: int) -> None:
        """ClickHouse has the row of an entry, Kafka its record and its event."""
        row = self.partition.rows()[index]
        for chunk in self.partition.decided:
            if chunk.record.first_seq <= row["seq"] < chunk.record.next_seq:
                self.world.records.ledgers[0, LEDGER_OFFSET] = chunk.record
        self.world.records.values[row["topic"], 0, row["offset"]] = b'{"id": "x"}'
        place = [row[name] for name in ("tenant", "source", "event_id", "outcome", "reason", "topic")]
        places = [*place, 0, str(row["offset"]), str(row["seq"]), str(LEDGER_OFFSET)]

        def answer(query: Query) -> list[list[Any]]:
            if query.parameters["tenant"] != "default":
                return []
            if "invoice_lines" in query.sql:
                return self.lines
            if "dead_letters" in query.sql:
                return [
                    [
                        1,
                        "usage.events",
                        0,
                        row["offset"],
                        "c",
                        "test",
                        "1",
                        "t",
                        row["reason"],
                        "why",
                        3,
                        None,
                        None,
                        "",
                        "",
                    ]
                ]
            return [places]

        self.world.rows.answer = answer

    async def explain(self, kind: str, name: str, **headers: str) -> dict[str, Any]:
        response = await self.world.client.get(f"/v1/explain/{kind}/{name}", headers=self.world.token(tenant="default"))
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


@pytest.fixture
async def told(world: World) -> Told:
    await world.apply(parse(CATALOG), None, NOW)
    return Told(world)


async def test_an_event_is_explained_from_record_to_balance(told: Told) -> None:
    """Its place, its charges with price and steps, the credits burnt, the balance before and after."""
    told.partition.account(granted("g", "1"))
    told.partition.usage(tokens(1, 1000))
    told.show(1)
    found = await told.explain("event", "test%2F1")
    assert (found["kind"], found["outcome"], found["event"]["source"], found["event"]["id"]) == (
        "event",
        "rated",
        "test",
        "1",
    )
    assert found["record"] == {"topic": "usage.events", "partition": 0, "offset": 0}
    assert (found["entry"]["offset"], found["entry"]["seq"]) == (LEDGER_OFFSET, 1)
    (charge,) = found["charges"]
    assert (charge["price"]["model"], charge["catalog_version"], charge["amount"]) == ("per_unit", 2, "0.00000135")
    assert [(step["name"], step["amount"]) for step in charge["steps"]] == [
        ("units", "0.0000015"),
        ("discount", "-0.00000015"),
    ]
    assert found["balance"] == {"before": "1", "after": "0.99999865", "currency": "USD"}
    assert found["postings"][0]["burnt"] == [{"credit_id": "credit-g", "amount": "0.00000135"}]
    assert json.loads(found["original"]) == {"id": "x"}
    assert found["records"][0]["offset"] == 0


async def test_a_charge_walks_through_the_tiers_from_the_quantity_before_it(told: Told) -> None:
    """The steps are what this charge added, not the whole period's."""
    told.partition.usage(reported(1, 8, "tiers"), reported(2, 4, "tiers"))
    told.show(1)
    found = await told.explain("charge", "0-1-0")
    (charge,) = found["charges"]
    assert (charge["quantity_before"], charge["quantity"], charge["quantity_after"]) == ("8", "4", "12")
    steps = {step["name"]: (step["quantity"], step["amount"]) for step in charge["steps"]}
    assert steps == {"tier 1": ("2", "1"), "tier 2": ("2", "0.5"), "tier 2 flat": ("0", "5")}
    assert charge["amount"] == charge["exact_amount"] == "6.5"
    assert sum(Decimal(step["amount"]) for step in charge["steps"]) == Decimal("6.5")


async def test_a_percentage_is_walked_with_all_that_its_period_counted(told: Told) -> None:
    """Events so far and the total so far stand in the ledger beside the money so far."""
    told.partition.usage(
        *(event(number, "money.moved", {"amount": amount}) for number, amount in enumerate((5, 0, 40)))
    )
    told.show(0)
    assert [step["name"] for step in (await told.explain("charge", "0-0-0"))["charges"][0]["steps"]] == ["free"]
    told.show(2)
    (charge,) = (await told.explain("charge", "0-2-0"))["charges"]
    assert {step["name"]: step["amount"] for step in charge["steps"]} == {
        "rate": "4",
        "fixed": "1",
        "maximum per event": "-2",
    }
    assert (charge["quantity_before"], charge["amount"], charge["exact_amount"]) == ("5", "3", "3")


async def test_an_amount_that_came_with_its_event_is_told(told: Told) -> None:
    """Taken back from what it cost: the ledger's quantity is the meter's."""
    told.partition.usage(event(1, "tool.called", {"cost": "0.5"}))
    told.show(0)
    (charge,) = (await told.explain("charge", "0-0-0"))["charges"]
    assert charge["quantity"] == "1"
    assert charge["steps"] == [{"name": "amount", "quantity": "0.5", "unit_amount": "1.5", "amount": "0.75"}]


async def test_a_charge_names_the_line_of_the_invoice_it_went_to(told: Told) -> None:
    """As long as no invoice has it, none."""
    told.partition.usage(tokens(1, 1000))
    told.show(0)
    assert (await told.explain("charge", "0-0-0"))["charges"][0]["invoice_line"] is None
    told.lines = [["inv-1", "INV-000001", "open", "2", "usage", "Input tokens", "0.00000135", "0.00"]]
    line = (await told.explain("charge", "0-0-0"))["charges"][0]["invoice_line"]
    assert (line["id"], line["number"], line["exact_amount"]) == ("inv-1/2", "INV-000001", "0.00000135")
    assert told.world.rows.asked[-1].parameters["seq"] == 0


async def test_the_first_charge_of_a_period_is_walked_from_nothing(told: Told) -> None:
    """And a meter without a price says that it only counts."""
    told.partition.usage(reported(1, 4, "tiers"), reported(2, 1, "seats"))
    told.show(0)
    assert [step["name"] for step in (await told.explain("charge", "0-0-0"))["charges"][0]["steps"]] == ["tier 1"]
    told.show(1)
    (charge,) = (await told.explain("charge", "0-1-0"))["charges"]
    assert (charge["steps"], charge["remark"]) == ([], "the meter has no price and only counts")


async def test_a_dead_letter_is_explained_with_its_detail(told: Told) -> None:
    """Nothing was charged, and it is said why."""
    told.partition.usage(event(1, "rocket.landed", {}))
    told.show(0)
    found = await told.explain("event", "1")
    assert (found["outcome"], found["reason"], found["charges"], found["balance"]) == (
        "dead_letter",
        "unknown_type",
        [],
        None,
    )
    assert (found["dead_letter"]["id"], found["dead_letter"]["detail"]) == ("usage.events-0-0", "why")


async def test_what_is_not_there_is_404(told: Told) -> None:
    """As is another tenant's, and a kind that nothing explains."""
    told.partition.usage(tokens(1, 1))
    told.show(0)
    for path in ("charge/0-0-9", "charge/99999-0-0", "charge/x", "nothing/1"):
        response = await told.world.client.get(f"/v1/explain/{path}", headers=told.world.token(tenant="default"))
        assert response.status_code == 404
    assert (await told.world.client.get("/v1/explain/event/1", headers=told.world.token())).status_code == 404
