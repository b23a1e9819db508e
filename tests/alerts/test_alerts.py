"""Alert rules and dashboard: Prometheus's own tool runs their cases, and what they name is there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.metrics import METRICS, HistogramMetric
from tests.architecture.sources import ROOT
from tests.prometheus import program

RULE_FILES = sorted((ROOT / "ops" / "alerts").glob("*.yml"))
CASES = sorted((ROOT / "tests" / "alerts").glob("*_test.yml"))
DASHBOARD = ROOT / "ops" / "dashboards" / "tollgate.json"
REQUIRED = {"BillingReportFailureRateHigh", "BillingDataLoss", "TollgateInternalError", "TollgateDrift"}

_NAME = re.compile(r"\b(?:tollgate|billing)_[a-z_]+\b")
_OF_PROMETHEUS = {"up"}


def rules() -> Iterator[dict[str, Any]]:
    for file in RULE_FILES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def exposed() -> set[str]:
    """Every series name that a process of ours shows."""
    names = set()
    for metric in METRICS:
        names.add(metric.name)
        if isinstance(metric, HistogramMetric):
            names |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    return names


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_and_the_configuration_are_valid() -> None:
    """As Prometheus reads them."""
    promtool("check", "rules", *map(str, RULE_FILES))
    promtool("check", "config", "ops/prometheus.yml")


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_each_rule_fires_when_it_must_and_not_before(cases: Path) -> None:
    """promtool's unit tests."""
    promtool("test", "rules", str(cases))


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: str(rule["alert"]))
def test_a_rule_says_what_to_do_and_has_a_case(rule: dict[str, Any]) -> None:
    """Severity, summary, action; it fires in some case, and it leans on metrics that are declared."""
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "action"}
    expected = [
        sample["labels"]
        for file in CASES
        for test in yaml.safe_load(file.read_text())["tests"]
        for expression in test["promql_expr_test"]
        for sample in expression["exp_samples"]
    ]
    assert any(f'alertname="{rule["alert"]}"' in labels for labels in expected)
    named = set(_NAME.findall(re.sub(r'"[^"]*"', "", rule["expr"])))
    assert named <= exposed()
    assert named or any(word in rule["expr"] for word in _OF_PROMETHEUS)


def test_what_was_asked_for_is_there() -> None:
    """The names that others lean on."""
    assert {rule["alert"] for rule in rules()} >= REQUIRED


def test_the_dashboard_shows_what_there_is() -> None:
    """Each panel's query names declared metrics alone."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        for target in panel["targets"]:
            named = set(_NAME.findall(re.sub(r'"[^"]*"', "", target["expr"])))
            assert named, panel["title"]
            assert named <= exposed(), panel["title"]
