"""Redis recomputed from the ledger while traffic runs: nothing lost, nothing doubled, what was damaged is mended."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from schemas.account import account_key, new_account, pack_account, unpack_account
from schemas.ids import partition_of
from schemas.settings import Settings
from tests.deployment import until
from tests.served import Served

CATALOG = """\
currency: USD
meters:
  - {id: clicks, event_type: usage.reported}
prices:
  - {id: click, meter: clicks, model: per_unit, unit_amount: "0.01"}
"""
CUSTOMERS = 60
ROUNDS = 12


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("rebuild")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@pytest.fixture
def tenant(served: Served, tmp_path: Path) -> str:
    name = f"rebuild-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    served.apply(tmp_path / "catalog.yaml", name)
    return name


def clicks(tenant: str, round_number: int) -> list[bytes]:
    return [
        json.dumps(
            {
                "specversion": "1.0",
                "id": f"{customer}-{round_number}",
                "source": "t",
                "type": "usage.reported",
                "subject": f"c-{customer}",
                "tenantid": tenant,
                "data": {"meter": "clicks", "quantity": customer},
            }
        ).encode()
        for customer in range(CUSTOMERS)
    ]


def test_a_rebuild_under_traffic_ends_with_what_the_ledger_says(served: Served, tenant: str) -> None:
    """A balance that was damaged and an account that never was are made good; each event counts once."""
    settings = served.settings
    assert settings.redis_url is not None
    redis = Redis.from_url(settings.redis_url)
    served.send(clicks(tenant, 0))
    served.await_outcomes(tenant, CUSTOMERS)

    def key(customer: str) -> str:
        partition = partition_of(customer, settings.partitions)
        return f"{{{partition}}}:a:{account_key(tenant, customer)}"

    wrong = unpack_account(redis.get(key("c-7")))  # type: ignore[arg-type]
    wrong.balance += 1
    redis.set(key("c-7"), pack_account(wrong))
    redis.set(key("nobody"), pack_account(new_account(tenant, "nobody")))
    assert served.reconcile()[1] != {}

    stop = threading.Event()
    sent = [1]

    def traffic() -> None:
        while not stop.is_set() and sent[0] < ROUNDS:
            served.send(clicks(tenant, sent[0]))
            sent[0] += 1

    sender = threading.Thread(target=traffic)
    sender.start()
    lines = [json.loads(line) for line in served.tollgate("rebuild", "--json").stdout.splitlines()]
    stop.set()
    sender.join()
    assert [line["partition"] for line in lines] == list(range(settings.partitions))
    assert sum(line["forgotten"] for line in lines) >= CUSTOMERS + 1
    assert served.await_outcomes(tenant, CUSTOMERS * sent[0]) == {"rated": CUSTOMERS * sent[0]}
    until(lambda: served.reconcile()[1] == {}, 60)
    for customer in (7, CUSTOMERS - 1):
        account = unpack_account(redis.get(key(f"c-{customer}")))  # type: ignore[arg-type]
        assert account.balance == -customer * sent[0] * 10_000_000
    assert redis.get(key("nobody")) is None
