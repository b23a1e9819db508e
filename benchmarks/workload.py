"""The canonical workload: what customers of an AI platform do, and what it comes to, from one seed.

10,000 customers, as busy as one another; of a thousand events some 938 are `session.tokens_used` (two or three
charges each: fresh input, cached input for every other call, output), 50 `device.released` (one charge), 10 an earlier
event sent again, one of no tokens at all, one that no one can charge. Every customer is granted a credit before.

The right answer is worked out beside each event in plain integers. No code of the pipeline has a part in it: neither
its prices nor its rounding, nor its decoder. Amounts are nanos.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

TENANT: Final = "bench"
CUSTOMERS: Final = 10_000
SEED: Final = 1
GRANT_NANOS: Final = 5 * 10**9
"""Less than what the busiest spend: some end below zero."""

RESENT_FROM: Final = 5_000
"""An event that is sent again is one of so many before it."""

CORE_SECOND: Final = (138_889, 10)
"""Nanos for a second of a core: numerator and denominator."""

# Tenths of a nano for a token: fresh input, cached input, output.
TOKENS: Final[dict[str, tuple[int, int, int]]] = {
    "gpt-4o": (25_000, 12_500, 100_000),
    "gpt-4o-mini": (1_500, 750, 6_000),
    "gpt-4.1": (20_000, 5_000, 80_000),
    "gpt-4.1-mini": (4_000, 1_000, 16_000),
    "gpt-4.1-nano": (1_000, 250, 4_000),
    "o3": (20_000, 5_000, 80_000),
    "o4-mini": (11_000, 2_750, 44_000),
    "claude-sonnet-4": (30_000, 3_000, 150_000),
    "claude-haiku-3.5": (8_000, 800, 40_000),
    "gemini-2.5-pro": (12_500, 3_125, 100_000),
    "gemini-2.5-flash": (3_000, 755, 25_000),
    "gemini-2.0-flash-lite": (755, 375, 3_005),
}
MODELS: Final = tuple(TOKENS)
METERS: Final = ("input_tokens", "cached_input_tokens", "output_tokens")


def catalogue() -> dict[str, Any]:
    """The catalogue document: the same prices as a person writes them, per million tokens."""
    quantities = ("data.input_tokens - data.cached_input_tokens", "data.cached_input_tokens", "data.output_tokens")
    meters = [
        {"id": meter, "event_type": "session.tokens_used", "quantity": quantity, "dimensions": ["model"]}
        for meter, quantity in zip(METERS, quantities, strict=True)
    ]
    prices: list[dict[str, Any]] = [
        {
            "id": f"{model}-{meter}",
            "meter": meter,
            "match": {"model": model},
            "model": "per_unit",
            "unit_amount": f"{tenths // 10_000}.{tenths % 10_000:04d}",
            "unit_divisor": 1_000_000,
        }
        for model, rates in TOKENS.items()
        for meter, tenths in zip(METERS, rates, strict=True)
    ]
    cores = {
        "id": "core_seconds",
        "event_type": "device.released",
        "quantity": "data.duration_seconds * data.cpu_cores",
        "dimensions": [],
    }
    core_price = {"id": "core-second", "meter": "core_seconds", "model": "per_unit", "unit_amount": "0.0000138889"}
    return {"currency": "USD", "meters": [*meters, cores], "prices": [*prices, core_price]}


class Sent(NamedTuple):
    """One record and what it must come to."""

    customer: str
    value: bytes
    outcome: str
    charges: int
    amount: int


@dataclass(slots=True)
class Expected:
    """What a run must come to. Balances by customer, nanos, the grant included."""

    outcomes: Counter[str] = field(default_factory=Counter)
    charges: int = 0
    amount: int = 0
    balances: dict[str, int] = field(default_factory=dict)

    def take(self, sent: Sent) -> None:
        """Adds one record."""
        self.outcomes[sent.outcome] += 1
        self.charges += sent.charges
        self.amount += sent.amount
        self.balances[sent.customer] -= sent.amount

    def grant(self, customer: str) -> None:
        """Adds a customer's credit."""
        self.outcomes["rated"] += 1
        self.balances[customer] = GRANT_NANOS


def customers(count: int = CUSTOMERS) -> list[str]:
    """Their ids."""
    return [f"cust-{number:05d}" for number in range(count)]


def grants(names: list[str], now: datetime) -> Iterator[tuple[str, bytes]]:
    """A `credit.granted` for each customer."""
    time = _text(now)
    for name in names:
        data = {"user_id": name, "credit_id": f"welcome-{name}", "currency": "USD"}
        data["amount"] = f"{GRANT_NANOS // 10**9}.{GRANT_NANOS % 10**9:09d}"
        yield name, _event("credit.granted", f"welcome-{name}", "bench", name, time, data)


def usage(names: list[str], count: int, now: datetime, seed: int = SEED) -> Iterator[Sent]:
    """`count` records in the order they are sent; the same for the same arguments. `now`: the newest event's time."""
    chance = random.Random(seed).random
    times = [_text(now - timedelta(seconds=age)) for age in range(3_000, 0, -1)]
    recent: deque[Sent] = deque(maxlen=RESENT_FROM)
    for number in range(count):
        kind, customer = chance(), names[int(chance() * len(names))]
        time = times[number * len(times) // count]
        if kind < 0.01 and recent:
            again = recent[int(chance() * len(recent))]
            yield again._replace(outcome="duplicate", charges=0, amount=0)
            continue
        if kind < 0.06:
            made = _released(number, customer, time, int(chance() * 86_400) + 1, 1 << int(chance() * 4), now)
        else:
            taken, given = int(chance() * 4_000) + 1, int(chance() * 800) + 1
            cached = int(chance() * taken) if chance() < 0.5 else 0
            if kind >= 0.998:
                taken, cached, given = (0, 0, 0) if kind < 0.999 else (taken, cached, -given)
            made = _tokens(number, customer, time, MODELS[int(chance() * len(MODELS))], taken, cached, given)
        if made.outcome == "rated":
            recent.append(made)
        yield made


def _tokens(number: int, customer: str, time: str, model: str, taken: int, cached: int, given: int) -> Sent:
    data = {
        "session_id": f"sess-{customer}-{number % 7}",
        "message_id": f"msg-{number:010d}",
        "model": model,
        "input_tokens": taken,
        "cached_input_tokens": cached,
        "output_tokens": given,
    }
    value = _event("session.tokens_used", f"01JD{number:022d}", "chat", customer, time, data)
    if given < 0:
        return Sent(customer, value, "dead_letter", 0, 0)
    if not taken + given:
        return Sent(customer, value, "ignored", 0, 0)
    fresh, cheaper, output = TOKENS[model]
    parts = [(taken - cached, fresh), (cached, cheaper), (given, output)]
    amounts = [_half_even(tokens * tenths, 10) for tokens, tenths in parts if tokens]
    return Sent(customer, value, "rated", len(amounts), sum(amounts))


def _released(number: int, customer: str, time: str, seconds: int, cores: int, now: datetime) -> Sent:
    end = now.astimezone(UTC) - timedelta(hours=1)
    month = end.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    if end - month < timedelta(days=1):
        # Over a month's end it would be charged for each month, and each charge rounded: one is what is expected.
        end = month - timedelta(seconds=1)
    data = {
        "device_id": f"dev-{number % 500}",
        "allocation_id": f"alloc-{number:010d}",
        "allocated_at": _text(end - timedelta(seconds=seconds)),
        "released_at": _text(end),
        "cpu_cores": cores,
        "memory_mb": cores * 4096,
        "storage_mb": 10_240,
    }
    value = _event("device.released", f"01JD{number:022d}", "devices", customer, time, data)
    return Sent(customer, value, "rated", 1, _half_even(seconds * cores * CORE_SECOND[0], CORE_SECOND[1]))


def _event(kind: str, event_id: str, source: str, customer: str, time: str, data: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": kind,
            "subject": customer,
            "time": time,
            "tenantid": TENANT,
            "data": data,
        }
    )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _half_even(numerator: int, denominator: int) -> int:
    """The nearest whole number; half-way between two, the even one."""
    whole, rest = numerator // denominator, numerator % denominator
    if 2 * rest > denominator or (2 * rest == denominator and whole % 2):
        return whole + 1
    return whole
