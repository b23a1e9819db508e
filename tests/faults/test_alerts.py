"""Each alert fired by a real fault: a real Prometheus scrapes a real deployment, its rules are ours with shorter times.

Windows of minutes and hours are seconds here; what is asked of the series, and of whom, is as in `ops/alerts/`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiokafka import AIOKafkaProducer
from redis import Redis

from backing import native, ports
from schemas.ids import partition_of
from schemas.settings import Settings
from schemas.topics import USAGE_EVENTS
from tests.deployment import ROOT, end, halted, settings_in, until
from tests.faults.conftest import staged
from tests.prometheus import program
from tests.served import Served

pytestmark = pytest.mark.long

FIRES_WITHIN_SECONDS = 90.0
CATALOGUE = """
currency: USD
meters:
  - {id: tokens, event_type: session.tokens_used, quantity: data.input_tokens}
prices:
  - {id: p, meter: tokens, model: per_unit, unit_amount: "0.000001"}
"""

# What the cases in tests/alerts alone show, and why no fault of a minute fires it.
NOT_BY_A_SHORT_FAULT = {
    "TollgateNotReconciled": "a day without a reconcile",
    "TollgateApiSlow": "a store that answers late, not never",
    "TollgateReopened": "two workers that fight over a partition, which the group prevents",
}

_SHORTER = {"[5m]": "[10s]", "[10m]": "[20s]", "[15m]": "[30s]", "[1h]": "[60s]"}


def shortened(rules: str) -> str:
    """The rules with windows of seconds, and bounds that a fault of seconds reaches."""
    for window, seconds in _SHORTER.items():
        rules = rules.replace(window, seconds)
    rules = re.sub(r"for: \d+m", "for: 2s", rules)
    return rules.replace("tollgate_lag_seconds) > 60", "tollgate_lag_seconds) > 5").replace(
        "tollgate_sink_lag_records) > 500", "tollgate_sink_lag_records) > 3"
    )


class Watched:
    """A deployment and the Prometheus that watches it."""

    def __init__(self, served: Served, url: str, prometheus: str, folder: Path) -> None:
        self.served = served
        self.url = url
        self.prometheus = prometheus
        self.folder = folder
        self.tenant = f"alerts-{uuid.uuid4().hex}"
        self.fired: set[str] = set()
        token = served.tollgate("token", "issue", "--tenant", self.tenant).stdout.splitlines()[-1]
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def await_alerts(self, *names: str) -> None:
        """Until each of them has fired once."""
        deadline = time.monotonic() + FIRES_WITHIN_SECONDS
        while not self.fired >= set(names):
            assert time.monotonic() < deadline, f"{set(names) - self.fired} did not fire\n{self.served.tail()}"
            self._look()
            time.sleep(0.3)

    def _look(self) -> None:
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/alerts", timeout=10) as answer:  # noqa: S310  # our own
            alerts = json.load(answer)["data"]["alerts"]
        self.fired |= {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def event(self, name: str, **changed: Any) -> dict[str, Any]:
        """A good event, but for what is changed."""
        data = {"session_id": "s", "model": "m", "input_tokens": 10, "output_tokens": 1}
        return {
            "specversion": "1.0", "id": name, "source": "alerts", "type": "session.tokens_used", "subject": f"c-{name}",
            "tenantid": self.tenant, "data": data, **changed,
        }  # fmt: skip

    def send(self, *events: dict[str, Any]) -> None:
        """By `tollgate events send`."""
        self.served.send([json.dumps(event).encode() for event in events])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Settings]:
    """Not the one that others share: a row too many stays in it."""
    with staged(tmp_path / "data") as settings:
        yield settings


@pytest.fixture
def watched(stage: Settings, tmp_path: Path) -> Iterator[Watched]:
    """Everything runs, and Prometheus looks at it every second."""
    served = Served(stage, tmp_path / "serve.log")
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    served.tollgate("catalog", "apply", str(catalogue))
    (tmp_path / "rules.yml").write_text(shortened((ROOT / "ops" / "alerts" / "tollgate.yml").read_text()))
    configuration = yaml.safe_load((ROOT / "ops" / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(tmp_path / "rules.yml")]
    (job,) = configuration["scrape_configs"]
    (job["file_sd_configs"][0])["files"] = [str(stage.data_dir / "prometheus.json"), str(tmp_path / "more.json")]
    (job["file_sd_configs"][0])["refresh_interval"] = "1s"
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = ports.choose([])
    with ExitStack() as stack:
        stack.enter_context(served.serving())
        url = next(str(one["metrics"]).removesuffix("/metrics") for one in served.processes() if one["role"] == "api")
        process = subprocess.Popen(
            [
                program("prometheus"), f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/tsdb", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=(tmp_path / "prometheus.log").open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        stack.callback(end, process)
        made = Watched(served, url, f"http://127.0.0.1:{port}", tmp_path)
        stack.callback(made.client.close)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                made._look()
                break
            except OSError:
                time.sleep(0.2)
        time.sleep(4)  # counters have to be seen before they grow
        yield made


def test_each_alert_is_fired_by_a_real_fault(watched: Watched, stage: Settings) -> None:
    """One fault after the other on one deployment; every rule of the file but those that the list explains."""
    _bad_reports(watched)
    _bad_events(watched, stage)
    _poison(watched, stage)
    _redis_away(watched, stage)
    _clickhouse_away(watched, stage)
    _processes(watched)
    _drift(watched, stage)
    rules = yaml.safe_load((ROOT / "ops" / "alerts" / "tollgate.yml").read_text())
    every = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    print(sorted(watched.fired))
    assert every - watched.fired <= set(NOT_BY_A_SHORT_FAULT)


def _bad_reports(watched: Watched) -> None:
    """A sender whose events are refused."""
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    for number in range(20):
        batch = [watched.event(f"bad-{number}", specversion="0.1")]
        assert watched.client.post("/v1/events", json=batch, headers=headers).status_code == 202
        time.sleep(0.3)
    watched.await_alerts("BillingReportFailureRateHigh", "BillingDataLoss")


def _bad_events(watched: Watched, stage: Settings) -> None:
    """The same identity with other content, events without a price, and a record in a wrong partition."""
    good = watched.event("twice")
    other = {**good, "data": {**good["data"], "input_tokens": 11}}
    watched.send(good, other)
    for number in range(10):
        watched.send(watched.event(f"broken-{number}", type="usage.reported", data={"meter": "unheard-of"}))
    import asyncio

    asyncio.run(_astray(watched, stage))
    watched.await_alerts("TollgateConflicts", "TollgateDeadLetters", "TollgateMisrouted")


async def _astray(watched: Watched, stage: Settings) -> None:
    event = watched.event("astray")
    home = partition_of(event["subject"], stage.partitions)
    producer = AIOKafkaProducer(bootstrap_servers=stage.kafka_bootstrap)
    await producer.start()
    try:
        key = str(event["subject"]).encode()
        await producer.send_and_wait(
            USAGE_EVENTS, json.dumps(event).encode(), key, partition=(home + 1) % stage.partitions
        )
    finally:
        await producer.stop()


def _poison(watched: Watched, stage: Settings) -> None:
    """A worker with a fault of ours meets events that it cannot decide."""
    with _sabotaged(watched, stage) as pid:
        mark = stage.data_dir / "run" / f"{pid}.metrics"
        ready = stage.data_dir / "run" / f"{pid}.ready"
        deadline = time.monotonic() + 60
        while not (mark.exists() and ready.exists()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        host = mark.read_text().removeprefix("http://").removesuffix("/metrics")
        more = [{"targets": [host], "labels": {"role": "worker"}}]
        (watched.folder / "more.json").write_text(json.dumps(more))
        time.sleep(4)
        data = {"session_id": "s", "model": "poison", "input_tokens": 10, "output_tokens": 1}
        watched.send(*(watched.event(f"poison-{number}", data=data) for number in range(40)))
        watched.await_alerts("TollgateInternalError")
    (watched.folder / "more.json").write_text("[]")


@contextmanager
def _sabotaged(watched: Watched, stage: Settings) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.sabotaged_worker", "deciding"],
        cwd=ROOT,
        env={**watched.served.tollgate.environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=(watched.folder / "sabotaged.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process.pid
    finally:
        end(process)


def _redis_away(watched: Watched, stage: Settings) -> None:
    """Nothing is rated; balances and holds answer 503."""
    redis = next(one for one in native.services(settings_in(stage.data_dir)) if one.name == "redis")
    redis.stop()
    try:
        watched.send(*(watched.event(f"late-{number}") for number in range(50)))
        for _ in range(40):
            watched.client.get("/v1/customers/c-twice/balance")
            time.sleep(0.1)
        watched.await_alerts(
            "TollgateStoreAway",
            "TollgatePartitionsUnserved",
            "TollgateLagHigh",
            "TollgateBreakerOpen",
            "TollgateApiErrors",
        )
    finally:
        redis.start()
    watched.served.await_outcomes(watched.tenant, 1)


def _clickhouse_away(watched: Watched, stage: Settings) -> None:
    """Rating goes on, rows do not; a job that asks it fails."""
    clickhouse = next(one for one in native.services(settings_in(stage.data_dir)) if one.name == "clickhouse")
    clickhouse.stop()
    try:
        for number in range(8):
            # To one customer, a ledger record each: its partition's rows fall behind.
            watched.send(watched.event(f"unseen-{number}", subject="c-unseen"))
        with Redis.from_url(str(stage.redis_url)) as redis:
            redis.delete("tollgate:jobs")
        watched.await_alerts("TollgateSinkBehind", "TollgateJobsFail")
    finally:
        clickhouse.start()


def _processes(watched: Watched) -> None:
    """One that hangs, and one that dies again and again."""
    with halted(watched.served.pid("sink")):
        watched.await_alerts("TollgateDown")
    for _ in range(6):
        # The supervisor waits the longer, the oftener one has died.
        until(lambda: any(process["role"] == "worker" for process in watched.served.processes()))
        os.kill(watched.served.pid("worker"), signal.SIGKILL)
        time.sleep(2)
    watched.await_alerts("TollgateProcessRestarts")


def _drift(watched: Watched, stage: Settings) -> None:
    """A row more than the ledger has."""
    command = (
        "INSERT INTO tollgate.ledger_entries SELECT * REPLACE (seq + 1000000 AS seq, tenant || 'x' AS tenant) "
        "FROM tollgate.ledger_entries WHERE outcome = 'rated' LIMIT 1"
    )
    watched.served.command(command)
    with Redis.from_url(str(stage.redis_url)) as redis:
        redis.hdel("tollgate:jobs", "reconcile")
    watched.await_alerts("TollgateDrift")
