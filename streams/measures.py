"""What a worker measures of itself, for Prometheus: every name with its unit, no label that grows with customers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from schemas.ledger import LedgerRecord
from schemas.outcome import OUTCOME_NAMES

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_RECORDS = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


class Measures:
    """The metrics of one rating worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "tollgate_events_total", "Input records decided", ["outcome", "reason"], registry=registry
        )
        self.batch_records = Histogram(
            "tollgate_batch_records", "Records in a decided batch", buckets=_RECORDS, registry=registry
        )
        self.deciding = Histogram("tollgate_deciding_seconds", "Deciding a batch", buckets=_SECONDS, registry=registry)
        self.writing = Histogram(
            "tollgate_transaction_seconds",
            "Writing a batch in one Kafka transaction",
            buckets=_SECONDS,
            registry=registry,
        )
        self.applying = Histogram(
            "tollgate_applying_seconds",
            "Applying a batch to Redis and the identity index",
            buckets=_SECONDS,
            registry=registry,
        )
        self.lanes_open = Gauge("tollgate_lanes_open", "Partitions this worker serves", registry=registry)
        self._opened_again = Counter(
            "tollgate_partition_reopened_total", "Partitions opened again, by cause", ["cause"], registry=registry
        )
        self._store_away = Counter(
            "tollgate_store_unavailable_total", "Calls a store did not answer", ["store"], registry=registry
        )

    def decided(self, record: LedgerRecord) -> None:
        """Counts the outcomes of a ledger record."""
        entries = record.entries
        if entries is None:
            return
        plain = record.count - len(entries.reason)
        if plain:
            self.events.labels("rated", "").inc(plain)
        for index, reason in entries.reason.items():
            self.events.labels(OUTCOME_NAMES[entries.outcome[index]], reason).inc()

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
