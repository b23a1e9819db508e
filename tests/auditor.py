"""An independent auditor of the real traces under the demo's catalogue: plain dicts, integers and fractions.

It shares no code with the pipeline. Quantities come from the CSV files, read here; who was drawn for a row and which
model comes from the events that were sent. Its prices are the catalogue's, copied by hand. Amounts are nanos of a
dollar, quantities nano-units.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

TOKEN_PRICES = {
    # Nanos for a token: price id and price of input, then of output.
    "gpt-4o": (("gpt-4o-input", Fraction(2500)), ("gpt-4o-output", Fraction(10000))),
    "gpt-4o-mini": (("gpt-4o-mini-input", Fraction(150)), ("gpt-4o-mini-output", Fraction(600))),
    "gemini-1.5-flash-8b": (
        ("gemini-1.5-flash-8b-input", Fraction(75, 2)),
        ("gemini-1.5-flash-8b-output", Fraction(150)),
    ),
    "llama-3.1-70b": (("llama-3.1-70b-input", Fraction(720)), ("llama-3.1-70b-output", Fraction(720))),
}

TRACE_START = datetime(2023, 1, 1, tzinfo=UTC)
"""The second trace counts seconds from here."""


class Line(NamedTuple):
    """One charge that must be."""

    event_id: str
    customer: str
    meter: str
    price_id: str
    quantity: int
    amount: int


class Sum(NamedTuple):
    """Of a customer, meter and price."""

    events: int = 0
    quantity: int = 0
    amount: int = 0


class TraceAuditor:
    """Give it the traces as they were sent, then compare `lines`, `sums` and `charged`."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.events = 0
        self._counted: defaultdict[tuple[str, str, str], Fraction] = defaultdict(Fraction)

    def llm_calls(self, file: Path, sent: Iterable[bytes]) -> None:
        """The first trace: one call a row, none left out."""
        rows = _rows(file)
        seen = set()
        for event in map(json.loads, sent):
            number = int(event["id"].removeprefix("call-"))
            seen.add(number)
            row = rows[number - 1]
            for meter, column, (price_id, price) in zip(
                ("input_tokens", "output_tokens"),
                ("ContextTokens", "GeneratedTokens"),
                TOKEN_PRICES[event["data"]["model"]],
                strict=True,
            ):
                tokens = int(row[column])
                if tokens:  # nothing used of a price per unit is no charge
                    self._add(event, meter, price_id, tokens * 10**9, half_even(tokens * price))
        assert seen == set(range(1, len(rows) + 1))
        self.events += len(seen)

    def devices(self, file: Path, sent: Iterable[bytes]) -> None:
        """The second trace: one release for each allocation that was scheduled."""
        rows = {row["name"]: row for row in _rows(file) if row["scheduled_time"]}
        seen = set()
        for event in map(json.loads, sent):
            name = event["id"].removeprefix("release-")
            assert name not in seen
            seen.add(name)
            row = rows[name]
            begin, end = int(row["scheduled_time"]), int(row["deletion_time"])
            for meter, price_id, each_second, total in (
                ("device_core_seconds", "core-seconds", Fraction(int(row["cpu_milli"]), 1000), cores_total),
                ("device_gpu_seconds", "gpu-seconds", Fraction(int(row["num_gpu"])), gpus_total),
                ("device_memory_gb_hours", "memory", Fraction(int(row["memory_mib"]), 1024 * 3600), memory_total),
            ):
                for month, start, stop in by_month(begin, end):
                    # Rounded from the begin on, so that the parts are the whole.
                    quantity = _places(each_second * (stop - begin)) - _places(each_second * (start - begin))
                    if not quantity and stop - start < end - begin:
                        continue  # a part in which nothing was used is no charge
                    key = (event["subject"], price_id, month)
                    before = self._counted[key]
                    self._counted[key] = before + quantity
                    self._add(event, meter, price_id, int(quantity * 10**9), total(before + quantity) - total(before))
        assert seen == rows.keys()
        self.events += len(seen)

    def _add(self, event: dict[str, str], meter: str, price_id: str, quantity: int, amount: int) -> None:
        self.lines.append(Line(event["id"], event["subject"], meter, price_id, quantity, amount))

    def sums(self) -> dict[tuple[str, str, str], Sum]:
        """By customer, meter and price."""
        found: defaultdict[tuple[str, str, str], Sum] = defaultdict(Sum)
        for line in self.lines:
            key = (line.customer, line.meter, line.price_id)
            so_far = found[key]
            found[key] = Sum(so_far.events + 1, so_far.quantity + line.quantity, so_far.amount + line.amount)
        return dict(found)

    def charged(self) -> dict[str, int]:
        """Nanos by customer."""
        found: defaultdict[str, int] = defaultdict(int)
        for line in self.lines:
            found[line.customer] += line.amount
        return dict(found)


def by_month(begin: int, end: int) -> list[tuple[str, int, int]]:
    """An interval of the second trace, in the months that it ran in; one without length lies in the month it is in."""
    parts = []
    while True:
        at = TRACE_START + timedelta(seconds=begin)
        following = (at.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0)
        stop = min(end, int((following - TRACE_START).total_seconds()))
        parts.append((at.strftime("%Y-%m"), begin, stop))
        if stop == end:
            return parts
        begin = stop


def _places(quantity: Fraction) -> Fraction:
    """A quantity has nine places, everywhere."""
    return Fraction(half_even(quantity * 10**9), 10**9)


def cores_total(seconds: Fraction) -> int:
    """0.040 an hour for the first thousand hours of a core in a month, 0.035 up to ten thousand, then 0.030."""
    return half_even(
        min(seconds, Fraction(3_600_000)) * 40_000_000 / 3600
        + _between(seconds, 3_600_000, 36_000_000) * 35_000_000 / 3600
        + _between(seconds, 36_000_000, None) * 30_000_000 / 3600
    )


def gpus_total(seconds: Fraction) -> int:
    """1.20 an hour for a hundred hours, 1.00 up to a thousand and 5.00 on entering them, then 0.85."""
    return half_even(
        min(seconds, Fraction(360_000)) * 1_200_000_000 / 3600
        + _between(seconds, 360_000, 3_600_000) * 1_000_000_000 / 3600
        + (5_000_000_000 if seconds > 360_000 else 0)
        + _between(seconds, 3_600_000, None) * 850_000_000 / 3600
    )


def memory_total(gigabyte_hours: Fraction) -> int:
    """0.40 for every hundred begun."""
    return -(-gigabyte_hours // 100) * 400_000_000


def half_even(value: Fraction) -> int:
    """The nearest whole number, of two the even one."""
    whole = value.numerator // value.denominator
    rest = value - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


def _between(value: Fraction, low: int, high: int | None) -> Fraction:
    reached = value if high is None else min(value, Fraction(high))
    return max(Fraction(0), reached - low)


def _rows(file: Path) -> list[dict[str, str]]:
    """A CSV file without quotes, which these two are."""
    heading, *lines = file.read_text().replace("\r", "").strip("\n").split("\n")
    columns = heading.split(",")
    return [dict(zip(columns, line.split(","), strict=True)) for line in lines]
