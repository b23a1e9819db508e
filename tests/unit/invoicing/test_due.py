"""What is due by real time and not by the clock of its customer: jobs leave it, and do it when its time has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from schemas import invoicing_commands as types
from schemas.commands import CUSTOMER_PUT, ORDER_CREATE
from schemas.period import DAY, format_time, parse_time
from tests.fakes.billing import ClockWorld
from tests.unit.invoicing.test_close import CATALOG

BEGIN = "2026-03-10T00:00:00Z"
LATER = parse_time(BEGIN) + 200 * DAY
"""What a job takes for now that does not know of the clock yet."""

Job = Callable[[ClockWorld], Awaitable[int]]


async def renewed(world: ClockWorld) -> int:
    return await world.jobs.renew([("default", "c", "s")], LATER)


async def finalized(world: ClockWorld) -> int:
    return await world.jobs.finalize([("default", body, LATER) for body in world.documents("invoice")])


async def collected(world: ClockWorld) -> int:
    return await world.jobs.collect([("default", body, LATER) for body in world.documents("invoice")])


async def expired(world: ClockWorld) -> int:
    orders = world.documents("order")
    found = [("default", "c", body["order_id"], parse_time(body["expires_at"])) for body in orders]
    return await world.jobs.expire_orders(found, LATER)


@pytest.fixture
async def world() -> ClockWorld:
    """On 11 April: a subscription whose next period begins on 10 May, the draft of its last one, an unpaid order."""
    made = ClockWorld(CATALOG)
    await made.do(CUSTOMER_PUT, fields={"currency": "USD", "collection": "postpaid"})
    await made.at(BEGIN)
    await made.do(types.SUBSCRIPTION_CREATE, subscription_id="s", plan_id="pro")
    await made.jobs_at("2026-04-10T00:00:00Z")
    await made.do(
        ORDER_CREATE, order_id="o", order_type="credits", total_amount="5", currency="USD", expires_in_seconds=86_400
    )
    return made


@pytest.mark.parametrize(
    ("job", "at"),
    [
        (renewed, "2026-05-10T00:00:00Z"),
        (finalized, "2026-04-11T00:00:00Z"),
        (expired, "2026-04-11T00:00:00Z"),
    ],
)
async def test_a_customers_own_time_is_the_one_that_counts(world: ClockWorld, job: Job, at: str) -> None:
    """Nothing changes before it has come."""
    before = dict(world.partition.documents)
    assert await job(world) == 0
    assert world.partition.documents == before
    await world.at(at)
    assert await job(world) == 1


async def test_an_invoice_is_collected_by_the_customers_own_time(world: ClockWorld) -> None:
    """Each attempt, overdue and uncollectible, one after the other."""
    await world.jobs_at("2026-04-11T00:00:00Z")
    (invoice,) = world.invoices()
    assert await collected(world) == 0
    assert world.invoices() == [invoice]
    reached = []
    for days in (0, 1, 2, 3, 5, 7, 13, 14, 73, 74):
        await world.at(format_time(parse_time(invoice["finalized_at"]) + days * DAY))
        await collected(world)
        (now,) = world.invoices()
        reached.append((days, now.get("attempt_count", 0), now["state"]))
    assert reached == [
        *((0, 0, "open"), (1, 1, "open"), (2, 1, "open"), (3, 2, "open"), (5, 3, "open"), (7, 4, "open")),
        *((13, 4, "open"), (14, 4, "overdue"), (73, 4, "overdue"), (74, 4, "uncollectible")),
    ]
