"""Events that are alike share a tariff; those that are not do not; a price holds from its moment on."""

from __future__ import annotations

from typing import Any

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
    from schemas.catalog import CatalogVersion, parse

    partition = MemoryPartition()
    partition.book.add(CatalogVersion(2, "own", 0, parse(CHANGING)))
    common, own, lacking = partition.usage(
        reported(1), called(2, "2026-11-02T00:00:00Z") | {"tenantid": "own"}, reported(3, tenantid="own")
    )
    assert (prices(common), prices(own)) == (["chat"], ["new", "size"])
    assert (lacking["outcome"], lacking["reason"]) == ("dead_letter", "no_meter")
    assert {charge["catalog_version"] for charge in own["charges"]} == {2}
