"""Laws of the catalogue: it round-trips, and every event finds the one price that it is meant for."""

from __future__ import annotations

from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.book import CompiledCatalogue, Price
from schemas.catalog import CatalogRefused, decode, encode, from_document, parse
from schemas.catalog_document import read, write
from schemas.period import format_time

DIMENSIONS = {"model": ("a", "b"), "region": ("eu", "us"), "tier": ("1",)}
ELSEWHERE = "other"
"""A value that no price names."""
BEGINNINGS = (None, 1_000_000, 2_000_000)
INSTANTS = (0, 1_000_000, 1_999_999, 2_000_000)

MATCHES = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in DIMENSIONS.items()})
OFFERS = st.lists(st.tuples(MATCHES, st.sampled_from(BEGINNINGS), st.booleans()), max_size=7)
EVENTS = [
    {name: value for name, value in zip(DIMENSIONS, values, strict=True) if value is not None}
    for values in product(*((*values, ELSEWHERE, None) for values in DIMENSIONS.values()))
]


def document(offers: list[tuple[dict[str, str], int | None, bool]]) -> dict[str, Any]:
    prices = [
        {"id": f"p{at}", "meter": "m", "model": "per_unit", "unit_amount": "1", "match": match}
        | ({} if begin is None else {"effective_from": format_time(begin)})
        for at, (match, begin, _) in enumerate(offers)
    ]
    of_plan = [f"p{at}" for at, (_, _, planned) in enumerate(offers) if planned]
    return {
        "currency": "USD",
        "meters": [{"id": "m", "event_type": "e", "quantity": "data.n", "dimensions": list(DIMENSIONS)}],
        "prices": prices,
        "plans": [{"id": "pro", "interval": "month", "amount": "1", "prices": of_plan}],
    }


def best(
    offers: list[tuple[dict[str, str], int | None, bool]], event: dict[str, str], instant: int, planned: bool
) -> list[str]:
    """The prices of one group that an event may take: the most specific, of them the latest. Two: it cannot choose."""
    ranked = [
        ((len(match), begin or -1), f"p{at}")
        for at, (match, begin, of_plan) in enumerate(offers)
        if of_plan == planned and match.items() <= event.items() and (begin is None or begin <= instant)
    ]
    if not ranked:
        return []
    most = max(specific for (specific, _), _ in ranked)
    rivals = {at: offers[int(at[1:])][0] for (specific, _), at in ranked if specific == most}
    if len({tuple(sorted(match.items())) for match in rivals.values()}) > 1:
        return list(rivals)
    latest = max(rank for rank, at in ranked if at in rivals)
    return [at for rank, at in ranked if rank == latest]


def ids(price: Price | None) -> list[str]:
    return [price.id] if price is not None else []


@given(OFFERS)
def test_a_catalogue_is_ambiguous_exactly_if_some_event_cannot_choose(
    offers: list[tuple[dict[str, str], int | None, bool]],
) -> None:
    """Against every event there can be, at every time that matters, for subscribers and others."""
    found = [
        (event, instant, planned, best(offers, event, instant, planned))
        for event, instant, planned in product(EVENTS, INSTANTS, (False, True))
    ]
    undecided = any(len(names) > 1 for *_, names in found)
    if undecided:
        with pytest.raises(CatalogRefused, match="match"):
            from_document(document(offers))
        return
    catalogue = CompiledCatalogue(1, from_document(document(offers)))
    for event, instant in product(EVENTS, INSTANTS):
        common, of_plan = best(offers, event, instant, False), best(offers, event, instant, True)
        dimensions = tuple(event.items())
        assert ids(catalogue.price("m", dimensions, instant)) == common
        assert ids(catalogue.price("m", dimensions, instant, "pro")) == (of_plan or common)


@given(OFFERS, st.one_of(st.none(), st.text(min_size=1, max_size=20)), st.integers(0, 2**53))
def test_a_catalogue_round_trips(
    offers: list[tuple[dict[str, str], int | None, bool]], tenant: str | None, applied_at: int
) -> None:
    """Through its document, its text and the topic it is the same catalogue with the same checksum."""
    try:
        catalog = from_document(document(offers))
    except CatalogRefused:
        return
    assert parse(orjson.dumps(catalog.document)) == catalog
    version = decode(encode(catalog, tenant, applied_at), 41)
    assert (version.version, version.tenant, version.applied_at) == (42, tenant, applied_at)
    assert version.catalog == catalog
    assert version.catalog.checksum == catalog.checksum


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**38), 10**38),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30),
    st.sampled_from(
        ("NO", "on", "1e3", "1.5", ".5", "~", "null", "-0", "2026-01-01T00:00:00Z", "0x1F", "1_0", "a: b", "- x")
    ),
)
WRITABLE = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=8), inner, max_size=4),
    ),
    max_leaves=20,
)


@given(WRITABLE)
def test_what_is_written_reads_back(anything: Any) -> None:
    """Text stays text and a number a number, whatever YAML would make of either."""
    assert read(write(anything)) == anything


KEYS = st.sampled_from(("currency", "meters", "prices", "plans", "id", "model", "meter", "match", "tiers", "up_to"))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=30,
)


@given(DOCUMENTS)
def test_any_document_is_refused_with_its_faults(anything: Any) -> None:
    """No shape of input breaks the reader; none of these names an event type, so each has a fault to tell."""
    with pytest.raises(CatalogRefused) as refused:
        from_document(anything)
    assert refused.value.faults
