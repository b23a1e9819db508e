"""A year of billing that a seed makes, and whether anything of it is wrong."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from schemas import invoicing_commands as types
from schemas.commands import CUSTOMER_PUT
from schemas.documents import INVOICE, decode_body, document_key
from schemas.ledger import rows
from schemas.period import parse_time
from tests.billing_auditor import Paid, Told, audit, audit_dunning, audit_money, months_on, step
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
HAPPENS = ("change", "cancellation", "late usage", "payment", "failed payment", "refund", "void")


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


async def nothing() -> None:
    """What is done besides."""


class Year:
    """Customers that do what a seed says."""

    def __init__(self, seed: int, customers: int) -> None:
        self.random = random.Random(seed)
        self.world = BillingWorld(CATALOG)
        self.told = {f"c{number}": Told() for number in range(customers)}
        self.now = BEGIN
        self.count = 0
        self.happened: Counter[str] = Counter()
        """What the seed made happen, by name: a year in which nothing fails shows nothing."""

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
            told.collection = fields["collection"]
            if self.random.random() < 0.7:
                self.grant(customer, self.random.randint(1, 400))
        await self.clock()

    def grant(self, customer: str, amount: int) -> None:
        """A credit, and what follows from it: a top-up tries what is unpaid again."""
        name = self.name()
        self.told[customer].granted += amount
        self.sent(granted(name, str(amount), credit=f"g-{name}", subject=customer))

    def sent(self, made: dict[str, Any]) -> None:
        """An event of another service on the account topic, and the commands that follow from it."""
        before = len(self.world.partition.decided)
        self.world.commands.take(json.dumps(made).encode())
        (row,) = rows(self.world.partition.decided[before].record)
        assert row["outcome"] == "rated", row

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
            self.happened["change"] += 1
            told.plans.append((self.now, chosen, anchor if "year" not in (plan, chosen) else self.now))
        elif plan and subscription is not None and chance < 0.18:
            done = await self.world.command(
                customer, types.SUBSCRIPTION_CANCEL, self.name(), subscription_id=subscription["id"]
            )
            assert done.status == "done", done
            self.happened["cancellation"] += 1
            told.plans.append((self.now, "", datetime(1970, 1, 1, tzinfo=UTC)))
        if chance > 0.85:
            self.grant(customer, self.random.randint(1, 90))
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
            self.happened["late usage"] += when < step(self.now, -STEP_DAYS)
            events.append(
                event(name, "usage.reported", {"meter": "calls", "quantity": calls}, subject=customer, time=text(when))
            )
        if events:
            decided = self.world.partition.usage(*events)
            assert {row["outcome"] for row in decided} == {"rated"}

    async def pay(self) -> None:
        """Some pay what they owe, some a part of it or more, some fail to, some never try; some get it back; a void or
        two, closed again."""
        for listed in self.world.documents("invoice"):
            one = self.invoice(listed["id"])  # what another's payment brought may have paid this one
            chance = self.random.random()
            if one["state"] in ("open", "overdue", "uncollectible"):
                if chance < 0.4:
                    await self.paid(one)
                elif chance < 0.6:
                    self.failed(one)
            elif one["state"] == "paid" and one["kind"] == "period" and chance > 0.995 and not one["payments"]:
                self.happened["void"] += 1
                await self.world.closer.void("default", one["id"])
            if one["payments"] and self.random.random() < 0.03:
                self.refunded(one)

    def invoice(self, name: str) -> dict[str, Any]:
        """As it stands."""
        return decode_body(self.world.partition.documents[document_key("default", INVOICE, name)])

    async def paid(self, one: dict[str, Any]) -> None:
        """What is due, or a part of it, or more."""
        name, due = self.name(), Decimal(one["amount_due"])
        amount = self.random.choice([due, due, due, due + 5, (due / 2).quantize(Decimal("0.01")) or due])
        done = await self.world.command(
            one["customer"], types.INVOICE_PAY, name, invoice_id=one["id"], payment_id=name, amount=str(amount)
        )
        assert done.status == "done", done
        self.happened["payment"] += 1
        self.told[one["customer"]].payments[name] = Paid(one["id"], amount, min(amount, due))

    def failed(self, one: dict[str, Any]) -> None:
        """A payment of it that somebody tried and a bank refused."""
        amount = {"amount": one["amount_due"], "currency": "USD", "invoice_id": one["id"], "error": "card declined"}
        data = {"payment_intent_id": self.name(), "user_id": one["customer"], **amount}
        self.sent(event(self.name(), "payment.failed", data, subject=one["customer"]))
        self.happened["failed payment"] += 1
        assert {**self.invoice(one["id"]), "attempt_count": 0} == {**one, "attempt_count": 0}, (
            "a failed payment changed an invoice"
        )

    def refunded(self, one: dict[str, Any]) -> None:
        """A payment of it given back, all that is left or a part."""
        paid = self.told[one["customer"]].payments
        name = self.random.choice([of["payment_id"] for of in one["payments"]])
        left = paid[name].amount - sum(paid[name].refunds.values())
        if left <= 0:
            return
        amount = self.random.choice([left, (left / 3).quantize(Decimal("0.01")) or left])
        refund = self.name()
        data = {"payment_id": name, "refund_id": refund, "amount": str(amount), "user_id": one["customer"]}
        paid[name].refunds[refund] = amount
        self.sent(event(self.name(), "payment.refunded", data, subject=one["customer"]))
        self.happened["refund"] += 1

    async def run(self, each: Callable[[], Awaitable[None]] = nothing) -> None:
        """The year, ten days at a time, and `each` after them."""
        await self.begin()
        while self.now < months_on(BEGIN, 12):
            for customer in self.told:
                await self.act(customer)
            self.now = step(self.now, STEP_DAYS)
            await self.clock()
            await self.world.jobs.catch_up("default", [*self.told], parse_time(text(self.now)))
            await self.pay()
            await each()


def checked(year: Year) -> list[str]:
    """What is wrong: by the auditor, and with the ledger."""
    entries = year.world.partition.rows()
    seqs = {row["event_id"]: row["seq"] for row in entries if row["event_type"] == "usage.reported"}
    invoices = year.world.documents("invoice")
    wrong = audit(year.told, invoices, seqs, year.world.documents("subscription"))
    for customer, told in year.told.items():
        account = year.world.account(customer)
        posted = sum(one["amount"] for row in entries if row["customer"] == customer for one in row["postings"])
        if posted != account.balance:
            wrong.append(f"{customer}: balance {account.balance}, postings {posted}")
        own = [one for one in invoices if one["customer"] == customer]
        has = Decimal(account.balance - account.receivable) / 10**9
        wrong += [f"{customer}: {fault}" for fault in [*audit_money(told, own, has), *audit_dunning(own, year.now)]]
    return wrong
