"""Who changed what is written down before it happens, and how it was answered afterwards."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.audit import AuditLog
from api.audit_file import FILE, locked, note
from api.queries import Query
from schemas.audit import AuditEntry, decode_entry
from schemas.errors import Unavailable
from schemas.topics import AUDIT_LOG
from tests.fakes.api import FakePublisher
from tests.unit.api.conftest import CATALOGUE, NOW, World

YAML = {"Content-Type": "application/yaml"}


class Audited:
    """The API with an audit log of its own."""

    def __init__(self, world: World, tmp_path: Path) -> None:
        self.world = world
        self.publisher = FakePublisher()
        self.file = tmp_path / FILE
        self.log = AuditLog(self.publisher, self.file)
        self.client: httpx.AsyncClient

    def entries(self) -> list[AuditEntry]:
        assert {record.topic for record in self.publisher.records} <= {AUDIT_LOG}
        return [decode_entry(record.value) for record in self.publisher.records]


@pytest.fixture
async def audited(world: World, tmp_path: Path) -> AsyncIterator[Audited]:
    made = Audited(world, tmp_path)
    app = create_app(replace(world.app.state.application.parts, audit=made.log))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        made.client = client
        yield made


async def test_a_change_is_written_down_before_and_after(audited: Audited) -> None:
    """Two records of one id: who, what, when, and then how it was answered and what the body named."""
    headers = {**audited.world.token(), "Content-Type": "application/json"}
    catalogue = {"currency": "USD", "meters": []}
    answer = await audited.client.put("/v1/catalog", headers=headers, json=catalogue)
    begun, ended = audited.entries()
    assert (begun.status, ended.status) == (0, answer.status_code)
    token_id = headers["Authorization"].split("_")[1]
    for entry in (begun, ended):
        assert (entry.id, entry.at) == (begun.id, NOW)
        assert (entry.tenant, entry.actor) == ("acme", token_id)
        assert (entry.action, entry.target) == ("PUT /v1/catalog", "/v1/catalog")
    assert json.loads(ended.detail)["fields"] == ["currency", "meters"]


async def test_a_refused_change_is_written_down_too(audited: Audited) -> None:
    """Who tries what it may not is what an audit is for."""
    headers = {**audited.world.token("usage:read"), **YAML}
    assert (await audited.client.put("/v1/catalog", headers=headers, content=CATALOGUE)).status_code == 403
    assert [entry.status for entry in audited.entries()] == [0, 403]


async def test_nothing_is_changed_that_cannot_be_written_down(audited: Audited) -> None:
    """503, and the catalogue is what it was."""
    audited.publisher.away = True
    position = audited.world.book.position
    answer = await audited.client.put("/v1/catalog", headers={**audited.world.token(), **YAML}, content=CATALOGUE)
    assert (answer.status_code, audited.world.book.position) == (503, position)


async def test_reads_usage_and_strangers_are_not_written_down(audited: Audited) -> None:
    """They change nothing, have a log of their own, or are nobody."""
    headers = audited.world.token()
    json_type = {**headers, "Content-Type": "application/json"}
    await audited.client.get("/v1/catalog", headers=headers)
    await audited.client.post("/v1/events", headers=json_type, json={})
    await audited.client.post("/v1/prices/estimate", headers=json_type, json={})
    await audited.client.put("/v1/catalog", content=CATALOGUE, headers=YAML)
    await audited.client.put("/v1/no-such-thing", content=CATALOGUE, headers={**headers, **YAML})
    assert audited.entries() == []


async def test_what_a_body_holds_is_not_kept(audited: Audited) -> None:
    """Names of fields and a hash: no address, no secret."""
    headers = {**audited.world.token(), "Content-Type": "application/json"}
    await audited.client.put("/v1/catalog", headers=headers, json={"password": "hush", "email": "a@b.example"})
    kept = b"".join(record.value for record in audited.publisher.records)
    assert b"hush" not in kept
    assert b"a@b.example" not in kept
    assert b"password" in kept
    assert headers["Authorization"].split("_", 2)[2].encode() not in kept


async def test_every_route_that_changes_something_is_audited_or_on_the_list(audited: Audited) -> None:
    """Driven from the OpenAPI document, so that a new route is."""
    document = (await audited.client.get("/openapi.json")).json()
    exempt = ("/v1/events", "/v1/quota", "/v1/holds", "/v1/prices")
    headers = audited.world.token("usage:read")
    for path, methods in document["paths"].items():
        for method in set(methods) - {"get", "head"}:
            audited.publisher.records.clear()
            filled = path.replace("{", "").replace("}", "")
            await audited.client.request(method, filled, headers=headers)
            expected = path.startswith("/v1/") and not path.startswith(exempt)
            assert bool(audited.entries()) == expected, (method, path)


async def test_what_commands_noted_is_brought_in_once_kafka_has_it(audited: Audited) -> None:
    """In order, and not forgotten while Kafka is away."""
    noted = [AuditEntry(str(number), "acme", NOW, "root@host", "tollgate token issue", "", 200) for number in range(3)]
    for entry in noted:
        note(audited.file, entry)
    audited.publisher.away = True
    with pytest.raises(Unavailable):
        await audited.log.drain()
    audited.publisher.away = False
    note(audited.file, replace_id(noted[0], "3"))
    assert await audited.log.drain() == 4
    assert await audited.log.drain() == 0
    assert [entry.id for entry in audited.entries()] in (["0", "1", "2", "3"], ["3", "0", "1", "2"])


async def test_a_command_that_was_stopped_while_it_noted_is_not_waited_for(audited: Audited) -> None:
    """The API goes on, and brings in what stands once the command has let go."""
    note(audited.file, AuditEntry("0", "acme", NOW, "root@host", "tollgate token issue", "", 200))
    with locked(audited.file):
        assert await audited.log.drain() == 0
    assert audited.entries() == []
    assert await audited.log.drain() == 1


def replace_id(entry: AuditEntry, name: str) -> AuditEntry:
    import msgspec

    return msgspec.structs.replace(entry, id=name)


async def test_the_log_is_listed_by_time_for_administrators(world: World) -> None:
    """Of the token's tenant alone; a page ends in a cursor."""
    asked: list[Query] = []

    def rows(query: Query) -> list[list[Any]]:
        asked.append(query)
        return [[str(NOW), "a", "t", "PUT /v1/catalog", "/v1/catalog", 200, '{"fields": []}'],
                [str(NOW + 1), "b", "root@h", "tollgate token issue", "", None, ""]]  # fmt: skip

    world.rows.answer = rows
    assert (await world.client.get("/v1/audit", headers=world.token("usage:read"))).status_code == 403
    page = (await world.client.get("/v1/audit?limit=1", headers=world.token("admin"))).json()
    assert asked[-1].parameters["tenant"] == "acme"
    assert [(each["id"], each["status"]) for each in page["data"]] == [("a", 200)]
    await world.client.get(f"/v1/audit?cursor={page['next_cursor']}", headers=world.token("admin"))
    assert (asked[-1].parameters["after_at"], asked[-1].parameters["after_id"]) == (NOW, "a")
