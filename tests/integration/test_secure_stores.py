"""Redis and ClickHouse spoken to with TLS, by a whole deployment: `rediss://`, `https://`, a private authority.

The native Redis and ClickHouse have no TLS of their own, so what ends it stands before them, as it often does. What is
tried is our side: every client of ours asks by TLS and checks whom it asks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from schemas.settings import Settings
from tests.deployment import Tollgate, until
from tests.integration.test_secure_kafka import make_certificates
from tests.served import Served

CATALOGUE = """
currency: USD
meters:
  - {id: m, event_type: usage.reported}
prices:
  - {id: p, meter: m, model: per_unit, unit_amount: "1"}
"""


@contextmanager
def front(url: str, certificates: Path) -> Iterator[str]:
    """TLS before a server: the port of 127.0.0.1 where it is asked for."""
    behind = urlsplit(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "broker.pem")
    loop, started = asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []
    stopping = asyncio.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while content := await reader.read(64 * 1024):
                writer.write(content)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            return  # either side may leave
        finally:
            writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plain_reader, plain_writer = await asyncio.open_connection(behind.hostname, behind.port)
        await asyncio.gather(pass_on(reader, plain_writer), pass_on(plain_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=context)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        await stopping.wait()
        server.close()
        meeting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in meeting:
            task.cancel()
        await asyncio.gather(*meeting, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    try:
        scheme = {"redis": "rediss", "http": "https"}[behind.scheme]
        secret = behind.netloc.rpartition("@")[0]
        yield urlunsplit((scheme, f"{secret}@127.0.0.1:{ports[0]}", behind.path, behind.query, ""))
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


@pytest.fixture
def secured(services: Settings, tmp_path: Path) -> Iterator[tuple[Settings, Path]]:
    """The settings of an operator whose stores have TLS, and the authority that vouches for them."""
    certificates = tmp_path / "certificates"
    make_certificates(certificates)
    assert services.redis_url is not None
    assert services.clickhouse_url is not None
    with front(services.redis_url, certificates) as redis, front(services.clickhouse_url, certificates) as clickhouse:
        secured = dataclasses.replace(
            services,
            data_dir=tmp_path / "data",
            redis_url=redis,
            clickhouse_url=clickhouse,
            clickhouse_reader_url=None,
        )
        yield secured, certificates / "ca.pem"


def test_a_deployment_whose_redis_and_clickhouse_have_tls(
    secured: tuple[Settings, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migrated, served, rated, asked, reconciled and explained: all of it goes by TLS."""
    settings, authority = secured
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    served = Served(settings, tmp_path / "serve.log")
    assert served.tollgate("up", "--backend", "external").returncode == 0
    tenant = f"secure-{uuid.uuid4().hex}"
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE)
    served.apply(tmp_path / "catalogue.yaml", tenant)
    token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
    event = {
        "specversion": "1.0", "id": "e", "source": "s", "type": "usage.reported", "subject": "c",
        "data": {"meter": "m"},
    }  # fmt: skip
    with served.serving():
        status = json.loads(served.tollgate("status", "--json").stdout)
        assert {name: service["ready"] for name, service in status["services"].items()} == {
            "kafka": True, "redis": True, "clickhouse": True,
        }  # fmt: skip
        url = next(str(one["metrics"]).removesuffix("/metrics") for one in served.processes() if one["role"] == "api")
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as http:
            assert http.post("/v1/events", json=event).status_code == 202
            until(lambda: http.get("/v1/customers/c/charges").json().get("data"))
            until(lambda: http.get("/v1/customers/c/balance").status_code == 200)
            (balance,) = http.get("/v1/customers/c/balance").json()["balances"]
            assert balance["balance"] == "-1"
            credit, key = {"amount": "5", "currency": "USD"}, {"Idempotency-Key": "k"}
            until(lambda: http.post("/v1/customers/c/credits", json=credit, headers=key).status_code in (200, 201))
            held = {"customer": "c", "amount": "1", "hold_id": "h"}
            until(lambda: http.post("/v1/holds", json=held).status_code in (200, 201))
        assert "price" in served.tollgate("explain", "event", "s/e", "--tenant", tenant).stdout
        until(lambda: served.reconcile()[1] == {}, 60)


def test_whoever_is_not_vouched_for_is_not_asked(secured: tuple[Settings, Path]) -> None:
    """Without the authority neither store is ready: TLS that checks nobody is none."""
    status = json.loads(Tollgate(secured[0])("status", "--json").stdout)
    assert (status["services"]["redis"]["ready"], status["services"]["clickhouse"]["ready"]) == (False, False)
