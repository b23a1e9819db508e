"""History rated again under another catalogue: told first, then booked once, by further entries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import Settings
from tests.deployment import until
from tests.served import Served

CATALOG = """\
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: calls, event_type: usage.reported}
prices:
  - {id: tokens, meter: input_tokens, model: per_unit, unit_amount: "0.001"}
  - {id: calls, meter: calls, model: graduated,
     tiers: [{up_to: 10, unit_amount: "1"}, {up_to: null, unit_amount: "0.5"}]}
"""
SPAN = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-12-01T00:00:00Z")


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("rerate")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


def sent(tenant: str, customer: str, name: str, kind: str, data: dict[str, Any]) -> bytes:
    event = {"specversion": "1.0", "id": name, "source": "t", "type": kind, "subject": customer}
    return json.dumps({**event, "tenantid": tenant, "time": "2026-11-05T00:00:00Z", "data": data}).encode()


def test_history_is_rated_again_and_the_difference_booked_once(served: Served, tmp_path: Path) -> None:
    """By customer, price and line; applied twice nothing more is booked, and every equation holds."""
    tenant = f"rerate-{uuid.uuid4().hex[:12]}"
    first, other = tmp_path / "first.yaml", tmp_path / "other.yaml"
    first.write_text(CATALOG)
    other.write_text(CATALOG.replace('"0.001"', '"0.0015"').replace('"0.5"', '"0.25"'))
    served.apply(first, tenant)
    served.send(
        [
            sent(tenant, "one", "1", "session.tokens_used",
                 {"session_id": "s", "model": "m", "input_tokens": 1000, "output_tokens": 0}),
            sent(tenant, "two", "2", "usage.reported", {"meter": "calls", "quantity": 8}),
            sent(tenant, "two", "3", "usage.reported", {"meter": "calls", "quantity": 6}),
        ]
    )  # fmt: skip
    served.await_outcomes(tenant, 3)

    def rerated(file: Path, *options: str) -> dict[str, Any]:
        done = served.tollgate("rerate", *SPAN, "--catalog", str(file), "--tenant", tenant, "--json", *options)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    assert {line["difference"] for line in rerated(first)["lines"]} == {"0"}
    told = rerated(other)
    assert [(line["customer"], line["price_after"], line["difference"]) for line in told["lines"]] == [
        ("one", "tokens", "0.5"),
        ("two", "calls", "-1"),
    ]
    assert told["totals"] == [{"currency": "USD", "before": "13", "after": "12.5", "difference": "-0.5"}]
    assert rerated(other, "--apply")["commands"] == 2
    rerated(other, "--apply")
    until(lambda: sum(served.outcomes(tenant).values()) >= 5)
    until(lambda: {line["difference"] for line in rerated(other)["lines"]} == {"0"})
    assert rerated(other, "--apply")["commands"] == 0
    amounts = served.ask(
        "SELECT customer, toString(sum(amount)) FROM tollgate.rated_usage WHERE tenant = {tenant:String} "
        "GROUP BY customer ORDER BY customer",
        tenant=tenant,
    )
    assert amounts == [("one", "1.5"), ("two", "11")]
    movements = served.ask(
        "SELECT customer, kind, toString(amount) FROM tollgate.ledger WHERE tenant = {tenant:String} ORDER BY 1, seq",
        tenant=tenant,
    )
    assert movements[1:2] + movements[-1:] == [("one", "charge", "-0.5"), ("two", "correction", "1")]
    assert served.outcomes(tenant)["rated"] == 5
    until(lambda: served.reconcile()[1] == {}, 60)


def test_a_catalogue_that_cannot_price_history_is_refused_by_name(served: Served, tmp_path: Path) -> None:
    """One line that names the customer and the meter, and exit 2."""
    tenant = f"rerate-{uuid.uuid4().hex[:12]}"
    first, lacking = tmp_path / "first.yaml", tmp_path / "lacking.yaml"
    first.write_text(CATALOG)
    lacking.write_text("currency: USD\nmeters: [{id: calls, event_type: usage.reported}]\n")
    served.apply(first, tenant)
    data = {"session_id": "s", "model": "m", "input_tokens": 1, "output_tokens": 0}
    served.send([sent(tenant, "one", "1", "session.tokens_used", data)])
    served.await_outcomes(tenant, 1)
    done = served.tollgate("rerate", *SPAN, "--catalog", str(lacking), "--tenant", tenant, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tenant}/one: the other catalogue has no meter 'input_tokens'" in done.stderr
