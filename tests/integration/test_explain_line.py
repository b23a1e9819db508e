"""From a charge to the line of its invoice, and back."""

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
  - {id: calls, event_type: usage.reported}
prices:
  - id: calls
    meter: calls
    model: graduated
    tiers: [{up_to: 10, unit_amount: "1.005"}, {up_to: null, unit_amount: "0.5"}]
"""


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("explain-line")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


def test_a_charge_leads_to_its_line_and_the_line_to_its_charges(served: Served, tmp_path: Path) -> None:
    """Before an invoice is made there is no line; then the line's exact amount is that of its charges."""
    tenant = f"line-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CATALOG)
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
    assert (missing.returncode, missing.stderr) == (1, "tollgate: there is no line no/1\n")
