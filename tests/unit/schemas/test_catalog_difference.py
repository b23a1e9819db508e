"""What differs between two catalogues."""

from __future__ import annotations

from typing import Any

from schemas.catalog import Catalog, from_document
from schemas.catalog_difference import differences

METER = {"id": "m", "event_type": "e", "quantity": "data.n", "dimensions": ["model"]}
TIERS = [{"up_to": 10, "unit_amount": "2"}, {"unit_amount": "1"}]
PRICE = {"id": "p", "meter": "m", "model": "graduated", "tiers": TIERS}


def catalog(**parts: Any) -> Catalog:
    return from_document({"currency": "USD", "meters": [METER], "prices": [PRICE], **parts})


def test_a_catalogue_does_not_differ_from_itself() -> None:
    """Nor from one with its parts in another order."""
    other = {**METER, "id": "n"}
    assert differences(catalog(meters=[METER, other]), catalog(meters=[other, METER])) == []


def test_every_field_that_differs_is_named_by_its_part() -> None:
    """Parts by their id, tiers by their place, with both values."""
    after = catalog(
        currency="EUR",
        meters=[{**METER, "dimensions": ["model", "region"]}],
        prices=[{**PRICE, "tiers": [{"up_to": 10, "unit_amount": "3"}, *TIERS[1:]], "match": {"model": "a"}}],
    )
    assert [tuple(difference) for difference in differences(catalog(), after)] == [
        ("currency", "USD", "EUR"),
        ("meters[m].dimensions", ["model"], ["model", "region"]),
        ("prices[p].tiers[0].unit_amount", "2", "3"),
        ("prices[p].match", None, {"model": "a"}),
    ]


def test_a_part_on_one_side_alone_stands_whole() -> None:
    """Added, it has nothing before; taken away, nothing after; the same for a tier."""
    more = {**PRICE, "id": "q", "match": {"model": "a"}}
    (added,) = differences(catalog(), catalog(prices=[PRICE, more]))
    assert (added.path, added.before) == ("prices[q]", None)
    (taken,) = differences(catalog(prices=[PRICE, more]), catalog())
    assert (taken.path, taken.after) == ("prices[q]", None)
    (tier,) = differences(
        catalog(), catalog(prices=[{**PRICE, "tiers": [TIERS[0], {**TIERS[0], "up_to": 20}, TIERS[1]]}])
    )[-1:]
    assert tier == ("prices[p].tiers[2]", None, {"unit_amount": "1"})
