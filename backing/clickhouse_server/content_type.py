"""The Content-Type that ClickHouse gives each output format. Pure."""

from __future__ import annotations

from typing import Final

# By the beginning of the format's name; the first that fits counts.
_BY_BEGINNING: Final = (
    ("jsoneachrow", "application/x-ndjson; charset=UTF-8"),
    ("json", "application/json; charset=UTF-8"),
    ("csvwithnames", "text/csv; charset=UTF-8; header=present"),
    ("csv", "text/csv; charset=UTF-8; header=absent"),
    ("tabseparated", "text/tab-separated-values; charset=UTF-8"),
    ("tsv", "text/tab-separated-values; charset=UTF-8"),
    ("tskv", "text/tab-separated-values; charset=UTF-8"),
    ("xml", "application/xml; charset=UTF-8"),
    ("markdown", "text/markdown; charset=UTF-8"),
    ("pretty", "text/plain; charset=UTF-8"),
    ("vertical", "text/plain; charset=UTF-8"),
    ("values", "text/plain; charset=UTF-8"),
)
_OTHER: Final = "application/octet-stream"


def content_type_of(format_name: str) -> str:
    """The Content-Type of an answer in this format."""
    name = format_name.lower()
    return next((kind for beginning, kind in _BY_BEGINNING if name.startswith(beginning)), _OTHER)
