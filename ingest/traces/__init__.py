"""Real traces as CloudEvents: the rows of a published file, spread over customers by a seeded rule. Pure.

A trace names no customer: row r of seed s belongs to the customer that a digest of (s, r) picks, a few of them often
and many of them seldom, as in life. The same file, seed and number of customers give the same bytes; another seed or
number gives events of another source, so that the two never meet in one identity. Events come by the order of their
time.

Files that the project carries, their sources and licences: README.md in this folder. Errors: InvalidInput `trace`,
which names the line.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from ingest.traces import alibaba_gpu, azure_llm
from ingest.traces.row import Row, Spread
from schemas.canonical import json_of
from schemas.errors import InvalidInput

CUSTOMERS_MAX: Final = 1_000_000

_READERS: Final[dict[str, tuple[tuple[str, ...], Callable[[Row], tuple[int, dict[str, Any]] | None]]]] = {
    "azure-llm": (azure_llm.COLUMNS, azure_llm.event),
    "alibaba-gpu": (alibaba_gpu.COLUMNS, alibaba_gpu.event),
}

NAMES: Final = tuple(_READERS)

CARRIED: Final = {
    "azure-llm": Path(__file__).parent / "azure_llm_conv_2023.csv",
    "alibaba-gpu": Path(__file__).parent / "alibaba_gpu_pods_2023_excerpt.csv",
}
"""The first whole, of the second an excerpt."""


class Trace(NamedTuple):
    """Events, one JSON text each, by time; and how many rows told of nothing that happened."""

    events: list[bytes]
    left_out: int


def from_trace(name: str, lines: Iterable[str], customers: int, seed: int, tenant: str | None = None) -> Trace:
    """The events of a trace's lines, the heading first."""
    columns, event_of = _READERS[name]
    if not 1 <= customers <= CUSTOMERS_MAX:
        raise InvalidInput("trace", f"{customers} customers are not between 1 and {CUSTOMERS_MAX}")
    rows = csv.DictReader(lines)
    missing = [column for column in columns if column not in (rows.fieldnames or ())]
    if missing:
        raise InvalidInput("trace", f"line 1: no column {missing[0]}; this is no {name} trace")
    events: list[tuple[int, int, bytes]] = []
    left_out = 0
    for number, fields in enumerate(rows, 1):
        row = Row(number, fields, _spread(seed, number, customers), f"s{seed}-c{customers}")
        try:
            made = event_of(row)
        except (ValueError, InvalidInput) as error:
            raise InvalidInput("trace", f"line {number + 1}: {error}") from None
        if made is None:
            left_out += 1
            continue
        occurred_at, event = made
        if tenant is not None:
            event["tenantid"] = tenant
        events.append((occurred_at, number, json_of(event)))
    events.sort(key=lambda made: made[:2])
    return Trace([event for _, _, event in events], left_out)


def _spread(seed: int, number: int, customers: int) -> Spread:
    digest = blake2b(f"{seed}:{number}".encode(), digest_size=16).digest()
    drawn = int.from_bytes(digest[:8], "big")
    # The square of an evenly drawn number: of n customers the busiest has 1/sqrt(n) of the events. Whole numbers only.
    customer = (drawn * drawn >> 64) * customers >> 64
    return Spread(f"customer-{customer:06d}", digest[8], digest[9])
