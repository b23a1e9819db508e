"""Broken catalogues: refused whole, every fault named by its path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.catalog import CatalogRefused, from_document, parse
from schemas.catalog_document import MAX_FAULTS


def catalog(**parts: Any) -> dict[str, Any]:
    return {
        "currency": "USD",
        "meters": [
            {"id": "tokens", "event_type": "t.used", "quantity": "data.n", "dimensions": ["model", "region", "tier"]}
        ],
        "prices": [],
        "plans": [],
        **parts,
    }


def meter(**fields: Any) -> dict[str, Any]:
    return catalog(meters=[{"id": "m", "event_type": "e", "quantity": "data.n", **fields}])


def price(**fields: Any) -> dict[str, Any]:
    return {"id": "p", "meter": "tokens", "model": "per_unit", "unit_amount": "1", **fields}


def of(model: str, **fields: Any) -> dict[str, Any]:
    return catalog(prices=[{"id": "p", "meter": "tokens", "model": model, **fields}])


def tiered(*tiers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return of("graduated", tiers=list(tiers), **fields)


def plan(**fields: Any) -> dict[str, Any]:
    return catalog(
        prices=[price()], plans=[{"id": "pro", "interval": "month", "amount": "20", "prices": ["p"], **fields}]
    )


ONE, TWO = {"up_to": 10, "unit_amount": "2"}, {"unit_amount": "1"}
JANUARY, MARCH = "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"

BROKEN: list[tuple[str, Any, str]] = [
    # the whole
    ("", None, "the catalogue is no mapping"),
    ("", [], "the catalogue is no mapping"),
    ("", "text", "the catalogue is no mapping"),
    ("currency", {"meters": catalog()["meters"]}, "is missing"),
    ("currency", catalog(currency="usd"), "three capital letters"),
    ("currency", catalog(currency="US"), "three capital letters"),
    ("currency", catalog(currency=840), "three capital letters"),
    ("meters", catalog(meters=[]), "is missing"),
    ("meters", {"currency": "USD"}, "is missing"),
    ("meters", catalog(meters={"id": "m"}), "must be a list"),
    ("prices", catalog(prices="all"), "must be a list"),
    ("quotas", catalog(quotas=[]), "is not a field of it"),
    ("effective_from", catalog(effective_from="soon"), "must be a time"),
    ("effective_from", catalog(effective_from=1767225600), "must be a time"),
    # meters
    ("meters[0]", catalog(meters=[5]), "must be a mapping"),
    ("meters[0].id", meter(id=""), "must not be empty"),
    ("meters[0].id", meter(id="x" * 201), "at most 200 characters"),
    ("meters[0].id", meter(id=7), "must be text"),
    ("meters[0].event_type", meter(event_type=None), "must be text"),
    ("meters[0].quantity", meter(quantity="data.n ** 2"), "'*' at character 9"),
    ("meters[0].quantity", meter(quantity="eval(data.n)"), "'(' at character 5"),
    ("meters[0].quantity", meter(quantity="data.n / 0"), "divides by zero"),
    ("meters[0].quantity", meter(quantity=""), "the end where"),
    ("meters[0].quantity", meter(quantity=None), "is missing"),
    ("meters[0].quantity", meter(quantity=0.5), "must be an expression"),
    ("meters[0].aggregation", meter(aggregation="median"), "must be one of 'sum', 'count'"),
    ("meters[0].quantity", meter(aggregation="max", quantity=None), "is missing"),
    ("meters[0].quantity", meter(aggregation="unique", quantity=None), "names their field"),
    ("meters[0].quantity", meter(aggregation="unique", quantity="data.n + 1"), "must be a lone field"),
    ("meters[0].bounds", meter(bounds=[5]), "must be a mapping"),
    ("meters[0].bounds.long.quantity", meter(bounds={"long": {"above": 5}}), "is missing"),
    ("meters[0].bounds.long.quantity", meter(bounds={"long": {"quantity": "n >", "above": 5}}), "'>' at character 3"),
    ("meters[0].bounds.long.above", meter(bounds={"long": {"quantity": "data.n", "above": "5k"}}), "decimal text"),
    (
        "meters[0].bounds.long",
        meter(dimensions=["long"], bounds={"long": {"quantity": "data.n", "above": 5}}),
        "stands among the dimensions too",
    ),
    ("meters[0].dimensions", meter(dimensions="model"), "must be a list"),
    ("meters[0].dimensions", meter(dimensions=["a", "a"]), "a stands twice"),
    ("meters[0].dimensions[1]", meter(dimensions=["a", "b c"]), "the name of a field"),
    ("meters[0].unit_price", meter(unit_price="1"), "is not a field of it"),
    ("meters[0].event_type", meter(event_type="payment.completed"), "carries no usage of its own"),
    ("meters[1].id", catalog(meters=[catalog()["meters"][0]] * 2), "'tokens' is the id of meters[0] already"),
    # prices
    ("prices[0].model", of("cheap"), "'cheap' is no price model; there are flat, per_unit"),
    ("prices[0].model", catalog(prices=[{"id": "p", "meter": "tokens"}]), "is missing"),
    ("prices[0].rate_percent", of("percentage", rate_percent="-1"), "must not be negative"),
    (
        "prices[0].min_per_event",
        of("percentage", rate_percent=1, min_per_event="2", max_per_event="1"),
        "is more than max_per_event",
    ),
    ("prices[0].amount_field", of("dynamic", amount_field="data.cost * 2"), "must be a field path"),
    (
        "prices[0].model",
        {
            **meter(aggregation="max"),
            "prices": [{"id": "p", "meter": "m", "model": "percentage", "rate_percent": 3}],
        },
        "prices event by event",
    ),
    ("prices[0].meter", catalog(prices=[price(meter="token")]), "no meter has the id 'token'"),
    ("prices[0].unit_amount", of("per_unit"), "is missing"),
    ("prices[0].unit_amount", of("per_unit", unit_amount=0.0000025), "decimal text in quotes"),
    ("prices[0].unit_amount", of("per_unit", unit_amount=5), "decimal text in quotes"),
    ("prices[0].unit_amount", of("per_unit", unit_amount="-1"), "must not be negative"),
    ("prices[0].unit_amount", of("per_unit", unit_amount="1e-6"), "decimal text"),
    ("prices[0].unit_amount", of("per_unit", unit_amount="NaN"), "decimal text"),
    ("prices[0].unit_amount", of("per_unit", unit_amount="1,50"), "decimal text"),
    ("prices[0].unit_amount", of("per_unit", unit_amount=""), "decimal text"),
    ("prices[0].unit_amount", of("per_unit", unit_amount=True), "decimal text"),
    ("prices[0].amount", of("flat", amount="9223372036.854775808"), "beyond the bounds of an amount"),
    ("prices[0].amount", of("per_unit", unit_amount="1", amount="1"), "is not a field of it"),
    ("prices[0].unit_divisor", catalog(prices=[price(unit_divisor=0)]), "must be greater than 0"),
    ("prices[0].included_quantity", catalog(prices=[price(included_quantity=-1)]), "must not be negative"),
    ("prices[0].included_quantity", catalog(prices=[price(included_quantity=1.5)]), "decimal text in quotes"),
    ("prices[0].discount_percent", catalog(prices=[price(discount_percent="100.1")]), "must not be more than 100"),
    ("prices[0].minimum_amount", catalog(prices=[price(minimum_amount="2", maximum_amount="1")]), "more than maximum"),
    ("prices[0].effective_from", catalog(prices=[price(effective_from="2026-13-01T00:00:00Z")]), "must be a time"),
    ("prices[0].effective_from", catalog(prices=[price(effective_from="2026-01-01")]), "must be a time"),
    ("prices[0].effective_from", catalog(prices=[price(effective_from=20260101)]), "must be a time"),
    ("prices[0].match", catalog(prices=[price(match="gpt-4o")]), "must be a mapping"),
    ("prices[0].match.modle", catalog(prices=[price(match={"modle": "a"})]), "is no dimension of the meter tokens"),
    ("prices[0].match.model", catalog(prices=[price(match={"model": 4.1})]), "a number with a point needs quotes"),
    ("prices[0].match.model", catalog(prices=[price(match={"model": ["a"]})]), "must be text"),
    ("prices[1].id", catalog(prices=[price(match={"model": "a"}), price()]), "'p' is the id of prices[0] already"),
    ("prices[0].package_size", of("package", package_size=0, amount="1"), "must be greater than 0"),
    ("prices[0].rounding", of("package", package_size=1, amount="1", rounding="half"), "must be one of 'up' or 'down'"),
    # tiers
    ("prices[0].tiers", of("graduated"), "is missing"),
    ("prices[0].tiers", tiered(), "must have at least 1 item"),
    ("prices[0].tiers[0].up_to", tiered(ONE), "must be null in the last tier"),
    ("prices[0].tiers[0].up_to", tiered(TWO, TWO), "is missing; only the last tier has no end"),
    ("prices[0].tiers[1].up_to", tiered(ONE, ONE, TWO), "is not more than the 10 of the tier before"),
    (
        "prices[0].tiers[1].up_to",
        tiered(ONE, {**ONE, "up_to": "9.5"}, TWO),
        "is not more than the 10 of the tier before",
    ),
    ("prices[0].tiers[0].up_to", tiered({**ONE, "up_to": 0}, TWO), "must be greater than 0"),
    ("prices[0].tiers[0].up_to", tiered({**ONE, "up_to": "inf"}, TWO), "decimal text"),
    ("prices[0].tiers[1].unit_amount", tiered(ONE, {"unit_amount": "-1"}), "must not be negative"),
    ("prices[0].tiers[1]", tiered(ONE, {}), "has neither unit_amount nor flat_amount"),
    ("prices[0].tiers[0].from", tiered({**ONE, "from": 0}, TWO), "is not a field of it"),
    ("prices[0].charge_first_flat_at_zero", tiered(TWO, charge_first_flat_at_zero="yes"), "must be true or false"),
    # prices between which an event could not choose
    (
        "prices[1].match",
        catalog(prices=[price(), price(id="q")]),
        "prices[0] has the same meter, match and effective_from",
    ),
    (
        "prices[1].match",
        catalog(prices=[price(effective_from=JANUARY), price(id="q", effective_from="2026-01-01T01:00:00+01:00")]),
        "prices[0] has the same meter, match and effective_from",
    ),
    (
        "prices[1].match",
        catalog(prices=[price(match={"model": "a"}), price(id="q", match={"region": "eu"})]),
        "as specific as that of prices[0], and both match {model: a, region: eu}",
    ),
    (
        "prices[1].match",
        catalog(
            prices=[
                price(match={"model": "a", "region": "eu"}),
                price(id="q", match={"model": "a", "tier": "1"}),
                price(id="r", match={"model": "b", "tier": "1"}),
            ]
        ),
        "both match {model: a, region: eu, tier: 1}",
    ),
    (
        "prices[1].match",
        catalog(
            prices=[
                price(match={"model": "a"}, effective_from=JANUARY),
                price(id="q", match={"region": "eu"}, effective_from=JANUARY),
                price(id="r", match={"model": "a", "region": "eu"}, effective_from=MARCH),
            ]
        ),
        "both match {model: a, region: eu}",
    ),
    # plans
    ("plans[0].interval", plan(interval="week"), "must be one of 'month' or 'year'"),
    ("plans[0].amount", plan(amount=20), "decimal text in quotes"),
    ("plans[0].prices[1]", plan(prices=["p", "q"]), "no price has the id 'q'"),
    ("plans[0].prices[1]", plan(prices=["p", "p"]), "'p' stands twice"),
    ("plans[0].features.seats", plan(features={"seats": "many"}), "decimal text"),
    (
        "plans[0].credits[0].expires_after",
        plan(credits=[{"amount": "1", "expires_after": "1 month"}]),
        "span of ISO 8601",
    ),
    ("plans[0].credits[0].scope[0]", plan(credits=[{"amount": "1", "scope": ["x"]}]), "no meter has the id 'x'"),
    ("plans[0].quotas[0].window", plan(quotas=[{"spend": "1", "window": "sliding:0h"}]), "must be minute, hour"),
    ("plans[0].quotas[0].meter", plan(quotas=[{"meter": "x", "limit": 1, "window": "day"}]), "no meter has the id 'x'"),
    ("plans[0].quotas[0].limit", plan(quotas=[{"meter": "tokens", "window": "day"}]), "is missing"),
    ("plans[0].proration", plan(proration="weeks"), "must be one of 'seconds' or 'days'"),
    ("plans[0].trial_days", plan(trial_days=-1), "must be at least 0"),
    ("plans[0].trial_days", plan(trial_days="14"), "must be a whole number"),
    ("plans[0].quotas[0].window", plan(quotas=[{"spend": "1", "window": "fortnight"}]), "must be minute, hour"),
    ("plans[0].quotas[0].mode", plan(quotas=[{"spend": "1", "window": "day", "mode": "warn"}]), "'hard' or 'soft'"),
    (
        "plans[0].quotas[0].grace_percent",
        plan(quotas=[{"spend": "1", "window": "day", "mode": "soft", "grace_percent": 10}]),
        "goes with hard",
    ),
    (
        "plans[0].quotas[0].rollover_max",
        plan(quotas=[{"meter": "tokens", "limit": 5, "window": "sliding:5h", "rollover_max": 5}]),
        "nothing rolls over of sliding:5h",
    ),
    (
        "plans[0].quotas[0].per",
        plan(quotas=[{"meter": "tokens", "limit": 5, "window": "day", "per": "colour"}]),
        "neither customer, user nor a dimension of the meter tokens",
    ),
    (
        "plans[0].quotas[0].per",
        plan(quotas=[{"spend": "5", "window": "day", "per": "colour"}]),
        "nor a dimension of any meter",
    ),
    (
        "plans[0].quotas[1]",
        plan(quotas=[{"spend": "5", "window": "day"}, {"spend": "9", "window": "day"}]),
        "quotas[0] is of the same kind; give one of them an id",
    ),
    (
        "plans[0].quotas[1]",
        plan(quotas=[{"id": "q", "spend": "5", "window": "day"}, {"id": "q", "spend": "9", "window": "week"}]),
        "quotas[0] has the same id",
    ),
    ("plans[0].quotas[0]", plan(quotas=[{"limit": 5, "window": "day"}]), "either a meter with its limit, or spend"),
    (
        "plans[0].quotas[0].thresholds",
        plan(quotas=[{"spend": "1", "window": "day", "thresholds": [80, 50]}]),
        "must ascend",
    ),
    ("plans[0].commitment.overage_factor", plan(commitment={"amount": "1", "overage_factor": "0"}), "greater than 0"),
]


def faults_of(document: Any) -> list[tuple[str, str]]:
    with pytest.raises(CatalogRefused) as refused:
        from_document(document)
    return [tuple(fault) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("path", "document", "reason"), BROKEN, ids=[f"{at}-{row[0]}" for at, row in enumerate(BROKEN)]
)
def test_a_fault_is_named_by_its_path(path: str, document: Any, reason: str) -> None:
    """One broken catalogue, one fault, with its path and what would be right; also when it comes as text."""
    ((found_path, found_reason),) = faults_of(document)
    assert found_path == path
    assert reason in found_reason
    with pytest.raises(CatalogRefused) as refused:
        parse(json.dumps(document))
    assert path in [fault.path for fault in refused.value.faults]


def test_every_fault_is_told_at_once() -> None:
    """Faults of different parts, of fields and between parts stand in one answer, each once."""
    document = {
        "currency": "usd",
        "meters": [{"id": "m", "event_type": "e", "quantity": "data.n +"}, {"id": "n", "event_type": "e"}],
        "prices": [
            {"id": "p", "meter": "m", "model": "per_unit", "unit_amount": 1.5},
            {"id": "p2", "meter": "x", "model": "flat", "amount": "1"},
        ],
        "plans": [{"id": "pro", "interval": "month", "amount": "1", "prices": ["p", "p3"]}],
    }
    assert sorted(path for path, _ in faults_of(document)) == [
        "currency",
        "meters[0].quantity",
        "meters[1].quantity",
        "plans[0].prices[1]",
        "prices[0].unit_amount",
        "prices[1].meter",
    ]


def test_a_fault_of_its_own_hides_none_between_the_parts() -> None:
    """Ids that stand twice, and what is named and is not there, are told of parts that cannot be read as well."""
    document = {
        "currency": "USD",
        "meters": [{"id": "m", "event_type": "e", "quantity": "data.n +"}, {"id": "m", "event_type": "usage.reported"}],
        "prices": [
            {"id": "p", "meter": "x", "model": "per_unit", "unit_amount": 1.5},
            {"id": "p", "meter": "m", "model": "per_unit", "unit_amount": "1"},
        ],
        "plans": [{"id": "pro", "interval": "week", "amount": "1", "prices": ["p", "p3", 5]}],
    }
    assert sorted(path for path, _ in faults_of(document)) == [
        "meters[0].quantity",
        "meters[1].id",
        "plans[0].interval",
        "plans[0].prices[1]",
        "plans[0].prices[2]",
        "prices[0].meter",
        "prices[0].unit_amount",
        "prices[1].id",
    ]


def test_two_thousand_prices_in_each_others_way_are_not_two_million_lines() -> None:
    """Faults are told up to a bound, and then that there are more."""
    prices = [price(id=f"m{number}", match={"model": str(number)}) for number in range(1000)]
    prices += [price(id=f"r{number}", match={"region": str(number)}) for number in range(1000)]
    faults = faults_of(catalog(prices=prices))
    assert len(faults) == MAX_FAULTS + 1
    assert faults[-1] == ("", f"there are more than {MAX_FAULTS} faults; the rest is not listed")


@pytest.mark.parametrize(
    "document",
    [
        catalog(prices=[{}] * 100_000),
        {f"key {number}": 1 for number in range(100_000)},
        catalog(**{"x" * 500_000: 1}),
        catalog(prices=[price(model="x" * 500_000)]),
    ],
    ids=["prices", "keys", "long key", "long model"],
)
def test_an_answer_is_short_however_long_the_catalogue(document: dict[str, Any]) -> None:
    """Neither the number of faults nor what they quote grows without bound."""
    faults = faults_of(document)
    assert len(faults) <= MAX_FAULTS + 1
    assert sum(len(path) + len(reason) for path, reason in faults) < 200 * (MAX_FAULTS + 1)


@pytest.mark.parametrize(
    "prices",
    [
        # the same names and other values never meet
        [price(match={"model": "a"}), price(id="q", match={"model": "b"})],
        # different values of a shared name never meet
        [price(match={"model": "a", "region": "eu"}), price(id="q", match={"model": "b", "tier": "1"})],
        # one more specific than the other
        [price(match={"model": "a"}), price(id="q", match={"model": "a", "region": "eu"})],
        # the same match at another time
        [price(), price(id="q", effective_from=JANUARY)],
        # a price for just what both match decides between them, once both are in effect
        [
            price(match={"model": "a"}, effective_from=JANUARY),
            price(id="q", match={"region": "eu"}, effective_from=MARCH),
            price(id="r", match={"model": "a", "region": "eu"}, effective_from=MARCH),
        ],
    ],
)
def test_prices_between_which_every_event_can_choose_are_taken(prices: list[dict[str, Any]]) -> None:
    """What cannot meet, or is decided, is not ambiguous."""
    assert len(from_document(catalog(prices=prices)).prices) == len(prices)


def test_a_plans_price_is_not_in_the_way_of_the_common_one() -> None:
    """Each plan's prices and the common ones are groups of their own; within a plan ambiguity is refused."""
    pro = {"id": "pro", "interval": "month", "amount": "20", "prices": ["q"]}
    team = {**pro, "id": "team", "prices": ["r"]}
    prices = [price(), price(id="q"), price(id="r")]
    assert from_document(catalog(prices=prices, plans=[pro, team]))
    assert faults_of(catalog(prices=prices, plans=[{**pro, "prices": ["q", "r"]}, team])) == [
        ("prices[2].match", "prices[1] has the same meter, match and effective_from")
    ]
