"""`tollgate bench`, small: exact, and of the form that others read. Never how fast it was."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from schemas.settings import PREFIX
from tests.deployment import Tollgate

EVENTS = 6_000
BASELINES = {"read_decode", "handwritten_loop", "stock_faust"}


def _bench(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        Tollgate.command("bench", *arguments, "--json"),
        env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def canonical() -> dict[str, Any]:
    return _bench("--events", str(EVENTS), "--customers", "500", "--workers", "1")


def test_the_canonical_run_is_exact(canonical: dict[str, Any]) -> None:
    """Outcomes, amounts and balances of all customers are what the seed says, else it would have exited 1."""
    assert canonical["exact"] is True
    assert canonical["workload"]["events"] == EVENTS
    assert canonical["workload"]["customers"] == 500


def test_the_canonical_result_has_its_form(canonical: dict[str, Any]) -> None:
    """Rates, baselines of the same run, ratios to them, and the machine."""
    assert canonical["events_per_s"] > 0
    assert canonical["baselines"].keys() == canonical["ratios"].keys() == BASELINES
    assert all(rate > 0 for rate in canonical["baselines"].values())
    assert all(ratio > 0 for ratio in canonical["ratios"].values())
    assert {"cpu", "cores", "python", "redis", "clickhouse"} <= canonical["machine"].keys()
    assert {"worker", "sink"} <= canonical["cpu_us"].keys()


def test_the_memory_benchmark_is_exact() -> None:
    """It names the memory of worker and sink along the way."""
    found = _bench("memory", "--events", str(EVENTS), "--customers", "500", "--workers", "1")
    assert found["exact"] is True
    assert found["events"] == EVENTS
    assert all(sample["mib"]["worker"] > 0 and sample["mib"]["sink"] > 0 for sample in found["samples"])


def test_benchmarks_of_parts_are_reached_by_name() -> None:
    """Each checks its own answers."""
    assert _bench("rating", "--events", "1000")["exact"] is True
    assert _bench("identity", "--events", "10000")["exact"] is True


def test_the_admission_benchmark_is_exact() -> None:
    """Every call is allowed, what is held is what was granted; ratios to the bare calls of the same run."""
    found = _bench("admission", "--events", "2000", "--customers", "100")
    assert found["exact"] is True
    assert found["in_process"].keys() == {"bare", "check", "hold"} == found["under_load"].keys()
    assert found["http"].keys() == {"empty", "bare", "check", "hold"}
    assert all(ratio > 0 for name, ratio in found["ratios"].items() if not name.endswith("_cpu"))
    assert found["holds"] >= found["in_process"]["hold"]["calls"] + found["http"]["hold"]["answered"]


@pytest.mark.parametrize("arguments", [("nonsense",), ("--events", "3"), ("identity", "--workers", "2")])
def test_a_bad_argument_is_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    """Nothing is started for it."""
    done = subprocess.run(Tollgate.command("bench", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
