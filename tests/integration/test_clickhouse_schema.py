"""ClickHouse's schema on the real engine: applied once, by any number of migrators, with the names analysts rely on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from schemas.clickhouse import connect, migrate, migrations
from schemas.errors import Conflict, InvalidInput, Unavailable
from schemas.settings import Settings

VIEWS = {
    "rated_usage": "tenant customer user_id event_id source event_type occurred_at meter quantity price_id "
    "catalog_version unit_amount amount currency dimensions session_id device_id allocation_id upstream_cost "
    "subscription_id topic partition offset seq rated_at late",
    "ledger": "tenant customer entry_id kind amount balance_after currency occurred_at cause seq",
    "usage_hourly": "tenant customer meter dimensions currency window_start quantity amount events",
    "usage_daily": "tenant customer meter dimensions currency window_start quantity amount events",
    "event_outcomes": "topic partition offset tenant customer source event_id event_type outcome reason seq decided_at",
    "dead_letters": "topic partition offset tenant customer source event_id reason detail original received_at "
    "retried_at",
    "sessions": "tenant customer session_id",
    "credit_grants": "tenant customer credit_id",
}


@pytest.fixture(scope="module")
def url(services: Settings) -> str:
    """The shared ClickHouse, migrated by `up`."""
    assert services.clickhouse_url is not None
    return services.clickhouse_url


@pytest.fixture
def ask(url: str) -> Any:
    """Rows of a query."""
    client = connect(url)
    yield lambda query: client.query(query).result_rows
    client.close()


Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_the_columns_of_the_contract(view: str, ask: Ask) -> None:
    """By name, with decimals for money and quantities, texts for names and a map for dimensions."""
    types = {name: kind for name, kind, *_ in ask(f"DESCRIBE TABLE tollgate.{view}")}
    assert set(VIEWS[view].split()) <= types.keys()
    for name, kind in types.items():
        assert "Float" not in kind
        if name in ("amount", "balance_after", "quantity", "charged", "expired", "taken_back"):
            assert kind == "Decimal(38, 9)"
        if name == "dimensions":
            assert kind == "Map(String, String)"
    assert ask(f"SELECT toTypeName(tuple(*)) FROM (SELECT * FROM tollgate.{view}) LIMIT 0") == []
    assert len(ask(f"SELECT count() FROM tollgate.{view}")) == 1


def test_a_block_of_any_size_is_written_as_one_file(ask: Ask) -> None:
    """A file for each column costs several times as much, and every block is merged into larger parts anyway."""
    try:
        ask("CREATE TABLE default.as_inserted AS tollgate.ledger_entries")
        ask(
            "INSERT INTO default.as_inserted (customer, event_id, session_id) "
            "SELECT toString(number % 1000), randomPrintableASCII(36), randomPrintableASCII(600) FROM numbers(21000)"
        )
        ((kind, size),) = ask(
            "SELECT part_type, data_uncompressed_bytes FROM system.parts WHERE active AND table = 'as_inserted'"
        )
        assert (kind, size > 10 * 1024 * 1024) == ("Compact", True)
    finally:
        ask("DROP TABLE IF EXISTS default.as_inserted")


def test_migrating_again_changes_nothing(url: str, ask: Ask) -> None:
    """What is applied is not applied again."""
    before = ask("SELECT name, create_table_query FROM system.tables WHERE database = 'tollgate' ORDER BY name")
    assert migrate(url) == []
    after = ask("SELECT name, create_table_query FROM system.tables WHERE database = 'tollgate' ORDER BY name")
    assert after == before


def test_every_statement_can_run_twice(ask: Ask) -> None:
    """A migrator that was killed half-way starts the same file again."""
    for migration in migrations():
        for statement in migration.statements:
            ask(statement)


def test_many_migrators_at_once_end_with_one_schema(url: str, ask: Ask) -> None:
    """Each finds either the work to do or the work done; none fails."""
    names = [migration.name for migration in migrations()]
    ask("TRUNCATE TABLE tollgate.schema_migrations")
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(migrate, [url] * 6))
    assert {name for applied in done for name in applied} == set(names)
    assert ask("SELECT DISTINCT name FROM tollgate.schema_migrations ORDER BY name") == [(name,) for name in names]
    assert migrate(url) == []


def test_a_changed_or_unknown_migration_is_named(url: str, ask: Ask) -> None:
    """A file that is not what was applied, or a schema newer than this version, is a conflict, and nothing is run."""
    first = migrations()[0]
    ask(f"ALTER TABLE tollgate.schema_migrations DELETE WHERE version = {first.version} SETTINGS mutations_sync = 2")
    for version, name, reason in (
        (first.version, first.name, "was changed"),
        (9999, "9999_later.sql", "does not have"),
    ):
        ask(
            "INSERT INTO tollgate.schema_migrations (version, name, checksum) "
            f"VALUES ({version}, '{name}', '{'0' * 64}')"
        )
        with pytest.raises(Conflict, match=reason):
            migrate(url)
        ask(f"ALTER TABLE tollgate.schema_migrations DELETE WHERE version = {version} SETTINGS mutations_sync = 2")
    assert migrate(url) == [first.name]


def test_an_address_that_does_not_work_is_said_clearly(url: str) -> None:
    """No answer is Unavailable; a bad address or password is the input's fault."""
    with pytest.raises(Unavailable, match="does not answer"):
        migrate("http://tollgate:tollgate@127.0.0.1:9")
    with pytest.raises(InvalidInput, match="http://user:password@host:port"):
        migrate("clickhouse://127.0.0.1:9")
    wrong = url.replace("@", "-wrong@")
    with pytest.raises(InvalidInput, match="user or password"):
        migrate(wrong)
