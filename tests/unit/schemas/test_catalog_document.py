"""The text of a catalogue: YAML within bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from schemas.catalog_document import MAX_BYTES, MAX_DEPTH, CatalogRefused, read


def fault(text: str | bytes) -> str:
    with pytest.raises(CatalogRefused) as refused:
        read(text)
    assert refused.value.reason == "bad_catalog"
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: '1'", {"a": "1"}),
        ('{"a": [1, "1", true, null, -7]}', {"a": [1, "1", True, None, -7]}),
        ("a: NO\nb: on\nc: yes", {"a": "NO", "b": "on", "c": "yes"}),
        ("a: 2026-01-01T00:00:00Z", {"a": "2026-01-01T00:00:00Z"}),
        ("a: 0x10\nb: 1_000\nc: 0o7", {"a": "0x10", "b": "1_000", "c": "0o7"}),
        ("a: gpt-4.1\nb: 1:30", {"a": "gpt-4.1", "b": "1:30"}),
        ("a:\nb: ~\nc: ''", {"a": None, "b": None, "c": ""}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("a: [{b: [1, {c: 2}]}, 3]", {"a": [{"b": [1, {"c": 2}]}, 3]}),
        ("# nothing", None),
        ('{"a": "\\ud83d\\ude00 \\u00e9", "b": "\\\\"}', {"a": "\U0001f600 é", "b": "\\"}),
        ("7: x", {"7": "x"}),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    """Norway is no boolean, a time is text, a number is decimal; JSON reads the same."""
    assert read(text) == value
    assert read(text.encode()) == value


@pytest.mark.parametrize("text", ["0.5", "1.", ".5", "1e3", "-2.5E-7", ".inf", "-.INF"])
def test_a_number_with_a_point_is_a_float_for_the_schema_to_refuse(text: str) -> None:
    """It is not silently taken for text, nor for money."""
    assert isinstance(read(f"a: {text}")["a"], float)
    assert math.isnan(read("a: .nan")["a"])


def test_a_bomb_of_aliases_is_refused_before_it_unfolds() -> None:
    """Nine lines that would be a billion elements."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert fault(bomb) == "a: anchors and aliases are not taken (line 1)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, {b: *x}]", "a[1].b: anchors and aliases"),
        ("prices:\n- {id: p}\n- id: q\n  id: r", "prices[1].id: it stands twice (line 4)"),
        ("a: 1\nb: 2\na: 3", "a: it stands twice (line 3)"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "a: the tag tag:yaml.org,2002:python/object/apply:os.system is not taken",
        ),
        ("a: !!float 1", "a: the tag tag:yaml.org,2002:float is not taken"),
        ("a: !own 1", "a: the tag !own is not taken"),
        ("a: {<<: {b: 1}}", "merge keys are not taken"),
        ("? [a]\n: 1", "a key is no text (line 1)"),
        ("'': 1", "a key is no text (line 1)"),
        ("a: 1\n--- \nb: 2", "a second document begins (line 2)"),
        ("a: [1", "the catalogue is not YAML: line 2, column 1"),
        ("a: 1\n\tb: 2", "the catalogue is not YAML: line 2"),
        ("a: \x07", "the catalogue is not YAML"),
        (b"a: \xff", "the catalogue is not UTF-8 at byte 3"),
        ("a: \ud800", "the catalogue is not UTF-8 at byte 3"),
        ("a: " + "9" * 41, "a: a number has more than 40 digits (line 1)"),
        ("a: " + "x" * MAX_BYTES, "more than 8388608"),
        ("[" * (MAX_DEPTH + 1), "it nests deeper than 16 (line 1)"),
        ("{a: " * 100_000, "it nests deeper than 16 (line 1)"),
        ("- " * 100_000, "it nests deeper than 16 (line 1)"),
    ],
)
def test_what_is_no_plain_document_is_refused_where_it_stands(text: str | bytes, said: str) -> None:
    """The fault names the path as far as it is known, and the line."""
    assert said in fault(text)


def test_the_bounds_themselves_fit() -> None:
    """As many bytes and levels as are allowed."""
    assert read("a: " + "x" * (MAX_BYTES - 3))["a"].startswith("x")
    read("[" * MAX_DEPTH + "]" * MAX_DEPTH)
