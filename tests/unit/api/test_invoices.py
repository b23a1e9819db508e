"""Invoices over HTTP, on stores in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.routes import invoices
from schemas.documents import INVOICE, document_key, encode_body
from tests.unit.api.conftest import World

MARCH = {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"}
ASKED: dict[str, Any] = {"id": "inv_1", "customer": "c", "state": "draft", "number": None, "period": MARCH}


def stands(world: World, **changed: Any) -> None:
    """The invoice as Redis has it."""
    world.accounts.bodies[document_key("acme", INVOICE, "inv_1")] = encode_body(ASKED | changed)


async def asked(world: World) -> tuple[str, str | None]:
    """State and number as a reader sees them."""
    answer = await world.client.get("/v1/invoices/inv_1", headers=world.token("usage:read"))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["state"], body["number"]


async def test_an_invoice_that_waits_for_its_number_is_not_shown_as_a_draft(world: World) -> None:
    """It was finalized: whoever asks is answered when the number is there."""
    stands(world, numbering=True)
    reading = asyncio.create_task(asked(world))
    await asyncio.sleep(0.05)
    stands(world, state="open", number="INV-000001")
    assert await reading == ("open", "INV-000001")


async def test_a_draft_is_answered_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for, however long that may be."""
    monkeypatch.setattr(invoices, "NUMBER_SECONDS", 3_600.0)
    stands(world)
    assert await asked(world) == ("draft", None)


async def test_a_number_that_does_not_come_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gives numbers may be away; the invoice is then shown as it is."""
    monkeypatch.setattr(invoices, "NUMBER_SECONDS", 0.05)
    stands(world, numbering=True)
    assert await asked(world) == ("draft", None)
