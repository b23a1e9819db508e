from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from tests.unit.api.conftest import NOW, World

ROW: list[Any] = [NOW, "usage.events", 3, 120, "c", "chat", "e-1", "t", "not_json", "not JSON", 4, None, None, ""]


async def test_dead_letters_are_listed_without_their_originals(world: World) -> None:
    """An id names the place of the record."""
    world.rows.answer = lambda query: [ROW]
    response = await world.client.get("/v1/dead-letters?reason=not_json", headers=world.token())
    assert response.status_code == 200
    assert response.json()["data"][0]["id"] == "usage.events-3-120"
    assert world.rows.asked[0].parameters["reason"] == "not_json"


@pytest.mark.parametrize(("original", "text"), [(b"{not", "{not"), (b"\xff\x00", None)])
async def test_a_dead_letter_has_its_original_byte_for_byte(world: World, original: bytes, text: str | None) -> None:
    """As text where it is text, and always as base64."""
    encoded = b64encode(original).decode()
    world.rows.answer = lambda query: [[*ROW, encoded]]
    response = await world.client.get("/v1/dead-letters/usage.events-3-120", headers=world.token())
    assert (response.json()["original"], response.json()["original_base64"]) == (text, encoded)


@pytest.mark.parametrize("name", ["usage.events-3-121", "catalog.versions-0-1", "x", "usage.events--1-2"])
async def test_a_dead_letter_that_is_not_there_is_404(world: World, name: str) -> None:
    """As is one of another tenant, which the question leaves out."""
    assert (await world.client.get(f"/v1/dead-letters/{name}", headers=world.token())).status_code == 404


async def test_a_dead_letter_is_sent_again_once(world: World) -> None:
    """Asked again, the answer says when that was, and nothing is done."""
    world.rows.answer = lambda query: [[*ROW, ""]] if query.parameters["tenant"] == "acme" else []
    path = "/v1/dead-letters/usage.events-3-120/retry"
    answers = [(await world.client.post(path, headers=world.token("admin"))).json() for _ in range(2)]
    assert [answer.pop("now") for answer in answers] == [True, False]
    assert answers == [{"id": "usage.events-3-120", "resolution": "retried", "resolved_at": "2027-01-15T08:00:00Z"}] * 2
    assert (await world.client.post(path, headers=world.token("admin", tenant="globex"))).status_code == 404
    assert (await world.client.post(path, headers=world.token("usage:read"))).status_code == 403


async def test_a_dead_letter_is_dropped_for_a_reason(world: World) -> None:
    """Which is kept; without one it stays."""
    world.rows.answer = lambda query: [[*ROW, ""]]
    path = "/v1/dead-letters/usage.events-3-120/drop"
    for body in ({}, {"reason": ""}, {"reason": 7}):
        assert (await world.client.post(path, json=body, headers=world.token())).status_code == 422
    response = await world.client.post(path, json={"reason": "a test of ours"}, headers=world.token())
    assert (response.status_code, response.json()["resolution"]) == (200, "dropped")
    assert world.letters.notes == ["a test of ours"]
