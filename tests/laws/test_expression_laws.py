"""Laws of expressions: what is parsed is what was written, and what is measured is what fractions come to."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rating.measure import compile_measure
from schemas.errors import InvalidInput
from schemas.expression import MAX_NESTING, Expression, Field, Negative, Number, Operation, parse
from schemas.limits import QUANTITY_MAX_UNITS
from schemas.money import NANOS

NAMES = ("a", "b", "c", "tokens")
NUMBERS = st.integers(0, 10**6).map(lambda digits: Number(Fraction(digits, 1000)))
FIELDS = st.sampled_from(NAMES).map(lambda name: Field(("data", name)))
OPERATORS: st.SearchStrategy[Literal["+", "-", "*", "/"]] = st.sampled_from(("+", "-", "*", "/"))
VALUES = st.one_of(
    st.integers(-(10**15), 10**15),
    st.decimals(-(10**9), 10**9, places=9, allow_nan=False).map(lambda value: value.normalize()),
)


def not_by_zero(parts: tuple[Any, Expression, Expression]) -> bool:
    return parts[0] != "/" or parts[2] != Number(Fraction(0))


TREES: st.SearchStrategy[Expression] = st.recursive(
    st.one_of(NUMBERS, FIELDS),
    lambda inner: st.one_of(
        inner.map(Negative),
        st.tuples(OPERATORS, inner, inner).filter(not_by_zero).map(lambda parts: Operation(*parts)),
    ),
    max_leaves=12,
)


def written(tree: Expression) -> str:
    """A text of the tree, with every parenthesis."""
    match tree:
        case Number(value):
            thousandths = int(value * 1000)
            return f"{thousandths // 1000}.{thousandths % 1000:03d}"
        case Field(path):
            return ".".join(path)
        case Negative(operand):
            return f"-({written(operand)})"
        case Operation(operator, left, right):
            return f"({written(left)}) {operator} ({written(right)})"


def worth(tree: Expression, data: dict[str, Any]) -> Fraction:
    """What the tree comes to, by Python's own fractions."""
    match tree:
        case Number(value):
            return value
        case Field(path):
            return Fraction(data[path[1]])
        case Negative(operand):
            return -worth(operand, data)
        case Operation("+", left, right):
            return worth(left, data) + worth(right, data)
        case Operation("-", left, right):
            return worth(left, data) - worth(right, data)
        case Operation("*", left, right):
            return worth(left, data) * worth(right, data)
        case Operation(_, left, right):
            return worth(left, data) / worth(right, data)


def nesting(tree: Expression) -> int:
    match tree:
        case Negative(operand):
            return 2 + nesting(operand)
        case Operation(_, left, right):
            return 1 + max(nesting(left), nesting(right))
        case _:
            return 0


@given(TREES)
def test_an_expression_reads_back_as_it_was_written(tree: Expression) -> None:
    """Parsing undoes writing."""
    if nesting(tree) < MAX_NESTING and len(written(tree)) <= 500:
        assert parse(written(tree)) == tree


@given(TREES, st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES)))
@example(Operation("-", Field(("data", "a")), Field(("data", "b"))), {"a": 5, "b": Decimal("0.5"), "c": 0, "tokens": 0})
@example(Operation("*", Field(("data", "a")), Field(("data", "b"))), {"a": 5, "b": Decimal("0.5"), "c": 0, "tokens": 0})
def test_a_quantity_is_the_fraction_rounded_once(tree: Expression, data: dict[str, Any]) -> None:
    """Whole numbers, decimals and quotients alike, on the fast paths and the general one; or it is refused."""
    measure = compile_measure(tree)
    event = SimpleNamespace(data=data, attributes={})
    try:
        expected = round(worth(tree, data) * NANOS)
    except ZeroDivisionError:
        with pytest.raises(InvalidInput, match="divides by zero"):
            measure(event)
        return
    if abs(expected) > QUANTITY_MAX_UNITS * NANOS:
        with pytest.raises(InvalidInput) as refused:
            measure(event)
        assert refused.value.reason == "amount_overflow"
    else:
        assert measure(event) == expected


@given(st.text(alphabet="abd.0123456789+-*/() ", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text breaks the parser: there is a tree, or a sentence."""
    with suppress(InvalidInput):
        parse(text)
