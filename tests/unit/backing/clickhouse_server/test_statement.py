"""Where an insert's payload begins, which format a query names, and what is refused, whatever the text hides."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backing.clickhouse_server.errors import Refusal
from backing.clickhouse_server.statement import Insert, Query, parse

NATIVE = b"\x02\x01\x01a\x05Int64 FORMAT CSV\n'\"`/*--\x00\xff;"


def insert(sql: bytes) -> tuple[bytes, str, bytes]:
    parsed = parse(sql)
    assert isinstance(parsed, Insert)
    return parsed.statement.strip(), parsed.format, bytes(parsed.payload)


def query(sql: bytes) -> Query:
    parsed = parse(sql)
    assert isinstance(parsed, Query)
    return parsed


@pytest.mark.parametrize(
    "head",
    [
        b"INSERT INTO t",
        b"insert into t (a, b)",
        b'INSERT INTO TABLE db.t (a, `FORMAT x`, "VALUES")',
        b"INSERT INTO t (cols) SETTINGS x = 1, insert_deduplication_token = 'FORMAT y'",
        b"/* FORMAT CSV /* nested VALUES */ */ INSERT INTO t",
        b"-- FORMAT CSV\nINSERT INTO t # FORMAT CSV\n // VALUES\n",
        b"  \n\tINSERT INTO format (values, format, select)",
        b"INSERT INTO db.format",
        b"INSERT INTO values",
        b'INSERT INTO `a``b\\`c` ("d""e")',
        b"INSERT INTO FUNCTION file('FORMAT.csv', 'CSV', 'a Int64')",
        b"INSERT INTO t PARTITION BY a SETTINGS y = $x$ FORMAT Z $x$",
        b"INSERT INTO {t:Identifier}",
    ],
)
def test_the_payload_begins_after_the_format_clause_of_the_statement(head: bytes) -> None:
    """Comments, strings, names and settings before it mislead nobody, and the payload is kept to the byte."""
    assert insert(head + b" FORMAT Native\n" + NATIVE) == (head.strip(), "Native", NATIVE)


@pytest.mark.parametrize(
    ("margin", "payload"),
    [
        (b"\n", b"1\n"),
        (b"\r\n", b"1\n"),
        (b" \t\n", b"1\n"),
        (b" ", b"1\n"),
        (b"\n", b"\n1\n"),
        (b"", b""),
        (b"\n", b" 1\n"),
        (b"\n", b"\x00"),
    ],
)
def test_one_line_break_separates_format_and_payload(margin: bytes, payload: bytes) -> None:
    """Blanks and one line break belong to the statement, everything after it to the payload."""
    assert insert(b"INSERT INTO t FORMAT CSV" + margin + payload)[2] == payload


def test_values_are_a_payload_of_the_format_values() -> None:
    """INSERT ... VALUES is an insert in the format Values."""
    assert insert(b"INSERT INTO t VALUES (1, 'FORMAT x'), (2, ';');\n ") == (
        b"INSERT INTO t",
        "Values",
        b" (1, 'FORMAT x'), (2, ';');\n ",
    )
    assert insert(b"INSERT INTO t (a) VALUES\n(1)")[2] == b"\n(1)"


@pytest.mark.parametrize(
    "sql",
    [
        b"INSERT INTO t SELECT 1 FORMAT CSV",
        b"INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x",
        b"INSERT INTO t SETTINGS a = 1 SELECT 'FORMAT' AS format",
        b"INSERT INTO t (SELECT 1)",
        b"INSERT INTO t",
        b"INSERT INTO t FORMAT",
        b"EXPLAIN INSERT INTO t VALUES (1)",
        b"SELECT 'INSERT INTO t FORMAT CSV'",
    ],
)
def test_what_carries_no_rows_is_a_query(sql: bytes) -> None:
    """INSERT ... SELECT and the like go to the engine as they are."""
    assert query(sql).text == sql


@given(
    noise=st.lists(
        st.one_of(
            st.text(string.printable).map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"),
            st.text(string.ascii_letters + " '\"`;,()\n").map(lambda text: "/* " + text + " */"),
            st.text(string.ascii_letters + " '\"`;,()*/").map(lambda text: "-- " + text + "\n"),
            st.text(string.ascii_letters + " '\";,()\n").map(lambda text: "`" + text.replace("`", "``") + "`"),
        )
    ),
    payload=st.binary(),
)
def test_nothing_quoted_or_commented_moves_the_payload(noise: list[str], payload: bytes) -> None:
    """Law: any strings, comments and names between table and FORMAT leave the payload where it is."""
    head = "INSERT INTO t (a) " + " ".join(noise)
    assert insert(head.encode() + b" FORMAT Native\n" + payload)[1:] == ("Native", payload)


@pytest.mark.parametrize(
    ("sql", "name", "bare"),
    [
        (b"SELECT 1", None, b"SELECT 1"),
        (b"SELECT 1 FORMAT JSON", "JSON", b"SELECT 1 "),
        (b"SELECT 1 format JSON ; ", "JSON", b"SELECT 1 "),
        (b"SELECT 1\nFORMAT JSON -- as JSON\n;;", "JSON", b"SELECT 1\n"),
        (b"SELECT 1 FORMAT JSON SETTINGS a = 1", "JSON", b"SELECT 1  SETTINGS a = 1"),
        (b"SELECT 1 SETTINGS a = 1 FORMAT JSON", "JSON", b"SELECT 1 SETTINGS a = 1 "),
        (b"SELECT format FROM t", None, b"SELECT format FROM t"),
        (b"SELECT t.format x FROM t", None, b"SELECT t.format x FROM t"),
        (b"SELECT a FROM format f", None, b"SELECT a FROM format f"),
        (b"SELECT 1 AS format FORMAT CSV", "CSV", b"SELECT 1 AS format "),
        (b"SELECT 'x FORMAT JSON'", None, b"SELECT 'x FORMAT JSON'"),
        (b"SELECT * FROM (SELECT 1 FORMAT JSON)", None, b"SELECT * FROM (SELECT 1 FORMAT JSON)"),
        (b"SELECT * FROM t FORMAT Native", "Native", b"SELECT * FROM t "),
        (b"SELECT $x$ FORMAT JSON $x$", None, b"SELECT $x$ FORMAT JSON $x$"),
    ],
)
def test_the_format_a_query_names(sql: bytes, name: str | None, bare: bytes) -> None:
    """The FORMAT clause at the end, and the query without it."""
    parsed = query(sql)
    assert (parsed.format, parsed.bare, parsed.text) == (name, bare, sql)


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        (b"", 62),
        (b"  -- nothing\n", 62),
        (b"/* open", 62),
        (b";", 62),
        (b"SELECT 1; SELECT 2", 62),
        (b"SELECT ';';\n/* ; */ DROP TABLE t", 62),
        (b"INSERT INTO t VALUES (1); DROP TABLE t", 62),
        (b"INSERT INTO t FORMAT Values (1); DROP TABLE t", 62),
        (b"SELECT 1 INTO OUTFILE 'x'", 358),
        (b"SELECT 1 INTO /* */ OUTFILE 'x' FORMAT CSV", 358),
        (b"INSERT INTO t FROM INFILE 'x' FORMAT CSV", 48),
    ],
)
def test_what_is_not_served(sql: bytes, code: int) -> None:
    """Nothing, several statements at once, and the files of the server's machine."""
    with pytest.raises(Refusal) as refused:
        parse(sql)
    assert refused.value.code == code


def test_an_open_string_hides_what_follows_it() -> None:
    """An unterminated string never ends at a doubled quote inside it, so that the engine sees the text as it is."""
    assert query(b"SELECT 'a''b FORMAT JSON").names == {b"select", b"a", b"b", b"format", b"json"}
    assert query(b"SELECT 'a''b' FORMAT JSON").names == {b"select", b"format", b"json"}


def test_the_names_a_query_uses() -> None:
    """Words and quoted names in lower case; a name spelled with escapes is told apart."""
    parsed = query(b"SELECT `File`(x), \"a b\" FROM t -- eval\nWHERE y = 'python'")
    assert {b"file", b"a b", b"t", b"x"} < parsed.names
    assert not {b"eval", b"python"} & parsed.names
    assert not parsed.has_escaped_name
    assert query(b"SELECT `fil\\x65`(x)").has_escaped_name
