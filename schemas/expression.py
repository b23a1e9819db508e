"""A meter's quantity as an expression over an event: numbers, field paths, + - * / and parentheses, nothing else.

Owns the grammar and the syntax tree; evaluation belongs to rating. Parsing runs once, when a catalogue is read, and
is bounded in characters, nodes and nesting, so that no text can exhaust the stack or the clock.

    expression = term   { ("+" | "-") term }
    term       = factor { ("*" | "/") factor }
    factor     = "-" factor | "(" expression ")" | number | field
    number     = digits [ "." digits ]
    field      = name { "." name }          name = letter or "_", then letters, digits, "_"

A path that begins with `data.` is a field of the event's data; any other is an attribute of its envelope.
Refuses everything else: InvalidInput `bad_expression`, naming the character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from schemas.errors import InvalidInput

MAX_CHARACTERS: Final = 500
"""An expression longer than this is no longer a quantity that anyone can check by eye."""

MAX_NODES: Final = 64
"""Numbers, fields and operators in one expression; it bounds the work of an event and the depth of its evaluation."""

MAX_NESTING: Final = 32
"""Parentheses and signs within one another, which the parser takes by recursion."""

MAX_DIGITS: Final = 30
"""Digits of a number before, and again after, its point."""

_TOKEN: Final = re.compile(
    r"[ \t\r\n]*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<field>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<sign>[-+*/()]))"
)
_SPACE: Final = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, exact."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Field:
    """A path into the event; `data.input_tokens` is ("data", "input_tokens")."""

    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """The path as it was written."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class Negative:
    """The operand with its sign turned."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Operation:
    """Two operands and what is done with them."""

    operator: Literal["+", "-", "*", "/"]
    left: Expression
    right: Expression


Expression: TypeAlias = Number | Field | Negative | Operation

_ZERO: Final = Number(Fraction(0))


def parse(text: str) -> Expression:
    """The syntax tree of an expression. Errors: InvalidInput `bad_expression`."""
    if len(text) > MAX_CHARACTERS:
        raise _refused(f"is longer than {MAX_CHARACTERS} characters")
    parser = _Parser(_tokens(text))
    tree = parser.expression(0)
    parser.end()
    return tree


def parse_field(text: str) -> Field:
    """A lone field path. Errors: InvalidInput `bad_expression`."""
    tree = parse(text)
    if not isinstance(tree, Field):
        raise _refused("is not a field path such as data.amount")
    return tree


def is_field(text: str) -> bool:
    """Whether a well-formed expression is a lone field path."""
    return isinstance(parse(text), Field)


def _refused(detail: str) -> InvalidInput:
    return InvalidInput("bad_expression", detail)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["number", "field", "sign", "end"]
    text: str
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"{self.text[:40]!r} at character {self.position + 1}"


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while match := _TOKEN.match(text, position):
        start = match.start(match.lastgroup or 0)
        word = text[start : match.end()]
        if match.lastgroup == "number":
            if max(len(part) for part in word.split(".")) > MAX_DIGITS:
                raise _refused(f"has a number of more than {MAX_DIGITS} digits at character {start + 1}")
            tokens.append(_Token("number", word, start))
        elif match.lastgroup == "field":
            tokens.append(_Token("field", word, start))
        else:
            tokens.append(_Token("sign", word, start))
        position = match.end()
    rest = text[position:].lstrip(_SPACE)
    if rest:
        at = len(text) - len(rest) + 1
        raise _refused(f"has {rest[0]!r} at character {at}, where only numbers, fields and + - * / ( ) may stand")
    tokens.append(_Token("end", "", len(text)))
    return tokens


class _Parser:
    """Recursive descent over the tokens; counts nodes as it makes them."""

    __slots__ = ("_next", "_nodes", "_tokens")

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._nodes = 0

    def expression(self, nesting: int) -> Expression:
        left = self._term(nesting)
        while (sign := self._tokens[self._next].text) in ("+", "-"):
            self._take()
            left = self._counted(Operation("+" if sign == "+" else "-", left, self._term(nesting)))
        return left

    def end(self) -> None:
        token = self._take()
        if token.kind != "end":
            raise _refused(f"has {token} where an operator or the end belongs")

    def _term(self, nesting: int) -> Expression:
        left = self._factor(nesting)
        while (sign := self._tokens[self._next].text) in ("*", "/"):
            self._take()
            right = self._factor(nesting)
            if sign == "/" and right == _ZERO:
                raise _refused("divides by zero")
            left = self._counted(Operation("*" if sign == "*" else "/", left, right))
        return left

    def _factor(self, nesting: int) -> Expression:
        if nesting > MAX_NESTING:
            raise _refused(f"nests deeper than {MAX_NESTING}")
        token = self._take()
        if token.kind == "number":
            return self._counted(Number(Fraction(token.text)))
        if token.kind == "field":
            return self._counted(Field(tuple(token.text.split("."))))
        if token.text == "-":
            return self._counted(Negative(self._factor(nesting + 1)))
        if token.text == "(":
            inside = self.expression(nesting + 1)
            closing = self._take()
            if closing.text != ")":
                raise _refused(f"has {closing} where ) belongs")
            return inside
        raise _refused(f"has {token} where a number, a field or ( belongs")

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _counted(self, node: Expression) -> Expression:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _refused(f"has more than {MAX_NODES} numbers, fields and operators")
        return node
