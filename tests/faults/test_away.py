"""What a user of the API sees while stores are away, alone and in pairs; and that all comes back without a hand.

Events flow meanwhile: over HTTP, whatever is answered 202 is charged once, and by a producer with a spool, which does
not wait for Kafka, and whose every event is charged once. The long form writes the table of benchmarks/results/away.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from backing import native
from ingest.breaker import State
from ingest.spooled import SpooledPublisher
from schemas.settings import Settings
from tests.deployment import ROOT, settings_in, until
from tests.served import Served

SHORT_SECONDS, LONG_SECONDS = 8.0, 60.0
BACK_WITHIN_SECONDS = 120.0
ANSWERED_WITHIN_SECONDS = 15.0
"""Longer than any time-out of ours: an answer comes, whatever is away."""

SPOOLED_PER_SECOND = 100
RESULTS = ROOT / "benchmarks" / "results" / "away.md"
HEAD = """\
# Stores away: what a user sees

`make faults` on {machine}, {cpus} CPUs shared by Kafka, Redis, ClickHouse, Tollgate and the load; {date}, with
{waiting:.0f} processes on average that wanted a CPU (load average of the last 15 minutes). Each store is stopped for
{seconds:.0f} s while one user asks for all of these at once, again 0.1 s after each answer, and a producer with a spool
sends up to {rate} events a second. A cell has, by status, how many answers there were, in how many seconds half of them
came, and the slowest. What was answered 202 was charged once, as was every event of the producer; then all was as
before.

| away | `ON_ERROR` | {names} | producer: events, slowest `send` | all as before after |
| --- | --- | {rules} | --- | --- |
"""

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
"""

# By store: what is answered while it is away. Anything else is as ever.
EVENTS, CHECK, HOLD, BALANCE, USAGE, HAS = "events", "check", "hold", "balance", "usage", "has balance"
CREDITS, READY = "credits", "readyz"
ASKED_NO_MORE = ("open", "half_open")
REFUSED: dict[str, dict[str, set[int]]] = {
    "redis": {HOLD: {503}, BALANCE: {503}, CREDITS: {503}, READY: {503}},
    "kafka": {EVENTS: {503}, CREDITS: {503}, READY: {503}},
    "clickhouse": {USAGE: {503}, READY: {503}},
}
FINE = {
    EVENTS: {202}, CHECK: {200}, HOLD: {200, 201}, BALANCE: {200}, USAGE: {200}, HAS: {200},
    CREDITS: {200, 201, 202}, READY: {200},
}  # fmt: skip


class Spooling:
    """A producer with a spool, which sends for as long as it is entered, whatever is away."""

    def __init__(self, bootstrap: str, folder: Path, tenant: str) -> None:
        self._bootstrap, self._folder, self._tenant = bootstrap, folder, tenant
        self._leaving = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self.run = uuid.uuid4().hex
        self.sent = 0
        self.slowest_seconds = 0.0
        self.kafka_seen: set[State] = set()

    def __enter__(self) -> Spooling:
        self._ended = self._thread.submit(lambda: asyncio.run(self._send()))
        until(lambda: self.sent or self._ended.done())
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.shutdown()
        self._ended.result()

    async def _send(self) -> None:
        async with SpooledPublisher(self._bootstrap, self._folder, tenant=self._tenant) as publisher:
            while not self._leaving.is_set():
                event = {
                    "specversion": "1.0", "id": f"{self.run}-{self.sent}", "source": "spool", "type": "usage.reported",
                    "subject": f"c-{self.sent % 50}", "data": {"meter": "calls"},
                }  # fmt: skip
                begun = time.monotonic()
                await publisher.send(event)
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)
                self.sent += 1
                self.kafka_seen.add(publisher.state.kafka)
                await asyncio.sleep(1 / SPOOLED_PER_SECOND)
            await publisher.flush(BACK_WITHIN_SECONDS)
            assert publisher.state.kafka == State.CLOSED


class Caller:
    """One user, who asks for everything again and again."""

    def __init__(self, served: Served, url: str) -> None:
        self.served = served
        self.tenant = f"away-{uuid.uuid4().hex}"
        token = served.tollgate("token", "issue", "--tenant", self.tenant).stdout.splitlines()[-1]
        self.client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=ANSWERED_WITHIN_SECONDS
        )
        self.accepted: set[str] = set()

    def ask(self, what: str, number: int) -> tuple[int, float, Any]:
        """Status, seconds and body of one answer."""
        event = {
            "specversion": "1.0", "id": f"{what}-{number}-{uuid.uuid4().hex}", "source": "away",
            "type": "usage.reported", "subject": "c", "data": {"meter": "calls"},
        }  # fmt: skip
        requests: dict[str, tuple[str, str, Any]] = {
            EVENTS: ("POST", "/v1/events", event),
            CHECK: ("POST", "/v1/quota/check", {"customer": "c", "amount": "1"}),
            HOLD: ("POST", "/v1/holds", {"customer": "c", "amount": "0.001", "ttl_seconds": 5}),
            BALANCE: ("GET", "/v1/customers/c/balance", None),
            USAGE: ("GET", "/v1/customers/c/usage", None),
            HAS: ("GET", "/api/internal/balance/user/c", None),
            CREDITS: ("POST", "/v1/customers/c/credits", {"amount": "1", "currency": "USD"}),
            READY: ("GET", "/readyz", None),
        }
        method, path, body = requests[what]
        begun = time.monotonic()
        answer = self.client.request(method, path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        if what == EVENTS and answer.status_code == 202:
            self.accepted.add(str(event["id"]))
        return answer.status_code, time.monotonic() - begun, answer.json()


class Table:
    """What was seen in the long form, written when it ends."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def add(
        self, away: str, on_error: str, seen: dict[str, dict[int, list[float]]], spooling: Spooling, back_after: float
    ) -> None:
        """One outage."""
        told = [
            ", ".join(
                f"{status} x {len(times)}: {statistics.median(times):.3f}, {max(times):.2f}"
                for status, times in sorted(seen[what].items())
            )
            for what in FINE
        ]
        spooled = f"{spooling.sent}, {spooling.slowest_seconds:.2f} s"
        self.rows.append("| " + " | ".join([away, on_error, *told, spooled, f"{back_after:.1f} s"]) + " |\n")
        print(self.rows[-1])


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """Only the long form has a row for each pair."""
    made = Table()
    yield made
    if len(made.rows) >= len(ALONE) + len(PAIRS):
        told = HEAD.format(
            machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            cpus=os.cpu_count(), waiting=os.getloadavg()[2], date=datetime.now(UTC).strftime("%Y-%m-%d"),
            seconds=LONG_SECONDS, rate=SPOOLED_PER_SECOND,
            names=" | ".join(FINE), rules=" | ".join(["---"] * len(FINE)),
        )  # fmt: skip
        RESULTS.write_text(told + "".join(made.rows))


@pytest.fixture(scope="module")
def caller(
    request: pytest.FixtureRequest, stage: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Caller]:
    """A deployment that answers in trouble as configured, and a customer with money in it."""
    folder: Path = tmp_path_factory.mktemp(f"away-{request.param}")
    served = Served(replace(stage, admission_on_error=request.param), folder / "serve.log")
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    served.tollgate("catalog", "apply", str(folder / "catalogue.yaml"))
    with served.serving():
        url = next(str(one["metrics"]).removesuffix("/metrics") for one in served.processes() if one["role"] == "api")
        made = Caller(served, url)
        grant = {"amount": "1000000", "currency": "USD"}
        until(lambda: made.client.get("/readyz").status_code == 200, 90)
        key = {"Idempotency-Key": "grant"}
        until(
            lambda: made.client.post("/v1/customers/c/credits", json=grant, headers=key).status_code in (200, 201), 60
        )
        # Rows: a listing without any asks Redis whether the customer is known at all.
        until(lambda: made.ask(EVENTS, 0)[0] == 202 and made.ask(USAGE, 0)[2].get("data"), 60)
        yield made
        made.client.close()


ALONE = ["redis", "kafka", "clickhouse"]
PAIRS = ["redis+kafka", "redis+clickhouse", "kafka+clickhouse"]
CASES = [
    *(("deny", away, SHORT_SECONDS) for away in ALONE),
    *(pytest.param("deny", away, LONG_SECONDS, marks=pytest.mark.long) for away in [*ALONE, *PAIRS]),
    *(pytest.param("allow", away, LONG_SECONDS, marks=pytest.mark.long) for away in ("redis", "redis+kafka")),
]


@pytest.mark.parametrize(("caller", "away", "seconds"), CASES, indirect=["caller"], scope="module")
def test_what_a_user_sees_while_stores_are_away(
    caller: Caller, stage: Settings, table: Table, tmp_path: Path, away: str, seconds: float
) -> None:
    """Each request is answered, by what is there; what leans on what is away says so; and then all is as it was."""
    services = {service.name: service for service in native.services(settings_in(stage.data_dir))}
    gone = away.split("+")
    on_error = caller.served.settings.admission_on_error
    seen: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    assert stage.kafka_bootstrap is not None
    spooling = Spooling(stage.kafka_bootstrap, tmp_path / "spool", caller.tenant)
    with spooling:
        for name in gone:
            services[name].stop()
        try:
            ends = time.monotonic() + seconds
            with ThreadPoolExecutor(len(FINE)) as pool:

                def keep_asking(what: str) -> None:
                    number = 0
                    while time.monotonic() < ends:
                        status, took, body = caller.ask(what, number)
                        seen[what][status].append(took)
                        number += 1
                        if "redis" in gone:
                            _judge_admission(what, body, on_error)
                        time.sleep(0.1)

                list(pool.map(keep_asking, FINE))
            _judge_status(caller, gone)
        finally:
            for name in gone:
                services[name].start()
    back_after = _await_back(caller, spooling)
    for what, statuses in seen.items():
        refused = set[int]().union(*(REFUSED[name].get(what, set()) for name in gone))
        assert set(statuses) <= FINE[what] | refused, (what, dict(statuses))
        assert not refused or refused & set(statuses), f"{what} never noticed that {away} is away"
    assert (State.OPEN in spooling.kafka_seen) <= ("kafka" in gone)
    if seconds == LONG_SECONDS:
        table.add(away, on_error, seen, spooling, back_after)


def _judge_status(caller: Caller, gone: list[str]) -> None:
    """`tollgate status` names what is away, and that the API does not ask for it again and again."""

    def is_told() -> bool:
        status = json.loads(caller.served.tollgate("status", "--json").stdout)
        (seen,) = [process["dependencies"] for process in status["processes"] if process["role"] == "api"]
        if seen is None:  # it did not answer in time
            return False
        told = (
            {name for name, service in status["services"].items() if not service["ready"]},
            {name for name, dependency in seen.items() if not dependency["ready"]},
            {name for name, dependency in seen.items() if dependency["breaker"] in ASKED_NO_MORE},
        )
        return all(names == set(gone) for names in told)

    until(is_told)
    said = caller.served.tollgate("status").stdout
    assert all(f"{name}: does not answer, breaker" in said or f"{name}: has not answered" in said for name in gone)


def _judge_admission(what: str, body: Any, on_error: str) -> None:
    """While Redis is away a check answers as it is told to, with its reason."""
    if what == CHECK:
        assert (body["allowed"], body["reason"]) == (on_error == "allow", "unavailable"), body
    if what == HAS:
        assert body["hasBalance"] == (on_error == "allow"), body


def _await_back(caller: Caller, spooling: Spooling) -> float:
    """Seconds until everything is answered again and all that was accepted is charged, the spooled events too."""
    begun = time.monotonic()
    until(lambda: all(caller.ask(what, 0)[0] in FINE[what] for what in FINE), BACK_WITHIN_SECONDS)
    until(lambda: caller.accepted <= _rated(caller, "away").keys(), BACK_WITHIN_SECONDS)
    spooled = {f"{spooling.run}-{number}" for number in range(spooling.sent)}
    until(lambda: spooled <= _rated(caller, "spool").keys(), BACK_WITHIN_SECONDS)
    # What was answered 503 may have arrived all the same; nothing is charged twice.
    assert set(_rated(caller, "away").values()) | set(_rated(caller, "spool").values()) == {1}
    return time.monotonic() - begun


def _rated(caller: Caller, source: str) -> dict[str, int]:
    query = (
        "SELECT event_id, count() FROM tollgate.event_outcomes WHERE tenant = {tenant:String} "
        "AND source = {source:String} AND outcome = 'rated' GROUP BY event_id"
    )
    found = caller.served.ask(query, tenant=caller.tenant, source=source)
    return {str(name): int(count) for name, count in found}
