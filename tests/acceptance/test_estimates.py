"""Section 3's conventions: `tollgate price estimate`."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.deployment import Tollgate, settings_in

ESTIMATES: list[tuple[str, dict[str, Any], str]] = [
    ("flat", {"price": {"model": "flat", "amount": "5.00"}, "quantity": "3"}, "5"),
    ("per unit", {"price": {"model": "per_unit", "unit_amount": "0.0000025"}, "quantity": "1000"}, "0.0025"),
    ("whole number as a count", {"price": {"model": "per_unit", "unit_amount": "2"}, "quantity": 3}, "6"),
    ("unit_divisor scales prices", {"price": {"model": "per_unit", "unit_amount": "2.50", "unit_divisor": 1000000}, "quantity": "1"}, "0.0000025"),
    ("unrounded beyond nanos", {"price": {"model": "per_unit", "unit_amount": "0.0000000001"}, "quantity": "3"}, "0.0000000003"),
    ("package up", {"price": {"model": "package", "package_size": 100, "amount": "0.40", "rounding": "up"}, "quantity": "101"}, "0.8"),
    ("package down", {"price": {"model": "package", "package_size": 100, "amount": "0.40", "rounding": "down"}, "quantity": "199"}, "0.4"),
    ("package at zero", {"price": {"model": "package", "package_size": 100, "amount": "0.40", "rounding": "up"}, "quantity": "0"}, "0"),
    (
        "graduated: each tier's units at its price, flat once for each entered",
        {"price": {"model": "graduated", "tiers": [{"up_to": 10, "unit_amount": "1", "flat_amount": "5"}, {"up_to": None, "unit_amount": "0.5", "flat_amount": "7"}]}, "quantity": "12"},
        "23",
    ),
    (
        "up_to belongs to its tier",
        {"price": {"model": "graduated", "tiers": [{"up_to": 10, "unit_amount": "1"}, {"up_to": None, "unit_amount": "0.5", "flat_amount": "7"}]}, "quantity": "10"},
        "10",
    ),
    (
        "volume: all units at the tier reached, plus its flat",
        {"price": {"model": "volume", "tiers": [{"up_to": "10", "unit_amount": "1", "flat_amount": "5"}, {"up_to": None, "unit_amount": "0.5", "flat_amount": "7"}]}, "quantity": "12"},
        "13",
    ),
    ("stairstep", {"price": {"model": "stairstep", "tiers": [{"up_to": 10, "amount": "1"}, {"up_to": None, "amount": "9"}]}, "quantity": "10.5"}, "9"),
    ("zero usage of tiers", {"price": {"model": "stairstep", "tiers": [{"up_to": 10, "amount": "1"}, {"up_to": None, "amount": "9"}]}, "quantity": "0"}, "0"),
    (
        "charge_first_flat_at_zero, stairstep",
        {"price": {"model": "stairstep", "charge_first_flat_at_zero": True, "tiers": [{"up_to": 10, "amount": "1"}, {"up_to": None, "amount": "9"}]}, "quantity": "0"},
        "1",
    ),
    (
        "charge_first_flat_at_zero, graduated",
        {"price": {"model": "graduated", "charge_first_flat_at_zero": True, "tiers": [{"up_to": 10, "unit_amount": "1", "flat_amount": "3"}, {"up_to": None, "unit_amount": "1"}]}, "quantity": "0"},
        "3",
    ),
    (
        "the event that crosses free_amount pays the rate on its excess and the whole fixed fee",
        {"price": {"model": "percentage", "rate_percent": "10", "fixed_per_event": "0.30", "free_amount": "100"}, "quantities": [{"quantity": "60"}, {"quantity": "60"}]},
        "2.3",
    ),
    (
        "free_events first",
        {"price": {"model": "percentage", "rate_percent": "10", "free_events": 1, "free_amount": "1000"}, "quantities": [{"quantity": "60"}, {"quantity": "60", "dimensions": {}}]},
        "6",
    ),
    (
        "a wholly free event pays not even the minimum; then min_per_event, then max_per_event",
        {"price": {"model": "percentage", "rate_percent": "1", "min_per_event": "1", "max_per_event": "2", "free_events": 1}, "quantities": [{"quantity": "10"}, {"quantity": "10"}, {"quantity": "1000"}]},
        "3",
    ),
    ("percentage without events", {"price": {"model": "percentage", "rate_percent": "10", "fixed_per_event": "1"}, "quantities": []}, "0"),
    (
        "graduated percentage",
        {"price": {"model": "graduated_percentage", "tiers": [{"up_to": "100", "rate_percent": "10", "flat_amount": "1"}, {"up_to": None, "rate_percent": "5"}]}, "quantity": "200"},
        "16",
    ),
    ("dynamic is its quantity", {"price": {"model": "dynamic", "amount_field": "data.cost"}, "quantity": "1.25"}, "1.25"),
    ("dynamic with a multiplier", {"price": {"model": "dynamic", "amount_field": "data.cost", "multiplier": "1.1"}, "quantity": "10"}, "11"),
    (
        "included, model, discount, minimum, maximum",
        {"price": {"model": "per_unit", "unit_amount": "1", "included_quantity": 10, "discount_percent": "50", "minimum_amount": "8", "maximum_amount": "20"}, "quantity": "20"},
        "8",
    ),
    ("maximum on the total", {"price": {"model": "per_unit", "unit_amount": "1", "maximum_amount": "20"}, "quantities": [{"quantity": "15"}, {"quantity": "15"}]}, "20"),
    ("minimum also at zero usage", {"price": {"model": "per_unit", "unit_amount": "1", "minimum_amount": "8"}, "quantity": "0"}, "8"),
    ("included before packages", {"price": {"model": "package", "package_size": 10, "amount": "1", "rounding": "up", "included_quantity": 5}, "quantity": "15"}, "1"),
    ("a quotient without end, 30 digits", {"price": {"model": "per_unit", "unit_amount": "1", "unit_divisor": 3}, "quantity": "1"}, "0." + "3" * 30),
    ("fractional bounds", {"price": {"model": "graduated", "tiers": [{"up_to": "0.5", "unit_amount": "1"}, {"up_to": None, "unit_amount": "2"}]}, "quantity": "1"}, "1.5"),
    ("bounds are cumulative over the period", {"price": {"model": "graduated", "tiers": [{"up_to": 10, "unit_amount": "1"}, {"up_to": None, "unit_amount": "2"}]}, "quantities": [{"quantity": "6"}, {"quantity": "6", "dimensions": {"model": "m"}}]}, "14"),
    ("an order of its own", {"price": {"model": "graduated", "tiers": [{"up_to": 10, "unit_amount": "1"}, {"up_to": None, "unit_amount": "2"}]}, "quantities": [{"quantity": "5"}, {"quantity": "6"}, {"quantity": "1"}]}, "14"),
    ("volume at its bound", {"price": {"model": "volume", "tiers": [{"up_to": 10, "unit_amount": "1"}, {"up_to": None, "unit_amount": "0.5"}]}, "quantity": "10"}, "10"),
    ("volume at zero, charged first flat", {"price": {"model": "volume", "charge_first_flat_at_zero": True, "tiers": [{"up_to": 10, "unit_amount": "1", "flat_amount": "3"}, {"up_to": None, "unit_amount": "1"}]}, "quantity": "0"}, "3"),
    ("volume at zero", {"price": {"model": "volume", "tiers": [{"up_to": 10, "unit_amount": "1", "flat_amount": "3"}, {"up_to": None, "unit_amount": "1"}]}, "quantity": "0"}, "0"),
    ("graduated percentage at zero", {"price": {"model": "graduated_percentage", "tiers": [{"up_to": 10, "rate_percent": "1", "flat_amount": "3"}, {"up_to": None, "rate_percent": "1"}]}, "quantity": "0"}, "0"),
    ("graduated percentage at zero, charged first flat", {"price": {"model": "graduated_percentage", "charge_first_flat_at_zero": True, "tiers": [{"up_to": 10, "rate_percent": "1", "flat_amount": "3"}, {"up_to": None, "rate_percent": "1"}]}, "quantity": "0"}, "3"),
    ("no events, minimum", {"price": {"model": "per_unit", "unit_amount": "1", "minimum_amount": "3"}, "quantities": []}, "3"),
    ("maximum nothing", {"price": {"model": "per_unit", "unit_amount": "1", "maximum_amount": "0"}, "quantity": "5"}, "0"),
    ("discount before the minimum", {"price": {"model": "flat", "amount": "10", "discount_percent": "50", "minimum_amount": "6"}, "quantity": "1"}, "6"),
    ("included before tiers", {"price": {"model": "graduated", "included_quantity": "5", "tiers": [{"up_to": 10, "unit_amount": "1"}, {"up_to": None, "unit_amount": "2"}]}, "quantity": "16"}, "12"),
    ("bounds and packages stay in the meter's units", {"price": {"model": "graduated", "unit_divisor": 1000, "tiers": [{"up_to": 10, "unit_amount": "1", "flat_amount": "5"}, {"up_to": None, "unit_amount": "2"}]}, "quantity": "11"}, "5.012"),
    ("packages of fractions", {"price": {"model": "package", "package_size": "2.5", "amount": "0.40", "rounding": "up"}, "quantity": "5.1"}, "1.2"),
    ("packages of a period, not of each event", {"price": {"model": "package", "package_size": 10, "amount": "1", "rounding": "up"}, "quantities": [{"quantity": "4"}] * 3}, "2"),
    ("a package is given back when it is emptied", {"price": {"model": "package", "package_size": 10, "amount": "1", "rounding": "up"}, "quantities": [{"quantity": "14"}, {"quantity": "-5"}]}, "1"),
    ("dynamic, several events", {"price": {"model": "dynamic", "multiplier": "2"}, "quantities": [{"quantity": "1.1"}, {"quantity": "2.2"}]}, "6.6"),
    ("percentage of zero pays the fixed fee", {"price": {"model": "percentage", "rate_percent": "2.9", "fixed_per_event": "0.30"}, "quantity": "0"}, "0.3"),
    ("free_amount used up to the last is wholly free", {"price": {"model": "percentage", "rate_percent": "10", "fixed_per_event": "1", "free_amount": "100"}, "quantities": [{"quantity": "100"}, {"quantity": "60"}]}, "7"),
    ("free_amount ends before free_events", {"price": {"model": "percentage", "rate_percent": "10", "free_amount": "100", "free_events": 5}, "quantities": [{"quantity": "50"}, {"quantity": "60"}, {"quantity": "10"}]}, "2"),
    ("a number is its value", {"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": 1e3}, "1000"),
    ("a large amount is no exponent", {"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "9" * 29}, "9" * 29),
    ("a small amount is no exponent", {"price": {"model": "per_unit", "unit_amount": "0." + "0" * 28 + "1"}, "quantity": "1"}, "0." + "0" * 28 + "1"),
    ("fields of a catalogue may stand there", {"price": {"id": "p", "meter": "m", "match": {"a": "b"}, "effective_from": "2026-01-01T00:00:00Z", "model": "per_unit", "unit_amount": "1"}, "quantity": "2"}, "2"),
    ("a negative quantity within a total at or above zero", {"price": {"model": "per_unit", "unit_amount": "1"}, "quantities": [{"quantity": "5"}, {"quantity": "-2"}]}, "3"),
]  # fmt: skip
BAD_ESTIMATES = [
    "not json",
    "[]",
    '{"price": {"model": "per_unit"}, "quantity": "1"}',
    '{"price": {"model": "unheard_of"}, "quantity": "1"}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "-1"}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "one"}',
    '{"price": {"model": "per_unit", "unit_amount": "NaN"}, "quantity": "1"}',
    '{"price": {"model": "per_unit", "unit_amount": 0.5}, "quantity": "1"}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": 1.5}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": true}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": null}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "1", "quantities": []}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantities": [{"quantity": "1"}, {"quantity": "-2"}]}',
    '{"price": {"model": "per_unit", "unit_amount": "1", "amount": "1"}, "quantity": "1"}',
    '{"price": {"model": "graduated", "tiers": [{"up_to": 10, "unit_amount": "1"}]}, "quantity": "1"}',
    '{"price": {"model": "package", "package_size": 0, "amount": "1", "rounding": "up"}, "quantity": "1"}',
    '{"price": {"model": "per_unit", "unit_amount": "1", "unit_divisor": 0}, "quantity": "1"}',
    '{"price": null, "quantity": "1"}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "1"} and more',
    "",
    "\u0000",
]


def test_price_estimate_answers_line_by_line(tmp_path: Path) -> None:
    """One JSON a line to one JSON a line; a bad line is answered by an error and the next go on (exit 0 once all lines
    are answered); needs no server.
    """
    asked = [json.dumps(line) for _, line, _ in ESTIMATES]
    assert len(asked) > len(BAD_ESTIMATES)
    mixed = [line for pair in zip(asked, cycle(BAD_ESTIMATES), strict=False) for line in pair]
    nowhere = Tollgate(settings_in(tmp_path / "nothing"))
    done = nowhere("price", "estimate", stdin="\n".join(mixed))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(mixed)
    wrong = []
    for (name, _, expected), answer in zip(ESTIMATES, answers[::2], strict=True):
        if answer.get("amount") != expected or not isinstance(answer["lines"], list):
            wrong.append((name, answer))
    assert wrong == []
    for line, answer in zip(mixed[1::2], answers[1::2], strict=True):
        assert answer.keys() == {"error"}, (line, answer)
        assert isinstance(answer["error"], str)
