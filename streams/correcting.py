"""Finds what events were charged that somebody asked to correct, and sends it to the owner of their customer's account.

A correction is sent once its event is found among the rated ones; one whose event is not there within PATIENCE ends as
unknown. What was sent is not sent again: its outcome, refused or not, stands as an `operation`.

Looking for what is pending costs ClickHouse a walk through all documents, and is asked for every few seconds. So it is
asked first how often a correction was ever written, which is one column of the ledger: where that is what it was when
nothing was pending, nothing is.

Errors: Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from ingest.accept import Record
from schemas.clickhouse import connect, translated
from schemas.commands import Command
from schemas.device_commands import USAGE_CORRECT
from schemas.money import NANOS
from schemas.period import SECOND, format_time
from schemas.topics import ACCOUNT_EVENTS

PATIENCE: Final = 24 * 3_600 * SECOND
"""How long a correction waits for an event that has not come."""

CORRECTIONS_OF_A_RUN: Final = 1_000

_PENDING: Final = """
SELECT
    tenant, customer, id, JSONExtractString(body, 'source') AS source, JSONExtractString(body, 'id') AS event_id,
    toUnixTimestamp64Micro(parseDateTime64BestEffort(JSONExtractString(body, 'asked_at'), 6, 'UTC'))
FROM tollgate.documents
WHERE kind = 'correction' AND JSONExtractString(body, 'status') = 'pending'
    AND (tenant, concat('correct:', id)) NOT IN (SELECT tenant, id FROM tollgate.documents WHERE kind = 'operation')
ORDER BY tenant, customer, id
LIMIT {limit:UInt32}"""
_WRITTEN: Final = "SELECT count() FROM tollgate.ledger_entries WHERE has(document.kind, 'correction')"
_CHARGED: Final = """
SELECT
    event_type, toUnixTimestamp64Micro(occurred_at), user_id, session_id, device_id, allocation_id,
    charge.meter, charge.price_id, charge.catalog_version, charge.unit_amount, charge.currency, charge.dimensions,
    charge.quantity_units, charge.quantity_nanos, charge.amount
FROM tollgate.ledger_entries
WHERE tenant = {tenant:String} AND customer = {customer:String} AND source = {source:String}
    AND event_id = {event_id:String} AND outcome = 'rated'
LIMIT 1"""
_NAMES: Final = ("user_id", "session_id", "device_id", "allocation_id")
_OF_A_CHARGE: Final = ("meter", "price_id", "catalog_version", "unit_amount", "currency", "dimensions")

Publish = Callable[[Sequence[Record]], Awaitable[None]]
"""Puts records into Kafka, on all replicas. Errors: Unavailable."""


class Corrections:
    """Sends what pending corrections wait for; one for a process."""

    def __init__(self, clickhouse_url: str, publish: Publish, connecting: Callable[[str], Any] = connect) -> None:
        self._url = clickhouse_url
        self._publish = publish
        self._connecting = connecting
        self._connected: Any = None
        self._settled: int | None = None
        """How often corrections had been written when none was pending any more."""

    async def resolve(self, now: int) -> int:
        """Sends what can be sent by now; how many. `now` in microseconds."""
        commands = await asyncio.to_thread(self._commands, now)
        if commands:
            await self._publish(
                [Record(ACCOUNT_EVENTS, command.customer.encode(), command.encoded()) for command in commands]
            )
        return len(commands)

    def close(self) -> None:
        """Gives the connection back."""
        if self._connected is not None:
            self._connected.close()

    def _commands(self, now: int) -> list[Command]:
        if self._connected is None:
            self._connected = self._connecting(self._url)
        client = self._connected
        try:
            ((written,),) = client.query(_WRITTEN).result_rows
            if written == self._settled:
                return []
            pending = client.query(_PENDING, parameters={"limit": CORRECTIONS_OF_A_RUN}).result_rows
            found = []
            for tenant, customer, name, source, event_id, asked_at in pending:
                named = {"tenant": tenant, "customer": customer, "source": source, "event_id": event_id}
                rows = client.query(_CHARGED, parameters=named).result_rows
                if rows:
                    data = _charged(name, rows[0])
                elif now - asked_at > PATIENCE:
                    data = {"correction": name}
                else:
                    continue
                found.append(Command(tenant, customer, USAGE_CORRECT, f"correct:{name}", data))
        except ClickHouseError as error:
            raise translated(error) from error
        # Counted before they were looked for: one written between the two is looked for once more.
        self._settled = None if pending else written
        return found


def _charged(name: str, row: Sequence[Any]) -> dict[str, Any]:
    """The data of the command for an entry."""
    event_type, occurred_at, *names = row[:6]
    columns = row[6:]
    charges = []
    for *said, units, nanos, amount in zip(*columns, strict=True):
        charge = dict(zip(_OF_A_CHARGE, said, strict=True))
        charges.append({**charge, "quantity": int(units) * NANOS + int(nanos), "amount": int(amount)})
    given = {field: value for field, value in zip(_NAMES, names, strict=True) if value}
    return {
        "correction": name,
        "event_type": event_type,
        "occurred_at": format_time(occurred_at),
        "charges": charges,
        **given,
    }
