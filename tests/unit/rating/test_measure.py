"""Quantities and dimensions of events: exact, absent fields named, one rounding at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from rating.measure import compile_dimensions, compile_measure, count
from schemas.errors import InvalidInput
from schemas.expression import parse
from schemas.limits import QUANTITY_MAX_UNITS
from schemas.money import NANOS


@dataclass
class Sent:
    """As much of an event as is measured."""

    data: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def measured(text: str, data: dict[str, Any], attributes: dict[str, Any] | None = None) -> int:
    return compile_measure(parse(text))(Sent(data, attributes or {}))


@pytest.mark.parametrize(
    ("text", "data", "nanos"),
    [
        ("data.a", {"a": 3}, 3 * NANOS),
        ("data.a", {"a": Decimal("0.25")}, 250_000_000),
        ("data.a - data.b", {"a": 3, "b": 5}, -2 * NANOS),
        ("data.a - data.b", {"a": 3, "b": Decimal("0.5")}, 2_500_000_000),
        ("data.a * data.b", {"a": 3600, "b": 12}, 43_200 * NANOS),
        ("data.a * data.b", {"a": 3600, "b": Decimal("0.1")}, 360 * NANOS),
        ("data.a + data.b", {"a": 1, "b": 2}, 3 * NANOS),
        ("data.a / 3600", {"a": 1800}, 500_000_000),
        ("data.a / 3 * 3", {"a": 1}, NANOS),
        ("(data.a + 1) * 2 - -data.b", {"a": 1, "b": 3}, 7 * NANOS),
        ("1 - 2 - 3", {}, -4 * NANOS),
        ("8 / 4 / 2", {}, NANOS),
        ("data.a / -data.b", {"a": 1, "b": 4}, -250_000_000),
        ("data.config.cores", {"config": {"cores": 2}}, 2 * NANOS),
        ("0.1 + 0.2", {}, 300_000_000),
    ],
)
def test_an_expression_is_exact(text: str, data: dict[str, Any], nanos: int) -> None:
    """Whole numbers, decimals and quotients come to their value without an error that any order would show."""
    assert measured(text, data) == nanos


@pytest.mark.parametrize(("value", "nanos"), [("1", 0), ("3", 2), ("5", 2), ("-1", 0), ("-3", -2), ("-5", -2)])
def test_a_value_between_two_nano_units_is_rounded_once_half_even(value: str, nanos: int) -> None:
    """Half a nano-unit goes to the even one, on both sides of zero."""
    assert measured(f"({value}) / 2000000000", {}) == nanos


def test_rounding_comes_last() -> None:
    """What is lost in the middle of an expression would be multiplied by the rest of it."""
    assert measured("data.a / 3000000000 * 3000000000", {"a": 1}) == NANOS


@pytest.mark.parametrize("text", ["data.a", "data.a - data.b", "data.b * data.a", "data.a / 2", "data.x.a"])
@pytest.mark.parametrize("data", [{"b": 1}, {"a": None, "b": 1, "x": {"a": None}}, {"b": 1, "x": 5}])
def test_a_missing_field_is_named(text: str, data: dict[str, Any]) -> None:
    """Absent, null and beneath something that holds no fields are all missing."""
    with pytest.raises(InvalidInput) as refused:
        measured(text, data)
    assert refused.value.reason == "missing_field"
    assert refused.value.detail == f"{'data.x.a' if 'x' in text else 'data.a'} is missing"
    assert refused.value.pointer == ("/data/x/a" if "x" in text else "/data/a")


@pytest.mark.parametrize("value", ["5", True, [], {}, Decimal("NaN"), Decimal("Infinity")])
@pytest.mark.parametrize("text", ["data.a", "data.a - data.b", "data.a * data.b", "data.a + 1"])
def test_what_is_no_number_is_named(text: str, value: Any) -> None:
    """Text, booleans, lists, objects and infinities do not count."""
    with pytest.raises(InvalidInput) as refused:
        measured(text, {"a": value, "b": 1})
    assert (refused.value.reason, refused.value.detail) == ("wrong_type", "data.a is not a number")


def test_a_division_by_zero_is_refused() -> None:
    """A divisor that comes with the event may be zero; the event is then at fault."""
    with pytest.raises(InvalidInput) as refused:
        measured("1 / (data.a - data.b)", {"a": 2, "b": 2})
    assert refused.value.reason == "out_of_range"


def test_a_number_that_would_fill_the_memory_is_refused() -> None:
    """An exponent is short to write and long to compute."""
    with pytest.raises(InvalidInput) as refused:
        measured("data.a", {"a": Decimal("1e999999999")})
    assert refused.value.reason == "out_of_range"


@pytest.mark.parametrize("text", ["data.a", "data.a - data.b", "data.a * data.c", "data.a + 0"])
def test_a_quantity_beyond_its_bounds_is_refused_by_every_path(text: str) -> None:
    """The bound itself is a quantity, one more is not."""
    fields = {"b": 0, "c": 1}
    assert measured(text, {"a": QUANTITY_MAX_UNITS, **fields}) == QUANTITY_MAX_UNITS * NANOS
    for beyond in (QUANTITY_MAX_UNITS + 1, -QUANTITY_MAX_UNITS - 1, 10**40):
        with pytest.raises(InvalidInput) as refused:
            measured(text, {"a": beyond, **fields})
        assert refused.value.reason == "amount_overflow"


def test_fields_beside_data_are_read_from_the_envelope() -> None:
    """An extension attribute can be metered."""
    assert measured("weight * 2", {"weight": 100}, {"weight": 3}) == 6 * NANOS


def test_counting_takes_no_field() -> None:
    """An event of a meter that counts is one, whatever it carries."""
    assert count(Sent()) == NANOS


@pytest.mark.parametrize(
    ("names", "data", "attributes", "dimensions"),
    [
        ((), {"model": "x"}, {}, ()),
        (("model",), {"model": "gpt-4o"}, {}, (("model", "gpt-4o"),)),
        (("model",), {}, {}, ()),
        (("model",), {"model": None}, {}, ()),
        (("organization_id",), {}, {"organization_id": "o-1"}, (("organization_id", "o-1"),)),
        (("model",), {"model": "a"}, {"model": "b"}, (("model", "a"),)),
        (("cores",), {"cores": 12}, {}, (("cores", "12"),)),
        (("cores",), {"cores": Decimal("0.50")}, {}, (("cores", "0.5"),)),
        (("spot",), {"spot": True}, {}, (("spot", "true"),)),
        (("b", "a"), {"a": "1", "b": "2"}, {}, (("b", "2"), ("a", "1"))),
        (("b", "a"), {"a": "1"}, {}, (("a", "1"),)),
        (("data.config.zone",), {"config": {"zone": "eu"}}, {}, (("data.config.zone", "eu"),)),
    ],
)
def test_dimensions_are_text_in_the_meters_order(
    names: tuple[str, ...], data: dict[str, Any], attributes: dict[str, Any], dimensions: object
) -> None:
    """A field of data, else an attribute; what is absent is left out."""
    assert compile_dimensions(names)(Sent(data, attributes)) == dimensions


@pytest.mark.parametrize(("value", "reason"), [({}, "wrong_type"), (["a"], "wrong_type"), ("x" * 201, "out_of_range")])
@pytest.mark.parametrize("names", [("model",), ("model", "zone")])
def test_a_dimension_that_is_no_label_is_refused(names: tuple[str, ...], value: Any, reason: str) -> None:
    """Objects, lists and long texts price nothing apart."""
    with pytest.raises(InvalidInput) as refused:
        compile_dimensions(names)(Sent({"model": value}))
    assert refused.value.reason == reason
