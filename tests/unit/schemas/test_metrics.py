from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from schemas.metrics import METRICS, CounterMetric, GaugeMetric, HistogramMetric, Metric

UNITS = ("_seconds", "_records", "_entries", "_events", "_units", "_total")
COUNTED = {  # gauges whose name is the plural of what they count, or a yes and no
    "tollgate_http_requests_open",
    "tollgate_lanes_open",
    "tollgate_dependency_ready",
    "tollgate_partitions_unserved",
    "tollgate_breaker_open",
    "tollgate_holds_open",
}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_names_its_unit(metric: Metric) -> None:
    """A counter ends in _total, all else in what it counts."""
    assert re.fullmatch(r"(tollgate|billing)_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == isinstance(metric, CounterMetric)
    assert metric.name.endswith(UNITS) or metric.name in COUNTED


def test_no_name_is_declared_twice() -> None:
    """Each has its own."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_no_label_grows_with_customers() -> None:
    """A label that is not on the list is refused; nothing that a caller chooses is on it."""
    with pytest.raises(AssertionError):
        GaugeMetric("tollgate_x", "api", "x", ("customer",))


def test_a_metric_is_exposed_under_its_declared_name() -> None:
    """A dashboard and a rule may lean on the table."""
    registry = CollectorRegistry()
    for metric in METRICS:
        assert isinstance(metric, CounterMetric | GaugeMetric | HistogramMetric)
        metric.on(registry)
    text = generate_latest(registry).decode()
    for metric in METRICS:
        name = metric.name.removesuffix("_total") if isinstance(metric, CounterMetric) else metric.name
        assert re.search(rf"^# TYPE {name}(_total)? {metric.kind}$", text, re.MULTILINE), metric.name
