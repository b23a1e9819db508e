"""The first questions of support: a dead letter from its refusal to its charge, and a charge to its invoice's line."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.settings import Settings
from streams.healing import heal
from streams.letter_rows import ClickHouseLetters
from streams.resolving import Resolver
from tests.deployment import halted, until
from tests.served import Served

LISTENING = re.compile(r"listening on (http://\S+)")
CATALOG = """\
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
prices:
  - {id: known, meter: input_tokens, match: {model: known}, model: per_unit, unit_amount: "0.001"}
"""
MENDED = f"""{CATALOG}
  - {{id: new, meter: input_tokens, match: {{model: new}}, model: per_unit, unit_amount: "0.002"}}
"""


CALLS = """\
currency: USD
meters:
  - {id: calls, event_type: usage.reported}
prices:
  - id: calls
    meter: calls
    model: graduated
    tiers: [{up_to: 10, unit_amount: "1.005"}, {up_to: null, unit_amount: "0.5"}]
"""


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("dead-letters")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@pytest.fixture
def apply(served: Served, tmp_path: Path, tenant: str) -> Callable[[str], None]:
    def applied(text: str) -> None:
        (tmp_path / "catalog.yaml").write_text(text)
        served.apply(tmp_path / "catalog.yaml", tenant)

    applied(CATALOG)
    return applied


@pytest.fixture
def alone(served: Served) -> Iterator[None]:
    """Nobody else tries letters again: a job does so each minute with what a catalogue may have healed."""
    jobs = next(int(process["pid"]) for process in served.processes() if process["role"] == "scheduler")
    with halted(jobs):
        yield


@pytest.fixture
def tenant() -> str:
    return f"letters-{uuid.uuid4().hex[:12]}"


def tokens(tenant: str, name: str, model: str) -> bytes:
    data = {"session_id": "s", "model": model, "input_tokens": 10, "output_tokens": 0}
    event = {"specversion": "1.0", "id": name, "source": "chat", "type": "session.tokens_used", "subject": "c"}
    return json.dumps({**event, "tenantid": tenant, "data": data}).encode()


def listed(served: Served, tenant: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        served.tollgate("dlq", "ls", "--tenant", tenant, "--json", *options).stdout
    )
    return found


def await_letters(served: Served, tenant: str, count: int) -> list[dict[str, Any]]:
    until(lambda: len(listed(served, tenant)) >= count)
    return listed(served, tenant)


def explained(served: Served, kind: str, name: str, tenant: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(served.tollgate("explain", kind, name, "--tenant", tenant, "--json").stdout)
    return found


def charges(served: Served, tenant: str) -> list[tuple[str, str]]:
    return [
        (str(event), str(amount))
        for event, amount in served.ask(
            "SELECT event_id, toString(amount) FROM tollgate.rated_usage WHERE tenant = {tenant:String} ORDER BY 1",
            tenant=tenant,
        )
    ]


@pytest.mark.usefixtures("alone")
def test_a_dead_letter_is_explained_mended_and_sent_again_once(
    served: Served, tenant: str, apply: Callable[[str], None]
) -> None:
    """However often, by command and by route; the event then counts once, at the price that mended it."""
    served.send([tokens(tenant, "e-1", "known"), tokens(tenant, "e-2", "new")])
    served.await_outcomes(tenant, 2)
    (letter,) = await_letters(served, tenant, 1)
    assert (letter["reason"], letter["event_id"], letter["retried_at"]) == ("no_price", "e-2", None)
    shown = served.tollgate("dlq", "show", letter["id"]).stdout
    assert '"model": "new"' in shown
    why = explained(served, "event", "chat/e-2", tenant)
    assert (why["outcome"], why["reason"], why["charges"]) == ("dead_letter", "no_price", [])
    assert "model='new'" in why["dead_letter"]["detail"]
    apply(MENDED)
    first = json.loads(served.tollgate("dlq", "retry", letter["id"], "--json").stdout)
    second = json.loads(served.tollgate("dlq", "retry", letter["id"], "--json").stdout)
    assert [one["now"] for one in (*first, *second)] == [True, False]
    assert first[0]["resolved_at"] == second[0]["resolved_at"]

    async def by_route() -> dict[str, Any]:
        token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
        url = LISTENING.findall(served.log.read_text())[-1]
        async with httpx.AsyncClient(base_url=url, headers={"X-Service-Token": token}, timeout=30) as client:
            answer = await client.post(f"/v1/dead-letters/{letter['id']}/retry")
            assert answer.status_code == 200, answer.text
            told = await client.get("/v1/explain/event/chat%2Fe-2")
            assert told.status_code == 200, told.text
            resolved: dict[str, Any] = answer.json()
            return resolved

    assert asyncio.run(by_route())["now"] is False
    assert served.await_outcomes(tenant, 3) == {"rated": 2, "dead_letter": 1}
    assert charges(served, tenant) == [("e-1", "0.01"), ("e-2", "0.02")]
    why = explained(served, "event", "e-2", tenant)
    assert [record["outcome"] for record in why["records"]] == ["rated", "dead_letter"]
    (charge,) = why["charges"]
    assert (charge["price_id"], charge["amount"], charge["steps"][0]["quantity"]) == ("new", "0.02", "10")
    assert why["balance"] == {"before": "-0.01", "after": "-0.03", "currency": "USD"}
    assert explained(served, "charge", charge["charge_id"], tenant)["charges"] == [charge]
    until(lambda: listed(served, tenant)[0]["retried_at"] is not None)
    assert listed(served, tenant, "--open") == []


@pytest.mark.usefixtures("alone")
def test_letters_are_retried_by_reason_and_dropped_for_a_reason(
    served: Served, tenant: str, apply: Callable[[str], None]
) -> None:
    """Dropped ones stay where they are and are not sent again."""
    served.send([tokens(tenant, f"e-{number}", "new") for number in range(5)] + [tokens(tenant, "odd", "")])
    letters = await_letters(served, tenant, 6)
    odd = next(letter for letter in letters if letter["event_id"] == "odd")
    spoiled = next(letter for letter in letters if letter["event_id"] == "e-0")
    served.tollgate("dlq", "drop", spoiled["id"], odd["id"], "--note", "a test of the chat's")
    apply(MENDED)
    retried = json.loads(served.tollgate("dlq", "retry", "--reason", "no_price", "--tenant", tenant, "--json").stdout)
    assert sum(one["now"] for one in retried) == 4
    assert served.await_outcomes(tenant, 10) == {"rated": 4, "dead_letter": 6}
    until(lambda: listed(served, tenant, "--open") == [])
    by_event = {letter["event_id"]: letter for letter in listed(served, tenant)}
    assert by_event["e-0"]["note"] == "a test of the chat's"
    assert by_event["e-0"]["dropped_at"] is not None
    assert by_event["e-1"]["retried_at"] is not None
    again = json.loads(served.tollgate("dlq", "retry", spoiled["id"], "--json").stdout)
    assert [(one["resolution"], one["now"]) for one in again] == [("dropped", False)]


@pytest.mark.usefixtures("alone")
def test_what_a_catalogue_heals_is_tried_again_once_for_each_version(
    served: Served, tenant: str, apply: Callable[[str], None]
) -> None:
    """Before there is a newer one nothing is, after it all of the tenant's, and then nothing again."""
    served.send([tokens(tenant, f"e-{number}", "new") for number in range(3)])
    await_letters(served, tenant, 3)
    assert served.await_outcomes(tenant, 3) == {"dead_letter": 3}
    settings = served.settings
    assert settings.kafka_bootstrap is not None
    assert settings.clickhouse_url is not None
    ((stands,),) = served.ask(
        "SELECT max(catalog_position) FROM tollgate.ledger_entries WHERE tenant = {tenant:String}", tenant=tenant
    )
    letters = ClickHouseLetters(settings.clickhouse_url)

    def healed(version: int) -> int:
        desk = Resolver(settings.kafka_bootstrap or "", letters, lambda: 1_800_000_000_000_000)
        return asyncio.run(heal(letters, desk, version, lambda name: version if name == tenant else 0))

    until(lambda: len(asyncio.run(letters.refused_before(stands + 1, ("no_price",), 10_000))) >= 3)
    assert healed(int(stands)) == 0
    apply(MENDED)
    assert healed(int(stands) + 1) == 3
    assert served.await_outcomes(tenant, 6) == {"rated": 3, "dead_letter": 3}
    assert healed(int(stands) + 1) == 0
    letters.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("drop",), "name letters by id"),
        (("retry", "usage.events-0-1", "--reason", "no_price"), "name letters by id"),
        (("retry", "usage.events-0"), "is no dead letter's id"),
        (("ls", "--since", "yesterday"), "no RFC 3339 time"),
    ],
)
def test_a_bad_argument_is_one_clear_line(served: Served, arguments: tuple[str, ...], said: str) -> None:
    """And exit 2."""
    done = served.tollgate("dlq", *arguments, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr


def test_a_charge_leads_to_its_line_and_the_line_to_its_charges(served: Served, tmp_path: Path) -> None:
    """Before an invoice is made there is no line; then the line's exact amount is that of its charges."""
    tenant = f"line-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CALLS)
    served.apply(tmp_path / "catalog.yaml", tenant)
    envelope = {"specversion": "1.0", "source": "t", "type": "usage.reported", "subject": "c", "tenantid": tenant}
    served.send(
        [
            json.dumps(
                {
                    **envelope,
                    "id": f"e-{number}",
                    "time": f"2026-10-0{number}T00:00:00Z",
                    "data": {"meter": "calls", "quantity": 7},
                }
            ).encode()
            for number in range(1, 4)
        ]
    )
    served.await_outcomes(tenant, 3)

    def explained(kind: str, name: str) -> dict[str, Any]:
        done = served.tollgate("explain", kind, name, "--tenant", tenant, "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    (charge,) = explained("event", "t/e-2")["charges"]
    assert charge["invoice_line"] is None
    served.tollgate("invoices", "close", "--period", "2026-10", "--tenant", tenant, "--customer", "c")
    until(lambda: explained("event", "t/e-2")["charges"][0]["invoice_line"] is not None)
    line = explained("charge", charge["charge_id"])["charges"][0]["invoice_line"]
    assert (line["kind"], line["exact_amount"]) == ("usage", "15.55")
    told = explained("line", line["id"])
    assert told["charges"]["is_all_of_the_line"]
    assert (told["charges"]["count"], told["charges"]["amount"]) == (3, "15.55")
    assert charge["charge_id"] in {one["charge_id"] for one in told["charges"]["shown"]}
    assert (told["line"]["price_id"], told["line"]["quantity"], told["line"]["currency"]) == ("calls", "21", "USD")
    missing = served.tollgate("explain", "line", "no/1", check=False)
    assert (missing.returncode, missing.stderr) == (2, "tollgate: there is no line no/1\n")


def test_all_equations_hold(served: Served) -> None:
    """What was sent again is a further record, what was dropped is none."""
    until(lambda: served.reconcile()[1] == {}, 60)
