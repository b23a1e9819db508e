"""The canonical workload: the same events for a seed, and amounts that plain fractions confirm."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from benchmarks import workload
from schemas.catalog import from_document

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
COUNT = 20_000


@pytest.fixture(scope="module")
def sent() -> list[workload.Sent]:
    return list(workload.usage(workload.customers(500), COUNT, NOW))


def test_a_seed_makes_the_same_events(sent: list[workload.Sent]) -> None:
    """Arguments alone decide what is sent."""
    assert sent == list(workload.usage(workload.customers(500), COUNT, NOW))
    assert sent != list(workload.usage(workload.customers(500), COUNT, NOW, seed=2))


def test_the_mixture_is_what_the_module_says(sent: list[workload.Sent]) -> None:
    """All four outcomes occur, and two to three charges are the rule."""
    outcomes = {one.outcome for one in sent}
    assert outcomes == {"rated", "duplicate", "ignored", "dead_letter"}
    tokens = [one for one in sent if one.outcome == "rated" and b"tokens_used" in one.value]
    assert {one.charges for one in tokens} == {2, 3} or {one.charges for one in tokens} == {1, 2, 3}
    assert 0.92 < len(tokens) / COUNT < 0.95


def test_a_duplicate_repeats_an_event_that_was_rated(sent: list[workload.Sent]) -> None:
    """Whatever is sent again was sent and charged before, to the same customer."""
    before: set[tuple[str, bytes]] = set()
    for one in sent:
        if one.outcome == "duplicate":
            assert (one.customer, one.value) in before
            assert (one.charges, one.amount) == (0, 0)
        elif one.outcome == "rated":
            before.add((one.customer, one.value))


def test_amounts_are_the_catalogues_to_the_nano(sent: list[workload.Sent]) -> None:
    """The whole numbers beside the events equal exact fractions of the prices as the catalogue's text has them."""
    rates = {
        (price["meter"], price.get("match", {}).get("model")): Fraction(price["unit_amount"])
        / price.get("unit_divisor", 1)
        for price in workload.catalogue()["prices"]
    }
    for one in sent:
        if one.outcome != "rated":
            continue
        data = json.loads(one.value)["data"]
        if "model" in data:
            cached = data["cached_input_tokens"]
            parts = {
                "input_tokens": data["input_tokens"] - cached,
                "cached_input_tokens": cached,
                "output_tokens": data["output_tokens"],
            }
        else:
            start, end = (datetime.fromisoformat(data[name]) for name in ("allocated_at", "released_at"))
            parts = {"core_seconds": int((end - start).total_seconds()) * data["cpu_cores"]}
        # round() of a Fraction goes to the even neighbour, as charges do.
        exact = [round(units * rates[meter, data.get("model")] * 10**9) for meter, units in parts.items() if units]
        assert (one.charges, one.amount) == (len(exact), sum(exact))


def test_the_catalogue_is_one(sent: list[workload.Sent]) -> None:
    """It has no fault, and a price for every model and meter."""
    catalog = from_document(workload.catalogue())
    assert len(catalog.prices) == 3 * len(workload.MODELS) + 1


def test_expected_totals_add_up(sent: list[workload.Sent]) -> None:
    """Balances are the grants less all amounts."""
    expected = workload.Expected()
    for name in workload.customers(500):
        expected.grant(name)
    for one in sent:
        expected.take(one)
    assert sum(expected.balances.values()) == 500 * workload.GRANT_NANOS - expected.amount
    assert expected.outcomes.total() == COUNT + 500


@pytest.mark.parametrize(
    "now", ["2026-11-30T23:59:59", "2026-12-01T00:30:00", "2026-12-01T13:00:00", "2026-12-02T02:00"]
)
def test_no_device_is_used_over_a_months_end(now: str) -> None:
    """It would be charged for each month, and the amounts that are expected know one charge."""
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    released = [
        json.loads(one.value)["data"]
        for one in workload.usage(workload.customers(50), 2_000, moment)
        if b"device.released" in one.value and one.outcome == "rated"
    ]
    assert len(released) > 20
    assert all(data["allocated_at"][:7] == data["released_at"][:7] <= now[:7] for data in released)
