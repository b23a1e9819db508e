"""The Python client against a running deployment: as a portal, a chat service and a mail service call it."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from api.client import AsyncClient, Client, NotFound
from schemas.settings import Settings
from tests.deployment import until
from tests.served import Served

LISTENING = re.compile(r"listening on (http://\S+)")
CATALOG = """\
currency: USD
meters:
  - {id: ai_chat, event_type: usage.reported}
prices:
  - {id: chat, meter: ai_chat, model: per_unit, unit_amount: "0.5"}
plans:
  - {id: free, name: Free, interval: month, amount: "0", features: {ai_chat: 3}}
  - {id: pro, name: Pro, interval: month, amount: "20.00", features: {ai_chat: 100, sso: true}}
"""


@pytest.fixture(scope="module")
def served(services: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("client")
    (folder / "catalog.yaml").write_text(CATALOG)
    made = Served(services, folder / "serve.log")
    made.apply(folder / "catalog.yaml", "before-any")
    with made.serving():
        yield made


@pytest.fixture
def access(served: Served, tmp_path: Path) -> tuple[str, str]:
    """Address, and a token of a tenant of its own."""
    tenant = f"client-{uuid.uuid4().hex[:12]}"
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    served.apply(tmp_path / "catalog.yaml", tenant)
    token = served.tollgate("token", "issue", "--tenant", tenant).stdout.splitlines()[-1]
    return LISTENING.findall(served.log.read_text())[-1], token


def test_a_customer_from_plan_to_invoice(access: tuple[str, str]) -> None:
    """Plans, a deposit, a subscription and its upgrade, usage within a quota, and the month's invoice."""
    with Client(*access) as tollgate:
        until(lambda: len(tollgate.plans()) == 2)
        assert tollgate.plan("pro").amount == 20
        with pytest.raises(NotFound):
            tollgate.plan("gold")
        assert not tollgate.has_active_subscription("c")
        until(lambda: tollgate.deposit("c", "100", "USD", key="first").done)
        subscription = tollgate.create_subscription("c", "free")
        assert subscription.is_active
        assert tollgate.subscription("c") is not None
        until(lambda: tollgate.remaining_quota("c", "ai_chat") == 3)
        for number in range(3):
            for _ in range(2):
                tollgate.record_usage("c", "ai_chat", event_id=f"chat-{number}", source="chat")
        until(lambda: tollgate.remaining_quota("c", "ai_chat") == 0)
        check = tollgate.check_quota("c", "ai_chat", 1)
        assert (check.allowed, check.reason, check.limit, check.remaining) == (False, "quota", 3, 0)
        assert tollgate.upgrade_subscription("c", "pro").plan_id == "pro"
        until(lambda: tollgate.check_quota("c", "ai_chat", 1).allowed)
        month = f"{datetime.now(UTC):%Y-%m}"
        until(lambda: [row.quantity for row in tollgate.usage_summary("c", month)] == [3])
        assert tollgate.usage_summary("c", month)[0].amount == Decimal("1.5")
        upcoming = tollgate.upcoming_invoice("c")
        assert [line.amount for line in upcoming.lines if line.kind == "usage"] == [Decimal("1.50")]
        # A first fee is invoiced at once; a change of plan waits for the period's invoice.
        assert tollgate.create_subscription("e", "pro").is_active
        until(lambda: len(tollgate.invoices("e")) == 1)
        (listed,) = tollgate.invoices("e")
        assert tollgate.invoice(listed.id).total == listed.total == 20


async def test_the_same_awaited(access: tuple[str, str]) -> None:
    """The other client is the same calls."""
    async with AsyncClient(*access) as tollgate:
        while not (await tollgate.deposit("d", "5", "USD", key="k")).done:  # noqa: ASYNC110 - it is asked for, not waited for
            await asyncio.sleep(0.1)
        (balance,) = await tollgate.balances("d")
        assert (balance.balance, balance.available) == (5, 5)
        assert await tollgate.subscription("d") is None
        assert (await tollgate.check_quota("d", "ai_chat")).allowed
        assert [plan.id for plan in await tollgate.plans()] == ["free", "pro"]
        assert await tollgate.remaining_quota("d", "ai_chat") is None
