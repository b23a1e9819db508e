"""The files of ClickHouse's schema, before any ClickHouse sees them."""

from __future__ import annotations

import re

from schemas.clickhouse import Migration, migrations
from schemas.ledger import INPUT_TOPICS, PostingKind
from schemas.outcome import OUTCOME_NAMES

REPEATABLE = re.compile(
    r"CREATE (TABLE|VIEW|DATABASE) IF NOT EXISTS |CREATE OR REPLACE VIEW |"
    r"ALTER TABLE \S+\s+(ADD|DROP) (COLUMN|INDEX|PROJECTION) IF (NOT )?EXISTS |"
    r"ALTER TABLE \S+ MODIFY SETTING "
)


def test_files_are_numbered_without_a_gap() -> None:
    """Their order is that of their numbers."""
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_every_statement_may_run_twice() -> None:
    """Without locks, two migrators may both come to run it."""
    for migration in migrations():
        assert migration.statements
        for statement in migration.statements:
            assert REPEATABLE.match(statement), f"{migration.name}: {statement[:60]}"


def test_statements_end_at_semicolons_at_the_end_of_a_line() -> None:
    """Comments before a statement are dropped, a semicolon within a line is its own."""
    migration = Migration(1, "0001_x.sql", "-- first\n\nSELECT ';' AS a;\n\n-- second\nSELECT 2\n;\n")
    assert migration.statements == ["SELECT ';' AS a", "SELECT 2"]


def test_enumerations_are_those_of_the_ledger() -> None:
    """A kind, outcome or topic that the ledger has and the table lacks would stop the sink."""
    text = " ".join(migration.text for migration in migrations())
    for number, word in [
        *enumerate(INPUT_TOPICS),
        *OUTCOME_NAMES.items(),
        *((kind.value, kind.name.lower()) for kind in PostingKind),
    ]:
        assert f"'{word}' = {int(number)}" in text
