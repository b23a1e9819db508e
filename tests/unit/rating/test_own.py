"""A customer's own prices and quotas: checked by path, and before all others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from rating.book import CompiledCatalogue
from rating.own import check_own, compile_own
from schemas.catalog import parse
from schemas.catalog_document import CatalogRefused
from schemas.errors import InvalidInput
from schemas.money import NANOS
from schemas.own_terms import OWN_MAX_BYTES, decode_own
from schemas.window import Window
from tests.fakes.partition import MemoryPartition, reported

CATALOG = parse("""
currency: USD
meters:
  - {id: calls, event_type: api.called, aggregation: count, dimensions: [region, tier]}
  - {id: ai_chat, event_type: usage.reported}
prices:
  - {id: common, meter: calls, model: per_unit, unit_amount: "1"}
  - {id: eu, meter: calls, match: {region: eu}, model: per_unit, unit_amount: "2"}
  - {id: pro, meter: calls, model: per_unit, unit_amount: "0.5"}
plans:
  - id: pro
    interval: month
    amount: "20"
    prices: [pro]
    features: {ai_chat: 10000, agent_seats: 5, sso: true}
    quotas:
      - {meter: calls, limit: 100, window: day, grace_percent: 10, thresholds: [80, 100], per: region}
      - {id: cap, spend: "50", window: month, mode: soft, rollover_max: 5}
""")
COMPILED = CompiledCatalogue(1, CATALOG)
PRICE: dict[str, Any] = {"id": "deal", "meter": "calls", "model": "per_unit", "unit_amount": "0.1"}


def faults(prices: Any = None, quotas: Any = None) -> list[tuple[str, str]]:
    with pytest.raises(CatalogRefused) as refused:
        check_own(CATALOG, prices, quotas)
    return [tuple(fault) for fault in refused.value.faults]


def test_an_own_price_goes_before_the_plans_and_the_common_one() -> None:
    """However specific those are; where it does not match, they hold."""
    own = check_own(CATALOG, [{**PRICE, "match": {"tier": "gold"}}], None)

    def chosen(plan: str, **dimensions: str) -> str:
        price = COMPILED.price("calls", tuple(dimensions.items()), 0, plan, own)
        assert price is not None
        return price.id

    assert chosen("", region="eu", tier="gold") == "deal"
    assert chosen("pro", region="eu", tier="gold") == "deal"
    assert chosen("pro", region="eu") == "pro"
    assert chosen("", region="eu") == "eu"


def test_an_event_of_a_customer_with_own_prices_is_charged_by_them() -> None:
    """And the next customer's, in the same batch, is not."""
    partition = MemoryPartition()
    partition.usage(reported(1), reported(2, subject="other"))
    account = partition.of("c")
    own = check_own(
        partition.book.version(None, 1).catalog,  # type: ignore[union-attr]
        [{"meter": "chats", "model": "per_unit", "unit_amount": "7"}],
        None,
    )
    account.terms = msgspec.structs.replace(account.terms, own=own)
    mine, others = partition.usage(reported(3), reported(4, subject="other"))
    assert [(charge["price_id"], charge["amount"]) for charge in mine["charges"]] == [("own:chats", 7 * NANOS)]
    assert [charge["price_id"] for charge in others["charges"]] == ["chat"]


def test_a_price_with_the_id_of_the_catalogues_takes_what_it_leaves_out_from_it() -> None:
    """Meter, match and model; never amounts."""
    own = check_own(CATALOG, [{"id": "eu", "unit_amount": "1.5"}], None)
    (price,) = decode_own(own).prices
    assert (price.id, price.meter, price.match, price.model) == ("eu", "calls", {"region": "eu"}, "per_unit")
    assert faults([{"id": "eu"}]) == [("price_overrides[0].unit_amount", "is missing")]


def test_a_price_without_an_id_is_named_after_what_it_is_for() -> None:
    """The same name whenever it is given again, so that what it counted goes on."""
    given = {**PRICE, "match": {"tier": "gold", "region": "eu"}}
    del given["id"]
    (price,) = decode_own(check_own(CATALOG, [given], None)).prices
    assert price.id == "own:calls:region=eu:tier=gold"


def test_own_terms_are_one_canonical_text() -> None:
    """Whatever the order of keys; nothing is the empty text."""
    assert check_own(CATALOG, None, None) == check_own(CATALOG, [], []) == check_own(None, None, None) == b""
    one = check_own(CATALOG, [PRICE], [{"meter": "calls", "limit": 5, "window": "day"}])
    other = check_own(CATALOG, [dict(reversed(PRICE.items()))], [{"window": "day", "limit": "5", "meter": "calls"}])
    assert one == other
    assert compile_own(one) is compile_own(other)
    assert decode_own(one).encode() == one


@pytest.mark.parametrize(
    ("prices", "quotas", "path", "reason"),
    [
        ({}, None, "price_overrides", "must be a list"),
        ([5], None, "price_overrides[0]", "must be a mapping"),
        ([{**PRICE, "unit_amount": 0.1}], None, "price_overrides[0].unit_amount", "decimal text in quotes"),
        ([{**PRICE, "meter": "x"}], None, "price_overrides[0].meter", "no meter has the id 'x'"),
        ([{**PRICE, "match": {"model": "a"}}], None, "price_overrides[0].match.model", "is no dimension"),
        ([{**PRICE, "model": "magic"}], None, "price_overrides[0].model", "is no price model"),
        ([PRICE, {**PRICE, "match": {"tier": "1"}}], None, "price_overrides[1].id", "the id of price_overrides[0]"),
        ([PRICE, {**PRICE, "id": "b"}], None, "price_overrides[1].match", "price_overrides[0] has the same meter"),
        (
            [{**PRICE, "match": {"tier": "1"}}, {**PRICE, "id": "b", "match": {"region": "eu"}}],
            None,
            "price_overrides[1].match",
            "as specific as that of price_overrides[0]",
        ),
        (
            [{"id": "t", "meter": "calls", "model": "volume", "tiers": [{"up_to": 5, "unit_amount": "1"}]}],
            None,
            "price_overrides[0].tiers[0].up_to",
            "must be null",
        ),
        (
            [
                {**PRICE, "name": "x" * 900, "id": f"p{at}", "effective_from": f"{1971 + at}-01-01T00:00:00Z"}
                for at in range(40)
            ],
            None,
            "price_overrides",
            f"more than {OWN_MAX_BYTES} bytes",
        ),
        (None, "all", "quota_overrides", "must be a list"),
        (None, [{"meter": "calls", "window": "day"}], "quota_overrides[0].limit", "is missing"),
        (None, [{"meter": "x", "limit": 5, "window": "day"}], "quota_overrides[0].meter", "no meter has the id 'x'"),
        (None, [{"window": "day"}], "quota_overrides[0]", "either a meter with its limit, or spend"),
        (None, [{"spend": "5", "window": "aeon"}], "quota_overrides[0].window", "must be minute, hour"),
        (
            None,
            [{"spend": "5", "window": "day"}, {"spend": "6", "window": "day"}],
            "quota_overrides[1]",
            "quota_overrides[0] is the same quota",
        ),
    ],
)
def test_a_fault_in_own_terms_is_named_by_its_path(prices: Any, quotas: Any, path: str, reason: str) -> None:
    """As in a catalogue."""
    ((found, why),) = faults(prices, quotas)
    assert found == path
    assert reason in why


def test_own_terms_that_were_never_checked_make_dead_letters() -> None:
    """An event is not rated at a guess, and the worker goes on."""
    for raw in (b"{", b"[]", b'{"prices": [{"id": "x"}]}', b'{"quotas": 5}'):
        with pytest.raises(InvalidInput) as refused:
            COMPILED.price("calls", (), 0, None, raw)
        assert refused.value.reason == "internal_error"


def test_a_plans_quotas_are_its_own_and_its_features_numbers() -> None:
    """A feature that no meter counts is no quota; grace and rollover are worked out."""
    by_id = {rule.id: rule for rule in COMPILED.quotas_of("pro")}
    assert list(by_id) == ["calls:day:region", "cap", "ai_chat:period:customer"]
    calls, cap, chat = by_id.values()
    assert (calls.limit, calls.refuse_above, calls.spend) == (100 * NANOS, 110 * NANOS, None)
    assert (calls.thresholds, calls.per, calls.window) == ((80, 100), "region", Window("day"))
    assert (cap.limit, cap.spend, cap.refuse_above, cap.hard) == (None, 50 * NANOS, None, False)
    assert cap.rollover_max == 5 * NANOS
    assert (chat.meter, chat.limit, chat.hard) == ("ai_chat", 10_000 * NANOS, True)
    assert COMPILED.features_of("pro") == {"ai_chat": 10_000, "agent_seats": 5, "sso": True}
    assert COMPILED.quotas_of("") == COMPILED.quotas_of("unknown") == ()
    assert COMPILED.features_of("unknown") == {}


def test_an_own_quota_replaces_the_plans() -> None:
    """By id, or by what it is for; `limit: null` takes it away; another window stands beside it."""

    def limits(quotas: list[dict[str, Any]], plan: str = "pro") -> dict[str, int | None]:
        own = check_own(CATALOG, None, quotas)
        return {rule.id: rule.limit or rule.spend for rule in COMPILED.quotas_of(plan, own)}

    whole = limits([])
    assert limits([{"meter": "ai_chat", "limit": 5, "window": "period"}]) == {
        **whole,
        "ai_chat:period:customer": 5 * NANOS,
    }
    assert limits([{"id": "cap", "spend": "60", "window": "week"}]) == {**whole, "cap": 60 * NANOS}
    assert limits([{"spend": None, "window": "month"}]) == {name: whole[name] for name in whole if name != "cap"}
    assert limits([{"meter": "ai_chat", "limit": None, "window": "period"}], "") == {}
    assert limits([{"meter": "ai_chat", "limit": 7, "window": "day"}]) == {**whole, "ai_chat:day:customer": 7 * NANOS}


def test_a_feature_gives_way_to_a_quota_that_says_more() -> None:
    """The short form and the full one of the same quota are not two."""
    catalog = parse("""
currency: USD
meters: [{id: seats, event_type: usage.reported}]
plans:
  - id: pro
    interval: month
    amount: "1"
    features: {seats: 5, devices_open: 2}
    quotas: [{id: mine, meter: seats, limit: 6, window: period, thresholds: [50]}]
""")
    rules = CompiledCatalogue(1, catalog).quotas_of("pro")
    assert [(rule.id, rule.limit) for rule in rules] == [
        ("mine", 6 * NANOS),
        ("devices_open:period:customer", 2 * NANOS),
    ]
