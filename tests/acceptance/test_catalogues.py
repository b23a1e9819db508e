"""Section 3: versions of a catalogue, which price an event is charged at, what each model makes of a period."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.site import Site, Tenant, fresh, plain, until
from tests.deployment import ROOT

FAULTY = """
currency: dollars
meters:
  - {id: m, event_type: usage.reported, quantity: "data.n ** 2"}
  - {id: m, event_type: usage.reported}
prices:
  - {id: p, meter: nobody, model: per_unit, unit_amount: "1"}
  - {id: p, meter: m, model: per_unit, unit_amount: 0.5}
  - {id: q, meter: m, model: graduated, tiers: [{up_to: 10, unit_amount: "1"}, {up_to: 5, unit_amount: "1"}]}
plans:
  - {id: pro, interval: week, amount: "20.00", prices: [nothing]}
"""
FAULTS = (
    "currency", "meters[0].quantity", "meters[1].id", "prices[0].meter", "prices[1].id", "prices[1].unit_amount",
    "prices[2].tiers[1].up_to", "plans[0].interval", "plans[0].prices[0]",
)  # fmt: skip


def test_every_fault_is_named_by_its_path(site: Site, tmp_path: Path) -> None:
    """A bad catalogue is refused whole, with every fault named by its path; exit 2, and nothing is applied."""
    file = tmp_path / "faulty.yaml"
    file.write_text(FAULTY)
    before = site.tollgate("catalog", "show", "--json").stdout
    named: list[str] = []
    for command in ("check", "apply"):
        done = site.tollgate("catalog", command, str(file), check=False)
        assert (done.returncode, done.stdout) == (2, "")
        named = [line.removeprefix(f"{file}: ").partition(":")[0] for line in done.stderr.splitlines()]
    assert sorted(set(FAULTS) - set(named)) == []
    assert site.tollgate("catalog", "show", "--json").stdout == before


def test_each_apply_makes_a_version(site: Site, tmp_path: Path) -> None:
    """A new immutable version with a checksum; with `--tenant` it replaces the common one for it; `show`, `diff`."""
    name, first, second = fresh("t"), tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(_priced("1"))
    second.write_text(_priced("2"))
    assert "common-input" in site.tollgate("catalog", "show", "--tenant", name).stdout
    applied = [
        json.loads(site.tollgate("catalog", "apply", str(file), "--tenant", name, "--json").stdout)
        for file in (first, second)
    ]
    versions = [one["version"] for one in applied]
    assert versions[0] < versions[1]
    shown = json.loads(site.tollgate("catalog", "show", "--tenant", name, "--json").stdout)
    assert (shown["version"], shown["tenant"], shown["checksum"]) == (versions[1], name, applied[1]["checksum"])
    again = yaml.safe_load(site.tollgate("catalog", "show", "--version", str(versions[0])).stdout)
    assert again["prices"][0]["unit_amount"] == "1"
    for either in ((str(versions[0]), str(versions[1])), (str(first), str(second))):
        (difference,) = json.loads(site.tollgate("catalog", "diff", *either, "--json").stdout)
        assert {"1", "2"} <= {str(value) for value in difference.values()}
        assert "prices" in json.dumps(difference)


def _priced(amount: str) -> str:
    return (
        "currency: USD\nmeters:\n  - {id: calls, event_type: usage.reported}\n"
        f'prices:\n  - {{id: call, meter: calls, model: per_unit, unit_amount: "{amount}"}}\n'
    )


def test_a_list_of_litellm_becomes_a_catalogue(site: Site, tmp_path: Path) -> None:
    """`tollgate catalog import litellm FILE`, ready for `check`."""
    excerpt = ROOT / "tests" / "data" / "litellm" / "model_prices_excerpt.json"
    file = tmp_path / "imported.yaml"
    file.write_text(site.tollgate("catalog", "import", "litellm", str(excerpt)).stdout)
    assert yaml.safe_load(file.read_text())["prices"]
    site.tollgate("catalog", "check", str(file))


LOOK_UP = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported, dimensions: [model, region]}
prices:
  - {id: any, meter: calls, model: per_unit, unit_amount: "1"}
  - {id: any-later, meter: calls, model: per_unit, unit_amount: "2", effective_from: 2026-06-01T00:00:00Z}
  - {id: model, meter: calls, match: {model: m}, model: per_unit, unit_amount: "3"}
  - {id: both, meter: calls, match: {model: m, region: eu}, model: per_unit, unit_amount: "4"}
  - {id: both-later, meter: calls, match: {model: m, region: eu}, model: per_unit, unit_amount: "5", effective_from: 2026-06-01T00:00:00Z}
  - {id: of-pro, meter: calls, model: per_unit, unit_amount: "6"}
plans:
  - {id: pro, interval: month, amount: "0", prices: [of-pro]}
"""
# Who; dimensions; when; the price.
RULES: list[tuple[str, dict[str, str], str, str]] = [
    ("nobody special", {}, "2026-05-31T23:59:59Z", "any"),
    ("nobody special", {}, "2026-06-01T00:00:00Z", "any-later"),
    ("nobody special", {"model": "other"}, "2026-07-01T00:00:00Z", "any-later"),
    ("nobody special", {"model": "m"}, "2026-07-01T00:00:00Z", "model"),
    ("nobody special", {"model": "m", "region": "us"}, "2026-07-01T00:00:00Z", "model"),
    ("nobody special", {"model": "m", "region": "eu"}, "2026-05-01T00:00:00Z", "both"),
    ("nobody special", {"model": "m", "region": "eu"}, "2026-07-01T00:00:00Z", "both-later"),
    ("of a plan", {}, "2026-07-01T00:00:00Z", "of-pro"),
    ("of a plan", {"model": "m", "region": "eu"}, "2026-07-01T00:00:00Z", "of-pro"),
    ("with a price of its own", {}, "2026-07-01T00:00:00Z", "its-own"),
    ("with a price of its own", {"model": "m", "region": "eu"}, "2026-07-01T00:00:00Z", "its-own"),
]  # fmt: skip


def test_a_price_is_found(site: Site) -> None:
    """By the event's time; a customer's own price goes before its plan's, that before the common one, then the most
    specific match; of the same match the latest `effective_from`. Every rated row names the version that priced it.
    """
    tenant = site.tenant("prices", LOOK_UP)
    customers = {who: fresh("cust") for who, *_ in RULES}
    plan = [
        tenant.event(customers[who], "user.created", {"plan_id": "pro"}) for who in customers if who != "nobody special"
    ]
    tenant.send(*plan)
    tenant.outcomes([event["id"] for event in plan])
    own = {"price_overrides": [{"id": "its-own", "meter": "calls", "model": "per_unit", "unit_amount": "7"}]}
    answer = tenant.settled("PUT", f"/v1/customers/{customers['with a price of its own']}", body=own)
    assert answer.status_code in (200, 201), answer.text
    events = [
        tenant.event(customers[who], "usage.reported", {"meter": "calls", **dimensions}, time=time)
        for who, dimensions, time, _ in RULES
    ]
    tenant.send(*events)
    tenant.outcomes([event["id"] for event in events])
    rows = {row["event_id"]: row for row in tenant.rows("rated_usage")}
    assert [rows[event["id"]]["price_id"] for event in events] == [price for *_, price in RULES]
    version = tenant.http.get("/v1/catalog").json()["version"]
    assert {row["catalog_version"] for row in rows.values()} == {version}


TIERS = [
    {"up_to": 10, "unit_amount": "1", "flat_amount": "5"},
    {"up_to": None, "unit_amount": "0.5", "flat_amount": "7"},
]
# The price; the events of a period, in their order; what each is charged.
MODELS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"model": "flat", "amount": "5.00"}, ["3", "4"], ["5", "0"]),
    ({"model": "per_unit", "unit_amount": "0.0000000005"}, ["1", "3", "5"], ["0", "0.000000002", "0.000000002"]),
    ({"model": "package", "package_size": 10, "amount": "1", "rounding": "up"}, ["4", "4", "4"], ["1", "0", "1"]),
    ({"model": "package", "package_size": 10, "amount": "1", "rounding": "down"}, ["4", "4", "4"], ["0", "0", "1"]),
    ({"model": "graduated", "tiers": TIERS}, ["6", "6"], ["11", "12"]),
    ({"model": "volume", "tiers": TIERS}, ["10", "2"], ["15", "-2"]),
    ({"model": "stairstep", "tiers": [{"up_to": 10, "amount": "1"}, {"up_to": None, "amount": "9"}]}, ["10", "0.5"], ["1", "8"]),
    ({"model": "percentage", "rate_percent": "10", "fixed_per_event": "0.30", "free_amount": "100"}, ["60", "60"], ["0", "2.3"]),
    ({"model": "percentage", "rate_percent": "1", "min_per_event": "1", "max_per_event": "2", "free_events": 1}, ["10", "10", "1000"], ["0", "1", "2"]),
    ({"model": "graduated_percentage", "tiers": [{"up_to": "100", "rate_percent": "10", "flat_amount": "1"}, {"up_to": None, "rate_percent": "5"}]}, ["60", "60"], ["7", "5"]),
    ({"model": "dynamic", "amount_field": "data.cost", "multiplier": "1.1"}, ["10"], ["11"]),
    ({"model": "per_unit", "unit_amount": "2.50", "unit_divisor": 1000000}, ["1"], ["0.0000025"]),
    ({"model": "per_unit", "unit_amount": "1", "included_quantity": 10}, ["6", "6"], ["0", "2"]),
    ({"model": "per_unit", "unit_amount": "1", "discount_percent": "50"}, ["3"], ["1.5"]),
    ({"model": "per_unit", "unit_amount": "1", "maximum_amount": "20"}, ["15", "15"], ["15", "5"]),
    ({"model": "per_unit", "unit_amount": "1", "minimum_amount": "8"}, ["3"], ["3"]),
    ({"model": "graduated", "tiers": [{"up_to": None, "unit_amount": "0.0000000005"}]}, ["1", "1", "1"], ["0", "0.000000001", "0.000000001"]),
]  # fmt: skip


def test_each_model_charges_what_the_periods_total_grows_by(site: Site) -> None:
    """A charge is rounded once, per event and price, to 1e-9, half even. A price that depends on the period so far charges
    *round(total after) − round(total before)*; `minimum_amount` is in no charge.
    """
    meters = [{"id": f"m{number}", "event_type": "usage.reported"} for number in range(len(MODELS))]
    prices = [{"id": f"p{number}", "meter": f"m{number}", **price} for number, (price, _, _) in enumerate(MODELS)]
    tenant = site.tenant("models", json.dumps({"currency": "USD", "meters": meters, "prices": prices}))
    customer = fresh("cust")
    events = [
        tenant.event(customer, "usage.reported", {"meter": f"m{number}", "quantity": json.loads(quantity), "cost": 10}, time="2026-11-20T10:00:00Z")
        for number, (_, quantities, _) in enumerate(MODELS)
        for quantity in quantities
    ]  # fmt: skip
    tenant.send(*events)
    tenant.outcomes([event["id"] for event in events])
    rows = {row["event_id"]: plain(row["amount"]) for row in tenant.rows("rated_usage")}
    charged = iter(rows.get(event["id"], "0") for event in events)
    wrong = []
    for price, quantities, amounts in MODELS:
        found = [next(charged) for _ in quantities]
        if found != amounts:
            wrong.append((price, quantities, found))
    assert wrong == []


# Aggregation; values of the events; what the period has come to after each.
AGGREGATIONS: list[tuple[str, list[Any], list[str]]] = [
    ("sum", [3, 1, 5], ["3", "4", "9"]),
    ("count", [3, 1, 5], ["1", "2", "3"]),
    ("min", [3, 1, 5], ["3", "1", "1"]),
    ("max", [3, 1, 5], ["3", "3", "5"]),
    ("avg", [3, 1, 5], ["3", "2", "3"]),
    ("latest", [3, 1, 5], ["3", "1", "5"]),
    ("unique", ["a", "b", "a"], ["1", "2", "2"]),
]


@pytest.fixture(scope="module")
def metered(site: Site) -> Tenant:
    """A tenant whose meters aggregate in every way."""
    meters = [
        {"id": how, "event_type": f"thing.{how}", "quantity": "data.n", "aggregation": how}
        for how, _, _ in AGGREGATIONS
    ]
    prices = [{"id": how, "meter": how, "model": "per_unit", "unit_amount": "1"} for how, _, _ in AGGREGATIONS]
    return site.tenant("meters", json.dumps({"currency": "USD", "meters": meters, "prices": prices}))


def test_meters_aggregate(metered: Tenant) -> None:
    """`sum | count | min | max | avg | latest | unique` over the period: what is charged so far is that at the price."""
    customer = fresh("cust")
    events = [
        metered.event(customer, f"thing.{how}", {"n": value}, time=f"2026-11-20T10:00:0{number}Z")
        for how, values, _ in AGGREGATIONS
        for number, value in enumerate(values)
    ]
    metered.send(*events)
    metered.outcomes([event["id"] for event in events])
    told = until(lambda: metered.rows("rated_usage"))
    wrong = []
    for how, values, totals in AGGREGATIONS:
        rows = sorted((row for row in told if row["meter"] == how), key=lambda row: row["seq"])
        sums = [sum(float(row["amount"]) for row in rows if row["occurred_at"] <= f"2026-11-20 10:00:0{at}.9") for at in range(len(values))]  # fmt: skip
        if sums != [float(total) for total in totals]:
            wrong.append((how, sums))
    assert wrong == []
