"""Every metric of Tollgate: name, kind, labels, who exposes it and what it says, declared once.

A process makes the ones it exposes with `on(registry)`; nothing else makes a Prometheus metric. Units are in names:
seconds, records, entries, events, units. Labels are bounded by construction: words of ours, topics, partitions, route
templates; never a customer, tenant, event or path. `python -m schemas.metrics` prints the table of the README.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COUNTS: Final = (1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000)

LABELS: Final = frozenset(
    (
        "cause", "dependency", "equation", "job", "kind", "method", "operation", "outcome", "partition", "reason",
        "result", "role", "route", "state", "status", "store", "topic",
    )
)  # fmt: skip
"""Every label there is. None of them grows with customers or with time."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What the table of metrics says of one."""

    kind: ClassVar[str]
    name: str
    roles: str
    sentence: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert set(self.labels) <= LABELS, self.name


class CounterMetric(Metric):
    """Only grows; what counts is its rate."""

    __slots__ = ()
    kind = "counter"

    def on(self, registry: CollectorRegistry) -> Counter:
        """The metric of one process."""
        return Counter(self.name, self.sentence, self.labels, registry=registry)


class GaugeMetric(Metric):
    """How it stands now."""

    __slots__ = ()
    kind = "gauge"

    def on(self, registry: CollectorRegistry) -> Gauge:
        """The metric of one process."""
        return Gauge(self.name, self.sentence, self.labels, registry=registry)


class HistogramMetric(Metric):
    """How values are spread."""

    __slots__ = ()
    kind = "histogram"

    def on(self, registry: CollectorRegistry, buckets: Sequence[float] = SECONDS) -> Histogram:
        """The metric of one process."""
        return Histogram(self.name, self.sentence, self.labels, buckets=buckets, registry=registry)


# Events in
REPORTS: Final = CounterMetric(
    "billing_report_total",
    "api",
    "Usage reports by HTTP, event by event; `status` is `success` once Kafka has it, else `failed`",
    ("status",),
)
REPORT_SECONDS: Final = HistogramMetric(
    "billing_report_duration_seconds", "api", "Seconds from a usage report's body to Kafka's confirmation"
)
REPORT_ERRORS: Final = CounterMetric(
    "billing_report_errors_total",
    "api",
    "Usage reports that were not taken, by `reason`: `invalid` or `unavailable`",
    ("reason",),
)
HTTP_EVENTS: Final = CounterMetric(
    "tollgate_http_events_total", "api", "Events of `POST /v1/events`, `accepted` or `rejected`", ("result",)
)
HTTP_REQUESTS: Final = CounterMetric(
    "tollgate_http_requests_total", "api", "Requests answered, by route template", ("route", "method", "status")
)
HTTP_SECONDS: Final = HistogramMetric(
    "tollgate_http_request_seconds",
    "api",
    "Seconds from a request's head to the end of its answer",
    ("route", "method"),
)
HTTP_OPEN: Final = GaugeMetric("tollgate_http_requests_open", "api", "Requests being answered")
RATE_LIMITED: Final = CounterMetric(
    "tollgate_http_rate_limited_total", "api", "Requests answered 429 since their token's allowance was used up"
)

# Rating
EVENTS: Final = CounterMetric(
    "tollgate_events_total", "worker", "Input records decided; `reason` is empty where rated", ("outcome", "reason")
)
BATCH_RECORDS: Final = HistogramMetric("tollgate_batch_records", "worker", "Records in a decided batch")
DECIDING_SECONDS: Final = HistogramMetric("tollgate_deciding_seconds", "worker", "Deciding a batch")
TRANSACTION_SECONDS: Final = HistogramMetric(
    "tollgate_transaction_seconds", "worker", "Writing a batch in one Kafka transaction"
)
APPLYING_SECONDS: Final = HistogramMetric(
    "tollgate_applying_seconds", "worker", "Applying a batch to Redis and the identity index"
)
LANES_OPEN: Final = GaugeMetric("tollgate_lanes_open", "worker", "Partitions this worker serves")
REOPENED: Final = CounterMetric(
    "tollgate_partition_reopened_total", "worker", "Partitions opened again after a doubt, by cause", ("cause",)
)
STORE_UNAVAILABLE: Final = CounterMetric(
    "tollgate_store_unavailable_total", "worker, sink, api", "Calls that a store did not answer", ("store",)
)
STORE_SECONDS: Final = HistogramMetric(
    "tollgate_store_seconds", "sink, api", "Seconds a store took to answer a call", ("store", "operation")
)

# Rows
SINK_ENTRIES: Final = CounterMetric("tollgate_sink_entries_total", "sink", "Ledger entries written to ClickHouse")
SINK_BLOCK_ENTRIES: Final = HistogramMetric("tollgate_sink_block_entries", "sink", "Entries in an inserted block")
SINK_DEAD_LETTERS: Final = CounterMetric(
    "tollgate_sink_dead_letters_total", "sink", "Dead letters written to ClickHouse"
)
SINK_LAG: Final = GaugeMetric(
    "tollgate_sink_lag_records", "sink", "Ledger records that are not in ClickHouse yet", ("partition",)
)

# How it stands
LAG_EVENTS: Final = GaugeMetric(
    "tollgate_lag_events", "api", "Input records that are not decided yet", ("topic", "partition")
)
LAG_SECONDS: Final = GaugeMetric(
    "tollgate_lag_seconds",
    "api",
    "Seconds since Kafka received the oldest record that is not decided yet; 0 where none waits",
    ("topic", "partition"),
)
DEPENDENCY_READY: Final = GaugeMetric(
    "tollgate_dependency_ready", "api", "1 where a dependency answers as it must, else 0", ("dependency",)
)
UNSERVED: Final = GaugeMetric("tollgate_partitions_unserved", "api", "Partitions that no worker serves")
BREAKER_OPEN: Final = GaugeMetric(
    "tollgate_breaker_open", "api", "1 while calls to a store are refused without asking it", ("store",)
)
HOLDS_OPEN: Final = GaugeMetric("tollgate_holds_open", "worker", "Holds that are open in this worker's partitions")
HOLDS_ENDED: Final = CounterMetric(
    "tollgate_holds_ended_total", "worker", "Holds ended by an entry of the ledger or by time, by state", ("state",)
)
PROCESS_RESTARTS: Final = CounterMetric(
    "tollgate_process_restarts_total",
    "supervisor",
    "Processes that ended and were started again",
    ("role",),
)
JOBS: Final = CounterMetric(
    "tollgate_jobs_total", "scheduler", "Runs of periodic jobs, `done` or `failed`", ("job", "status")
)
JOB_SECONDS: Final = HistogramMetric("tollgate_job_seconds", "scheduler", "Seconds a run of a job took", ("job",))
DRIFT: Final = GaugeMetric(
    "tollgate_drift_units",
    "scheduler",
    "Difference of the two sides of a reconcile equation, in its own unit; 0 or something is wrong",
    ("equation",),
)
RECONCILED_AT: Final = GaugeMetric(
    "tollgate_reconciled_timestamp_seconds", "scheduler", "Unix time of the last reconcile that came to an end"
)

METRICS: Final[tuple[Metric, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))


def table() -> str:
    """All metrics as a Markdown table."""
    rows = ["| metric | kind | labels | process | meaning |", "| --- | --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.roles} | {metric.sentence}. |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
