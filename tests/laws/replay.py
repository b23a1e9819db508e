"""A long history of every price model, decided from nothing; prints what it came to and the digest of all its bytes.

    python -m tests.laws.replay EVENTS

Run as a program, so that each run is a process of its own with its own order of hashes. The history is that of one
seed: usage of several tenants, money in and out, repeats, conflicts, late and broken records, and a second version of
the catalogue half way. Everything the decider made goes into the digest: ledger records with the accounts after, and
the messages beside them.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

from rating.received import Received
from schemas.catalog import CatalogVersion, parse
from schemas.ledger import ACCOUNT, USAGE
from schemas.outcome import Outcome
from schemas.period import format_time
from tests.fakes.partition import NOW, MemoryPartition, event, granted, paid, refunded, released, reported

SEED: Final = 4
BATCH: Final = 5_000
CUSTOMERS: Final = 400
TENANTS: Final = ("acme", "globex", "initech")
MODELS: Final = tuple(f"model-{number}" for number in range(12))
DAY: Final = 86_400 * 10**6

CATALOG: Final = """
currency: USD
meters:
  - id: input
    event_type: session.tokens_used
    quantity: data.input_tokens - data.cached_input_tokens
    dimensions: [model]
  - {id: cached, event_type: session.tokens_used, quantity: data.cached_input_tokens}
  - {id: output, event_type: session.tokens_used, quantity: data.output_tokens / 3}
  - {id: seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
  - {id: transfers, event_type: money.moved, quantity: data.amount}
  - {id: turnover, event_type: money.moved, quantity: data.amount}
  - {id: upstream, event_type: tool.called, aggregation: count}
  - {id: seats, event_type: usage.reported}
  - {id: messages, event_type: usage.reported}
  - {id: access, event_type: usage.reported}
prices:
INPUT
  - {id: cached, meter: cached, model: package, package_size: 1000, amount: "0.000125", discount_percent: "33.3"}
  - id: output
    meter: output
    model: graduated
    unit_divisor: 7
    tiers:
      - {up_to: 1000, unit_amount: "0.00003"}
      - {up_to: "20000.5", unit_amount: "0.00002"}
      - {unit_amount: "0.00001", flat_amount: "0.01"}
  - {id: second, meter: seconds, model: per_unit, unit_amount: "RATE", unit_divisor: 3600, maximum_amount: "2.5"}
  - id: transfer
    meter: transfers
    model: percentage
    rate_percent: "2.9"
    fixed_per_event: "0.30"
    free_events: 3
    free_amount: "500"
    max_per_event: "5"
  - id: turnover
    meter: turnover
    model: graduated_percentage
    tiers: [{up_to: 1000, rate_percent: 1}, {rate_percent: "0.37"}]
  - {id: upstream, meter: upstream, model: dynamic, amount_field: data.cost, multiplier: "1.2"}
  - {id: seats, meter: seats, model: volume, tiers: [{up_to: 10, unit_amount: "1"}, {unit_amount: "0.333333333333"}]}
  - id: messages
    meter: messages
    model: stairstep
    included_quantity: 5
    tiers: [{up_to: 50, amount: "0.5"}, {amount: "2"}]
  - {id: access, meter: access, model: flat, amount: "0.99"}
"""
INPUT: Final = "\n".join(
    f"  - {{id: {model}-{day}, meter: input, match: {{model: {model}}}, effective_from: 2026-{day}-01T00:00:00Z,"
    f' model: per_unit, unit_amount: "{at + 1}.{day}5", unit_divisor: 1000000}}'
    for at, model in enumerate(MODELS)
    for day in ("01", "11")
)


def catalog(rate: str) -> str:
    """The catalogue, with this hourly rate of a core."""
    return CATALOG.replace("INPUT", INPUT, 1).replace("RATE", rate)


def history(count: int) -> Iterator[Received]:
    """So many records, in the order in which they are met."""
    chance = random.Random(SEED)
    partition, sent = MemoryPartition(None), list[tuple[int, Any]]()
    for number in range(count):
        received_at = NOW + number * 1_000
        if sent and chance.random() < 0.05:
            topic, value = chance.choice(sent)
            if chance.random() < 0.1 and isinstance(value, dict):
                value = {**value, "data": {**value["data"], "note": number}}
        else:
            topic, value = _record(chance, number, received_at)
            if len(sent) < 20_000:
                sent.append((topic, value))
        yield partition.received(value, topic, received_at)


def _record(chance: random.Random, number: int, received_at: int) -> tuple[int, Any]:
    kind = chance.random()
    if kind < 0.005:
        return USAGE, chance.choice([b"", b"{", b"\xff", b"[]", b'{"id": "x"}'])
    about: dict[str, Any] = {
        "subject": f"c{chance.randrange(CUSTOMERS)}",
        "tenantid": chance.choice(TENANTS),
        "time": format_time(received_at - chance.choice((0, 0, 0, DAY, 20 * DAY))),
    }
    if kind < 0.05:
        amount = f"{chance.randrange(1, 30)}.{chance.randrange(10**9):09d}"
        money = chance.random()
        if money < 0.5:
            return ACCOUNT, {**granted(number, amount, priority=chance.randrange(3)), **about}
        if money < 0.9:
            return ACCOUNT, {**paid(number, amount, payment=f"p{chance.randrange(2_000)}"), **about}
        refund = refunded(number, "0.5", payment=f"p{chance.randrange(2_000)}", refund=f"r{number}")
        return ACCOUNT, {**refund, **about}
    if kind < 0.55:
        taken = chance.randrange(20_000) if kind < 0.54 else 0
        data = {
            "session_id": f"s{number % 100}",
            "model": chance.choice(MODELS) if kind > 0.06 else "unknown",
            "input_tokens": taken,
            "cached_input_tokens": chance.randrange(taken + 1),
            "output_tokens": chance.randrange(2_000) if taken else 0,
        }
        return USAGE, event(number, "session.tokens_used", data, **about)
    if kind < 0.65:
        made = released(number, f"a{chance.randrange(100_000)}", chance.randrange(1, 5))
        return USAGE, {**made, **about}
    if kind < 0.75:
        amount = f"{chance.randrange(200)}.{chance.randrange(10**9):09d}"
        return USAGE, event(number, "money.moved", {"amount": float(amount)}, **about)
    if kind < 0.85:
        cost = {"cost": f"0.{chance.randrange(10**12):012d}"} if kind < 0.84 else {}
        return USAGE, event(number, "tool.called", cost, **about)
    if kind < 0.999:
        meter = chance.choice(("seats", "messages", "access"))
        return USAGE, reported(number, chance.randrange(4), meter, **about)
    return USAGE, event(number, "never.heard", {}, **about)


def main(count: int) -> dict[str, Any]:
    """What the history comes to."""
    digest, outcomes, reasons, prices = sha256(), Counter[str](), Counter[str](), Counter[str]()
    partition = MemoryPartition(catalog("0.36"))
    records = list(history(count))
    entries = 0
    for start in range(0, count, BATCH):
        if start == count // 2 // BATCH * BATCH:
            partition.book.add(CatalogVersion(2, None, 0, parse(catalog("0.48"))))
        for chunk in partition.take(records[start : start + BATCH]):
            digest.update(chunk.encoded)
            for message in chunk.messages:
                digest.update(repr(message).encode())
            columns = chunk.record.entries
            assert columns is not None
            entries += len(columns.offset)
            outcomes.update(Outcome(outcome).name for outcome in columns.outcome)
            reasons.update(columns.reason.values())
            prices.update(columns.rates[rate].price_id for rate in columns.charge_rate)
        partition.decided.clear()
    return {
        "digest": digest.hexdigest(),
        "entries": entries,
        "outcomes": dict(sorted(outcomes.items())),
        "reasons": dict(sorted(reasons.items())),
        "charges": dict(sorted(prices.items())),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
