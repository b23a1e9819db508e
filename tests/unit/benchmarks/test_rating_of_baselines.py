"""The hand-written baselines charge what the workload means, so that they do the same work."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from benchmarks import workload
from benchmarks.baselines.rating import Rater


def test_baselines_charge_what_is_meant() -> None:
    """Every event that is to be charged comes to the same nanos; every other one to nothing."""
    rater = Rater()
    for sent in workload.usage(workload.customers(50), 5_000, datetime(2026, 11, 20, tzinfo=UTC)):
        if sent.outcome == "duplicate":
            continue
        event = json.loads(sent.value)
        charges = rater.charges(event["type"], event["data"])
        if sent.outcome == "rated":
            assert charges is not None
            assert (len(charges), sum(charge["amount"] for charge in charges)) == (sent.charges, sent.amount)
        else:
            assert charges is None
