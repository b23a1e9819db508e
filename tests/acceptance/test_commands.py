"""Section 1: what each command prints, takes and exits with."""

from __future__ import annotations

import dataclasses
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.site import Site, Tenant, plain, until
from tests.deployment import Tollgate

BAD_ARGUMENTS = [
    (),
    ("no-such-command",),
    ("up", "--no-such-option"),
    ("down", "everything"),
    ("token",),
    ("token", "issue", "--tenant", "t", "--expires", "2020-01-01T00:00:00Z"),
    ("catalog", "diff", "1", "999999"),
    ("catalog", "import", "litellm", "/no/such/file"),
    ("invoices", "show", "no-such-invoice"),
    ("explain", "event", "no-such-event"),
    ("explain", "charge", "0-0-0"),
    ("explain", "line", "no-such-line"),
    ("explain", "denial", "no-such-denial"),
    ("dlq", "show", "no-such-letter"),
    ("dlq", "show", "usage.events-0-999999999"),
    ("dlq", "drop"),
    ("rated", "tail", "--partition", "999", "--until-end"),
    ("price", "estimate", "5"),
    ("events", "send", "/no/such/file"),
    ("events", "from-trace", "no-such-trace", "x"),
    ("events", "from-trace", "azure-llm", "/no/such/file"),
    ("token", "issue"),
    ("token", "issue", "--tenant", "t", "--scopes", "everything"),
    ("token", "issue", "--tenant", "t", "--expires", "soon"),
    ("token", "revoke", "no-such-token"),
    ("catalog", "check", "/no/such/file"),
    ("catalog", "show", "--version", "nothing"),
    ("invoices", "close", "--period", "2026-13"),
    ("invoices", "close"),
    ("reconcile", "--period", "yesterday"),
    ("explain", "weather", "x"),
    ("dlq", "ls", "--since", "yesterday"),
    ("jobs", "run", "no-such-job"),
    ("rerate", "--from", "x", "--to", "y", "--catalog", "/no/such/file"),
    ("up", "--backend", "cloud"),
    ("serve", "--workers", "many"),
    ("bench", "no-such-benchmark"),
]


def test_a_bad_argument_is_one_line_and_exit_2(site: Site) -> None:
    """A bad argument or input is one clear line on stderr and exit 2."""
    with ThreadPoolExecutor(4) as pool:
        ended = pool.map(lambda arguments: site.tollgate(*arguments, check=False), BAD_ARGUMENTS)
    wrong = []
    for arguments, done in zip(BAD_ARGUMENTS, ended, strict=True):
        if (done.returncode, len(done.stderr.strip().splitlines())) != (2, 1) or "Traceback" in done.stderr:
            wrong.append((arguments, done.returncode, done.stderr))
    assert wrong == []


LISTINGS = [
    ("token", "ls"),
    ("dlq", "ls"),
    ("jobs", "ls"),
    ("status",),
    ("reconcile",),
    ("catalog", "show"),
    ("invoices", "ls"),
]


@pytest.mark.parametrize("arguments", LISTINGS, ids=" ".join)
def test_every_listing_has_json(site: Site, arguments: tuple[str, ...]) -> None:
    """Every listing has `--json`."""
    done = site.tollgate(*arguments, "--json", check=False)
    assert done.returncode in (0, 1), done.stderr
    json.loads(done.stdout)


def test_rated_tail_prints_entries_as_json_lines(site: Site) -> None:
    """Entries of the ledger as JSON lines."""
    tenant = site.tenant()
    event = tenant.event("c", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 7, "output_tokens": 0})  # fmt: skip
    tenant.post(event)
    tenant.outcomes([event["id"]])
    printed = site.tollgate("rated", "tail", "--from-beginning", "--until-end").stdout.splitlines()
    (entry,) = (one for one in map(json.loads, printed) if one.get("event_id") == event["id"])
    assert entry["outcome"] == "rated"
    assert [(charge["meter"], charge["quantity"], charge["amount"]) for charge in entry["charges"]] == [
        ("input_tokens", "7", "0.000007")
    ]


def test_rated_tail_follows(site: Site, tmp_path: Path) -> None:
    """Without `--from-beginning` what comes from now on."""
    tenant = site.tenant()
    printed = tmp_path / "tail"
    with site.tollgate.started("rated", "tail", log=printed) as tail:

        def seen() -> bool:
            event = tenant.event("c", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 1, "output_tokens": 0})  # fmt: skip
            tenant.post(event)
            return f'"{tenant.name}"' in printed.read_text() or tail.poll() is not None

        until(seen)
        assert tail.poll() is None, printed.read_text()
    assert all(json.loads(line) for line in printed.read_text().splitlines())


def test_reconcile_proves_every_equation(site: Site) -> None:
    """`--json`: `{"ok", "equations": [{"name", "left", "right", "difference"}]}`; exit 0 if every difference is 0."""

    def holds() -> dict[str, Any] | None:
        done = site.tollgate("reconcile", "--json", check=False)
        assert done.returncode in (0, 1), done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        assert document["ok"] == (done.returncode == 0)
        return document if document["ok"] else None

    document = until(holds, "reconcile")
    assert document is not None
    for equation in document["equations"]:
        assert equation.keys() >= {"name", "left", "right", "difference"}
        assert str(equation["difference"]) in ("0", "0.0"), equation
    printed = site.tollgate("reconcile", check=False).stdout
    for name in {re.sub(r" \[\d+\]$", "", equation["name"]) for equation in document["equations"]}:
        assert re.search(rf"^. {re.escape(name)}: \S+ = \S+$", printed, re.MULTILINE), name


def test_reconcile_says_3_where_a_store_cannot_be_read(site: Site) -> None:
    """3 if a store could not be read."""

    place = "http://tollgate:wrong@127.0.0.1:9"
    away = Tollgate(dataclasses.replace(site.tollgate.settings, clickhouse_url=place))
    done = away("reconcile", "--json", check=False)
    assert done.returncode == 3, done
    assert "Traceback" not in done.stderr


def test_dead_letters_are_listed_shown_and_retried(site: Site) -> None:
    """`tollgate dlq ls|show|retry|drop [--reason R] [--since T]`."""
    tenant = site.tenant()
    event = tenant.event("c", "never.heard_of", {"n": 1})
    tenant.send(event)
    assert tenant.outcomes([event["id"]]) == {event["id"]: [("dead_letter", "unknown_type")]}

    def listed(*options: str) -> list[dict[str, Any]]:
        letters: list[dict[str, Any]] = json.loads(
            site.tollgate("dlq", "ls", "--json", "--tenant", tenant.name, *options).stdout
        )
        return letters

    (letter,) = until(listed)
    assert listed("--reason", "not_json") == []
    assert len(listed("--reason", "unknown_type", "--since", "2020-01-01T00:00:00Z")) == 1
    shown = site.tollgate("dlq", "show", letter["id"], "--json").stdout
    assert event["id"] in shown
    with site.without_jobs():  # one tries letters again each minute, and would end whoever does so at that moment
        tenant.apply(
            "currency: USD\nmeters:\n  - {id: n, event_type: never.heard_of, quantity: data.n}\n"
            'prices:\n  - {id: n, meter: n, model: per_unit, unit_amount: "1"}\n'
        )
        site.tollgate("dlq", "retry", letter["id"])
    assert tenant.outcomes([event["id"]], 2)[event["id"]][-1] == ("rated", "")
    second = tenant.event("c", "also.never_heard_of", {"n": 1})
    tenant.send(second)
    tenant.outcomes([second["id"]])
    until(lambda: listed("--open"))
    site.tollgate("dlq", "drop", "--reason", "unknown_type", "--tenant", tenant.name)
    until(lambda: not listed("--open"))


def test_explain_says_why(site: Site) -> None:
    """`tollgate explain event|charge`: the event, its topic/partition/offset, price and version, balance before and
    after.
    """
    tenant = site.tenant()
    event = tenant.event("c", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 7, "output_tokens": 0})  # fmt: skip
    tenant.post(event)
    tenant.outcomes([event["id"]])
    told = json.dumps(json.loads(site.tollgate("explain", "event", event["id"], "--json").stdout))
    for part in ("usage.events", "partition", "offset", "common-input", "version", "0.000007", "-0.000007"):
        assert part in told, (part, told)
    assert "common-input" in site.tollgate("explain", "event", f"acceptance/{event['id']}").stdout


def test_reconcile_of_one_month(site: Site) -> None:
    """`--period YYYY-MM`."""
    told = json.loads(site.tollgate("reconcile", "--period", "2026-11", "--json", check=False).stdout)
    assert told["equations"]
    assert all(one.keys() >= {"name", "left", "right", "difference"} for one in told["equations"])


def test_jobs_are_listed_and_run(site: Site) -> None:
    """`tollgate jobs ls|run NAME`."""
    jobs = json.loads(site.tollgate("jobs", "ls", "--json").stdout)
    assert jobs
    name = next(one for one in (job.get("name") or job["job"] for job in jobs) if "reconcile" not in one)
    site.tollgate("jobs", "run", name)


def test_rebuild_runs_beside_traffic(site: Site) -> None:
    """Recomputes all of Redis from the ledger, also while traffic runs."""
    tenant = site.tenant()
    tenant.grant("c", "5")
    event = tenant.event("c", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 1000000, "output_tokens": 0})  # fmt: skip
    tenant.post(event)
    tenant.outcomes([event["id"]])
    site.tollgate("rebuild")
    after = tenant.event("c", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 1000000, "output_tokens": 0})  # fmt: skip
    tenant.post(after)
    until(lambda: _balance_or_nothing(tenant) == "3")


def _balance_or_nothing(tenant: Tenant) -> str | None:
    answer = tenant.http.get("/v1/customers/c/balance")
    if answer.status_code == 503:  # while its partition is folded again
        return None
    assert answer.status_code == 200, answer.text
    balance: str = answer.json()["balances"][0]["balance"]
    return balance


def test_rerate_shows_the_difference_and_books_it(site: Site, tmp_path: Path) -> None:
    """Rates history again under another catalogue: diff by customer, price and line; `--apply` books correcting ledger
    entries, never edits.
    """
    tenant = site.tenant(catalogue=_priced("0.001"))
    tenant.grant("c", "5", credit_id="gift")
    event = tenant.event("c", "session.tokens_used", {"session_id": "s", "model": "m", "input_tokens": 1000, "output_tokens": 0})  # fmt: skip
    tenant.post(event)
    tenant.outcomes([event["id"]])
    other = tmp_path / "other.yaml"
    other.write_text(_priced("0.002"))
    span = ("--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z", "--catalog", str(other))
    diff = json.loads(site.tollgate("rerate", *span, "--tenant", tenant.name, "--json").stdout)
    assert "p" in json.dumps(diff)
    assert tenant.balance("c")["balance"] == "4"
    site.tollgate("rerate", *span, "--tenant", tenant.name, "--apply")
    until(lambda: tenant.balance("c")["balance"] == "3")
    movements = until(lambda: rows if len(rows := tenant.rows("ledger")) == 3 else [])
    assert sorted((row["kind"], plain(row["amount"])) for row in movements) == [
        ("charge", "-1"),
        ("correction", "-1"),
        ("grant", "5"),
    ]
    (row,) = tenant.rows("rated_usage", "event_id = {id:String}", id=event["id"])
    assert plain(row["amount"]) == "1"
    assert [plain(row["charged"]) for row in tenant.rows("credit_grants")] == ["2"]


def _priced(unit_amount: str) -> str:
    return (
        "currency: USD\nmeters:\n  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens}\n"
        f'prices:\n  - {{id: p, meter: input_tokens, model: per_unit, unit_amount: "{unit_amount}"}}\n'
    )
