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
class Told:
    """What the auditor knows of a customer."""

    tax: Decimal = Decimal(0)
    plans: list[tuple[datetime, str, datetime]] = field(default_factory=list)
    """From when, which plan ("" none), and the anchor of its periods."""
    usage: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    """By event id: time and calls."""

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
    for one in invoices:
        if one["kind"] != "period":
            continue
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


def step(start: datetime, days: int) -> datetime:
    """So many days later."""
    return start + timedelta(days=days)
