"""Finds what an explanation needs: the entry's row in ClickHouse, the ledger record itself, the event as it was sent.

`EXPLAINERS` has one function a kind of thing that can be explained; each answers None where there is no such thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from api import queries
from api.denials import explain_denial
from api.explanation import explain_entry
from api.invoice_lines import explain_line, line_of_charge
from api.shaping import dead_letter_fields
from api.sources import Explainer, Records, Sources
from schemas.ledger import rows

RECORDS_SHOWN: Final = 20
PARTITION_MAX: Final = 2**16 - 1
"""As ClickHouse keeps it."""


_CHARGE: Final = re.compile(r"(\d{1,5})-(\d{1,18})-(\d{1,6})", re.ASCII)


async def explain_event(sources: Sources, tenant: str | None, event_id: str) -> dict[str, Any] | None:
    """An event by its id, or by `source/id`: the record that booked it, and the others that named it."""
    found = [_Place(*row) for row in await sources.rows.fetch(queries.entry_of_event(tenant, event_id))]
    if not found:
        return None
    explained = await _entry(sources, found[0])
    if explained is None:
        return None
    explained["records"] = [place.document() for place in found[:RECORDS_SHOWN]]
    return {"kind": "event", "id": event_id, **explained}


async def explain_charge(sources: Sources, tenant: str | None, charge_id: str) -> dict[str, Any] | None:
    """A charge by its id: partition, seq and number."""
    match = _CHARGE.fullmatch(charge_id)
    if match is None or int(match[1]) > PARTITION_MAX:
        return None
    found = await sources.rows.fetch(queries.entry_at(tenant, int(match[1]), int(match[2])))
    explained = await _entry(sources, _Place(*found[0])) if found else None
    if explained is None:
        return None
    explained["charges"] = [charge for charge in explained["charges"] if charge["charge_id"] == charge_id]
    return {"kind": "charge", "id": charge_id, **explained} if explained["charges"] else None


EXPLAINERS: Final[dict[str, Explainer]] = {
    "event": explain_event,
    "charge": explain_charge,
    "line": explain_line,
    "denial": explain_denial,
}
"""By kind."""


class _Place:
    """A row of `queries.entry_of_event`."""

    def __init__(self, *row: Any) -> None:
        self.tenant, self.source, self.event_id, self.outcome, self.reason, self.topic = row[:6]
        self.partition, self.offset, self.seq, self.ledger_offset = map(int, row[6:])

    def document(self) -> dict[str, Any]:
        return {
            "tenant": self.tenant,
            "source": self.source,
            "id": self.event_id,
            "outcome": self.outcome,
            "reason": self.reason or None,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "seq": self.seq,
        }


async def _entry(sources: Sources, place: _Place) -> dict[str, Any] | None:
    """The explanation of an entry that ClickHouse has a row of."""
    row, ledger_offset = await _ledger_row(sources.records, place)
    if row is None:
        return None
    explained = explain_entry(row, ledger_offset, sources.versions)
    for charge in explained["charges"]:
        charge["invoice_line"] = await line_of_charge(sources, row, charge)
    original = await sources.records.value(place.topic, place.partition, place.offset)
    explained["original"] = original.decode("utf-8", "replace") if original is not None else None
    explained["dead_letter"] = None
    if place.outcome == "dead_letter":
        query = queries.dead_letter(place.tenant, place.topic, place.partition, place.offset)
        found = await sources.rows.fetch(query)
        explained["dead_letter"] = dead_letter_fields(found[0][:-1]) if found else None
    return explained


async def _ledger_row(records: Records, place: _Place) -> tuple[Mapping[str, Any] | None, int]:
    record = await records.ledger(place.partition, place.ledger_offset)
    listed: Sequence[Mapping[str, Any]] = list(rows(record)) if record is not None else ()
    return next((row for row in listed if row["seq"] == place.seq), None), place.ledger_offset
