"""Which catalogue is in force, which meters measure an event, and which price it takes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rating import book as book_module
from rating.book import CompiledCatalogue, PriceBook
from schemas.catalog import Catalog, CatalogVersion, decode, encode, from_document
from schemas.errors import InvariantBroken
from schemas.money import NANOS
from schemas.period import parse_time

JANUARY, MARCH = parse_time("2026-01-01T00:00:00Z"), parse_time("2026-03-01T00:00:00Z")


def catalog(prices: list[dict[str, object]], plans: list[dict[str, object]] | None = None) -> Catalog:
    return from_document(
        {
            "currency": "USD",
            "meters": [
                {
                    "id": "tokens",
                    "event_type": "session.tokens_used",
                    "quantity": "data.input_tokens",
                    "dimensions": ["model", "region", "tier"],
                },
                {"id": "sessions", "event_type": "session.tokens_used", "aggregation": "count"},
                {"id": "ai_chat", "event_type": "usage.reported"},
                {"id": "images", "event_type": "product.usage_recorded"},
                {"id": "pages", "event_type": "pages.printed", "quantity": "data.pages"},
            ],
            "prices": [{"meter": "tokens", "model": "per_unit", "unit_amount": "1", **price} for price in prices],
            "plans": plans or [],
        }
    )


def compiled(prices: list[dict[str, object]], plans: list[dict[str, object]] | None = None) -> CompiledCatalogue:
    return CompiledCatalogue(1, catalog(prices, plans))


def chosen(catalogue: CompiledCatalogue, *, at: int = MARCH, plan: str | None = None, **dimensions: str) -> str | None:
    price = catalogue.price("tokens", tuple(dimensions.items()), at, plan)
    return price.id if price is not None else None


def test_the_most_specific_match_wins() -> None:
    """More pairs go before fewer, a price for all comes last."""
    prices = compiled(
        [
            {"id": "all"},
            {"id": "a", "match": {"model": "a"}},
            {"id": "a-eu", "match": {"model": "a", "region": "eu"}},
            {"id": "a-eu-1", "match": {"model": "a", "region": "eu", "tier": 1}},
        ]
    )
    assert chosen(prices) == "all"
    assert chosen(prices, model="b", region="eu") == "all"
    assert chosen(prices, model="a") == "a"
    assert chosen(prices, model="a", region="us") == "a"
    assert chosen(prices, model="a", region="eu") == "a-eu"
    assert chosen(prices, model="a", region="eu", tier="1") == "a-eu-1"


def test_without_a_price_for_all_an_unknown_model_has_none() -> None:
    """The event is then a dead letter, never free."""
    assert chosen(compiled([{"id": "a", "match": {"model": "a"}}]), model="b") is None


def test_the_latest_price_in_effect_at_the_events_time_wins() -> None:
    """A price begins at its instant, inclusive, and ends where the next one of the same match begins."""
    prices = compiled(
        [
            {"id": "march", "effective_from": "2026-03-01T00:00:00Z"},
            {"id": "january", "effective_from": "2026-01-01T00:00:00Z"},
        ]
    )
    assert chosen(prices, at=JANUARY - 1) is None
    assert chosen(prices, at=JANUARY) == "january"
    assert chosen(prices, at=MARCH - 1) == "january"
    assert chosen(prices, at=MARCH) == "march"


def test_a_more_specific_price_wins_only_from_when_it_is_in_effect() -> None:
    """Before it began, the less specific one holds; an older specific one is not overtaken by a newer general one."""
    prices = compiled(
        [
            {"id": "all", "effective_from": "2026-01-01T00:00:00Z"},
            {"id": "a", "match": {"model": "a"}, "effective_from": "2026-02-01T00:00:00Z"},
            {"id": "all-march", "effective_from": "2026-03-01T00:00:00Z"},
        ]
    )
    assert chosen(prices, model="a", at=JANUARY) == "all"
    assert chosen(prices, model="a", at=MARCH) == "a"
    assert chosen(prices, model="b", at=MARCH) == "all-march"


def test_a_price_that_a_plan_names_holds_for_its_subscribers_alone_and_before_the_common_ones() -> None:
    """Also where the common price is more specific."""
    plan = {"interval": "month", "amount": "20", "prices": ["pro-all"]}
    prices = compiled(
        [{"id": "all"}, {"id": "a", "match": {"model": "a"}}, {"id": "pro-all"}],
        [{"id": "pro", **plan}, {"id": "free", **plan, "prices": []}],
    )
    assert chosen(prices, model="a") == "a"
    assert chosen(prices, model="b") == "all"
    assert chosen(prices, model="a", plan="pro") == "pro-all"
    assert chosen(prices, model="a", plan="free") == "a"
    assert chosen(prices, model="a", plan="unknown") == "a"
    assert chosen(prices, model="a", plan="") == "a"


def test_before_a_plans_price_is_in_effect_its_subscribers_pay_the_common_one() -> None:
    """A plan's price goes before the common one from its own beginning on."""
    prices = compiled(
        [{"id": "all"}, {"id": "pro", "effective_from": "2026-03-01T00:00:00Z"}],
        [{"id": "pro", "interval": "month", "amount": "20", "prices": ["pro"]}],
    )
    assert chosen(prices, plan="pro", at=MARCH - 1) == "all"
    assert chosen(prices, plan="pro", at=MARCH) == "pro"


def test_what_a_look_up_answers_does_not_depend_on_what_was_looked_up_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of look-ups is bounded, and forgetting it changes nothing."""
    monkeypatch.setattr(book_module, "MAX_TIMELINES", 3)
    prices = compiled([{"id": "all"}, {"id": "a", "match": {"model": "a"}}])
    for _ in range(2):
        for model in ("a", "b", "c", "d", "e"):
            assert chosen(prices, model=model) == ("a" if model == "a" else "all")
            assert len(prices._timelines) <= 3


def test_an_event_is_measured_by_the_meters_of_its_type() -> None:
    """In the catalogue's order; a type without a meter has none."""
    catalogue = compiled([{"id": "all"}])
    assert [meter.id for meter in catalogue.meters_of("session.tokens_used", {})] == ["tokens", "sessions"]
    assert [meter.priced for meter in catalogue.meters_of("session.tokens_used", {})] == [True, False]
    assert catalogue.meters_of("device.released", {}) == ()
    assert catalogue.knows_type("pages.printed")
    assert not catalogue.knows_type("pages.read")


def test_a_reported_usage_is_measured_by_the_meter_it_names() -> None:
    """The alias of the type makes no difference, and another type's meter is not meant."""
    catalogue = compiled([{"id": "all"}])
    assert [meter.id for meter in catalogue.meters_of("usage.reported", {"meter": "ai_chat"})] == ["ai_chat"]
    assert [meter.id for meter in catalogue.meters_of("usage.reported", {"meter": "images"})] == ["images"]
    assert catalogue.meters_of("usage.reported", {"meter": "tokens"}) == ()
    assert catalogue.knows_type("usage.reported")
    (meter,) = catalogue.meters_of("usage.reported", {"meter": "ai_chat"})
    assert meter.measure(SimpleNamespace(data={"meter": "ai_chat", "quantity": 4}, attributes={})) == 4 * NANOS


def test_a_tenants_own_catalogue_replaces_the_common_one_for_it() -> None:
    """At every position the newest own version up to there counts, else the newest common one."""
    book = PriceBook()
    plain = catalog([{"id": "all"}])
    assert book.catalogue("acme", 0) is None
    for version, tenant in ((1, None), (3, "acme"), (4, None), (7, "other")):
        book.add(CatalogVersion(version, tenant, 0, plain))
        assert book.position == version

    def in_force(tenant: str, position: int) -> int | None:
        found = book.catalogue(tenant, position)
        return found.version if found is not None else None

    assert [in_force("acme", position) for position in range(8)] == [None, 1, 1, 3, 3, 3, 3, 3]
    assert [in_force("default", position) for position in range(8)] == [None, 1, 1, 1, 4, 4, 4, 4]
    assert in_force("other", 7) == 7
    assert book.catalogue("default", 4) is book.catalogue("default", 7)


def test_a_version_holds_for_events_from_its_effective_from_on() -> None:
    """Those before it are rated by the newest of the others, also where that is the common one."""
    book = PriceBook()

    def add(version: int, tenant: str | None, effective_from: int | None) -> None:
        book.add(CatalogVersion(version, tenant, 0, replace(catalog([{"id": "all"}]), effective_from=effective_from)))

    def in_force(tenant: str, instant: int, position: int = 9) -> int | None:
        found = book.catalogue(tenant, position, instant)
        return found.version if found is not None else None

    add(1, None, JANUARY)
    assert [in_force("acme", instant) for instant in (0, JANUARY - 1, JANUARY)] == [None, None, 1]
    add(2, None, None)
    assert [in_force("acme", instant) for instant in (0, JANUARY)] == [2, 2]
    add(3, "acme", MARCH)
    assert [in_force("acme", instant) for instant in (JANUARY, MARCH - 1, MARCH)] == [2, 2, 3]
    assert in_force("other", MARCH) == 2
    add(4, "acme", JANUARY)
    assert [in_force("acme", instant) for instant in (0, JANUARY, MARCH)] == [2, 4, 4]
    assert in_force("acme", MARCH, position=3) == 3
    assert [version.version for version in book.versions("acme")] == [1, 2, 3, 4]
    assert [version.version for version in book.versions("other")] == [1, 2]
    standing = book.version("acme", 9, MARCH - 1)
    assert standing is not None
    assert standing.version == 4
    assert book.version("acme", 9, JANUARY - 1) is None
    add(5, "acme", None)
    assert [in_force("acme", instant) for instant in (0, MARCH)] == [5, 5]


def test_what_no_event_is_rated_by_any_more_is_not_kept_compiled() -> None:
    """However often a catalogue is applied; a batch that still goes by an old version gets it compiled again."""
    book = PriceBook()
    for version in range(1, 30):
        encoded = encode(catalog([{"id": f"p{version}"}]), "acme" if version % 2 else None, 0)
        read = decode(encoded, version - 1)
        book.prepare(read)
        book.add(read)
        assert book.catalogue("acme", version) is not None
        assert book.catalogue("default", version) is None or version > 1
    assert len(book._compiled) == 2
    old = book.catalogue("acme", 3)
    assert old is not None
    assert old.price_by_id("p3") is not None
    assert [version.catalog.prices[0].id for version in book.versions("acme")] == [f"p{at}" for at in range(1, 30)]


def test_versions_come_in_ascending_order() -> None:
    """A version that comes twice or late would make what is in force depend on luck."""
    book = PriceBook()
    book.add(CatalogVersion(2, None, 0, catalog([{"id": "all"}])))
    for version in (2, 1):
        with pytest.raises(InvariantBroken):
            book.add(CatalogVersion(version, None, 0, catalog([{"id": "all"}])))
