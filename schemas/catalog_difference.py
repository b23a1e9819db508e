"""What differs between two catalogues, part by part: parts are the same by their id, wherever they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from schemas.catalog import Catalog

ABSENT = None


class Difference(NamedTuple):
    """One field that is not the same; None where one side has none."""

    path: str
    """`prices[gpt-4o-input].unit_amount`: parts by id, tiers by index."""
    before: Any
    after: Any


def differences(before: Catalog, after: Catalog) -> list[Difference]:
    """All of them, in the order in which the documents name their fields."""
    return list(_between("", _by_id(before.document), _by_id(after.document)))


def _by_id(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {f"[{part['id']}]": part for part in value} if name in ("meters", "prices", "plans") else value
        for name, value in document.items()
    }


def _between(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            inner = name if not path or name.startswith("[") else f".{name}"
            yield from _between(path + inner, before.get(name, ABSENT), after.get(name, ABSENT))
    elif isinstance(before, list) and isinstance(after, list) and _are_rows(before) and _are_rows(after):
        for at in range(max(len(before), len(after))):
            yield from _between(f"{path}[{at}]", _at(before, at), _at(after, at))
    elif before != after:
        yield Difference(path, before, after)


def _are_rows(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else ABSENT
