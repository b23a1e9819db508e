"""Dead letters as ClickHouse shows them, for those who resolve them. Errors: Unavailable, InvariantBroken."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.clickhouse import connect, translated
from streams.resolving import Letter, Place

_SHOWN: Final = (
    "SELECT count(), max(dlq_offset) FROM tollgate.dead_letter_records "
    "WHERE topic = {topic:String} AND partition = {partition:Int64}"
)
_LOAD: Final = """
SELECT
    topic, partition, offset, seq, tenant, customer, source, event_id, event_type, reason, detail,
    base64Encode(key), base64Encode(original), toUnixTimestamp64Micro(received_at), resolution,
    toUnixTimestamp64Micro(retried_at)
FROM tollgate.dead_letter_records FINAL
WHERE topic = {topic:String} AND partition = {partition:Int64} AND offset IN {offsets:Array(Int64)}
ORDER BY offset"""
_OPEN: Final = """
SELECT toString(letter.topic), letter.partition, letter.offset, letter.tenant, letter.reason, entry.catalog_position
FROM
(
    SELECT topic, partition, offset, tenant, reason, seq, received_at FROM tollgate.dead_letter_records FINAL
    WHERE resolution = '' AND reason IN {reasons:Array(String)}
) AS letter
INNER JOIN
(
    SELECT partition, seq, catalog_position FROM tollgate.ledger_entries
    WHERE outcome = 'dead_letter' AND catalog_position < {position:Int64} AND reason IN {reasons:Array(String)}
) AS entry
ON entry.partition = letter.partition AND entry.seq = letter.seq
ORDER BY letter.received_at
LIMIT {limit:UInt32}"""


class Refused(NamedTuple):
    """An open dead letter, and the newest catalogue version it was decided under."""

    place: Place
    tenant: str
    reason: str
    catalog_position: int


class ClickHouseLetters:
    """The Letters port on ClickHouse. Connects when it is first used; queries run beside the loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connected: Any = None
        self._connecting = Lock()

    async def shown_to(self, topic: str, partition: int) -> int:
        """See the port."""
        ((count, greatest),) = await self._ask(_SHOWN, topic=topic, partition=partition)
        return int(greatest) if count else -1

    async def load(self, places: Sequence[Place]) -> list[Letter]:
        """See the port."""
        if not places:
            return []
        topic, partition, _ = places[0]
        offsets = [place.offset for place in places]
        rows = await self._ask(_LOAD, topic=topic, partition=partition, offsets=offsets)
        return [_letter(row) for row in rows]

    async def refused_before(self, position: int, reasons: Sequence[str], limit: int) -> list[Refused]:
        """Open letters of these reasons that were decided under a catalogue older than `position`, oldest first."""
        rows = await self._ask(_OPEN, position=position, reasons=list(reasons), limit=limit)
        return [
            Refused(Place(topic, int(partition), int(offset)), tenant, reason, int(at))
            for topic, partition, offset, tenant, reason, at in rows
        ]

    def close(self) -> None:
        """Gives the connections back."""
        if self._connected is not None:
            self._connected.close()

    async def _ask(self, query: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        call: Callable[[], Sequence[Sequence[Any]]] = partial(self._query, query, parameters)
        return await asyncio.to_thread(call)

    def _query(self, query: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
        try:
            with self._connecting:
                if self._connected is None:
                    self._connected = connect(self._url)
            rows: Sequence[Sequence[Any]] = self._connected.query(query, parameters=parameters).result_rows
        except ClickHouseError as error:
            raise translated(error) from error
        return rows


def _letter(row: Sequence[Any]) -> Letter:
    topic, partition, offset, seq, *names, key, original, received_at, resolution, resolved_at = row
    tenant, customer, source, event_id, event_type, reason, detail = names
    return Letter(
        Place(topic, int(partition), int(offset)),
        int(seq),
        tenant,
        customer,
        source,
        event_id,
        event_type,
        reason,
        detail,
        b64decode(key),
        b64decode(original),
        int(received_at),
        resolution,
        int(resolved_at),
    )
