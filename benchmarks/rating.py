"""What rating costs: charges a second on one core, without I/O, beside a loop that only decodes the same events.

    python -m benchmarks.rating [--events 100000] [--json]

Events of 10,000 customers are made, encoded, and decoded by the decoder of the workers. Then, alternating in one run:
the baseline decodes the encoded events with orjson and sums one field; each price model rates the decoded ones as the
pipeline does (the event's meters, its quantity, its dimensions, the price of those at its time, the charge, and, for a
price of the period, the customer's quantity so far). `ratio` is charges a second to the baseline's events a second;
shared machines drift, so only it is worth comparing. Every total is checked against one that plain integers and
fractions came to, else the benchmark fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from statistics import median
from typing import Any, Final

import orjson

from rating.book import CompiledCatalogue
from schemas.catalog import from_document
from schemas.event import Event, decode

CUSTOMERS: Final = 10_000
MODELS: Final = tuple(f"model-{number}" for number in range(50))
ROUNDS: Final = 7
RECEIVED_AT: Final = 1_800_000_000_000_000
TIERS: Final = ((100_000, Fraction(3, 10**6)), (1_000_000, Fraction(2, 10**6)), (None, Fraction(1, 10**6)))

PER_UNIT: Final = [
    {
        "id": f"{model}-{date}",
        "meter": "input_tokens",
        "match": {"model": model},
        "model": "per_unit",
        "unit_amount": f"{number + 1}.{date}5",
        "unit_divisor": 1_000_000,
        "effective_from": f"{date}-01-01T00:00:00Z",
    }
    for number, model in enumerate(MODELS)
    for date in (2025, 2026)
]
GRADUATED: Final = [
    {
        "id": "tokens",
        "meter": "input_tokens",
        "model": "graduated",
        "tiers": [{"up_to": end, "unit_amount": f"{float(rate):.6f}"} for end, rate in TIERS],
    }
]
PACKAGE: Final = [
    {"id": "tokens", "meter": "input_tokens", "model": "package", "package_size": 1000, "amount": "0.0025"}
]
PERCENTAGE: Final = [
    {
        "id": "tokens",
        "meter": "input_tokens",
        "model": "percentage",
        "rate_percent": "2.9",
        "fixed_per_event": "0.30",
        "free_amount": "20000",
        "max_per_event": "500",
    }
]


def catalogue(prices: list[dict[str, Any]]) -> CompiledCatalogue:
    """One meter as chat calls have it, and these prices."""
    meter = {
        "id": "input_tokens",
        "event_type": "session.tokens_used",
        "quantity": "data.input_tokens - data.cached_input_tokens",
        "dimensions": ["model"],
    }
    return CompiledCatalogue(1, from_document({"currency": "USD", "meters": [meter], "prices": prices}))


def encoded_events(count: int, seed: int) -> list[bytes]:
    """Chat calls as producers send them; the same ones for the same seed."""
    chance = random.Random(seed)
    return [
        orjson.dumps(
            {
                "specversion": "1.0",
                "id": f"e-{number}",
                "source": "benchmark",
                "type": "session.tokens_used",
                "subject": f"customer-{chance.randrange(CUSTOMERS)}",
                "time": "2026-11-20T10:15:30.123Z",
                "tenantid": "acme",
                "data": {
                    "session_id": f"s-{number % 1000}",
                    "message_id": f"m-{number}",
                    "model": chance.choice(MODELS),
                    "input_tokens": chance.randrange(1, 20_000),
                    "cached_input_tokens": 0,
                    "output_tokens": chance.randrange(1, 2_000),
                },
            }
        )
        for number in range(count)
    ]


def decode_and_sum(encoded: list[bytes]) -> int:
    """The baseline."""
    total = 0
    for raw in encoded:
        total += orjson.loads(raw)["data"]["input_tokens"]
    return total


def rate_all(events: list[Event], prices: CompiledCatalogue) -> int:
    """All charges of the events in their order; their sum in nanos."""
    total = 0
    so_far: dict[tuple[str, str], int] = {}
    counters: dict[tuple[str, str], tuple[int, ...]] = {}
    for event in events:
        for meter in prices.meters_of(event.type, event.data):
            quantity = meter.measure(event)
            price = prices.price(meter.id, meter.dimensions(event), event.occurred_at)
            if price is None:
                raise SystemExit(f"no price for {event.data['model']}")
            if price.cumulative:
                counter = (event.customer, price.id)
                before = so_far.get(counter)
                after = quantity if before is None else before + quantity
                total += price.charge_after(before, after)
                so_far[counter] = after
            elif price.counters:
                counter = (event.customer, price.id)
                charge, counters[counter] = price.advance(counters.get(counter), quantity)
                total += charge
            else:
                total += price.charge(quantity)
    return total


def expected_per_unit(encoded: list[bytes]) -> int:
    """Each event by itself, rounded to a nano as Python rounds fractions."""
    rates = {model: Fraction(f"{number + 1}.20265") * 1000 for number, model in enumerate(MODELS)}
    return sum(round(rates[data["model"]] * data["input_tokens"]) for data in _data(encoded))


def expected_graduated(encoded: list[bytes]) -> int:
    """Each customer's tokens tier by tier."""
    total = 0
    for tokens in _by_customer(encoded).values():
        start, amount = 0, Fraction(0)
        for end, rate in TIERS:
            amount += max(0, (tokens if end is None else min(tokens, end)) - start) * rate * 10**9
            start = end or start
        total += round(amount)
    return total


def expected_package(encoded: list[bytes]) -> int:
    """Each customer's begun thousands."""
    return sum(-(-tokens // 1000) * 2_500_000 for tokens in _by_customer(encoded).values())


def expected_percentage(encoded: list[bytes]) -> int:
    """Each customer's calls in their order: free to 20,000 in all, then 2.9 % + 0.30, at most 500."""
    used: dict[str, int] = defaultdict(int)
    charged: dict[str, Fraction] = defaultdict(Fraction)
    for raw in encoded:
        event = orjson.loads(raw)
        customer, money = event["subject"], event["data"]["input_tokens"]
        used[customer] += money
        paid = min(money, used[customer] - 20_000)
        if paid > 0:
            charged[customer] += min(paid * Fraction(29, 1000) + Fraction(3, 10), 500) * 10**9
    return sum(round(amount) for amount in charged.values())


def _data(encoded: list[bytes]) -> list[dict[str, Any]]:
    return [orjson.loads(raw)["data"] for raw in encoded]


def _by_customer(encoded: list[bytes]) -> dict[str, int]:
    tokens: dict[str, int] = defaultdict(int)
    for raw in encoded:
        event = orjson.loads(raw)
        tokens[event["subject"]] += event["data"]["input_tokens"]
    return tokens


def run(count: int) -> dict[str, Any]:
    """All figures; SystemExit if a total was not exact."""
    encoded = encoded_events(count, seed=4)
    events = [decode(raw, RECEIVED_AT, 0) for raw in encoded]
    work: dict[str, Callable[[], int]] = {"decode_and_sum": partial(decode_and_sum, encoded)}
    expected = {"decode_and_sum": sum(data["input_tokens"] for data in _data(encoded))}
    for name, prices, audit in (
        ("per_unit", PER_UNIT, expected_per_unit),
        ("graduated", GRADUATED, expected_graduated),
        ("package", PACKAGE, expected_package),
        ("percentage", PERCENTAGE, expected_percentage),
    ):
        work[name] = partial(rate_all, events, catalogue(prices))
        expected[name] = audit(encoded)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name, call in work.items():
            start = time.perf_counter()
            total = call()
            seconds[name].append(time.perf_counter() - start)
            if total != expected[name]:
                raise SystemExit(f"{name}: {total}, expected {expected[name]}")
    base = seconds.pop("decode_and_sum")
    machine = f"{os.cpu_count()} x {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    return {
        "events": count,
        "decode_and_sum_per_s": round(count / median(base)),
        "charges_per_s": {name: round(count / median(taken)) for name, taken in seconds.items()},
        "ratios": {
            name: round(median(b / t for b, t in zip(base, taken, strict=True)), 2) for name, taken in seconds.items()
        },
        "exact": True,
        "machine": machine,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="how many events")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = run(arguments.events)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{found['machine']}; decoding and summing one field: {found['decode_and_sum_per_s']:,} events/s")
    for name, rate in found["charges_per_s"].items():
        print(f"{name}: {rate:,} charges/s, {found['ratios'][name]} of that; every total exact")


if __name__ == "__main__":
    main()
