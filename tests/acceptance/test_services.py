"""Section 1: services and processes, and who may ask."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.acceptance.site import Site, bearer, fresh, until


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
