"""Pages of listings: what of a query string they share, and how rows become a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

from fastapi import Path, Query

from api.cursors import encode_cursor
from api.queries import Span
from schemas.errors import InvalidInput
from schemas.period import parse_month, parse_time

PAGE_MAX_ROWS: Final = 1_000
PAGE_ROWS: Final = 100

Id = Annotated[str, Path(alias="id")]
"""The `{id}` of a route, under a name of its own."""

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX_ROWS, description="Rows of a page")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
From = Annotated[str | None, Query(alias="from", description="RFC 3339; what begins then is in it")]
To = Annotated[str | None, Query(description="RFC 3339; what begins then is no longer in it")]
Month = Annotated[str | None, Query(description="YYYY-MM, a UTC calendar month, instead of `from` and `to`")]

Answer = TypeVar("Answer")


def span_of(since: str | None, until: str | None, month: str | None = None) -> Span:
    """The span that a query string asks for. Errors: InvalidInput."""
    if month is not None:
        if since is not None or until is not None:
            raise InvalidInput("bad_parameter", "period does not go with from or to", "/query/period")
        period = parse_month(month, "/query/period")
        return Span(period.start, period.end)
    start = parse_time(since, "/query/from") if since is not None else None
    end = parse_time(until, "/query/to") if until is not None else None
    if start is not None and end is not None and start > end:
        raise InvalidInput("bad_parameter", "from lies after to", "/query/from")
    return Span(start, end)


def page_of(
    rows: Sequence[Sequence[Any]], limit: int, listing: str, kinds: Sequence[type], shape: Callable[[Any], Answer]
) -> tuple[list[Answer], str | None]:
    """The answers of a page and the cursor of the next: a row more than `limit` says that there is one.

    The key of a row stands in its first columns."""
    shown = rows[:limit]
    following = None
    if len(rows) > limit:
        following = encode_cursor(listing, [kind(part) for kind, part in zip(kinds, shown[-1], strict=False)])
    return [shape(row) for row in shown], following
