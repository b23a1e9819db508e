"""Documents for those who ask: from Redis where it has them, else from what ClickHouse has of the ledger.

Errors: Unavailable while a store that is needed is away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from api.queries import Query
from api.rows import Rows
from schemas.documents import decode_body, document_key


class DocumentReader(Protocol):
    """What of the accounts port is needed here. Errors: Unavailable."""

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        """Bodies in the order of `keys`, in whatever partition they are."""


class Documents:
    """Reads documents by their names."""

    def __init__(self, reader: DocumentReader, rows: Rows, partitions: Callable[[], Awaitable[int]]) -> None:
        self._reader = reader
        self._rows = rows
        self._partitions = partitions

    async def get(self, tenant: str, kind: str, document_id: str) -> dict[str, Any] | None:
        """The newest body of a document of a tenant."""
        keys = [document_key(tenant, kind, document_id)]
        (body,) = await self._reader.documents(await self._partitions(), keys)
        if body is None:
            body = await self.archived(tenant, kind, document_id)
        return decode_body(body) if body is not None else None

    async def archived(self, tenant: str, kind: str, document_id: str) -> bytes | None:
        """The body as of what ClickHouse has."""
        rows = await self._rows.fetch(document(tenant, kind, document_id))
        return str(rows[0][0]).encode() if rows else None


def document(tenant: str, kind: str, document_id: str) -> Query:
    """One body; a document belongs to one partition, whose seq orders its versions."""
    return Query(
        "SELECT body FROM tollgate.documents\n"
        "WHERE tenant = {tenant:String} AND kind = {kind:String} AND id = {id:String}",
        {"tenant": tenant, "kind": kind, "id": document_id},
    )


def documents(tenant: str, kind: str, customer: str, status: str, after: str, limit: int) -> Query:
    """Newest bodies of a kind behind an id, by id; an empty `customer` or `status` is any."""
    return Query(
        "SELECT id, body FROM tollgate.documents\n"
        "WHERE tenant = {tenant:String} AND kind = {kind:String} AND id > {after:String}\n"
        "  AND ({customer:String} = '' OR customer = {customer:String})\n"
        "  AND ({status:String} = '' OR JSONExtractString(body, 'status') = {status:String})\n"
        "ORDER BY id\nLIMIT {limit:UInt32}",
        {"tenant": tenant, "kind": kind, "customer": customer, "status": status, "after": after, "limit": limit + 1},
    )


def customers(tenant: str, after: str, limit: int) -> Query:
    """Customers with their documents, and those that came into being by an event and have none, by id."""
    return Query(
        "SELECT customer, max(body) FROM\n(\n"
        "    SELECT id AS customer, body FROM tollgate.documents\n"
        "    WHERE tenant = {tenant:String} AND kind = 'customer' AND id > {after:String}\n"
        "    UNION ALL\n"
        "    SELECT DISTINCT customer, '' AS body FROM tollgate.ledger_entries\n"
        "    WHERE tenant = {tenant:String} AND outcome = 'rated' AND customer > {after:String}\n"
        "      AND NOT startsWith(customer, 'tollgate:')\n"
        ")\nGROUP BY customer\nORDER BY customer\nLIMIT {limit:UInt32}",
        {"tenant": tenant, "after": after, "limit": limit + 1},
    )
