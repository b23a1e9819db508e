"""A catalogue of anything that one may hold is the same catalogue after every road it can take."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rating.book import CompiledCatalogue
from schemas.catalog import decode, encode, from_document, parse
from schemas.catalog_difference import differences
from schemas.catalog_document import write
from schemas.own_terms import decode_own, read_own

METERS: list[dict[str, Any]] = [
    {"id": "tokens", "event_type": "t.used", "quantity": "data.n - data.m / 3", "dimensions": ["model", "spot"]},
    {"id": "people", "event_type": "t.used", "quantity": "data.user_id", "aggregation": "unique"},
    {"id": "calls", "event_type": "t.used", "aggregation": "count", "bounds": {"long": {"quantity": "n", "above": 5}}},
    {"id": "peak", "event_type": "usage.reported", "aggregation": "max"},
]
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
MONEY = st.decimals(0, 9_000_000_000, places=9).map(lambda amount: format(amount, "f"))
COUNTS = st.one_of(st.integers(0, 10**20), st.decimals(0, 10**9, places=6).map(lambda count: format(count, "f")))
POSITIVE = COUNTS.filter(lambda count: float(count) > 0)
PERCENT = st.decimals(0, 100, places=3).map(lambda percent: format(percent, "f"))
TIMES = st.datetimes().filter(lambda time: time.year >= 1970).map(lambda time: time.isoformat() + "Z")


def fields(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


def tiers(tier: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    bounds = st.lists(st.integers(1, 10**9), max_size=3, unique=True).map(sorted)
    return st.tuples(bounds, st.lists(tier, min_size=4, max_size=4)).map(
        lambda made: [{**part, "up_to": bound} for part, bound in zip(made[1], (*made[0], None), strict=False)]
    )


UNIT_TIERS = tiers(fields({"unit_amount": MONEY}, flat_amount=MONEY))
MODELS = st.one_of(
    fields({"model": st.just("flat"), "amount": MONEY}),
    fields({"model": st.just("per_unit"), "unit_amount": MONEY}),
    fields(
        {"model": st.just("package"), "package_size": POSITIVE, "amount": MONEY},
        rounding=st.sampled_from(("up", "down")),
    ),
    fields({"model": st.just("graduated"), "tiers": UNIT_TIERS}, charge_first_flat_at_zero=st.booleans()),
    fields({"model": st.just("volume"), "tiers": UNIT_TIERS}),
    fields({"model": st.just("stairstep"), "tiers": tiers(fields({"amount": MONEY}))}),
    fields({"model": st.just("graduated_percentage"), "tiers": tiers(fields({"rate_percent": PERCENT}))}),
    fields({"model": st.just("percentage"), "rate_percent": PERCENT}, fixed_per_event=MONEY, free_events=COUNTS),
    fields({"model": st.just("dynamic"), "amount_field": st.just("data.cost")}, multiplier=COUNTS),
)
AROUND = fields(
    {"meter": st.sampled_from(("tokens", "calls"))},
    name=NAMES,
    effective_from=TIMES,
    included_quantity=COUNTS,
    discount_percent=PERCENT,
    minimum_amount=MONEY,
    unit_divisor=POSITIVE,
    match=st.one_of(st.just({}), fields({"model": NAMES}, spot=st.booleans())),
)


def unambiguous(prices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prices with ids, of each meter and match the first."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for at, price in enumerate(prices):
        match = price.get("match", {}) if price["meter"] == "tokens" else {}
        kept.setdefault((price["meter"], repr(sorted(match.items()))), {**price, "id": f"p{at}", "match": match})
    return list(kept.values())


PRICES = st.lists(st.tuples(AROUND, MODELS).map(lambda parts: {**parts[0], **parts[1]}), max_size=5).map(unambiguous)
QUOTAS = st.lists(
    st.one_of(
        fields(
            {"meter": st.sampled_from(("tokens", "devices_open")), "limit": COUNTS},
            window=st.sampled_from(("minute", "week", "period", "month")),
            grace_percent=PERCENT,
            rollover_max=COUNTS,
            thresholds=st.lists(st.integers(1, 1000), unique=True, max_size=3).map(sorted),
            per=st.sampled_from(("customer", "user")),
        ),
        fields(
            {"spend": MONEY, "mode": st.just("soft"), "window": st.sampled_from(("sliding:5h", "session:30m", "day"))}
        ),
    ),
    max_size=3,
).map(lambda quotas: [{"window": "hour", **quota, "id": f"q{at}"} for at, quota in enumerate(quotas)])
PLANS = fields(
    {"id": st.just("pro"), "interval": st.sampled_from(("month", "year")), "amount": MONEY},
    trial_days=st.integers(0, 3650),
    proration=st.sampled_from(("seconds", "days")),
    description=NAMES,
    features=st.dictionaries(NAMES.filter(bool), st.one_of(st.booleans(), COUNTS), max_size=3),
    credits=st.lists(
        fields({"amount": MONEY}, expires_after=st.sampled_from(("P1M", "P1Y2M", "PT36H")), rollover_max=MONEY),
        max_size=2,
    ),
    quotas=QUOTAS,
    commitment=fields({"amount": MONEY}, overage_factor=POSITIVE, true_up=st.booleans()),
)
DOCUMENTS = fields(
    {"currency": st.sampled_from(("USD", "JPY", "KWD")), "meters": st.just(METERS), "prices": PRICES},
    effective_from=TIMES,
    plans=st.lists(PLANS, max_size=1),
)


@given(DOCUMENTS)
def test_whatever_a_catalogue_holds_round_trips(document: dict[str, Any]) -> None:
    """Through its document, JSON, YAML and the topic: equal, with one checksum, and without a difference."""
    catalog = from_document(document)
    for again in (
        from_document(catalog.document),
        parse(json.dumps(document)),
        parse(json.dumps(catalog.document)),
        parse(write(catalog.document)),
        parse(write(document)),
        decode(encode(catalog, None, 0), 0).catalog,
    ):
        assert again == catalog
        assert again.checksum == catalog.checksum
        assert differences(catalog, again) == []
    compiled = CompiledCatalogue(1, catalog)
    assert {price.id for price in catalog.prices} == {price["id"] for price in document["prices"]}
    assert all(compiled.price_by_id(price.id) is not None for price in catalog.prices)
    assert len({rule.id for rule in compiled.quotas_of("pro")}) == len(compiled.quotas_of("pro"))


@given(PRICES, QUOTAS)
def test_own_terms_round_trip(prices: list[dict[str, Any]], quotas: list[dict[str, Any]]) -> None:
    """One text for the same terms, which read back as they were given."""
    catalog = from_document({"currency": "USD", "meters": METERS})
    own = read_own(prices, quotas, catalog)
    assert decode_own(own.encode()) == own
    assert read_own([*map(dict, prices)], quotas, catalog).encode() == own.encode()
