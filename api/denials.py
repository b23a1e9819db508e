"""A denial as it is explained: which limit, which window, which numbers, at which position of the ledger."""

from __future__ import annotations

from typing import Any, Final

from api.queries import Query
from api.sources import Sources

_TEXTS: Final = ("meter", "window", "per", "scope", "plan", "resets_at", "limit", "used", "held", "remaining", "user")
_NAMES: Final = (
    "tenant", "customer", "reason", "detail", "wanted", "available", "balance", "currency", *_TEXTS,
    "catalog_version", "partition", "offset",
)  # fmt: skip

_COLUMNS: Final = ", ".join(f"`{name}`" for name in _NAMES)
_SQL: Final = f"""
SELECT formatDateTime(denied_at, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC') AS at, {_COLUMNS}
FROM tollgate.denial_records FINAL
WHERE denial_id = {{id:String}} AND ({{any:UInt8}} OR tenant = {{tenant:String}})
LIMIT 1"""  # noqa: S608 - names of columns, from above


async def explain_denial(sources: Sources, tenant: str | None, denial_id: str) -> dict[str, Any] | None:
    """A denial by its id, from ClickHouse."""
    query = Query(_SQL, {"id": denial_id, "any": int(tenant is None), "tenant": tenant or ""})
    found = await sources.rows.fetch(query)
    if not found:
        return None
    row = dict(zip(("denied_at", *_NAMES), found[0], strict=True))
    for name in _TEXTS:
        row[name] = row[name] or None
    row["catalog_version"] = int(row["catalog_version"]) or None
    row["ledger"] = {"partition": int(row.pop("partition")), "offset": int(row.pop("offset"))}
    return {"kind": "denial", "id": denial_id, "denial_id": denial_id, **row}
