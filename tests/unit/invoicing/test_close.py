"""What a close makes of drafts that stand, in memory: brought up to date, waited for, void where nothing is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas import invoicing_commands as types
from schemas.commands import CUSTOMER_PUT
from schemas.period import DAY, Period, parse_time
from tests.fakes.billing import ClockWorld
from tests.fakes.partition import event

CATALOG = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
plans:
  - {id: pro, name: Pro, interval: month, amount: "20.00"}
"""
BEGIN, END = "2026-03-10T00:00:00Z", "2026-04-10T00:00:00Z"


@pytest.fixture
async def world() -> ClockWorld:
    made = ClockWorld(CATALOG)
    await made.do(CUSTOMER_PUT, fields={"currency": "USD", "collection": "postpaid"})
    await made.at(BEGIN)
    return made


def lines(invoice: dict[str, Any]) -> list[tuple[str, str]]:
    """Kinds and amounts."""
    return [(line["kind"], line["amount"]) for line in invoice["lines"]]


async def test_a_draft_waits_for_late_usage_and_is_brought_up_to_date(world: ClockWorld) -> None:
    """A day of grace after the period's end: what comes in it is on the invoice, what comes later on the next."""
    world.use("2026-03-20T00:00:00Z", 2)
    await world.jobs_at("2026-04-01T00:00:00Z")
    (draft,) = world.invoices()
    assert (draft["state"], lines(draft)) == ("draft", [("usage", "1.00")])
    world.use("2026-03-21T00:00:00Z", 4)
    await world.jobs_at("2026-04-01T23:59:59Z")
    assert [(one["state"], lines(one)) for one in world.invoices()] == [("draft", [("usage", "3.00")])]
    world.use("2026-03-22T00:00:00Z", 6)
    await world.jobs_at("2026-04-02T00:00:00Z")
    assert [(one["state"], one["number"], lines(one)) for one in world.invoices()] == [
        ("open", "INV-000001", [("usage", "6.00")])
    ]
    world.use("2026-03-23T00:00:00Z", 8)
    await world.jobs_at("2026-05-03T00:00:00Z")
    late = world.invoices()[-1]
    assert lines(late) == [("adjustment", "4.00")]
    assert late["lines"][0]["period"] == {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"}
    assert world.account("c").receivable == 10 * 10**9


async def test_who_cancels_before_the_draft_is_final_pays_no_further_fee(world: ClockWorld) -> None:
    """The draft had the next month's fee; with nothing left on it, it is void and no money is asked for."""
    await world.do(types.SUBSCRIPTION_CREATE, subscription_id="s", plan_id="pro")
    await world.jobs_at(END)
    (draft,) = world.invoices()
    assert (draft["state"], lines(draft)) == ("draft", [("fee", "20.00")])
    await world.do(types.SUBSCRIPTION_CANCEL, subscription_id="s")
    await world.jobs_at("2026-05-02T00:00:00Z")
    (after,) = world.invoices()
    assert (after["state"], after["number"]) == ("void", None)
    assert world.account("c").receivable == 20 * 10**9  # the first month


async def test_two_drafts_of_one_customer_bill_each_month_once(world: ClockWorld) -> None:
    """Closed and finalized together, with nothing brought up to date in between."""
    await world.do(types.SUBSCRIPTION_CREATE, subscription_id="s", plan_id="pro")
    await world.at("2026-05-10T12:00:00Z")
    now = parse_time("2026-05-10T12:00:00Z")
    await world.jobs.renew([("default", "c", "s")], now)
    await world.jobs.close(now, "default", "c")
    drafts = world.invoices()
    assert [lines(one) for one in drafts] == [[("fee", "20.00")], [("fee", "20.00")]]
    assert [one["lines"][0]["period"]["start"] for one in drafts] == [END, "2026-05-10T00:00:00Z"]
    await world.closer.finalize_all([("default", one["id"]) for one in reversed(drafts)], refresh=False)
    assert [one["number"] for one in world.invoices()] == ["INV-000002", "INV-000003"]
    assert world.account("c").receivable == 60 * 10**9
    (subscription,) = world.documents("subscription")
    assert subscription["billed_to"] == "2026-06-10T00:00:00Z"


async def test_the_last_invoice_of_a_plan_is_final(world: ClockWorld) -> None:
    """What was used until the end, and what is given back of the fee; its revision is final as well."""
    await world.do(types.SUBSCRIPTION_CREATE, subscription_id="s", plan_id="pro")
    world.use("2026-03-12T00:00:00Z", 2)
    await world.at("2026-03-25T12:00:00Z")
    await world.do(types.SUBSCRIPTION_CANCEL, subscription_id="s")
    await world.jobs_at("2026-03-27T00:00:00Z")
    (last,) = world.invoices("final")
    assert (last["state"], lines(last)) == ("paid", [("usage", "1.00"), ("fee", "-10.00")])
    owed = world.account("c").receivable
    await world.closer.void("default", last["id"])
    await world.jobs_at("2026-03-28T00:00:00Z")
    first, second = world.invoices("final")
    assert [(one["state"], one["revision"]) for one in (first, second)] == [("void", 1), ("paid", 2)]
    assert lines(second) == lines(last)
    assert world.account("c").receivable == owed


async def test_a_final_invoice_is_left_alone_and_a_draft_is_not_sent_again(world: ClockWorld) -> None:
    """However often a period is closed."""
    world.use("2026-03-20T00:00:00Z", 2)
    await world.jobs_at("2026-04-01T12:00:00Z")
    sent = len(world.commands.sent)
    assert await world.jobs.close(parse_time("2026-04-01T12:00:00Z")) == 0
    assert len(world.commands.sent) == sent
    await world.jobs_at("2026-04-03T00:00:00Z")
    assert await world.another_closer().finalize_all([("default", world.invoices()[0]["id"])]) == 0
    assert await world.jobs.close(parse_time("2026-04-03T00:00:00Z") + DAY) == 0
    assert [one["number"] for one in world.invoices()] == ["INV-000001"]


async def test_all_pages_are_finalized_each_as_it_is_drafted(
    world: ClockWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More customers than a page, and more invoices than a summary names: each gets one number, without a gap."""
    monkeypatch.setattr("invoicing.close.PAGE", 2)
    monkeypatch.setattr("invoicing.summary.INVOICES_TOLD", 3)
    names = [f"c{number}" for number in range(7)]
    for name in names:
        data = {"meter": "calls", "quantity": 1}
        world.partition.usage(event(f"e-{name}", "usage.reported", data, subject=name, time="2026-03-05T00:00:00Z"))
    march = Period(parse_time("2026-03-01T00:00:00Z"), parse_time("2026-04-01T00:00:00Z"))
    pages: list[int] = []

    async def drafted(page: Sequence[tuple[str, str]]) -> None:
        pages.append(await world.closer.finalize_all(page, refresh=False))

    summary = await world.closer.close(march, drafted=drafted)
    assert (summary.drafted, len(summary.invoices), pages) == (7, 3, [2, 2, 2, 1])
    final = world.invoices()
    assert sorted(one["customer"] for one in final) == names
    assert sorted(one["number"] for one in final) == [f"INV-{at:06d}" for at in range(1, 8)]
    again = await world.closer.close(march, drafted=drafted)
    assert (again.drafted, again.unchanged, pages) == (0, 0, [2, 2, 2, 1])
