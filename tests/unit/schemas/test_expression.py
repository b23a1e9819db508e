"""The grammar of quantities: four operators, numbers, fields, and nothing else."""

from __future__ import annotations

from fractions import Fraction

import pytest

from schemas.errors import InvalidInput
from schemas.expression import (
    MAX_CHARACTERS,
    MAX_NESTING,
    MAX_NODES,
    Field,
    Negative,
    Number,
    Operation,
    parse,
    parse_field,
)

A, B, C = Field(("data", "a")), Field(("data", "b")), Field(("data", "c"))


def test_operators_bind_as_in_arithmetic() -> None:
    """Points before lines, left before right, signs before all."""
    assert parse("data.a - data.b - data.c") == Operation("-", Operation("-", A, B), C)
    assert parse("data.a - data.b * data.c") == Operation("-", A, Operation("*", B, C))
    assert parse("data.a / data.b / data.c") == Operation("/", Operation("/", A, B), C)
    assert parse("(data.a - data.b) * data.c") == Operation("*", Operation("-", A, B), C)
    assert parse("-data.a * data.b") == Operation("*", Negative(A), B)
    assert parse("data.a - -data.b") == Operation("-", A, Negative(B))


def test_numbers_are_exact() -> None:
    """A literal is the number that is written, not the nearest double."""
    assert parse("0.1") == Number(Fraction(1, 10))
    assert parse("3600") == Number(Fraction(3600))
    assert parse("007.50") == Number(Fraction(15, 2))


def test_white_space_makes_no_difference() -> None:
    """Blanks, tabs and line ends may stand between any two words."""
    assert parse(" data.a\t*\n( data.b ) ") == parse("data.a*(data.b)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the end where a number, a field or ( belongs"),
        ("data.a +", "the end where a number"),
        ("data.a data.b", "'data.b' at character 8 where an operator"),
        ("(data.a", "the end where ) belongs"),
        ("data.a)", "')' at character 7 where an operator"),
        ("* data.a", "'*' at character 1 where a number"),
        ("+data.a", "'+' at character 1"),
        ("data.a ** 2", "'*' at character 9"),
        ("data.a // 2", "'/' at character 9"),
        ("data.a % 2", "'%' at character 8"),
        ("data.a; import os", "';' at character 7"),
        ("__import__('os')", "at character 12, where only numbers"),
        ("data['a']", "'[' at character 5"),
        ("data.a.", "'.' at character 7"),
        ("data..a", "'.' at character 5"),
        (".5", "'.' at character 1"),
        ("1.", "'.' at character 2"),
        ("1e5", "'e5' at character 2"),
        ("0x10", "'x10' at character 2"),
        ("1_000", "'_000' at character 2"),
        ("data.ä", "'.' at character 5"),
        ("٣", "'٣' at character 1"),
        ("data.a if data.b else 1", "'if' at character 8"),
        ("data.a / 0", "divides by zero"),
        ("data.a / 0.00", "divides by zero"),
        ("1" * 31, "more than 30 digits"),
        ("0." + "1" * 31, "more than 30 digits"),
    ],
)
def test_everything_else_is_refused_where_it_stands(text: str, said: str) -> None:
    """The sentence names what stands there, and where."""
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert refused.value.reason == "bad_expression"
    assert said in refused.value.detail


@pytest.mark.parametrize(
    ("fits", "beyond"),
    [
        ("(" * MAX_NESTING + "1" + ")" * MAX_NESTING, "(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1)),
        ("-" * MAX_NESTING + "1", "-" * (MAX_NESTING + 1) + "1"),
        ("+".join("1" * (MAX_NODES // 2)), "+".join("1" * (MAX_NODES // 2 + 1))),
        ("1".ljust(MAX_CHARACTERS), "1".ljust(MAX_CHARACTERS + 1)),
        ("(" * MAX_NESTING + "1" + ")" * MAX_NESTING, "(" * 400),
    ],
)
def test_its_size_is_bounded(fits: str, beyond: str) -> None:
    """Nesting, nodes and characters: the bound itself fits, one more does not."""
    parse(fits)
    with pytest.raises(InvalidInput):
        parse(beyond)


def test_a_lone_field() -> None:
    """Where only a field may stand, an expression is refused."""
    assert parse_field("data.amount").text == "data.amount"
    for text in ("data.amount * 2", "5", ""):
        with pytest.raises(InvalidInput):
            parse_field(text)
