"""The user who may read: what analysts and the API ask ClickHouse as."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from api.queries import Query
from api.rows import ClickHouseRows
from schemas.clickhouse import connect
from schemas.settings import Settings


@pytest.fixture
def reader(services: Settings) -> Iterator[Any]:
    """A client of the reader, whom only the native ClickHouse has by itself."""
    if services.clickhouse_reader_url is None:
        pytest.skip("this ClickHouse was given: its users are its administrator's")
    client = connect(services.clickhouse_reader_url)
    yield client
    client.close()


def test_the_reader_sees_every_view(reader: Any) -> None:
    """With parameters, as analysts ask."""
    for (view,) in reader.query(
        "SELECT name FROM system.tables WHERE database = 'tollgate' AND engine = 'View'"
    ).result_rows:
        reader.query(f"SELECT count() FROM tollgate.{view} WHERE tenant = {{t:String}}", parameters={"t": "acme"})


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO tollgate.audit_records (audit_id) VALUES ('x')",
        "ALTER TABLE tollgate.ledger_entries DELETE WHERE 1",
        "TRUNCATE TABLE tollgate.ledger_entries",
        "DROP TABLE tollgate.ledger_entries",
        "DROP VIEW tollgate.ledger",
        "CREATE TABLE tollgate.mine (a Int8) ENGINE = Memory",
        "DROP TABLE tollgate.ledger_entries SETTINGS readonly = 0",
    ],
)
def test_the_reader_changes_nothing(reader: Any, statement: str) -> None:
    """Refused, whatever the statement."""
    with pytest.raises(ClickHouseError):
        reader.command(statement)


def test_the_readers_password_is_not_the_owners(services: Settings, reader: Any) -> None:
    """Nor can the owner's be had from it."""
    assert services.clickhouse_url is not None
    assert services.clickhouse_reader_url is not None
    owner, other = urlsplit(services.clickhouse_url), urlsplit(services.clickhouse_reader_url)
    assert owner.password != other.password
    assert (owner.username, other.username) == ("tollgate", "reader")


async def test_the_api_asks_as_the_reader(services: Settings, reader: Any) -> None:
    """Its client's queries and parameters are within a reader's rights."""
    rows = ClickHouseRows(str(services.clickhouse_reader_url))
    try:
        query = Query("SELECT count() FROM tollgate.ledger WHERE tenant = {tenant:String}", {"tenant": "no\tbody'"})
        assert await rows.fetch(query) == [["0"]] or await rows.fetch(query) == [[0]]
    finally:
        await rows.close()
