"""Events for tests: one that is right of each built-in type, and ways to write them."""

from __future__ import annotations

import copy
import json
from typing import Any

from schemas.event import Event, decode
from schemas.period import parse_time

NOW = parse_time("2026-11-20T10:15:31Z")
HOUR = 3_600_000_000

TOKENS = {"session_id": "s-1", "model": "gpt-4o", "input_tokens": 1200, "output_tokens": 340}
RELEASED = {
    "device_id": "d-1",
    "allocation_id": "a-1",
    "allocated_at": "2026-11-20T09:15:30Z",
    "released_at": "2026-11-20T10:15:30Z",
    "cpu_cores": 4,
    "memory_mb": 8192,
    "storage_mb": 0,
}
MONEY = {"amount": "12.50", "currency": "USD"}
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "chat",
    "type": "session.tokens_used",
    "subject": "cust-42",
    "time": "2026-11-20T10:15:30.123Z",
    "tenantid": "acme",
    "data": TOKENS,
}
DATA: dict[str, dict[str, Any]] = {
    "session.tokens_used": TOKENS,
    "session.ended": {
        "session_id": "s-1",
        "started_at": "2026-11-20T10:00:00Z",
        "ended_at": "2026-11-20T10:15:30.5Z",
    },
    "device.released": RELEASED,
    "device.allocated": {
        "device_id": "d-1",
        "allocation_id": "a-1",
        "allocated_at": "2026-11-20T09:15:30Z",
        "cpu_cores": 4,
        "memory_mb": 8192,
        "storage_mb": 0.5,
    },
    "device.heartbeat": {"allocation_id": "a-1", "until": "2026-11-20T10:00:00Z"},
    "usage.reported": {"meter": "ai_chat"},
    "product.usage_recorded": {"product_id": "ai_chat", "quantity": 3},
    "usage.corrected": {"source": "chat", "id": "e-0", "reason": "counted twice"},
    "credit.granted": {"credit_id": "c-1", **MONEY},
    "payment.completed": {"payment_id": "p-1", **MONEY},
    "payment.refunded": {"payment_id": "p-1", "refund_id": "r-1", "amount": "1"},
    "payment.intent.created": {"payment_intent_id": "pi-1", **MONEY},
    "order.completed": {"order_id": "o-1", "total_amount": 12.5, "currency": "USD"},
    "subscription.created": {"subscription_id": "sub-1"},
    "user.created": {"plan_id": "pro"},
    "wallet.credits_added": {"whatever": [1, 2]},
}
"""The least that each type may carry."""


def event(fields: dict[str, Any] | None = None, /, **attributes: Any) -> dict[str, Any]:
    """An event; `fields` go over its type's own data, a value of ... takes its field away."""
    made = copy.deepcopy(EVENT) | attributes
    if "data" not in attributes:
        data = copy.deepcopy(DATA.get(str(made["type"]), {})) | (fields or {})
        made["data"] = {name: value for name, value in data.items() if value is not ...}
    return {name: value for name, value in made.items() if value is not ...}


def write(made: dict[str, Any]) -> bytes:
    """The event's bytes."""
    return json.dumps(made).encode()


def read(fields: dict[str, Any] | None = None, /, **attributes: Any) -> Event:
    """The event, decoded."""
    return decode(write(event(fields, **attributes)), NOW, HOUR)
