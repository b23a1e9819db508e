"""Section 1: services and processes, and who may ask."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
from pathlib import Path

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from backing import ports
from tests.acceptance.site import Site, bearer, fresh, until
from tests.deployment import Tollgate, end, settings_in


def test_up_prints_urls_and_is_idempotent(site: Site) -> None:
    """`up` is idempotent, waits until each answers, prints the URLs."""
    again = site.tollgate("up", "--backend", "native").stdout
    for place in (site.kafka, site.clickhouse):
        assert place in again


def test_status_names_services_processes_and_lag(site: Site) -> None:
    """`status --json`: services with url, ready, pid; processes with role, pid, ready; lag by topic and partition."""
    status = json.loads(site.tollgate("status", "--json").stdout)
    assert status.keys() >= {"services", "processes", "lag"}
    assert status["services"].keys() >= {"kafka", "redis", "clickhouse"}
    for service in status["services"].values():
        assert service["ready"] is True
        assert isinstance(service["pid"], int)
    assert re.fullmatch(r"[\w.]+:\d+", status["services"]["kafka"]["url"])
    assert re.fullmatch(r"http://\w+:[^@]+@[\w.]+:\d+", status["services"]["clickhouse"]["url"])
    assert {process["role"] for process in status["processes"]} == {"supervisor", "api", "worker", "sink", "scheduler"}
    for process in status["processes"]:
        assert isinstance(process["pid"], int)
        assert process["ready"] is True
    assert {lag["topic"] for lag in status["lag"]} == {"usage.events", "account.events"}
    for lag in status["lag"]:
        assert lag.keys() >= {"topic", "partition", "events", "seconds"}
        assert isinstance(lag["partition"], int)
        assert isinstance(lag["events"], int)
        assert lag["seconds"] is not None or lag["events"]


def test_without_a_catalogue_readyz_says_so(site: Site) -> None:
    """Without any catalogue workers wait, and `/readyz` says so."""
    before = site.ready_before_catalogue
    if before is None:
        pytest.skip("the deployment served before this run")
    assert before.status_code == 503
    assert before.json()["dependencies"]["catalogue"]["ready"] is False


def test_a_token_issued_before_serve_is_honoured(site: Site) -> None:
    """`issue` prints the token as its last line; works before `serve`."""
    if not site.issued_before_serve:
        pytest.skip("the deployment served before this run")
    assert httpx.get(f"{site.url}/v1/events", headers=bearer(site.issued_before_serve)).status_code == 200


def test_a_token_is_honoured_and_revoked_within_two_seconds(site: Site) -> None:
    """Honoured by a running API within 2 s; `revoke ID`; `ls`."""
    name = fresh("t")
    token = site.issue(name, "--scopes", "usage:read,quota:check")
    until(lambda: httpx.get(f"{site.url}/v1/events", headers=bearer(token)).status_code == 200, bound_s=2)
    listed = [one for one in json.loads(site.tollgate("token", "ls", "--json").stdout) if one["tenant"] == name]
    assert [sorted(one["scopes"]) for one in listed] == [["quota:check", "usage:read"]]
    assert token not in json.dumps(listed)
    site.tollgate("token", "revoke", listed[0]["id"])
    until(lambda: httpx.get(f"{site.url}/v1/events", headers=bearer(token)).status_code == 401, bound_s=2)


def test_an_expired_token_is_unknown(site: Site) -> None:
    """`--expires D`."""
    token = site.issue(fresh("t"), "--expires", "1s")
    until(lambda: httpx.get(f"{site.url}/v1/events", headers=bearer(token)).status_code == 401, bound_s=5)


def test_every_process_inherits_the_data_dir(site: Site) -> None:
    """Every process started inherits `TOLLGATE_DATA_DIR`."""
    status = json.loads(site.tollgate("status", "--json").stdout)
    pids = [service["pid"] for service in status["services"].values()] + [one["pid"] for one in status["processes"]]
    expected = f"TOLLGATE_DATA_DIR={site.tollgate.settings.data_dir}".encode()
    assert [pid for pid in pids if expected not in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")] == []


DAYS_30_MS = str(30 * 86_400_000)
TOPICS: dict[str, dict[str, str]] = {
    "usage.events": {"message.timestamp.type": "LogAppendTime", "retention.ms": DAYS_30_MS, "cleanup.policy": "delete"},
    "account.events": {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1", "cleanup.policy": "delete"},
    "usage.rated": {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"},
    "catalog.versions": {"retention.ms": "-1", "cleanup.policy": "delete"},
    "billing.events": {},
    "usage.dlq": {},
    "account.dlq": {},
}


def test_up_creates_the_topics(site: Site) -> None:
    """Input topics have `LogAppendTime`; `usage.events` is kept 30 days, the ledger for ever; catalogue one partition."""

    async def ask() -> tuple[dict[str, int], dict[str, dict[str, str]]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka)
        await admin.start()
        try:
            described = await admin.describe_topics(list(TOPICS))
            asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in TOPICS]
            answers = await admin.describe_configs(asked)
        finally:
            await admin.close()
        partitions = {topic["topic"]: len(topic["partitions"]) for topic in described}
        configs = {
            name: {entry[0]: entry[1] for entry in entries}
            for answer in answers
            for _, _, _, name, entries in answer.resources
        }
        return partitions, configs

    partitions, configs = asyncio.run(ask())
    assert partitions["usage.events"] == partitions["account.events"] == partitions["usage.rated"]
    assert partitions["catalog.versions"] == 1
    assert {topic: {name: configs[topic][name] for name in wanted} for topic, wanted in TOPICS.items()} == TOPICS


# What is asked where nothing runs; the exit code.
NOTHING_RUNS: list[tuple[tuple[str, ...], int]] = [
    (("status",), 0),
    (("status", "--json"), 0),
    (("down",), 0),
    (("down", "--purge"), 0),
    (("token", "ls", "--json"), 0),
    (("reconcile",), 3),
    (("reconcile", "--json"), 3),
    (("serve",), 1),
    (("worker",), 1),
    (("rated", "tail"), 1),
    (("dlq", "ls"), 1),
    (("events", "send", "-"), 1),
]


@pytest.mark.parametrize(("arguments", "code"), NOTHING_RUNS, ids=[" ".join(one) for one, _ in NOTHING_RUNS])
def test_where_nothing_runs(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    """A clear line and its exit code; `status` and `down` have nothing to complain about."""
    done = Tollgate(settings_in(tmp_path / "nothing"))(*arguments, stdin="", check=False)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    if code:
        assert len(done.stderr.splitlines()) == 1, done.stderr
    if arguments == ("status", "--json"):
        told = json.loads(done.stdout)
        assert (told["processes"], told["lag"]) == ([], [])
        assert {name: (one["ready"], one["pid"]) for name, one in told["services"].items()} == dict.fromkeys(
            ("kafka", "redis", "clickhouse"), (False, None)
        )


def test_each_role_runs_alone_too(site: Site, tmp_path: Path) -> None:
    """Each of them alone, so that each scales alone; SIGTERM drains and exits 0."""
    port = ports.choose(())
    beside = Tollgate(dataclasses.replace(site.tollgate.settings, http_port=port))
    with contextlib.ExitStack() as stack:
        running = {
            role: stack.enter_context(beside.started(role, log=tmp_path / role))
            for role in ("worker", "sink", "scheduler", "api")
        }
        for role, said in (("worker", "open at seq"), ("api", "listening on"), ("sink", "metrics on"), ("scheduler", "metrics on")):  # fmt: skip
            until(lambda role=role, said=said: said in (tmp_path / role).read_text(), role)  # type: ignore[misc]
        tenant = site.tenant()
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/v1/events", headers=bearer(tenant.token)).status_code == 200)
        event = tenant.event("c", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 7, "output_tokens": 0})  # fmt: skip
        tenant.send(event)
        assert tenant.outcomes([event["id"]])[event["id"]] == [("rated", "")]
        codes = {role: end(process) for role, process in running.items()}
    assert codes == dict.fromkeys(("worker", "sink", "scheduler", "api"), 0)


def test_a_second_supervisor_is_refused(site: Site) -> None:
    """One data dir, one `serve`; the other says so in one line."""
    done = site.tollgate("serve", check=False)
    assert done.returncode == 1
    assert "already" in done.stderr.splitlines()[-1]
    assert json.loads(site.tollgate("status", "--json").stdout)["processes"]


SCOPES = ("events:write", "usage:read", "quota:check", "holds:write", "wallet:write", "subscriptions:write", "invoices:write", "admin")  # fmt: skip


def test_without_scopes_a_token_has_all(site: Site) -> None:
    """Without `--scopes` all; `--expires D` is a span, an ISO 8601 span or a time."""
    name = fresh("t")
    for expires in ("30d", "12h", "P1Y", "2099-01-01T00:00:00Z"):
        site.issue(name, "--expires", expires)
    listed = [one for one in json.loads(site.tollgate("token", "ls", "--json").stdout) if one["tenant"] == name]
    assert [set(one["scopes"]) for one in listed] == [set(SCOPES)] * 4
    assert len({one["expires_at"] for one in listed}) == 4
