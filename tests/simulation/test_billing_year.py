"""A year of billing on a test clock, in memory: every invoice equal to an independent auditor's."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas import invoicing_commands as types
from schemas.commands import CUSTOMER_PUT
from schemas.period import parse_time
from tests.billing_auditor import Told, audit, months_on, step
from tests.fakes.billing import BillingWorld
from tests.fakes.partition import event, granted

CATALOG = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.005"}
  - {id: plan-call, meter: calls, model: per_unit, unit_amount: "0.001"}
plans:
  - {id: pro, name: pro, interval: month, amount: "20.00", prices: [plan-call]}
  - {id: max, name: max, interval: month, amount: "50.00", prices: [plan-call]}
  - {id: year, name: year, interval: year, amount: "200.00", prices: [plan-call]}
"""
BEGIN = datetime(2025, 1, 17, 9, 30, tzinfo=UTC)
STEP_DAYS = 10


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


class Year:
    """Customers that do what a seed says."""

    def __init__(self, seed: int, customers: int) -> None:
        self.random = random.Random(seed)
        self.world = BillingWorld(CATALOG)
        self.told = {f"c{number}": Told() for number in range(customers)}
        self.now = BEGIN
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    async def begin(self) -> None:
        """Customers with their terms, on one clock."""
        for customer, told in self.told.items():
            rate = self.random.choice([None, "0.19", "7"])
            told.tax = {None: 0, "0.19": "0.19", "7": "0.07"}[rate] and type(told.tax)(
                {"0.19": "0.19", "7": "0.07"}[rate or "7"]
            )
            told.tax = type(told.tax)(told.tax or 0)
            fields = {"collection": self.random.choice(["prepaid", "postpaid"]), "currency": "USD"}
            if rate is not None:
                fields["tax_rate"] = rate
            await self.world.command(customer, CUSTOMER_PUT, self.name(), fields=fields)
            if self.random.random() < 0.7:
                amount = str(self.random.randint(1, 400))
                self.world.partition.account(granted(self.name(), amount, credit=f"g-{customer}", subject=customer))
        await self.clock()

    async def clock(self) -> None:
        done = await self.world.command(
            types.CLOCKS_CUSTOMER, types.CLOCK_SET, self.name(), clock="k", now=text(self.now), customers=[*self.told]
        )
        assert done.status == "done", done

    async def act(self, customer: str) -> None:
        """One customer's ten days."""
        told, chance = self.told[customer], self.random.random()
        plan, anchor = told.plan_at(self.now)
        subscription = next(
            (one for one in self.world.documents("subscription") if one["customer"] == customer
             and one["status"] in ("active", "past_due")), None
        )  # fmt: skip
        if not plan and chance < 0.3:
            chosen = self.random.choice(["pro", "max", "year"])
            done = await self.world.command(
                customer, types.SUBSCRIPTION_CREATE, self.name(), subscription_id=self.name(), plan_id=chosen
            )
            assert done.status == "done", done
            told.plans.append((self.now, chosen, self.now))
        elif plan and subscription is not None and chance < 0.12:
            chosen = self.random.choice([one for one in ("pro", "max", "year") if one != plan])
            done = await self.world.command(
                customer, types.SUBSCRIPTION_CHANGE, self.name(), subscription_id=subscription["id"], plan_id=chosen
            )
            assert done.status == "done", done
            told.plans.append((self.now, chosen, anchor if "year" not in (plan, chosen) else self.now))
        elif plan and subscription is not None and chance < 0.18:
            done = await self.world.command(
                customer, types.SUBSCRIPTION_CANCEL, self.name(), subscription_id=subscription["id"]
            )
            assert done.status == "done", done
            told.plans.append((self.now, "", datetime(1970, 1, 1, tzinfo=UTC)))
        if chance > 0.85:
            self.world.partition.account(
                granted(self.name(), str(self.random.randint(1, 90)), credit=self.name(), subject=customer)
            )
        self.use(customer)

    def use(self, customer: str) -> None:
        """Usage of the last days, some of it of weeks ago."""
        events: list[dict[str, Any]] = []
        for _ in range(self.random.randint(0, 4)):
            back = self.random.random() * (10 if self.random.random() < 0.8 else 45)
            at = max(self.now.timestamp() - back * 86_400, BEGIN.timestamp())
            when = datetime.fromtimestamp(int(at), UTC)
            name, calls = self.name(), self.random.randint(1, 9_000)
            self.told[customer].usage[name] = when, calls
            events.append(
                event(name, "usage.reported", {"meter": "calls", "quantity": calls}, subject=customer, time=text(when))
            )
        if events:
            rows = self.world.partition.usage(*events)
            assert {row["outcome"] for row in rows} == {"rated"}

    async def pay(self) -> None:
        """Some pay what they owe, some part of it, some never; a void or two, closed again."""
        for one in self.world.documents("invoice"):
            chance = self.random.random()
            if one["state"] in ("open", "overdue", "uncollectible") and chance < 0.4:
                name = self.name()
                await self.world.command(
                    one["customer"], types.INVOICE_PAY, name, invoice_id=one["id"], payment_id=name
                )
            elif (
                one["state"] in ("open", "paid") and one["kind"] == "period" and chance > 0.995 and not one["payments"]
            ):
                await self.world.closer.void("default", one["id"])

    async def run(self) -> None:
        """The year, ten days at a time."""
        await self.begin()
        while self.now < months_on(BEGIN, 12):
            for customer in self.told:
                await self.act(customer)
            self.now = step(self.now, STEP_DAYS)
            await self.clock()
            await self.world.jobs.catch_up("default", [*self.told], parse_time(text(self.now)))
            await self.pay()


def checked(year: Year) -> list[str]:
    """What is wrong: by the auditor, and with the ledger."""
    rows = year.world.partition.rows()
    seqs = {row["event_id"]: row["seq"] for row in rows if row["event_type"] == "usage.reported"}
    wrong = audit(year.told, year.world.documents("invoice"), seqs, year.world.documents("subscription"))
    for customer in year.told:
        posted = sum(one["amount"] for row in rows if row["customer"] == customer for one in row["postings"])
        if posted != year.world.account(customer).balance:
            wrong.append(f"{customer}: balance {year.world.account(customer).balance}, postings {posted}")
    return wrong


@pytest.mark.parametrize("seed", [1])
async def test_every_invoice_of_a_year_is_the_auditors(seed: int) -> None:
    """Upgrades, cancellations, late usage, payments, voids: usage at its own plan's price, each second billed once."""
    year = Year(seed, 4)
    await year.run()
    assert checked(year) == [], f"seed {seed}"
    assert len(year.world.documents("invoice")) > 20


@pytest.mark.long
@pytest.mark.parametrize("seed", [11, 12, 13, 14, 15])
async def test_every_invoice_of_fifty_customers_is_the_auditors(seed: int) -> None:
    """The long form: fifty customers and five seeds."""
    year = Year(seed, 50)
    await year.run()
    assert checked(year) == [], f"seed {seed}"


async def test_the_auditor_finds_one_cent() -> None:
    """An auditor that finds nothing wrong in a wrong invoice proves nothing."""
    year = Year(2, 1)
    await year.run()
    assert checked(year) == []
    invoices = year.world.documents("invoice")
    of = next(one for one in invoices if one["lines"])
    for name in ("amount", "exact_amount"):
        damaged = [dict(one) for one in invoices]
        place = invoices.index(of)
        lines = [dict(line) for line in of["lines"]]
        lines[0][name] = str(float(lines[0][name]) + 0.01)
        damaged[place]["lines"] = lines
        rows = year.world.partition.rows()
        seqs = {row["event_id"]: row["seq"] for row in rows if row["event_type"] == "usage.reported"}
        assert audit(year.told, damaged, seqs, year.world.documents("subscription"))
