"""Events that are alike share a tariff; those that are not do not; a price holds from its moment on."""

from __future__ import annotations

from typing import Any

from schemas.catalog import CatalogVersion, parse
from tests.fakes.partition import MemoryPartition, event, reported, tokens

CHANGING = """
currency: USD
meters:
  - {id: calls, event_type: api.called, aggregation: count, dimensions: [region, tier]}
  - {id: bytes, event_type: api.called, quantity: data.size, aggregation: sum, dimensions: [tier]}
prices:
  - {id: old, meter: calls, model: per_unit, unit_amount: "1"}
  - {id: new, meter: calls, model: per_unit, unit_amount: "2", effective_from: 2026-11-01T00:00:00Z}
  - {id: eu, meter: calls, match: {region: eu}, model: per_unit, unit_amount: "10"}
  - {id: size, meter: bytes, model: per_unit, unit_amount: "0.5"}
"""


def called(number: object, time: str, **data: Any) -> dict[str, Any]:
    return event(number, "api.called", {"size": 2, **data}, time=time)


def prices(row: dict[str, Any]) -> list[str]:
    return [charge["price_id"] for charge in row["charges"]]


def test_the_price_is_that_of_the_events_own_time() -> None:
    """Events on both sides of a price's beginning, in any order and one batch, each get their own."""
    partition = MemoryPartition(CHANGING)
    times = ["2026-11-01T00:00:00Z", "2026-10-31T23:59:59.999999Z", "2026-11-02T00:00:00Z", "2026-01-01T00:00:00Z"]
    found = partition.usage(*(called(number, time) for number, time in enumerate(times * 2)))
    assert [prices(row)[0] for row in found] == ["new", "old", "new", "old"] * 2
    # Whoever goes to and fro names no rate twice.
    entries = partition.records()[0].entries
    assert entries is not None
    assert len(entries.rates) == len(set(entries.rates)) == 3


def test_dimensions_part_events_and_their_rates() -> None:
    """The most specific match wins; each charge keeps the dimensions of its own meter alone."""
    partition = MemoryPartition(CHANGING)
    found = partition.usage(
        called(1, "2026-11-02T00:00:00Z", region="eu", tier="gold"),
        called(2, "2026-11-02T00:00:00Z", region="us", tier="gold"),
        called(3, "2026-11-02T00:00:00Z"),
    )
    assert [prices(row) for row in found] == [["eu", "size"], ["new", "size"], ["new", "size"]]
    assert [charge["dimensions"] for charge in found[0]["charges"]] == [
        {"region": "eu", "tier": "gold"},
        {"tier": "gold"},
    ]


def test_a_reported_event_meets_the_meter_that_it_names() -> None:
    """Events of one type that name different meters are not alike."""
    partition = MemoryPartition()
    found = partition.usage(reported(1, 1, "chats"), reported(2, 1, "seats"), reported(3, 1, "chats"), tokens(4))
    assert [[charge["meter"] for charge in row["charges"]] for row in found] == [
        ["chats"],
        ["seats"],
        ["chats"],
        ["input_tokens"],
    ]


def test_each_tenant_is_rated_by_its_own_catalogue() -> None:
    """A tenant with a catalogue of its own does not see the common one; its events stand in the same batch."""
    partition = MemoryPartition()
    partition.book.add(CatalogVersion(2, "own", 0, parse(CHANGING)))
    common, own, lacking = partition.usage(
        reported(1), called(2, "2026-11-02T00:00:00Z") | {"tenantid": "own"}, reported(3, tenantid="own")
    )
    assert (prices(common), prices(own)) == (["chat"], ["new", "size"])
    assert (lacking["outcome"], lacking["reason"]) == ("dead_letter", "no_meter")
    assert {charge["catalog_version"] for charge in own["charges"]} == {2}


def test_a_catalogue_holds_for_events_from_its_effective_from_on() -> None:
    """Events on both sides of it, in any order and one batch, are each rated by the version of their time."""
    partition = MemoryPartition(CHANGING)
    later = "effective_from: 2026-11-10T00:00:00Z\n" + CHANGING.replace("id: old, meter: calls", "id: x, meter: calls")
    partition.book.add(CatalogVersion(2, None, 0, parse(later.replace("id: new,", "id: newer,"))))
    times = ["2026-11-10T00:00:00Z", "2026-11-09T23:59:59.999999Z", "2026-10-31T00:00:00Z"]
    found = partition.usage(*(called(number, time) for number, time in enumerate(times * 2)))
    assert [(prices(row)[0], row["charges"][0]["catalog_version"]) for row in found] == [
        ("newer", 2),
        ("new", 1),
        ("old", 1),
    ] * 2


def test_before_any_catalogue_holds_nothing_is_measured() -> None:
    """A dead letter that can be retried, not a charge by prices of another time."""
    partition = MemoryPartition("effective_from: 2026-11-10T00:00:00Z\n" + CHANGING)
    early, late = partition.usage(called(1, "2026-11-09T00:00:00Z"), called(2, "2026-11-10T00:00:00Z"))
    assert (early["outcome"], early["reason"]) == ("dead_letter", "unknown_type")
    assert prices(late) == ["new", "size"]


BOUNDED = """
currency: USD
meters:
  - id: input
    event_type: session.tokens_used
    quantity: data.input_tokens
    dimensions: [model]
    bounds: {long: {quantity: data.input_tokens, above: 200000}}
  - id: output
    event_type: session.tokens_used
    quantity: data.output_tokens
    bounds: {long: {quantity: data.input_tokens + data.output_tokens, above: "199999.5"}}
prices:
  - {id: in, meter: input, model: per_unit, unit_amount: "1"}
  - {id: in-m-long, meter: input, match: {model: m, long: "true"}, model: per_unit, unit_amount: "2"}
  - {id: out, meter: output, model: per_unit, unit_amount: "3"}
  - {id: out-long, meter: output, match: {long: "true"}, model: per_unit, unit_amount: "4"}
"""


def test_a_bound_makes_a_dimension_for_the_whole_of_an_event() -> None:
    """Above it, not at it; each meter has its own bound, and events that differ in one of them are not alike."""
    partition = MemoryPartition(BOUNDED)
    found = partition.usage(
        tokens(1, 199_998, 1), tokens(2, 200_000, 1), tokens(3, 200_001, 1), tokens(4, 200_001, 1, model="other")
    )
    assert [prices(row) for row in found] == [
        ["in", "out"],
        ["in", "out-long"],
        ["in-m-long", "out-long"],
        ["in", "out-long"],
    ]
    assert [charge["dimensions"] for charge in found[2]["charges"]] == [
        {"model": "m", "long": "true"},
        {"long": "true"},
    ]
    assert [charge["dimensions"] for charge in found[0]["charges"]] == [{"model": "m"}, {}]
