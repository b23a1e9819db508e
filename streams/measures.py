"""What a worker and a sink measure of themselves; `schemas.metrics` says what each metric means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry

from schemas import metrics
from schemas.errors import Unavailable
from schemas.ledger_packed import PackedRecord
from schemas.outcome import OUTCOME_NAMES

ALARMING: Final = (("dead_letter", "internal_error"), ("dead_letter", "conflict"), ("ignored", "rerouted"))
"""Shown as 0 from the start: the first of them is an increase that an alert sees."""


class Measures:
    """The metrics of one rating worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = metrics.EVENTS.on(registry)
        self.batch_records = metrics.BATCH_RECORDS.on(registry, metrics.COUNTS)
        self.deciding = metrics.DECIDING_SECONDS.on(registry)
        self.writing = metrics.TRANSACTION_SECONDS.on(registry)
        self.applying = metrics.APPLYING_SECONDS.on(registry)
        self.lanes_open = metrics.LANES_OPEN.on(registry)
        self._opened_again = metrics.REOPENED.on(registry)
        self._store_away = metrics.STORE_UNAVAILABLE.on(registry)
        self._holds_open = metrics.HOLDS_OPEN.on(registry)
        self._holds_ended = metrics.HOLDS_ENDED.on(registry)
        for outcome, reason in ALARMING:
            self.events.labels(outcome, reason)

    def decided(self, record: PackedRecord) -> None:
        """Counts the outcomes of a ledger record."""
        entries = record.entries
        if entries is None:
            return
        for ends in entries.hold_ends.values():
            for _, state, _ in ends:
                self._holds_ended.labels(state).inc()
        plain = record.count - len(entries.reason)
        if plain:
            self.events.labels("rated", "").inc(plain)
        for index, reason in entries.reason.items():
            self.events.labels(OUTCOME_NAMES[entries.outcome[index]], reason).inc()

    def holds_expired(self, count: int) -> None:
        """Holds whose time was over."""
        self._holds_ended.labels("expired").inc(count)

    def holds_open(self, count: int) -> None:
        """How many are open in this worker's partitions."""
        self._holds_open.set(count)

    def batch(self, records: int, deciding: float, writing: float, applying: float) -> None:
        """One batch and the seconds its three steps took."""
        self.batch_records.observe(records)
        self.deciding.observe(deciding)
        self.writing.observe(writing)
        self.applying.observe(applying)

    def opened_again(self, cause: str) -> None:
        """A partition was opened again."""
        self._opened_again.labels(cause).inc()

    def store_away(self, store: str) -> None:
        """A call to a store was not answered."""
        self._store_away.labels(store).inc()


class SinkMeasures:
    """The metrics of one sink."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._entries = metrics.SINK_ENTRIES.on(registry)
        self._block_entries = metrics.SINK_BLOCK_ENTRIES.on(registry, metrics.COUNTS)
        self._dead_letters = metrics.SINK_DEAD_LETTERS.on(registry)
        self._lag = metrics.SINK_LAG.on(registry)
        self._seconds = metrics.STORE_SECONDS.on(registry)
        self._store_away = metrics.STORE_UNAVAILABLE.on(registry)

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Around a call to ClickHouse: how long it took, or that it was not answered. Any thread."""
        begun = perf_counter()
        try:
            yield
        except Unavailable:
            self._store_away.labels("clickhouse").inc()
            raise
        self._seconds.labels("clickhouse", operation).observe(perf_counter() - begun)

    def stored(self, entries: int) -> None:
        """A block is there."""
        self._entries.inc(entries)
        self._block_entries.observe(entries)

    def dead_letters(self, count: int) -> None:
        """Dead letters are there."""
        self._dead_letters.inc(count)

    def behind(self, partition: int, records: int) -> None:
        """How far a partition's rows are behind its ledger."""
        self._lag.labels(str(partition)).set(records)

    def given_up(self, partition: int) -> None:
        """Another sink has the partition now, and its lag."""
        self._lag.remove(str(partition))
