"""What kind of SQL a request carries: an insert with its payload, or a query with its output format. Pure.

ClickHouse's grammar is the engine's business. This lexer only knows what a token is (comments, strings, quoted
names and heredocs hide whatever stands in them) and so finds the few places that the server itself has to know:
where the payload of an INSERT begins, which FORMAT a query names, and what may not be served over HTTP at all.

Errors: Refusal (several statements, nothing but comments, files of the server's machine).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from backing.clickhouse_server.errors import INTO_OUTFILE_NOT_ALLOWED, NOT_IMPLEMENTED, SYNTAX_ERROR, refusal

# Possessive quantifiers: an unterminated string must not match up to some earlier quote.
_TOKEN: Final = re.compile(
    rb"""
    (?P<space>   \s++ | --[^\n]*+ | //[^\n]*+ | \#[ !][^\n]*+ )
  | (?P<word>    [A-Za-z_][A-Za-z0-9_$]*+ )
  | (?P<string>  '(?:[^'\\]++|\\.|'')*+' | (\$\w*+\$).*?\4 )
  | (?P<name>    "(?:[^"\\]++|\\.|"")*+" | `(?:[^`\\]++|\\.|``)*+` )
  | (?P<number>  [0-9][A-Za-z0-9_]*+ )
  | (?P<symbol>  . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_COMMENT_EDGE: Final = re.compile(rb"/\*|\*/")
_PAYLOAD_MARGIN: Final = re.compile(rb"[ \t\f]*\r?\n?")

# After one of these a word is a name, so that a column or table may be called `format`.
_NAME_FOLLOWS: Final = frozenset(
    (b".", b",", b"(", b"=", b"FROM", b"JOIN", b"SELECT", b"TABLE", b"AS", b"BY", b"WHERE")
)


class _Token(NamedTuple):
    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    @property
    def keyword(self) -> bytes:
        return self.text.upper() if self.kind == "word" else b""


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT with rows: `statement` up to its FORMAT or VALUES, the format of `payload`, and the payload."""

    statement: bytes
    format: str
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Query:
    """Any other statement: `text` as sent; `bare` without FORMAT clause and semicolon; the format it names, if any.

    `names` are all its words and quoted names in lower case. `has_escaped_name` tells that a quoted name spells
    itself with escapes, so that `names` does not show it.
    """

    text: bytes
    bare: bytes
    format: str | None
    names: frozenset[bytes]
    has_escaped_name: bool


def parse(sql: bytes) -> Insert | Query:
    """The one statement in `sql`."""
    tokens = _tokens(sql)
    first = next(tokens, None)
    if first is None or first.text == b";":
        raise refusal(SYNTAX_ERROR, "Empty query")
    if first.keyword == b"INSERT":
        head = [first]
        insert = _insert(sql, tokens, head)
        if insert is not None:
            return insert
        return _query(sql, [*head, *tokens])
    return _query(sql, [first, *tokens])


def _tokens(sql: bytes) -> Iterator[_Token]:
    position, depth = 0, 0
    while (match := _TOKEN.match(sql, position)) is not None:
        kind, text, position = match.lastgroup or "", match[0], match.end()
        if kind == "space":
            continue
        if text == b"/" and sql[position : position + 1] == b"*":
            position = _block_comment_end(sql, match.start())
            continue
        if text in (b")", b"]", b"}"):
            depth -= 1
        yield _Token(kind, text, match.start(), match.end(), depth)
        if text in (b"(", b"[", b"{"):
            depth += 1


def _block_comment_end(sql: bytes, start: int) -> int:
    # They nest. An unterminated one hides the rest; the engine then says what is missing.
    level = 0
    for edge in _BLOCK_COMMENT_EDGE.finditer(sql, start):
        level += 1 if edge[0] == b"/*" else -1
        if level == 0:
            return edge.end()
    return len(sql)


def _insert(sql: bytes, tokens: Iterator[_Token], head: list[_Token]) -> Insert | None:
    """The insert, if rows follow; else None, with the tokens that were read in `head`."""
    is_target_read = False
    for token in tokens:
        previous = head[-1]
        head.append(token)
        if token.depth > 0:
            continue
        if not is_target_read:
            # INSERT INTO [TABLE] [FUNCTION] name: whatever word stands there is no keyword.
            is_target_read = previous.keyword in (b"INTO", b"TABLE", b"FUNCTION") and token.keyword not in (
                b"TABLE",
                b"FUNCTION",
            )
        elif previous.text == b".":
            continue
        elif token.keyword in (b"SELECT", b"WITH", b"WATCH"):
            return None
        elif token.keyword == b"FROM":
            raise refusal(NOT_IMPLEMENTED, "INSERT FROM INFILE is not served: it reads files of the server")
        elif token.keyword == b"VALUES":
            _refuse_second_statement(_tokens(sql[token.end :]) if b";" in sql[token.end :] else ())
            return Insert(sql[: token.start], "Values", memoryview(sql)[token.end :])
        elif token.keyword == b"FORMAT":
            name = next(tokens, None)
            if name is None or name.kind != "word":
                return None
            if name.keyword == b"VALUES":
                _refuse_second_statement(_tokens(sql[name.end :]) if b";" in sql[name.end :] else ())
            margin = _PAYLOAD_MARGIN.match(sql, name.end)
            payload = memoryview(sql)[margin.end() if margin else name.end :]
            return Insert(sql[: token.start], name.text.decode(), payload)
    return None


def _query(sql: bytes, tokens: Sequence[_Token]) -> Query:
    _refuse_second_statement(tokens)
    tokens = [token for token in tokens if token.text != b";"]
    for before, after in itertools.pairwise(tokens):
        if (before.keyword, after.keyword) == (b"INTO", b"OUTFILE"):
            raise refusal(INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed: it writes files of the server")
    clause = _format_clause(tokens)
    end = tokens[-1].end
    if clause is None:
        bare, name = sql[:end], None
    else:
        bare = sql[: tokens[clause].start] + sql[tokens[clause + 1].end : end]
        name = tokens[clause + 1].text.decode()
    words = [token for token in tokens if token.kind in ("word", "name")]
    return Query(
        text=sql,
        bare=bare,
        format=name,
        names=frozenset(token.text.strip(b'"`').lower() for token in words),
        has_escaped_name=any(token.kind == "name" and b"\\" in token.text for token in words),
    )


def _format_clause(tokens: Sequence[_Token]) -> int | None:
    """Where the FORMAT clause of a query begins: FORMAT name, followed by nothing but SETTINGS."""
    for index in range(len(tokens) - 2, 0, -1):
        token, name, previous = tokens[index], tokens[index + 1], tokens[index - 1]
        if token.keyword != b"FORMAT" or token.depth > 0 or name.kind != "word":
            continue
        if (previous.keyword or previous.text) in _NAME_FOLLOWS:
            continue
        if index + 2 == len(tokens) or tokens[index + 2].keyword == b"SETTINGS":
            return index
    return None


def _refuse_second_statement(tokens: Sequence[_Token] | Iterator[_Token]) -> None:
    is_ended = False
    for token in tokens:
        if token.text == b";":
            is_ended = True
        elif is_ended:
            raise refusal(SYNTAX_ERROR, "Multi-statements are not allowed")
