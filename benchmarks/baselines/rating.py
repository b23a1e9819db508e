"""The rating of the hand-written baselines: the canonical prices by the pipeline's own price arithmetic, and no more.

Meters are two ifs here, prices are looked up by model once and kept, and little is checked.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from benchmarks.workload import catalogue
from rating.book import CompiledCatalogue, Price
from schemas.catalog import from_document

NANOS = 10**9


class Rater:
    """Holds the prices that it met."""

    def __init__(self) -> None:
        self._catalogue = CompiledCatalogue(1, from_document(catalogue()))
        self._prices: dict[tuple[str, str], Price] = {}

    def charges(self, kind: str, data: dict[str, Any]) -> list[dict[str, Any]] | None:
        """The charges of an event, amounts in nanos; None for what is not to be charged."""
        if kind == "session.tokens_used":
            taken, cached, given = data["input_tokens"], data.get("cached_input_tokens") or 0, data["output_tokens"]
            if min(taken, cached, given) < 0 or not taken + given:
                return None
            model = data["model"]
            parts = (("input_tokens", taken - cached), ("cached_input_tokens", cached), ("output_tokens", given))
            return [self._charge(meter, model, tokens) for meter, tokens in parts if tokens]
        start, end = (datetime.fromisoformat(data[name]) for name in ("allocated_at", "released_at"))
        return [self._charge("core_seconds", "", round((end - start).total_seconds()) * data["cpu_cores"])]

    def _charge(self, meter: str, model: str, quantity: int) -> dict[str, Any]:
        price = self._prices.get((meter, model))
        if price is None:
            found = self._catalogue.price(meter, (("model", model),) if model else (), 0)
            assert found is not None
            price = self._prices[meter, model] = found
        amount = price.charge(quantity * NANOS)
        return {"meter": meter, "quantity": quantity, "price_id": price.id, "amount": amount}
