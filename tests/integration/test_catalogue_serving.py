"""Catalogues against a running deployment: broken ones are refused whole by every road, and nobody who works notices;
a customer's own price and a catalogue of the future hold from when they should; the price list of every language model
there is applies while it runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from schemas.catalog_document import MAX_BYTES
from schemas.settings import Settings
from tests.deployment import until
from tests.served import Served
from tests.unit.schemas.test_catalog_faults import BROKEN

LISTENING = re.compile(r"listening on (http://\S+)")
LITELLM: Final = "litellm==1.80.0"
"""Small enough to be fetched by a test: later ones have four times its bytes."""

GOOD = """\
currency: USD
meters: [{id: calls, event_type: api.called, aggregation: count}]
prices: [{id: call, meter: calls, model: per_unit, unit_amount: "0.5"}]
"""
BOMBS = {
    "ten megabytes": "# " + "x" * 10_000_000,
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]",
    "cycle": "a: &a [*a]",
    "merge": "a: {<<: {b: 1}}",
    "object": "a: !!python/object/apply:os.system [ls]",
    "deep": "[" * 100_000,
    "digits": "a: " + "9" * 1_000_000,
    "documents": GOOD + "---\n" + GOOD,
    "no text": "\x00",
}


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("refused")
    (folder / "catalog.yaml").write_text(GOOD)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@pytest.fixture
def tenant(served: Served, tmp_path: Path) -> str:
    """A tenant of the test's own, with the good catalogue."""
    name = f"refused-{uuid.uuid4().hex[:12]}"
    (tmp_path / "good.yaml").write_text(GOOD)
    served.apply(tmp_path / "good.yaml", name)
    return name


def event(tenant: str, number: int, event_type: str = "api.called", **data: Any) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "test",
            "type": event_type,
            "subject": f"c-{number % 5}",
            "tenantid": tenant,
            "time": "2026-11-03T00:00:00Z",
            "data": data,
        }
    ).encode()


def client_of(served: Served, tenant: str) -> httpx.Client:
    found = LISTENING.findall(served.log.read_text())
    token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
    return httpx.Client(base_url=found[-1], headers={"Authorization": f"Bearer {token}"}, timeout=30)


def rated(served: Served, tenant: str) -> dict[tuple[str, int], int]:
    """Charges by price and version."""
    query = """SELECT price_id, catalog_version, count() FROM tollgate.rated_usage
               WHERE tenant = {tenant:String} GROUP BY price_id, catalog_version"""
    return {(price, version): count for price, version, count in served.ask(query, tenant=tenant)}


def test_running_workers_do_not_notice_broken_catalogues(served: Served, tenant: str, tmp_path: Path) -> None:
    """Each is refused by the API with the path of its fault, the nastiest also by the command; the version that
    events are rated by stays, and so do the processes."""
    processes = {process["pid"] for process in served.processes()}
    served.send([event(tenant, number) for number in range(10)])
    served.await_outcomes(tenant, 10)
    with client_of(served, tenant) as client:
        before = client.get("/v1/catalog").json()
        for path, document, _ in BROKEN:
            answer = client.put(
                "/v1/catalog", content=json.dumps(document), headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 422, document
            pointers = {fault["pointer"] for fault in answer.json()["errors"]}
            named = {pointer.replace("/", ".").lstrip(".") for pointer in pointers}
            assert path.replace("[", ".").replace("]", "") in named, (path, pointers)
        for name, text in BOMBS.items():
            content = text.encode()
            answer = client.put("/v1/catalog", content=content, headers={"Content-Type": "application/yaml"})
            assert answer.status_code == (413 if len(content) > MAX_BYTES else 422), name
            (tmp_path / "bomb.yaml").write_bytes(content)
            for command in (("check",), ("apply", "--tenant", tenant)):
                done = served.tollgate("catalog", *command, str(tmp_path / "bomb.yaml"), check=False)
                assert done.returncode == 2, (name, done.stderr)
                assert len(done.stderr.splitlines()) == 1
        assert client.get("/v1/catalog").json() == before
    served.send([event(tenant, number) for number in range(10, 20)])
    assert served.await_outcomes(tenant, 20) == {"rated": 20}
    assert rated(served, tenant) == {("call", before["version"]): 20}
    assert {process["pid"] for process in served.processes()} == processes


def test_a_customers_own_price_is_charged_to_it_alone(served: Served, tenant: str) -> None:
    """From the answer of the PUT on; a bad one is refused by its path and changes nothing."""
    with client_of(served, tenant) as client:
        version = client.get("/v1/catalog").json()["version"]
        bad = {"price_overrides": [{"id": "call", "unit_amount": 0.1}]}
        refused = client.put("/v1/customers/c-1", json=bad)
        assert refused.status_code == 422
        assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/price_overrides/0/unit_amount"]
        own = {"price_overrides": [{"id": "call", "unit_amount": "0.1"}]}
        key = {"Idempotency-Key": "own"}
        until(lambda: client.put("/v1/customers/c-1", json=own, headers=key).status_code in (200, 201))
        served.send([event(tenant, number) for number in range(10)])
        served.await_outcomes(tenant, 11)
        charges = client.get("/v1/customers/c-1/charges").json()["data"]
        assert [(charge["price_id"], charge["unit_amount"], charge["amount"]) for charge in charges] == [
            ("call", "0.1", "0.1")
        ] * 2
        (charge, *_) = client.get("/v1/customers/c-2/charges").json()["data"]
        assert (charge["amount"], charge["catalog_version"]) == ("0.5", version)


def test_a_catalogue_of_the_future_rates_the_events_of_its_time(served: Served, tenant: str, tmp_path: Path) -> None:
    """It is applied now, and what happens before its time is rated by the version before it."""
    later = tmp_path / "later.yaml"
    later.write_text("effective_from: 2026-11-03T12:00:00Z\n" + GOOD.replace("id: call,", "id: dearer,"))
    with client_of(served, tenant) as client:
        before = client.get("/v1/catalog").json()["version"]
        applied = json.loads(served.tollgate("catalog", "apply", str(later), "--tenant", tenant, "--json").stdout)
        until(lambda: client.get("/v1/catalog").json()["version"] == applied["version"])
    noon = [event(tenant, number).replace(b"T00:00:00Z", b"T12:00:00Z") for number in range(5)]
    served.send([line for number in range(5) for line in (noon[number], event(tenant, 10 + number))])
    assert served.await_outcomes(tenant, 10) == {"rated": 10}
    assert rated(served, tenant) == {("call", before): 5, ("dearer", applied["version"]): 5}


@pytest.fixture(scope="module")
def price_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list as it stands inside the wheel."""
    folder: Path = tmp_path_factory.mktemp("litellm")
    fetch = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), LITELLM]
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", *fetch], capture_output=True, text=True, timeout=240, check=False
    )
    if fetched.returncode:
        pytest.skip(f"{LITELLM} cannot be had: {fetched.stderr.strip().splitlines()[-1:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return Path(opened.extract("litellm/model_prices_and_context_window_backup.json", folder))


def test_the_whole_price_list_is_applied_while_workers_run(
    served: Served, tenant: str, price_list: Path, tmp_path: Path
) -> None:
    """Imported, checked, applied by the command and by HTTP, and rated by."""
    made = tmp_path / "litellm.yaml"
    report = json.loads(
        served.tollgate("catalog", "import", "litellm", str(price_list), "--output", str(made), "--json").stdout
    )
    listed = json.loads(price_list.read_bytes())
    whole = {one["model"] for one in report["skipped"] if not one["field"]}
    assert report["models"] + len(whole) == len(listed)
    priced = {model for model, entry in listed.items() if entry.get("input_cost_per_token") is not None}
    assert priced - {"sample_spec"} <= set(listed) - whole
    assert report["prices"] > 5 * len(priced) * 0.9
    assert served.tollgate("catalog", "check", str(made)).stdout.splitlines()[-1].startswith("no fault")
    served.apply(made, tenant)
    with client_of(served, tenant) as client:
        headers = {"Content-Type": "application/yaml"}
        applied = client.put("/v1/catalog", content=made.read_bytes(), headers=headers, timeout=60)
        assert applied.status_code == 200
        shown = client.get("/v1/catalog", timeout=60).json()
    assert shown["version"] == applied.json()["version"]
    assert len(shown["catalog"]["prices"]) == report["prices"]
    used = {"session_id": "s", "model": "gpt-4o", "input_tokens": 1200, "cached_input_tokens": 200, "output_tokens": 34}
    served.send([event(tenant, 1, "session.tokens_used", **used)])
    assert served.await_outcomes(tenant, 1) == {"rated": 1}
    assert rated(served, tenant) == {
        (f"gpt-4o:{kind}", shown["version"]): 1 for kind in ("input", "cache-read", "output")
    }
