"""Azure's LLM inference trace of 2023 (conversation): one row a call, as `session.tokens_used`.

The trace names no model: the seed gives each call one of MODELS, by weight. Its times have seven digits of fraction;
the seventh, which is always 0, is cut.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.traces.row import Row
from schemas.period import format_time, parse_time
from schemas.usage_types import TOKENS_USED

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
SOURCE: Final = "azure-llm-2023"
MODELS: Final = (("gpt-4o-mini", 112), ("gpt-4o", 80), ("gemini-1.5-flash-8b", 40), ("llama-3.1-70b", 24))
"""Names and weights; the weights add up to 256."""
SESSIONS_EACH: Final = 8
"""Chat sessions of a customer."""

assert sum(weight for _, weight in MODELS) == 256


def event(row: Row) -> tuple[int, dict[str, Any]]:
    """The call's time in microseconds and its event."""
    occurred_at = parse_time(row.fields["TIMESTAMP"].strip().replace(" ", "T") + "Z")
    customer = row.spread.customer
    return occurred_at, {
        "specversion": "1.0",
        "id": f"call-{row.number:06d}",
        "source": f"{SOURCE}-{row.draw}",
        "type": TOKENS_USED,
        "subject": customer,
        "time": format_time(occurred_at),
        "data": {
            "session_id": f"{customer}-s{row.spread.session % SESSIONS_EACH}",
            "message_id": f"message-{row.number:06d}",
            "model": _model(row.spread.choice),
            "input_tokens": row.whole("ContextTokens"),
            "output_tokens": row.whole("GeneratedTokens"),
        },
    }


def _model(choice: int) -> str:
    for name, weight in MODELS:
        if choice < weight:
            return name
        choice -= weight
    raise AssertionError("the weights add up to 256")
