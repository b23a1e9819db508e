"""The audit log from end to end: changes by HTTP and by command, in Kafka, in ClickHouse and over HTTP."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.settings import Settings
from tests.deployment import until
from tests.served import Served

CATALOGUE = """
currency: USD
meters:
  - {id: m, event_type: usage.reported}
prices:
  - {id: p, meter: m, model: per_unit, unit_amount: "1"}
"""


@pytest.fixture
def served(services: Settings, tmp_path: Path) -> Served:
    made = Served(services, tmp_path / "serve.log")
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE)
    made.tollgate("catalog", "apply", str(tmp_path / "catalogue.yaml"))
    return made


def test_every_change_is_found_again(served: Served) -> None:
    """A token issued by command, a catalogue put, a customer refused: each once, with who did it and how it ended."""
    tenant = f"audit-{uuid.uuid4().hex}"
    text = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
    with served.serving():
        url = next(str(one["metrics"]).removesuffix("/metrics") for one in served.processes() if one["role"] == "api")
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {text}"}, timeout=30) as client:
            yaml = {"Content-Type": "application/yaml"}
            assert client.put("/v1/catalog", content=CATALOGUE, headers=yaml).status_code == 200
            assert client.put("/v1/customers/c", json={"balance": "1"}).status_code == 422

            def entries() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = client.get("/v1/audit").json().get("data", [])
                return found

            until(lambda: len(entries()) == 3 and all(one["status"] for one in entries()))
            found = {one["action"]: one for one in entries()}
            assert set(found) == {"tollgate token issue", "PUT /v1/catalog", "PUT /v1/customers/{id}"}
            assert "@" in found["tollgate token issue"]["actor"]
            token_id = text.split("_")[1]
            catalogue, customer = found["PUT /v1/catalog"], found["PUT /v1/customers/{id}"]
            assert (catalogue["actor"], catalogue["status"]) == (token_id, 200)
            assert (customer["target"], customer["status"]) == ("/v1/customers/c", 422)
            assert customer["detail"]["fields"] == ["balance"]
    rows = served.ask("SELECT count(), uniqExact(audit_id) FROM tollgate.audit_log WHERE tenant = {t:String}", t=tenant)
    assert rows == [(3, 3)]
