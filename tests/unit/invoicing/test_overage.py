"""A period's overage, billed while the period runs, and what its own invoice is then."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from invoicing.overage import OVERAGES_MAX, bill_overage
from invoicing.usage_rows import Ask, PriceSum
from rating.billing import gaps
from schemas import invoicing_commands as types
from schemas.commands import CUSTOMER_PUT
from schemas.errors import Unavailable
from schemas.period import Period, parse_time
from schemas.topics import BILLING_EVENTS
from tests.fakes.billing import ClockWorld
from tests.fakes.partition import event

CATALOG = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5", included_quantity: 10, minimum_amount: "30.00"}
plans:
  - id: pro
    name: Pro
    interval: month
    amount: "20.00"
    prices: [call]
    commitment: {amount: "40.00", overage_factor: "2"}
  - {id: pro-yearly, interval: year, amount: "200.00", prices: [call]}
"""
BEGIN, END = "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"


@pytest.fixture
async def world() -> ClockWorld:
    """A postpaid customer of a plan with a tax, since the begin of March."""
    made = ClockWorld(CATALOG)
    await made.do(CUSTOMER_PUT, fields={"currency": "USD", "collection": "postpaid", "tax_rate": "10"})
    await made.at(BEGIN)
    await made.do(types.SUBSCRIPTION_CREATE, subscription_id="s", plan_id="pro")
    return made


async def exceeded(world: ClockWorld, time: str, number: int, subscription: str = "s") -> str:
    """The subscription service tells of it at a time; what became of that. What we tell of it then is billed."""
    await world.at(time)
    data = {"subscription_id": subscription, "plan_id": "pro", "status": "active", "billing_cycle": "month"}
    (row,) = world.partition.account(event(f"x{number}", "subscription.usage_exceeded", data, subject="c", time=time))
    for cause, at in told(world)[number - 1 :]:
        await bill_overage(world.closer, "default", "c", cause, at)
    return str(row["outcome"])


def told(world: ClockWorld) -> list[tuple[str, int]]:
    """Our own events of it: id and time."""
    messages = [message for chunk in world.partition.decided for message in chunk.messages]
    events = [json.loads(message.value or b"") for message in messages if message.topic == BILLING_EVENTS]
    return [
        (one["id"], parse_time(one["data"]["exceeded_at"]))
        for one in events
        if one["type"] == "subscription.usage_exceeded"
    ]


def shown(world: ClockWorld, kind: str) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """State, total and lines of invoices of a kind."""
    return [
        (one["state"], one["total"], [(line["kind"], line["amount"]) for line in one["lines"]])
        for one in world.invoices(kind)
    ]


async def test_what_was_used_so_far_is_billed_at_once_and_the_rest_with_the_period(world: ClockWorld) -> None:
    """Each charge on one invoice; the minimum and the commitment count what was billed before."""
    world.use("2026-03-05T00:00:00Z", 90)  # 80 beyond what is included
    assert await exceeded(world, "2026-03-10T00:00:00Z", 1) == "rated"
    assert shown(world, "overage") == [("open", "44.00", [("usage", "40.00"), ("tax", "4.00")])]
    world.use("2026-03-20T00:00:00Z", 20)
    await world.jobs_at("2026-04-02T00:00:00Z")
    # 50.00 in all: beyond the commitment of 40.00 are 10.00, which cost twice
    assert shown(world, "period") == [
        ("open", "44.00", [("usage", "10.00"), ("fee", "20.00"), ("minimum", "10.00"), ("tax", "4.00")])
    ]
    numbers = [one["number"] for kind in ("order", "overage", "period") for one in world.invoices(kind)]
    assert numbers == ["INV-000001", "INV-000002", "INV-000003"]
    assert world.account("c").receivable == (22 + 44 + 44) * 10**9


async def test_a_cause_has_one_invoice_and_a_second_bills_what_came_since(
    world: ClockWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is told, also where who drafted it died before it was final."""
    world.use("2026-03-05T00:00:00Z", 12)
    with monkeypatch.context() as dying:
        dying.setattr(world.closer, "finalize", away)
        with pytest.raises(Unavailable):
            await exceeded(world, "2026-03-10T00:00:00Z", 1)
    assert [(state, total) for state, total, _ in shown(world, "overage")] == [("draft", "1.10")]
    world.use("2026-03-11T00:00:00Z", 4)
    await exceeded(world, "2026-03-12T00:00:00Z", 2)
    for cause, at in [*told(world), *told(world)]:
        await bill_overage(world.closer, "default", "c", cause, at)
    assert sorted((state, total) for state, total, _ in shown(world, "overage")) == [("open", "1.10"), ("open", "2.20")]
    billing = next(one for one in world.documents("counter") if one.get("invoices"))
    march = Period(parse_time(BEGIN), parse_time(END))
    ((rest, until),) = gaps(billing, march, "USD", 1_000)
    assert (rest, until) == (max(last for one in billing["invoices"] for _, last in one["covers"]), 1_000)


async def away(*_: object, **__: object) -> None:
    """As where Kafka is away."""
    raise Unavailable("away")


async def test_the_minimum_is_asked_for_once_with_the_period(world: ClockWorld) -> None:
    """Of 30.00 at least, 5.00 were billed before; the commitment of 40.00 is filled up beside it."""
    world.use("2026-03-05T00:00:00Z", 20)
    await exceeded(world, "2026-03-10T00:00:00Z", 1)
    await world.jobs_at("2026-04-02T00:00:00Z")
    ((_, _, lines),) = shown(world, "period")
    assert [line for line in lines if line[0] == "minimum"] == [("minimum", "25.00"), ("minimum", "35.00")]


async def test_what_was_billed_by_a_void_overage_is_billed_with_the_period(world: ClockWorld) -> None:
    """As if it had not been."""
    world.use("2026-03-05T00:00:00Z", 90)
    await exceeded(world, "2026-03-10T00:00:00Z", 1)
    (overage,) = world.invoices("overage")
    await world.closer.void("default", overage["id"])
    await world.jobs_at("2026-04-02T00:00:00Z")
    ((_, _, lines),) = shown(world, "period")
    assert ("usage", "40.00") in lines


async def test_nothing_is_billed_where_nothing_was_charged_or_nobody_subscribes(world: ClockWorld) -> None:
    """What is included costs nothing; a subscription that is not known here, or over, has no overage."""
    world.use("2026-03-05T00:00:00Z", 10)
    assert await exceeded(world, "2026-03-10T00:00:00Z", 1) == "rated"
    assert await exceeded(world, "2026-03-11T00:00:00Z", 2, subscription="nobody-s") == "ignored"
    world.use("2026-03-12T00:00:00Z", 10)
    await world.do(types.SUBSCRIPTION_CANCEL, subscription_id="s")
    assert await exceeded(world, "2026-03-13T00:00:00Z", 3) == "ignored"
    assert shown(world, "overage") == []


async def test_a_period_has_a_bounded_number_of_them(world: ClockWorld) -> None:
    """However many causes are told: the period's invoice has the rest."""
    for number in range(OVERAGES_MAX + 2):
        world.use("2026-03-05T00:00:00Z", 20)
        await bill_overage(world.closer, "default", "c", f"cause-{number}", parse_time("2026-03-06T00:00:00Z"))
    assert len(world.invoices("overage")) == OVERAGES_MAX


async def test_a_cause_that_is_told_again_after_the_period_was_cut_has_its_one_invoice(world: ClockWorld) -> None:
    """A plan of another length, from before the period's end on, makes another period of the same time."""
    world.use("2026-03-05T00:00:00Z", 20)
    await exceeded(world, "2026-03-10T00:00:00Z", 1)
    world.use("2026-03-12T00:00:00Z", 20)
    await world.at("2026-03-15T12:00:00Z")
    await world.do(types.SUBSCRIPTION_CHANGE, subscription_id="s", plan_id="pro-yearly")
    for cause, at in told(world):
        await bill_overage(world.closer, "default", "c", cause, at)
    assert [total for _, total, _ in shown(world, "overage")] == ["5.50"]


async def test_what_corrections_have_taken_back_is_no_overage(
    world: ClockWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than nothing is given back with the period's invoice, and asks for no payment."""
    world.use("2026-03-05T00:00:00Z", 20)
    sums = world.rows.sums

    def taken_back(tenant: str, asks: Sequence[Ask]) -> list[PriceSum]:
        return [one._replace(amount=-one.amount) for one in sums(tenant, asks)]

    monkeypatch.setattr(world.rows, "sums", taken_back)
    await exceeded(world, "2026-03-10T00:00:00Z", 1)
    assert shown(world, "overage") == []


@pytest.mark.parametrize(
    ("command", "data"),
    [
        (types.SUBSCRIPTION_CANCEL, {}),
        (types.SUBSCRIPTION_CHANGE, {"plan_id": "pro-yearly"}),
    ],
)
async def test_a_period_that_ends_early_does_not_bill_its_overage_again(
    world: ClockWorld, command: str, data: dict[str, str]
) -> None:
    """Canceled, or on a plan of another length: each charge is on one invoice, and the minimum counts them all."""
    world.use("2026-03-05T00:00:00Z", 90)
    await exceeded(world, "2026-03-10T00:00:00Z", 1)
    world.use("2026-03-12T00:00:00Z", 20)
    await world.at("2026-03-15T12:00:00Z")
    await world.do(command, subscription_id="s", **data)
    await world.jobs_at("2026-05-03T00:00:00Z")
    lines = [line for one in world.documents("invoice") for line in one["lines"]]
    assert sorted(line["amount"] for line in lines if line["kind"] == "usage") == ["10.00", "40.00"]
    assert not [line for line in lines if line["kind"] == "minimum" and line["price_id"] == "call"]
