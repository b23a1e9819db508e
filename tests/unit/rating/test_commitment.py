"""Commitments: what the close of a period adds to its usage."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from rating.commitment import Commitment
from schemas import catalog_shapes
from schemas.money import NANOS, parse_nanos


def committed(**fields: Any) -> Commitment:
    return Commitment.of(catalog_shapes.Commitment.model_validate(fields))


@pytest.mark.parametrize(
    ("fields", "usage", "surcharge", "true_up"),
    [
        # below, at and beyond the amount
        ({"amount": "1000"}, "800", "0", "200"),
        ({"amount": "1000"}, "1000", "0", "0"),
        ({"amount": "1000"}, "1200", "0", "0"),
        ({"amount": "1000", "overage_factor": "1.5"}, "1200", "100", "0"),
        ({"amount": "1000", "overage_factor": "1.5"}, "1000", "0", "0"),
        ({"amount": "1000", "overage_factor": "1.5"}, "0", "0", "1000"),
        ({"amount": "1000", "overage_factor": "0.8"}, "1200", "-40", "0"),
        # without a true-up the commitment only sets where the overage begins
        ({"amount": "1000", "true_up": False}, "800", "0", "0"),
        ({"amount": "1000", "overage_factor": "2", "true_up": False}, "1001", "1", "0"),
        ({"amount": "1000", "true_up": True}, "999.999", "0", "0"),
        # rounded once, a half away from zero
        ({"amount": "1000"}, "999.995", "0", "0.01"),
        ({"amount": "0", "overage_factor": "1.01"}, "0.5", "0.01", "0"),
    ],
)
def test_worked_examples(fields: dict[str, Any], usage: str, surcharge: str, true_up: str) -> None:
    """Own arithmetic; two lines at most, and never both."""
    settled = committed(**fields).settle(parse_nanos(usage))
    assert settled.lines(2) == (parse_nanos(surcharge), parse_nanos(true_up))
    assert settled.within + settled.overage == parse_nanos(usage)
    assert not (settled.surcharge and settled.true_up)


def test_the_total_is_usage_beyond_at_its_factor_and_at_least_the_amount() -> None:
    """min(usage, amount) + max(0, usage - amount) x factor, topped up."""
    plan = committed(amount="100", overage_factor="1.2")
    assert plan.settle(150 * NANOS).total == 160 * NANOS
    assert plan.settle(50 * NANOS).total == 100 * NANOS
    assert plan.settle(Fraction(1, 3)).total == 100 * NANOS


def test_a_plan_held_for_a_part_of_the_period_commits_to_that_part() -> None:
    """Half a period, half the amount."""
    settled = committed(amount="100").settle(20 * NANOS, Fraction(1, 2))
    assert (settled.true_up, settled.total) == (30 * NANOS, 50 * NANOS)
