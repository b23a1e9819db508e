"""An auditor of a year of billing that shares no arithmetic with what it audits: its own calendar, fractions, rounding.

It knows what was done (subscriptions with their plans over time, usage with its time and price, payments) and checks
every invoice: each fee line by its seconds, coverage of every second of every plan exactly once, usage by plan of its
time, tax and rounding by decimal arithmetic, totals, and numbers without a gap.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

NANO = Decimal("0.000000001")
CENT = Decimal("0.01")
FEES = {"pro": Decimal(20), "max": Decimal(50), "year": Decimal(200)}
MONTHS = {"pro": 1, "max": 1, "year": 12}
PRICE = {"": Decimal("0.005"), "pro": Decimal("0.001"), "max": Decimal("0.001"), "year": Decimal("0.001")}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def months_on(start: datetime, months: int) -> datetime:
    """So many months later, at the last day where the month lacks the day."""
    at = start.month - 1 + months
    year, month = start.year + at // 12, at % 12 + 1
    return start.replace(year=year, month=month, day=min(start.day, monthrange(year, month)[1]))


def whole_period(anchor: datetime, months: int, at: datetime) -> tuple[datetime, datetime]:
    """The period of an anchor that an instant lies in, found by walking."""
    number = 0
    while months_on(anchor, months * (number + 1)) <= at:
        number += 1
    return months_on(anchor, months * number), months_on(anchor, months * (number + 1))


@dataclass
class Paid:
    """A payment that named an invoice."""

    invoice: str
    amount: Decimal
    applied: Decimal
    """What of it was due; what is more stays in the wallet."""
    refunds: dict[str, Decimal] = field(default_factory=dict)


@dataclass
class Told:
    """What the auditor knows of a customer."""

    tax: Decimal = Decimal(0)
    plans: list[tuple[datetime, str, datetime]] = field(default_factory=list)
    """From when, which plan ("" none), and the anchor of its periods."""
    usage: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    """By event id: time and calls."""
    collection: str = "prepaid"
    granted: int = 0
    payments: dict[str, Paid] = field(default_factory=dict)

    def plan_at(self, at: datetime) -> tuple[str, datetime]:
        found = ("", datetime(1970, 1, 1, tzinfo=UTC))
        for since, plan, anchor in self.plans:
            if since <= at:
                found = plan, anchor
        return found

    def seconds_held(self, until: datetime) -> dict[str, int]:
        """Seconds of each plan up to an instant."""
        held: dict[str, int] = defaultdict(int)
        ends = [since for since, _, _ in self.plans[1:]] + [until]
        for (since, plan, _), end in zip(self.plans, ends, strict=True):
            if plan and min(end, until) > since:
                held[plan] += int((min(end, until) - since).total_seconds())
        return dict(held)


def audit(
    told: Mapping[str, Told],
    invoices: Sequence[dict[str, Any]],
    seqs: Mapping[str, int],
    subscriptions: Sequence[dict[str, Any]],
) -> list[str]:
    """Everything that is wrong with invoices, in words; `seqs`: the ledger's seq of each usage event by id.

    `subscriptions` say what waits for the next invoice, and up to when fees are billed."""
    wrong: list[str] = []
    numbers = sorted(int(one["number"].removeprefix("INV-")) for one in invoices if one["number"])
    if numbers != list(range(1, len(numbers) + 1)):
        wrong.append(f"numbers {numbers[:10]}… of {len(numbers)}")
    for one in invoices:
        wrong += [f"{one['id']} of {one['customer']}: {fault}" for fault in _faults(told[one["customer"]], one)]
    for customer, known in told.items():
        own = [one for one in subscriptions if one["customer"] == customer]
        of = [one for one in invoices if one["customer"] == customer and one["state"] not in ("draft", "void")]
        wrong += [f"{customer}: {fault}" for fault in [*_usage(known, of, seqs), *_coverage(known, of, own)]]
    return wrong


def _faults(told: Told, one: dict[str, Any]) -> list[str]:
    wrong = []
    taxed = total = Decimal(0)
    for line in one["lines"]:
        exact, amount = Decimal(line["exact_amount"]), Decimal(line["amount"])
        if exact.quantize(CENT, ROUND_HALF_UP) != amount:
            wrong.append(f"{line['description']} is {exact} and shown as {amount}")
        total += amount
        if line["kind"] not in ("tax", "credit"):
            taxed += amount
        if line["kind"] == "fee" and (fault := _fee(told, line)):
            wrong.append(fault)
    tax = (taxed * told.tax).quantize(CENT, ROUND_HALF_UP)
    if Decimal(one["tax"]) != tax:
        wrong.append(f"tax {one['tax']}, not {tax}")
    if Decimal(one["total"]) != total or Decimal(one["subtotal"]) + tax != total:
        wrong.append(f"total {one['total']}, lines {total}")
    paid = Decimal(one["amount_paid"])
    if one["state"] == "paid" and paid != max(total, Decimal(0)):
        wrong.append(f"paid, but {paid} of {total}")
    return wrong


def _fee(told: Told, line: dict[str, Any]) -> str:
    """A fee line's exact amount, by its seconds in the whole period that it lies in."""
    start, end = moment(line["period"]["start"]), moment(line["period"]["end"])
    plan, sign = _plan_of(line)
    anchor = _anchor(told, plan, line, start)
    begin, finish = whole_period(anchor, MONTHS[plan], start)
    share = Fraction(int((end - start).total_seconds()), int((finish - begin).total_seconds()))
    exact = Fraction(FEES[plan]) * share
    nanos = Decimal(exact.numerator * 10**9) / Decimal(exact.denominator)
    expected = sign * (nanos.quantize(Decimal(1), ROUND_HALF_EVEN) * NANO)
    if abs(Decimal(line["exact_amount"]) - expected) > 2 * NANO:
        return f"fee {line['description']} {line['period']} is {line['exact_amount']}, not {expected}"
    return ""


def _plan_of(line: dict[str, Any]) -> tuple[str, int]:
    words = line["description"]
    if words.startswith("Unused time on "):
        return words.removeprefix("Unused time on "), -1
    if words.startswith("Remaining time on "):
        return words.removeprefix("Remaining time on "), 1
    return words.partition(",")[0].lower(), 1


def _anchor(told: Told, plan: str, line: dict[str, Any], start: datetime) -> datetime:
    """Of the plan that the line is about: what was in force then, or what was given up just then."""
    if line["description"].startswith("Unused"):
        before = [(of, anchor) for since, of, anchor in told.plans if since < start]
        return before[-1][1]
    return told.plan_at(start)[1]


def _coverage(told: Told, invoices: Sequence[dict[str, Any]], subscriptions: Sequence[dict[str, Any]]) -> list[str]:
    """Seconds billed of each plan, with those that wait as items = seconds held, up to where fees are billed."""
    billed: dict[str, int] = defaultdict(int)
    lines = [line for one in invoices for line in one["lines"] if line["kind"] == "fee"]
    lines += [item for one in subscriptions for item in one["items"]]
    for line in lines:
        plan, sign = _plan_of(line)
        start, end = moment(line["period"]["start"]), moment(line["period"]["end"])
        billed[plan] += sign * int((end - start).total_seconds())
    live = [one for one in subscriptions if one["status"] in ("active", "past_due")]
    reach = moment(live[0]["billed_to"]) if live else datetime(2100, 1, 1, tzinfo=UTC)
    held = told.seconds_held(reach)
    found = {plan: seconds for plan, seconds in billed.items() if seconds}
    return [f"seconds billed {found}, held {held} up to {reach}"] if found != held else []


def _usage(told: Told, invoices: Sequence[dict[str, Any]], seqs: Mapping[str, int]) -> list[str]:
    """Usage and adjustment lines of each invoice = its events at the price of the plan of their time."""
    wrong = []
    billed: set[str] = set()
    ends = [since for since, plan, _ in told.plans if not plan]
    for one in invoices:
        if one["kind"] not in ("period", "final"):
            continue
        end = moment(one["period"]["end"])  # who cancels just then may have the period's invoice already
        if (one["kind"] == "final") != (end in ends) and not (end in ends and moment(one["created_at"]) == end):
            wrong.append(f"{one['id']} {one['period']} is {one['kind']}, plans ended {ends}")
        own = moment(one["period"]["start"]), moment(one["period"]["end"])
        spans = [(*own, first, last) for first, last in one["position"]["covers"]]
        spans += [(moment(a["start"]), moment(a["end"]), a["from"], a["to"]) for a in one["adjusts"]]
        expected = Decimal(0)
        for event_id, (at, calls) in told.usage.items():
            for start, end, since, until in spans:
                if start <= at < end and since <= seqs[event_id] < until:
                    expected += calls * PRICE[told.plan_at(at)[0]]
                    if event_id in billed:
                        wrong.append(f"event {event_id} is billed twice")
                    billed.add(event_id)
        shown = sum(
            (Decimal(line["exact_amount"]) for line in one["lines"] if line["kind"] in ("usage", "adjustment")),
            Decimal(0),
        )
        if shown != expected:
            wrong.append(f"{one['id']} {one['period']}: usage {shown}, not {expected}")
    return wrong


def audit_money(told: Told, invoices: Sequence[dict[str, Any]], has: Decimal) -> list[str]:
    """What is wrong with a customer's money: `has`, its balance less what it owes, in dollars.

    Came in: credits and payments. Went out: usage as it came, what final invoices took (fees, tax), refunds. Of who
    pays in advance a payment is all the wallet's, and so is its refund; of who pays afterwards what was more than due.
    What rounding made of the usage lines of an invoice paid afterwards is forgiven or kept.
    """
    wrong, went = [], Decimal(0)
    came = Decimal(told.granted) + sum(paid.amount for paid in told.payments.values())
    for at, calls in told.usage.values():
        went += calls * PRICE[told.plan_at(at)[0]]
    for paid in told.payments.values():
        brought = paid.amount if told.collection == "prepaid" else paid.amount - paid.applied
        back = sum(paid.refunds.values())
        # A refund of the whole takes all that the payment brought; one of a part, that part as far as it brought it.
        went += brought if back == paid.amount else min(back, brought)
    for one in invoices:
        if one["state"] in ("draft", "void"):
            continue
        for line in one["lines"]:
            exact, amount = Decimal(line["exact_amount"]), Decimal(line["amount"])
            if line["kind"] in ("fee", "minimum", "discount", "tax"):
                went += amount
            elif told.collection == "postpaid" and one["state"] == "paid":
                came += exact - amount
    if has != came - went:
        wrong.append(f"has {has}, but {came} came in and {went} went out: {came - went}")
    for one in invoices:
        own = {name: paid for name, paid in told.payments.items() if paid.invoice == one["id"]}
        if {of["payment_id"]: Decimal(of["amount"]) for of in one["payments"]} != {k: v.amount for k, v in own.items()}:
            wrong.append(f"{one['id']}: payments {one['payments']}, told {own}")
        refunds = {name: amount for paid in own.values() for name, amount in paid.refunds.items()}
        if {of["refund_id"]: Decimal(of["amount"]) for of in one.get("refunds", ())} != refunds:
            wrong.append(f"{one['id']}: refunds {one.get('refunds')}, told {refunds}")
    return wrong


def audit_dunning(invoices: Sequence[dict[str, Any]], now: datetime) -> list[str]:
    """What is wrong with how long-owed invoices stand: tried after 1, 3, 5 and 7 days, overdue after 14, given up 60
    days later."""
    wrong = []
    for one in invoices:
        if one["state"] not in ("open", "overdue", "uncollectible"):
            continue
        finalized = moment(one["finalized_at"])
        age = now - finalized
        tries = sum(age >= timedelta(days=days) for days in (1, 3, 5, 7))
        state = "open" if age < timedelta(days=14) else "overdue" if age < timedelta(days=74) else "uncollectible"
        if (one.get("attempt_count", 0), one["state"]) != (tries, state):
            wrong.append(
                f"{one['id']}: {one['state']} after {one.get('attempt_count')} tries, not {state} after {tries}"
            )
    return wrong


def step(start: datetime, days: int) -> datetime:
    """So many days later."""
    return start + timedelta(days=days)
