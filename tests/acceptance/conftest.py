"""One deployment for all promises: started as an operator starts it, asked as strangers ask.

To ask a deployment that serves already: ACCEPTANCE_DATA_DIR=<its data dir> ACCEPTANCE_URL=<its API>. It was started with
TOLLGATE_STRIPE_WEBHOOK_SECRET=whsec_acceptance.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from schemas.settings import Settings
from tests.acceptance.site import STRIPE_SECRET, Site, until
from tests.deployment import Tollgate, end, settings_in

COMMON = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
prices:
  - {id: common-input, meter: input_tokens, model: per_unit, unit_amount: "0.000001"}
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A deployment that serves."""
    given = os.environ.get("ACCEPTANCE_DATA_DIR")
    if given is not None:
        attached = _site(settings_in(Path(given)), os.environ["ACCEPTANCE_URL"], Path(given) / "serve.log")
        yield attached
        attached.close()
        return
    data_dir = tmp_path_factory.mktemp("acceptance")
    settings = dataclasses.replace(settings_in(data_dir), http_port=0, stripe_webhook_secret=STRIPE_SECRET)
    tollgate = Tollgate(settings)
    try:
        printed = tollgate("up", "--backend", "native").stdout
        yield from _serving(settings, printed, data_dir)
    finally:
        tollgate("down", "--purge", check=False)


def _serving(settings: Settings, printed: str, data_dir: Path) -> Iterator[Site]:
    tollgate = Tollgate(settings)
    log = data_dir / "serve.log"
    early = tollgate("token", "issue", "--tenant", "early").stdout.splitlines()[-1]
    with tollgate.started("serve", log=log) as process:
        url = until(lambda: _address(data_dir), "the API's address")

        def ready() -> httpx.Response | None:
            try:
                return httpx.get(f"{url}/readyz", timeout=5)
            except httpx.TransportError:
                return None

        site = _site(settings, url, log)
        site.printed_by_up, site.issued_before_serve = printed, early
        site.ready_before_catalogue = until(ready, "the API")
        (data_dir / "common.yaml").write_text(COMMON)
        tollgate("catalog", "apply", str(data_dir / "common.yaml"))
        until(lambda: (answer := ready()) is not None and answer.status_code == 200, "readyz", 120)
        yield site
        site.close()
        assert end(process) == 0, log.read_text()[-3000:]


def _address(data_dir: Path) -> str | None:
    """Where the API says that it answers, once it does."""
    try:
        noted = json.loads((data_dir / "processes.json").read_bytes())
    except FileNotFoundError:
        return None
    told = [str(process["metrics"]) for process in noted if process["role"] == "api" and process["metrics"]]
    return told[0].removesuffix("/metrics") if told else None


def _site(settings: Settings, url: str, log: Path) -> Site:
    tollgate = Tollgate(settings)
    services = json.loads(tollgate("status", "--json").stdout)["services"]
    return Site(tollgate, url, services["kafka"]["url"], services["clickhouse"]["url"], log)
