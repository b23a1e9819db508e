"""What a user of the API sees while stores are away, alone and in pairs; and that all comes back without a hand.

Prints the table of the README. Whatever was answered 202 is charged once, whatever else happened.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from backing import native
from schemas.settings import Settings
from tests.deployment import settings_in, until
from tests.served import Served

AWAY_SECONDS = 8.0
BACK_WITHIN_SECONDS = 120.0
ANSWERED_WITHIN_SECONDS = 15.0
"""Longer than any time-out of ours: an answer comes, whatever is away."""

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
"""

# By store: what is answered while it is away. Anything else is as ever.
EVENTS, CHECK, HOLD, BALANCE, USAGE, HAS = "events", "check", "hold", "balance", "usage", "has balance"
REFUSED: dict[str, dict[str, set[int]]] = {
    "redis": {HOLD: {503}, BALANCE: {503}},
    "kafka": {EVENTS: {503}},
    "clickhouse": {USAGE: {503}},
}
FINE = {EVENTS: {202}, CHECK: {200}, HOLD: {200, 201}, BALANCE: {200}, USAGE: {200}, HAS: {200}}


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
        }
        method, path, body = requests[what]
        begun = time.monotonic()
        answer = self.client.request(method, path, json=body)
        if what == EVENTS and answer.status_code == 202:
            self.accepted.add(str(event["id"]))
        return answer.status_code, time.monotonic() - begun, answer.json()


@pytest.fixture(scope="module", params=["deny", pytest.param("allow", marks=pytest.mark.long)])
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
        until(lambda: made.ask(EVENTS, 0)[0] == 202 and made.ask(USAGE, 0)[0] == 200, 60)
        yield made
        made.client.close()


ALONE = [("redis",), ("kafka",), ("clickhouse",)]
PAIRS = [("redis", "kafka"), ("redis", "clickhouse"), ("kafka", "clickhouse")]


@pytest.mark.parametrize(
    "away", [*ALONE, *(pytest.param(pair, marks=pytest.mark.long) for pair in PAIRS)], ids="+".join
)
def test_what_a_user_sees_while_stores_are_away(caller: Caller, stage: Settings, away: tuple[str, ...]) -> None:
    """Each request is answered, by what is there; what leans on what is away says so; and then all is as it was."""
    services = {service.name: service for service in native.services(settings_in(stage.data_dir))}
    on_error = caller.served.settings.admission_on_error
    seen: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name in away:
        services[name].stop()
    try:
        until_seconds = time.monotonic() + AWAY_SECONDS
        with ThreadPoolExecutor(len(FINE)) as pool:

            def keep_asking(what: str) -> None:
                number = 0
                while time.monotonic() < until_seconds:
                    status, seconds, body = caller.ask(what, number)
                    seen[what][status].append(seconds)
                    number += 1
                    if "redis" in away and number > 1:
                        _judge_admission(what, body, on_error)
                    time.sleep(0.1)

            list(pool.map(keep_asking, FINE))
    finally:
        for name in away:
            services[name].start()
    back_after = _await_back(caller)
    for what, statuses in seen.items():
        expected = set(FINE[what]).union(*(REFUSED[name].get(what, set()) for name in away))
        assert set(statuses) <= expected, (what, dict(statuses))
        refused = set().union(*(REFUSED[name].get(what, set()) for name in away))
        assert not refused or refused & set(statuses), f"{what} never noticed that {away} is away"
    _show(away, on_error, seen, back_after)


def _judge_admission(what: str, body: Any, on_error: str) -> None:
    """While Redis is away a check answers as it is told to, with its reason."""
    if what == CHECK:
        assert (body["allowed"], body["reason"]) == (on_error == "allow", "unavailable"), body
    if what == HAS:
        assert body["hasBalance"] == (on_error == "allow"), body


def _await_back(caller: Caller) -> float:
    """Seconds until everything is answered again and all that was accepted is charged."""
    begun = time.monotonic()
    until(lambda: all(caller.ask(what, 0)[0] in FINE[what] for what in FINE), BACK_WITHIN_SECONDS)
    until(lambda: caller.accepted <= _rated(caller).keys(), BACK_WITHIN_SECONDS)
    # What was answered 503 may have arrived all the same; nothing is charged twice.
    assert set(_rated(caller).values()) == {1}
    return time.monotonic() - begun


def _rated(caller: Caller) -> dict[str, int]:
    query = (
        "SELECT event_id, count() FROM tollgate.event_outcomes "
        "WHERE tenant = {tenant:String} AND source = 'away' AND outcome = 'rated' GROUP BY event_id"
    )
    return {str(name): int(count) for name, count in caller.served.ask(query, tenant=caller.tenant)}


def _show(away: tuple[str, ...], on_error: str, seen: dict[str, dict[int, list[float]]], back_after: float) -> None:
    for what, statuses in seen.items():
        told = {status: f"{len(times)} in {max(times):.2f} s at most" for status, times in sorted(statuses.items())}
        print(f"away {'+'.join(away)} ({on_error}): {what}: {json.dumps(told)}")
    print(f"away {'+'.join(away)} ({on_error}): all as before after {back_after:.1f} s")
