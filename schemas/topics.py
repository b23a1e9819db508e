"""Kafka's topics: names, partitions and what the broker keeps of them.

Topic names are fixed: two deployments are two Kafkas. Units: bytes and milliseconds, as Kafka's own names say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.limits import DEAD_LETTER_RECORD_MAX_BYTES, INPUT_RECORD_MAX_BYTES, LEDGER_BATCH_MAX_BYTES

USAGE_EVENTS: Final = "usage.events"
ACCOUNT_EVENTS: Final = "account.events"
CATALOG_VERSIONS: Final = "catalog.versions"
USAGE_RATED: Final = "usage.rated"
BILLING_EVENTS: Final = "billing.events"
USAGE_DLQ: Final = "usage.dlq"
ACCOUNT_DLQ: Final = "account.dlq"
AUDIT_LOG: Final = "audit.log"
HOLDS_JOURNAL: Final = "holds.journal"
DENIALS: Final = "admission.denials"

INPUTS: Final = (USAGE_EVENTS, ACCOUNT_EVENTS)
DEAD_LETTERS: Final = {USAGE_EVENTS: USAGE_DLQ, ACCOUNT_EVENTS: ACCOUNT_DLQ}

RATING_GROUP: Final = "tollgate-rating"
"""The consumer group of the rating workers. Its committed offsets are a hint; positions are in the ledger."""
SINK_GROUP: Final = "tollgate-sink"
"""The consumer group of the sinks. A hint too, but for dead letters: ClickHouse holds the position in the ledger."""

LARGEST_BATCH_BYTES: Final = DEAD_LETTER_RECORD_MAX_BYTES
"""What the broker's own limits and every consumer's fetch size must allow."""

_DAY_MS: Final = 24 * 60 * 60 * 1000
FOREVER: Final = "-1"
USAGE_EVENTS_RETENTION_MS: Final = 30 * _DAY_MS
BILLING_EVENTS_RETENTION_MS: Final = 30 * _DAY_MS
HOLDS_JOURNAL_RETENTION_MS: Final = 32 * _DAY_MS
"""A hold lives for 30 days without being renewed."""
DENIALS_RETENTION_MS: Final = 7 * _DAY_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as `tollgate up` creates it. `partitions` None is the deployment's own number."""

    name: str
    partitions: int | None
    configs: tuple[tuple[str, str], ...]

    def partition_count(self, deployment: int) -> int:
        """How many partitions it has where the deployment has `deployment`."""
        return self.partitions if self.partitions is not None else deployment


def _topic(name: str, *, partitions: int | None = None, **configs: str | int) -> Topic:
    return Topic(name, partitions, tuple((key.replace("_", "."), str(value)) for key, value in configs.items()))


TOPICS: Final = (
    # Append time is what `received_at` and the bound on the future lean on: a producer's own clock does not count.
    _topic(
        USAGE_EVENTS,
        message_timestamp_type="LogAppendTime",
        max_message_bytes=INPUT_RECORD_MAX_BYTES,
        retention_ms=USAGE_EVENTS_RETENTION_MS,
    ),
    # Commands and payments are the cause of postings: kept as long as the ledger that names them.
    _topic(
        ACCOUNT_EVENTS,
        message_timestamp_type="LogAppendTime",
        max_message_bytes=INPUT_RECORD_MAX_BYTES,
        retention_ms=FOREVER,
    ),
    # One partition: versions have one order. A starting worker reads all of them.
    _topic(CATALOG_VERSIONS, partitions=1, max_message_bytes=INPUT_RECORD_MAX_BYTES, retention_ms=FOREVER),
    # The ledger. Records come compressed (zstd) from the worker and are stored as they came.
    _topic(USAGE_RATED, max_message_bytes=LEDGER_BATCH_MAX_BYTES, retention_ms=FOREVER, compression_type="producer"),
    _topic(BILLING_EVENTS, max_message_bytes=LEDGER_BATCH_MAX_BYTES, retention_ms=BILLING_EVENTS_RETENTION_MS),
    # Originals of dead letters stand here alone, so they wait for whoever mends them.
    _topic(USAGE_DLQ, max_message_bytes=DEAD_LETTER_RECORD_MAX_BYTES, retention_ms=FOREVER),
    _topic(ACCOUNT_DLQ, max_message_bytes=DEAD_LETTER_RECORD_MAX_BYTES, retention_ms=FOREVER),
    # Who changed what: few records, in one order.
    _topic(AUDIT_LOG, partitions=1, retention_ms=FOREVER),
    # What was held, for the day Redis loses it.
    _topic(HOLDS_JOURNAL, retention_ms=HOLDS_JOURNAL_RETENTION_MS),
    # What was not allowed, on its way to ClickHouse.
    _topic(DENIALS, partitions=1, retention_ms=DENIALS_RETENTION_MS),
)
