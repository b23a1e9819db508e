"""Section 1: what each command prints, takes and exits with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.site import Record, Site, Tenant, bearer, fresh, plain, until
from tests.deployment import ROOT

FILE = ROOT / "ingest" / "traces"
ESTIMATES: list[tuple[str, dict[str, Any], str]] = [
    ("flat", {"price": {"model": "flat", "amount": "5.00"}, "quantity": "3"}, "5"),
    ("per unit", {"price": {"model": "per_unit", "unit_amount": "0.0000025"}, "quantity": "1000"}, "0.0025"),
    ("whole number as a count", {"price": {"model": "per_unit", "unit_amount": "2"}, "quantity": 3}, "6"),
    ("unit_divisor scales prices", {"price": {"model": "per_unit", "unit_amount": "2.50", "unit_divisor": 1000000}, "quantity": "1"}, "0.0000025"),
    ("unrounded beyond nanos", {"price": {"model": "per_unit", "unit_amount": "0.0000000001"}, "quantity": "3"}, "0.0000000003"),
    ("package up", {"price": {"model": "package", "package_size": 100, "amount": "0.40", "rounding": "up"}, "quantity": "101"}, "0.8"),
    ("package down", {"price": {"model": "package", "package_size": 100, "amount": "0.40", "rounding": "down"}, "quantity": "199"}, "0.4"),
    ("package at zero", {"price": {"model": "package", "package_size": 100, "amount": "0.40", "rounding": "up"}, "quantity": "0"}, "0"),
    (
        "graduated: each tier's units at its price, flat once for each entered",
        {"price": {"model": "graduated", "tiers": [{"up_to": 10, "unit_amount": "1", "flat_amount": "5"}, {"up_to": None, "unit_amount": "0.5", "flat_amount": "7"}]}, "quantity": "12"},
        "23",
    ),
    (
        "up_to belongs to its tier",
        {"price": {"model": "graduated", "tiers": [{"up_to": 10, "unit_amount": "1"}, {"up_to": None, "unit_amount": "0.5", "flat_amount": "7"}]}, "quantity": "10"},
        "10",
    ),
    (
        "volume: all units at the tier reached, plus its flat",
        {"price": {"model": "volume", "tiers": [{"up_to": "10", "unit_amount": "1", "flat_amount": "5"}, {"up_to": None, "unit_amount": "0.5", "flat_amount": "7"}]}, "quantity": "12"},
        "13",
    ),
    ("stairstep", {"price": {"model": "stairstep", "tiers": [{"up_to": 10, "amount": "1"}, {"up_to": None, "amount": "9"}]}, "quantity": "10.5"}, "9"),
    ("zero usage of tiers", {"price": {"model": "stairstep", "tiers": [{"up_to": 10, "amount": "1"}, {"up_to": None, "amount": "9"}]}, "quantity": "0"}, "0"),
    (
        "charge_first_flat_at_zero, stairstep",
        {"price": {"model": "stairstep", "charge_first_flat_at_zero": True, "tiers": [{"up_to": 10, "amount": "1"}, {"up_to": None, "amount": "9"}]}, "quantity": "0"},
        "1",
    ),
    (
        "charge_first_flat_at_zero, graduated",
        {"price": {"model": "graduated", "charge_first_flat_at_zero": True, "tiers": [{"up_to": 10, "unit_amount": "1", "flat_amount": "3"}, {"up_to": None, "unit_amount": "1"}]}, "quantity": "0"},
        "3",
    ),
    (
        "the event that crosses free_amount pays the rate on its excess and the whole fixed fee",
        {"price": {"model": "percentage", "rate_percent": "10", "fixed_per_event": "0.30", "free_amount": "100"}, "quantities": [{"quantity": "60"}, {"quantity": "60"}]},
        "2.3",
    ),
    (
        "free_events first",
        {"price": {"model": "percentage", "rate_percent": "10", "free_events": 1, "free_amount": "1000"}, "quantities": [{"quantity": "60"}, {"quantity": "60", "dimensions": {}}]},
        "6",
    ),
    (
        "a wholly free event pays not even the minimum; then min_per_event, then max_per_event",
        {"price": {"model": "percentage", "rate_percent": "1", "min_per_event": "1", "max_per_event": "2", "free_events": 1}, "quantities": [{"quantity": "10"}, {"quantity": "10"}, {"quantity": "1000"}]},
        "3",
    ),
    ("percentage without events", {"price": {"model": "percentage", "rate_percent": "10", "fixed_per_event": "1"}, "quantities": []}, "0"),
    (
        "graduated percentage",
        {"price": {"model": "graduated_percentage", "tiers": [{"up_to": "100", "rate_percent": "10", "flat_amount": "1"}, {"up_to": None, "rate_percent": "5"}]}, "quantity": "200"},
        "16",
    ),
    ("dynamic is its quantity", {"price": {"model": "dynamic", "amount_field": "data.cost"}, "quantity": "1.25"}, "1.25"),
    ("dynamic with a multiplier", {"price": {"model": "dynamic", "amount_field": "data.cost", "multiplier": "1.1"}, "quantity": "10"}, "11"),
    (
        "included, model, discount, minimum, maximum",
        {"price": {"model": "per_unit", "unit_amount": "1", "included_quantity": 10, "discount_percent": "50", "minimum_amount": "8", "maximum_amount": "20"}, "quantity": "20"},
        "8",
    ),
    ("maximum on the total", {"price": {"model": "per_unit", "unit_amount": "1", "maximum_amount": "20"}, "quantities": [{"quantity": "15"}, {"quantity": "15"}]}, "20"),
    ("minimum also at zero usage", {"price": {"model": "per_unit", "unit_amount": "1", "minimum_amount": "8"}, "quantity": "0"}, "8"),
    ("included before packages", {"price": {"model": "package", "package_size": 10, "amount": "1", "rounding": "up", "included_quantity": 5}, "quantity": "15"}, "1"),
    ("a quotient without end, 30 digits", {"price": {"model": "per_unit", "unit_amount": "1", "unit_divisor": 3}, "quantity": "1"}, "0." + "3" * 30),
    ("a negative quantity within a total at or above zero", {"price": {"model": "per_unit", "unit_amount": "1"}, "quantities": [{"quantity": "5"}, {"quantity": "-2"}]}, "3"),
]  # fmt: skip
BAD_ESTIMATES = [
    "not json",
    "[]",
    '{"price": {"model": "per_unit"}, "quantity": "1"}',
    '{"price": {"model": "unheard_of"}, "quantity": "1"}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "-1"}',
    '{"price": {"model": "per_unit", "unit_amount": "1"}, "quantity": "one"}',
    '{"price": {"model": "per_unit", "unit_amount": "NaN"}, "quantity": "1"}',
]


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


def test_price_estimate_answers_line_by_line(site: Site) -> None:
    """One JSON a line to one JSON a line; a bad line is answered by an error and the next go on (exit 0)."""
    asked = [json.dumps(line) for _, line, _ in ESTIMATES]
    mixed = [line for pair in zip(asked, BAD_ESTIMATES * 9, strict=False) for line in pair]
    done = site.tollgate("price", "estimate", stdin="\n".join(mixed) + "\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(mixed)
    for (name, _, expected), answer in zip(ESTIMATES, answers[::2], strict=True):
        assert answer.get("amount") == expected, (name, answer)
        assert isinstance(answer["lines"], list)
    for line, answer in zip(mixed[1::2], answers[1::2], strict=True):
        assert answer.keys() == {"error"}, (line, answer)
        assert isinstance(answer["error"], str)


def test_price_estimate_needs_no_server(tmp_path: Path) -> None:
    """Needs no server."""
    from tests.deployment import Tollgate, settings_in

    done = Tollgate(settings_in(tmp_path / "nothing"))(
        "price", "estimate", stdin='{"price": {"model": "flat", "amount": "1"}, "quantity": "1"}\n'
    )
    assert json.loads(done.stdout)["amount"] == "1"


BAD_ARGUMENTS = [
    ("no-such-command",),
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


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS, ids=" ".join)
def test_a_bad_argument_is_one_line_and_exit_2(site: Site, arguments: tuple[str, ...]) -> None:
    """A bad argument or input is one clear line on stderr and exit 2."""
    done = site.tollgate(*arguments, check=False)
    assert done.returncode == 2, done
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr


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


def test_send_puts_every_line_unchanged_on_the_topic_of_its_type(site: Site) -> None:
    """One CloudEvent a line, unchanged and unjudged, in file order, to the topic of its type, key = `subject`, else
    `data.user_id`, else empty; a line that is no JSON goes to `usage.events` with an empty key.
    """
    mark = fresh("mark")
    plain = {"specversion": "1.0", "source": mark, "tenantid": mark}
    lines = [
        json.dumps({**plain, "id": "1", "type": "session.tokens_used", "subject": f"{mark}-c", "data": {"user_id": "u"}}),
        json.dumps({**plain, "id": "2", "type": "credit.granted", "data": {"user_id": f"{mark}-u"}}),
        json.dumps({**plain, "id": "3", "type": "never.heard_of"}),
        f'{{"source":   "{mark}", broken',
        json.dumps({**plain, "id": "4", "type": "session.tokens_used", "subject": f"{mark}-c"}, indent=None),
    ]  # fmt: skip
    site.tollgate.send("\n".join(lines).encode() + b"\n")
    found = {
        topic: [(key, value) for _, _, key, value in site.read(topic) if value is not None and mark.encode() in value]
        for topic in ("usage.events", "account.events")
    }
    expected = [
        (f"{mark}-c".encode(), lines[0].encode()),
        (b"", lines[2].encode()),
        (b"", lines[3].encode()),
        (f"{mark}-c".encode(), lines[4].encode()),
    ]
    usage = [(key or b"", value) for key, value in found["usage.events"]]
    assert sorted(usage) == sorted(expected)
    assert [value for key, value in usage if key] == [lines[0].encode(), lines[4].encode()]
    assert found["account.events"] == [(f"{mark}-u".encode(), lines[1].encode())]


@pytest.mark.parametrize(("trace", "name"), [("azure-llm", "azure"), ("alibaba-gpu", "alibaba")])
def test_from_trace_is_deterministic(site: Site, trace: str, name: str) -> None:
    """Prints CloudEvents, one a line, deterministic for a seed, at the trace's own times."""
    (file,) = (path for path in FILE.glob("*.csv") if name in path.name)
    arguments = ("events", "from-trace", trace, str(file), "--customers", "7", "--seed")
    first, same, other = (site.tollgate(*arguments, seed).stdout for seed in ("5", "5", "6"))
    assert first == same
    assert first != other
    events = [json.loads(line) for line in first.splitlines()]
    assert len({event["subject"] for event in events}) == 7
    assert len({event["id"] for event in events}) == len(events)
    assert all(event["specversion"] == "1.0" and event["time"].endswith("Z") for event in events)


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
    import dataclasses

    from tests.deployment import Tollgate

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
    for kind in ("event", "charge", "line", "denial"):
        unknown = site.tollgate("explain", kind, "no-such-thing", check=False)
        assert unknown.returncode in (1, 2)
        assert len(unknown.stderr.strip().splitlines()) == 1


def test_jobs_are_listed_and_run(site: Site) -> None:
    """`tollgate jobs ls|run NAME`."""
    jobs = json.loads(site.tollgate("jobs", "ls", "--json").stdout)
    assert jobs
    name = next(one for one in (job.get("name") or job["job"] for job in jobs) if "reconcile" not in one)
    site.tollgate("jobs", "run", name)


def test_nothing_is_lost_where_kafka_is_away(tmp_path: Path) -> None:
    """`events send`: exit 0 only when Kafka has all."""
    from tests.deployment import Tollgate, settings_in

    away = Tollgate(settings_in(tmp_path, kafka_bootstrap="127.0.0.1:9"))
    done = away("events", "send", "--timeout", "2", "-", stdin='{"a": 1}\n', check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr


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


def test_bytes_that_are_no_event_are_sent_as_they_are(site: Site) -> None:
    """Unjudged: whatever stands on the line."""
    mark = fresh("raw").encode()
    site.tollgate.send(b"\xff\xfe" + mark + b"\n")
    assert [value for _, _, _, value in site.read("usage.events") if value is not None and mark in value] == [
        b"\xff\xfe" + mark
    ]
    placed = site.produce([Record("usage.events", b"\xff\xfe" + mark)])
    assert len(placed) == 1
