"""What can be made again: charges under another catalogue, booked once; Redis from the ledger, while traffic runs."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: calls, event_type: usage.reported}
prices:
  - {id: tokens, meter: input_tokens, model: per_unit, unit_amount: "0.001"}
  - {id: calls, meter: calls, model: graduated,
     tiers: [{up_to: 10, unit_amount: "1"}, {up_to: null, unit_amount: "0.5"}]}
"""
SPAN = ("--from", "2026-11-01T00:00:00Z", "--to", "2026-12-01T00:00:00Z")


CLICKS = """\
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
    assert movements[1:2] + movements[-1:] == [("one", "correction", "-0.5"), ("two", "correction", "1")]
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


@pytest.fixture
def tenant(served: Served, tmp_path: Path) -> str:
    name = f"rebuild-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CLICKS)
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
