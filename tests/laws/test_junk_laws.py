"""Whatever stands in an event's data, it has one of the four outcomes: nothing but a dead letter comes of junk."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schemas.account_types import ACCOUNT_TYPES
from schemas.usage_types import USAGE_TYPES
from tests.fakes.partition import CATALOG, NOW, MemoryPartition

PLANS = """
plans:
  - {id: pro, interval: month, amount: "20.00", credits: [{amount: "5", every: month, expires_after: P1M}]}
  - {id: free, interval: month, amount: "0"}
"""
GOOD: dict[str, list[Any]] = {
    "credit_id": ["k1", "k2"], "amount": ["5", "1.5", 3], "currency": ["USD"], "expires_at": ["2026-12-01T00:00:00Z"],
    "priority": [1], "scope": [["chats"]], "kind": ["paid", "promotional"], "payment_id": ["p1", "p2"],
    "payment_intent_id": ["pi1", "pi_o1"], "order_id": ["o1", "o2"], "refund_id": ["r1", "r2"], "error": ["declined"],
    "order_type": ["credits", "subscription"], "total_amount": ["5"], "items": [[]], "credit_amount": ["7"],
    "subscription_id": ["s1", "s2"], "plan_id": ["pro", "free", "other"], "status": ["active", "pending"],
    "billing_cycle": ["month", "year"], "new_plan": ["free", "pro"], "attempt_count": [1, 2], "tier": ["free"],
    "allocation_id": ["a1", "a2"], "device_id": ["d"], "cpu_cores": [2], "memory_mb": [1], "storage_mb": [0],
    "allocated_at": ["2026-11-01T00:00:00Z"], "until": ["2026-11-02T00:00:00Z"], "session_id": ["s"], "reason": ["why"],
    "released_at": ["2026-11-03T00:00:00Z"], "meter": ["chats"], "source": ["f"], "id": ["e1", "e2"], "model": ["m"],
    "input_tokens": [5], "output_tokens": [5],
}  # fmt: skip
OTHERS = (
    "invoice_id", "changes", "updated_fields", "fulfillment_details", "old_plan", "organization_id", "user_id", "at",
    "timestamp", "metadata", "description", "amount_paid", "hold_id", "final", "quantity", "replace", "charges",
    "correction", "occurred_at", "event_type", "fields", "to_customer", "from_customer", "transfer_id", "request",
)  # fmt: skip
JUNK: list[Any] = [
    None, True, False, 0, -1, 5, 1.5, "", "x", "x" * 201, "x" * 50_000, [], {}, [1], ["a"], {"a": 1}, 10**30, [None],
    "2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9223372036.854775807", "-5", "1e5", {"amount": 5},
    "\u0000", "0000",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_junk_in_any_field_is_at_worst_a_dead_letter(seed: int) -> None:
    """Also in commands: who writes to Kafka may write anything."""
    chosen = random.Random(seed)
    partition = MemoryPartition(CATALOG + PLANS)
    types = [*ACCOUNT_TYPES, *USAGE_TYPES]
    reasons = set()
    for number in range(2_500):
        kind = chosen.choice(types)
        data = {name: chosen.choice(values) for name, values in GOOD.items() if chosen.random() < 0.8}
        for _ in range(chosen.choice([0, 0, 1, 1, 2])):
            data[chosen.choice([*GOOD, *OTHERS])] = chosen.choice(JUNK)
        event = {
            "specversion": "1.0", "id": f"e{number}", "source": "f", "type": kind, "subject": f"c{chosen.randrange(4)}",
            "data": data,
        }  # fmt: skip
        send = partition.account if kind in ACCOUNT_TYPES else partition.usage
        (row,) = send(event, received_at=NOW + number * 1_000_000)
        reasons.add((row["outcome"], row["reason"]))
    assert {outcome for outcome, _ in reasons} >= {"rated", "ignored", "dead_letter"}
    assert ("dead_letter", "internal_error") not in reasons
