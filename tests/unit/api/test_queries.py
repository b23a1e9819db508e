from __future__ import annotations

import re

import pytest

from api import queries
from api.cursors import decode_cursor, encode_cursor
from api.queries import Page, Query, Span
from api.rows import _escaped, _refusal
from schemas.errors import InvalidInput, InvariantBroken, Unavailable

FIRST = Page(None, 2)
HOSTILE = "x' OR 1=1; DROP TABLE tollgate.ledger_entries --"


def test_usage_as_sql() -> None:
    """Grouped by a dimension and a column, by day, behind a cursor."""
    asked = queries.usage("acme", "c", Span(1, 9), "day", ["model", "user_id"], Page((5, "m", "USD", "gpt", "u"), 2))
    assert asked.sql == (
        "SELECT\n"
        "    toInt64(toUnixTimestamp(toDateTime(toStartOfInterval(occurred_at, INTERVAL 1 DAY, 'UTC'), 'UTC')))"
        " * 1000000, meter, currency, dimensions[{group_0:String}], toString(user_id),\n"
        "    toString(sum(quantity)), toString(sum(amount)), count()\n"
        "FROM tollgate.rated_usage\n"
        "WHERE tenant = {tenant:String}\n"
        "  AND customer = {customer:String}\n"
        "  AND occurred_at >= fromUnixTimestamp64Micro({start:Int64})\n"
        "  AND occurred_at < fromUnixTimestamp64Micro({end:Int64})\n"
        "  AND (toInt64(toUnixTimestamp(toDateTime(toStartOfInterval(occurred_at, INTERVAL 1 DAY, 'UTC'), 'UTC')))"
        " * 1000000, meter, currency, dimensions[{group_0:String}], toString(user_id))"
        " > ({after_0:Int64}, {after_1:String}, {after_2:String}, {after_3:String}, {after_4:String})\n"
        "GROUP BY toInt64(toUnixTimestamp(toDateTime(toStartOfInterval(occurred_at, INTERVAL 1 DAY, 'UTC'), 'UTC')))"
        " * 1000000, meter, currency, dimensions[{group_0:String}], toString(user_id)\n"
        "ORDER BY toInt64(toUnixTimestamp(toDateTime(toStartOfInterval(occurred_at, INTERVAL 1 DAY, 'UTC'), 'UTC')))"
        " * 1000000, meter, currency, dimensions[{group_0:String}], toString(user_id)\n"
        "LIMIT {limit:UInt32}"
    )
    assert asked.parameters == {
        "tenant": "acme",
        "customer": "c",
        "start": 1,
        "end": 9,
        "group_0": "model",
        "after_0": 5,
        "after_1": "m",
        "after_2": "USD",
        "after_3": "gpt",
        "after_4": "u",
        "limit": 3,
    }


def test_ledger_as_sql() -> None:
    """In the ledger's order, of one kind."""
    asked = queries.ledger("acme", "c", Span(), "grant", FIRST)
    assert asked.sql == (
        "SELECT\n"
        "    seq, length(entry_id), entry_id, toString(kind), toString(amount), toString(balance_after), currency,\n"
        "    toUnixTimestamp64Micro(occurred_at), cause\n"
        "FROM tollgate.ledger\n"
        "WHERE tenant = {tenant:String}\n"
        "  AND customer = {customer:String}\n"
        "  AND kind = {kind:String}\n"
        "ORDER BY seq, length(entry_id), entry_id\n"
        "LIMIT {limit:UInt32}"
    )


def test_customer_known_as_sql() -> None:
    """One row is enough."""
    assert queries.customer_known("acme", "c") == Query(
        "SELECT 1 FROM tollgate.ledger_entries\n"
        "WHERE tenant = {tenant:String} AND customer = {customer:String} AND outcome = 'rated'\n"
        "LIMIT 1",
        {"tenant": "acme", "customer": "c"},
    )


def test_a_listing_by_time_reads_nothing_before_its_cursor() -> None:
    """The cursor's time narrows the span, so that the table's order is made use of."""
    asked = queries.events("acme", None, Span(1, 9), None, Page((5, 0, 3), 10))
    assert asked.parameters["start"] == 5
    assert "(toUnixTimestamp64Micro(occurred_at), partition, seq) > " in asked.sql


EVERY = [
    queries.customer_known(HOSTILE, HOSTILE),
    queries.event(HOSTILE, HOSTILE, HOSTILE, 1),
    queries.events(HOSTILE, HOSTILE, Span(1, 2), "rated", Page((1, 2, 3), 1)),
    queries.charges(HOSTILE, HOSTILE, Span(1, 2), HOSTILE, Page((1, 2, 3, 4), 1)),
    queries.ledger(HOSTILE, HOSTILE, Span(1, 2), "grant", Page((1, 2, HOSTILE), 1)),
    queries.usage(HOSTILE, HOSTILE, Span(1, 2), "week", [HOSTILE], Page((1, HOSTILE, HOSTILE, HOSTILE), 1)),
    queries.dead_letters(HOSTILE, HOSTILE, HOSTILE, Span(1, 2), Page((1, HOSTILE, 2, 3), 1)),
    queries.dead_letter(HOSTILE, HOSTILE, 1, 2),
]


@pytest.mark.parametrize("asked", EVERY)
def test_no_word_of_a_request_is_in_the_text_of_a_query(asked: Query) -> None:
    """All are parameters, each of which the text names, and the tenant is always among them."""
    assert "DROP" not in asked.sql
    named = set(re.findall(r"\{(\w+):\w+\}", asked.sql))
    assert named == set(asked.parameters)
    assert asked.sql.count("tenant = {tenant:String}") == 1


def test_a_parameter_keeps_every_character() -> None:
    """As ClickHouse reads a field of TabSeparated."""
    assert _escaped("a\tb\\c\nd'e\0") == "a\\tb\\\\c\\nd\\'e\\0"
    assert _escaped(-5) == "-5"


def test_what_clickhouse_says_is_ours_to_mend_or_passes() -> None:
    """A query it cannot understand is our fault; overload and a table not yet made pass."""
    assert isinstance(_refusal(400, b"Code: 62. DB::Exception: Syntax error"), InvariantBroken)
    for content in (b"Code: 241. DB::Exception: Memory", b"Code: 60. DB::Exception: x", b"<html>502</html>"):
        assert isinstance(_refusal(500, content), Unavailable)


def test_a_cursor_is_its_key_again() -> None:
    """Whatever characters are in it."""
    text = encode_cursor("x", [2**63 - 1, "ü\0'"])
    assert decode_cursor(text, "x", (int, str)) == (2**63 - 1, "ü\0'")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert decode_cursor(None, "x", (int,)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!",
        "ü",
        "a" * 9_999,
        encode_cursor("y", [1, "a"]),
        encode_cursor("x", [1]),
        encode_cursor("x", ["1", "a"]),
        encode_cursor("x", [True, "a"]),
        encode_cursor("x", [2**63, "a"]),
        "bnVsbA",
    ],
)
def test_a_cursor_that_is_none_of_ours_is_refused(text: str) -> None:
    """Another listing's, another key's, or none at all."""
    with pytest.raises(InvalidInput, match="cursor"):
        decode_cursor(text, "x", (int, str))
