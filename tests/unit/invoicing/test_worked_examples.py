"""Worked examples of proration, tax, rounding and discounts, each with the source of its rule, exact.

Sources: [stripe] docs.stripe.com/billing/subscriptions/prorations ("billed an additional 5 USD: -5 USD for unused time
on the initial price, and 10 USD for the remaining time on the new price"; "Stripe prorates to the second");
[stripe-may] Stripe's earlier example of 1 and 15 May, 10 to 20 USD; [baremetrics] changelog.baremetrics.com, "API -
proration charge fixes" (12 to 24 USD a week in: 9 unused, 18 from then on, of a month of 28 days); [calculator]
subrevival.com/tools/stripe-proration-calculator (20 to 50 USD, 20 of 30 days left: 13.33 and 33.33); [zuora]
docs.zuora.com, tax rounding method (rate times net, rounded to the currency's places); [nav] Microsoft Dynamics NAV,
VAT rounding type "nearest" (0.5 and above up); [iso] ISO 4217, minor units; [contract] this project's own rules; [hand]
worked by hand from the rule above it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest

from invoicing.build import Fee, Late, Material, Shortfall, UsageSum, build
from rating.subscriptions import Discount, Subscription, cancel, change, create, share
from schemas.catalog_shapes import Plan
from schemas.currencies import format_minor, minor_places, round_to_minor
from schemas.invoice import Identity, Line, tax_line, tax_ratio
from schemas.money import format_nanos, parse_nanos
from schemas.period import Period, parse_time

MARCH = Period(parse_time("2026-03-01T00:00:00Z"), parse_time("2026-04-01T00:00:00Z"))


def at(text: str) -> int:
    return parse_time(text if "T" in text else f"{text}T00:00:00Z")


def plan(name: str, amount: str, interval: str = "month") -> Plan:
    return Plan.model_validate({"id": name, "interval": interval, "amount": amount})


PRORATIONS = [
    # amount, period, from when on, what is left of it, currency
    ("stripe", "10", "2026-04-01", "2026-05-01", "2026-04-16", "5.00", "USD"),
    ("stripe", "20", "2026-04-01", "2026-05-01", "2026-04-16", "10.00", "USD"),
    ("stripe-may", "10", "2026-05-01", "2026-06-01", "2026-05-16T12:00:00Z", "5.00", "USD"),
    ("stripe-may", "20", "2026-05-01", "2026-06-01", "2026-05-16T12:00:00Z", "10.00", "USD"),
    ("baremetrics", "12", "2026-02-01", "2026-03-01", "2026-02-08", "9.00", "USD"),
    ("baremetrics", "24", "2026-02-01", "2026-03-01", "2026-02-08", "18.00", "USD"),
    ("calculator", "20", "2026-04-01", "2026-05-01", "2026-04-11", "13.33", "USD"),
    ("calculator", "50", "2026-04-01", "2026-05-01", "2026-04-11", "33.33", "USD"),
    ("hand: 31 days, 1 left", "31", "2026-01-01", "2026-02-01", "2026-01-31", "1.00", "USD"),
    ("hand: leap February, 1 of 29 days", "29", "2028-02-01", "2028-03-01", "2028-02-29", "1.00", "USD"),
    ("hand: common February, 1 of 28 days", "28", "2026-02-01", "2026-03-01", "2026-02-28", "1.00", "USD"),
    ("hand: 1 s of 30 days of 25920 USD", "25920", "2026-04-01", "2026-05-01", "2026-04-30T23:59:59Z", "0.01", "USD"),
    ("hand: a year, 73 of 365 days", "200", "2026-01-01", "2027-01-01", "2026-10-20", "40.00", "USD"),
    ("hand: a leap year, 61 of 366 days", "366", "2028-01-01", "2029-01-01", "2028-11-01", "61.00", "USD"),
    ("hand: nothing used", "9.99", "2026-04-01", "2026-05-01", "2026-04-01", "9.99", "USD"),
    ("hand: all used", "9.99", "2026-04-01", "2026-05-01", "2026-05-01", "0.00", "USD"),
    ("hand: 10/30 of 0.05 = 0.01666…", "0.05", "2026-04-01", "2026-05-01", "2026-04-21", "0.02", "USD"),
    ("hand: 15/30 of 0.01 = 0.005, half up", "0.01", "2026-04-01", "2026-05-01", "2026-04-16", "0.01", "USD"),
    ("iso: yen have no places, 15/30 of 99 = 49.5", "99", "2026-04-01", "2026-05-01", "2026-04-16", "50", "JPY"),
    ("iso: dinars have three, 1/30 of 1 = 0.0333…", "1", "2026-04-01", "2026-05-01", "2026-04-30", "0.033", "KWD"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "amount", "start", "end", "since", "left", "currency"), PRORATIONS)
def test_what_is_left_of_a_fee(
    source: str, amount: str, start: str, end: str, since: str, left: str, currency: str
) -> None:
    """By seconds, rounded once."""
    exact = share(parse_nanos(amount), Period(at(start), at(end)), at(since), "seconds")
    assert format_minor(round_to_minor(exact, currency), currency) == left, source


CHANGES: list[Any] = [
    ("stripe", ("10", "20"), "2026-04-01", "2026-04-16", ["-5", "10"]),
    ("stripe: downgrade", ("20", "10"), "2026-04-01", "2026-04-16", ["-10", "5"]),
    ("baremetrics", ("12", "24"), "2026-02-01", "2026-02-08", ["-9", "18"]),
    ("calculator", ("20", "50"), "2026-04-01", "2026-04-11", ["-13.333333333", "33.333333333"]),
    ("hand: at the first instant all is swapped", ("20", "50"), "2026-04-01", "2026-04-01", ["-20", "50"]),
    ("hand: to a free plan", ("20", "0"), "2026-04-01", "2026-04-16", ["-10"]),
    ("hand: from a free plan", ("0", "20"), "2026-04-01", "2026-04-16", ["10"]),
]


@pytest.mark.parametrize(("source", "fees", "start", "when", "items"), CHANGES)
def test_a_change_gives_back_and_adds(
    source: str, fees: tuple[str, str], start: str, when: str, items: list[str]
) -> None:
    """The unused of the old plan, the rest of the period at the new one."""
    old = billed(create("s", plan("old", fees[0]), at(start)))
    changed = change(old, plan("new", fees[1]), at(when), "c")
    assert [format_nanos(item.amount) for item in changed.items] == items, source
    assert changed.period == old.period


def billed(subscription: Subscription) -> Subscription:
    """As after its first invoice."""
    return replace(subscription, billed_to=subscription.period.end)


@pytest.mark.parametrize(
    ("source", "when", "given_back"),
    [
        ("hand: half of 30 days", "2026-04-16", ["-15"]),
        ("hand: at once", "2026-04-01", ["-30"]),
        ("hand: at the end", "2026-05-01", []),
        ("hand: 1 of 30 days left", "2026-04-30", ["-1"]),
    ],
)
def test_a_cancellation_gives_the_unused_back(source: str, when: str, given_back: list[str]) -> None:
    """Pro rata."""
    ended = cancel(billed(create("s", plan("p", "30"), at("2026-04-01"))), at(when), "c")
    assert [format_nanos(item.amount) for item in ended.items] == given_back, source


ROUNDINGS = [
    ("contract: half up", "0.005", "USD", "0.01"),
    ("contract: half up, away from zero", "-0.005", "USD", "-0.01"),
    ("contract: below half", "0.004999999", "USD", "0.00"),
    ("contract: above half", "0.005000001", "USD", "0.01"),
    ("nav: 0.5 up", "2.345", "EUR", "2.35"),
    ("nav: below 0.5 down", "2.344", "EUR", "2.34"),
    ("iso: JPY 0", "1234.5", "JPY", "1235"),
    ("iso: KRW 0", "0.499999999", "KRW", "0"),
    ("iso: KWD 3", "1.0005", "KWD", "1.001"),
    ("iso: BHD 3", "-1.0005", "BHD", "-1.001"),
    ("iso: CLF 4", "0.00005", "CLF", "0.0001"),
    ("iso: ISK 0 since 2007", "10.5", "ISK", "11"),
    ("iso: HUF 2", "10.005", "HUF", "10.01"),
    ("hand: a thousand dollars", "1000", "USD", "1000.00"),
]


@pytest.mark.parametrize(("source", "exact", "currency", "shown"), ROUNDINGS)
def test_a_line_is_rounded_to_the_minor_unit(source: str, exact: str, currency: str, shown: str) -> None:
    """Once, half up away from zero."""
    nanos = round_to_minor(parse_nanos(exact), currency)
    assert format_minor(nanos, currency) == shown, source
    assert nanos % 10 ** (9 - minor_places(currency)) == 0


TAXES = [
    ("zuora: rate times net, rounded", "0.0825", ["19.99"], "1.65"),
    ("nav: 19 % of 9.99 = 1.8981", "0.19", ["9.99"], "1.90"),
    ("hand: percent is the same as its ratio", "19", ["9.99"], "1.90"),
    ("hand: half a cent goes up, 10 % of 0.05", "0.1", ["0.05"], "0.01"),
    ("hand: on rounded lines: 3 x 0.015 is 0.06, not 0.045", "0.5", ["0.015", "0.015", "0.015"], "0.03"),
    ("hand: of a negative sum, 20 % of -5", "20", ["-5"], "-1.00"),
    ("hand: 7.7 % of 100", "7.7", ["100"], "7.70"),
    ("hand: 8.875 % (New York City) of 200", "8.875", ["200"], "17.75"),
    ("hand: 25 % of 0.02 is half a cent", "25", ["0.02"], "0.01"),
    ("hand: no rate, no line", "0", ["100"], None),
]


@pytest.mark.parametrize(("source", "rate", "lines", "tax"), TAXES)
def test_tax_is_on_what_the_lines_show(source: str, rate: str, lines: list[str], tax: str | None) -> None:
    """Exclusive, on the sum of the rounded lines."""
    made = [Line("fee", "f", parse_nanos(amount), MARCH) for amount in lines]
    found = tax_line(made, "USD", tax_ratio(rate), MARCH)
    shown = format_minor(round_to_minor(found.exact, "USD"), "USD") if found is not None else None
    assert shown == tax, source


def used(amount: str, covered: str = "0", price: str = "p", quantity: str = "1") -> UsageSum:
    return UsageSum(price, "m", price, parse_nanos(quantity), parse_nanos(amount), parse_nanos(covered))


INVOICES: list[Any] = [
    # source, what it is made of, kinds with amounts, subtotal, tax, total, remainder
    ("contract: usage alone", {"usage": [used("12.345")]}, [("usage", "12.35")], "12.35", "0.00", "12.35", "-0.005"),
    (
        "contract: what the wallet paid is a credit",
        {"usage": [used("12.345", "10")]},
        [("usage", "12.35"), ("credit", "-10.00")],
        "2.35", "0.00", "2.35", "-0.005",
    ),
    (
        "hand: all paid, two half cents: a credit each, so that nothing is owed",
        {"usage": [used("0.005", "0.005", "a"), used("0.005", "0.005", "b")]},
        [("usage", "0.01"), ("usage", "0.01"), ("credit", "-0.01"), ("credit", "-0.01")],
        "0.00", "0.00", "0.00", "0",
    ),
    (
        "hand: tax is on what was supplied, not on how it was paid",
        {"usage": [used("100", "100")], "tax": Fraction(19, 100)},
        [("usage", "100.00"), ("credit", "-100.00"), ("tax", "19.00")],
        "0.00", "19.00", "19.00", "0",
    ),
    (
        "hand: 10 % off usage and fee",
        {"usage": [used("30")], "fees": [Fee("Pro", parse_nanos("20"), MARCH)], "discount": Discount(percent="10")},
        [("usage", "30.00"), ("fee", "20.00"), ("discount", "-5.00")],
        "45.00", "0.00", "45.00", "0",
    ),
    (
        "hand: an amount off is never more than there is",
        {"usage": [used("3")], "discount": Discount(amount="5")},
        [("usage", "3.00"), ("discount", "-3.00")],
        "0.00", "0.00", "0.00", "0",
    ),
    (
        "hand: a discount that has ended takes nothing off",
        {"usage": [used("3")], "discount": Discount(amount="5", ends_at=MARCH.start)},
        [("usage", "3.00")],
        "3.00", "0.00", "3.00", "0",
    ),
    (
        "hand: discount before tax, 19 % of 90",
        {"usage": [used("100")], "discount": Discount(percent="10"), "tax": Fraction(19, 100)},
        [("usage", "100.00"), ("discount", "-10.00"), ("tax", "17.10")],
        "90.00", "17.10", "107.10", "0",
    ),
    (
        "contract: what is missing to a minimum",
        {"usage": [used("3.50")], "shortfalls": [Shortfall("Minimum", parse_nanos("6.5"), "p", "m")]},
        [("usage", "3.50"), ("minimum", "6.50")],
        "10.00", "0.00", "10.00", "0",
    ),
    (
        "contract: late usage of an earlier period",
        {"late": [Late(Period(at("2026-02-01"), at("2026-03-01")), "INV-1", used("1.25"))]},
        [("adjustment", "1.25")],
        "1.25", "0.00", "1.25", "0",
    ),
    (
        "stripe: an upgrade's two lines",
        {"fees": [Fee("Unused", -parse_nanos("5"), MARCH), Fee("Remaining", parse_nanos("10"), MARCH)]},
        [("fee", "-5.00"), ("fee", "10.00")],
        "5.00", "0.00", "5.00", "0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "made_of", "lines", "subtotal", "tax", "total", "remainder"), INVOICES)
def test_an_invoice_adds_up(
    source: str, made_of: Any, lines: Any, subtotal: str, tax: str, total: str, remainder: str
) -> None:
    """Lines in their order, subtotal and tax, the sum of the lines, and what rounding left."""
    draft = build(Material(Identity("t", "c", "USD", MARCH), "prepaid", **made_of))
    assert draft is not None
    body = draft.document(0)
    assert [(line["kind"], line["amount"]) for line in body["lines"]] == lines, source
    assert (body["subtotal"], body["tax"], body["total"], body["remainder"]) == (subtotal, tax, total, remainder)


def test_there_are_sixty() -> None:
    """So many were asked for."""
    assert sum(map(len, (PRORATIONS, CHANGES, ROUNDINGS, TAXES, INVOICES))) + 4 >= 60


def test_nothing_makes_no_invoice() -> None:
    """A period without usage, fee or minimum."""
    assert build(Material(Identity("t", "c", "USD", MARCH), "prepaid")) is None


def test_a_month_is_what_datetime_says() -> None:
    """The examples' own calendar."""
    assert MARCH.start == int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * 10**6
