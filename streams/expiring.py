"""Finds allocations whose `expires_at` went by without a release, and asks the owner of their account to close them.

Whether one is open, and when it expires, is what the account says; ClickHouse only names the customers worth a look.

Errors: Unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, Protocol

from clickhouse_connect.driver.exceptions import ClickHouseError

from ingest.accept import Record
from schemas.account import Account, account_key, unpack_account
from schemas.clickhouse import connect, translated
from schemas.commands import Command
from schemas.device_commands import ALLOCATION_EXPIRE
from schemas.ids import partition_of
from schemas.topics import ACCOUNT_EVENTS
from streams.accounts.port import Position

ACCOUNTS_AT_ONCE: Final = 200

_OPEN: Final = """
SELECT DISTINCT tenant, customer
FROM
(
    SELECT tenant, customer, allocation_id
    FROM tollgate.ledger_entries
    WHERE event_type IN ('device.allocated', 'device.heartbeat', 'device.released') AND outcome = 'rated'
    GROUP BY tenant, customer, allocation_id
    HAVING max(event_type = 'device.released') = 0
)"""

Publish = Callable[[Sequence[Record]], Awaitable[None]]
"""Puts records into Kafka, on all replicas. Errors: Unavailable."""


class AccountSnapshots(Protocol):
    """What of the accounts port is needed here. Errors: Unavailable."""

    async def snapshot(self, partition: int, keys: Sequence[str]) -> tuple[Position | None, list[bytes | None]]:
        """A position and packed accounts as of it."""


async def expire_allocations(
    clickhouse_url: str, accounts: AccountSnapshots, partitions: int, publish: Publish, now: int
) -> int:
    """Asks for the end of every allocation that expired by `now` (microseconds); how many."""
    by_partition: dict[int, list[tuple[str, str]]] = {}
    for tenant, customer in await asyncio.to_thread(_customers, clickhouse_url):
        by_partition.setdefault(partition_of(customer, partitions), []).append((tenant, customer))
    asked = 0
    for partition, customers in by_partition.items():
        for some in _batched(customers):
            keys = [account_key(tenant, customer) for tenant, customer in some]
            _, packed = await accounts.snapshot(partition, keys)
            commands = [
                command for value in packed if value is not None for command in expiring(unpack_account(value), now)
            ]
            if commands:
                await publish([Record(ACCOUNT_EVENTS, one.customer.encode(), one.encoded()) for one in commands])
            asked += len(commands)
    return asked


def expiring(account: Account, now: int) -> Iterator[Command]:
    """The commands for what of an account has expired by `now`. Its id says how far it was charged: an allocation that
    proves to live may expire again."""
    for name, lease in account.allocations.items():
        if not lease.expired and 0 < lease.expires_at <= now:
            told = blake2b(f"{lease.expires_at}:{lease.charged_to}:{name}".encode(), digest_size=16).hexdigest()
            data = {"allocation_id": name}
            yield Command(account.tenant, account.customer, ALLOCATION_EXPIRE, f"expire:{told}", data)


def _customers(url: str) -> list[tuple[str, str]]:
    client = connect(url)
    try:
        rows: Sequence[Sequence[Any]] = client.query(_OPEN).result_rows
        return [(tenant, customer) for tenant, customer in rows]
    except ClickHouseError as error:
        raise translated(error) from error
    finally:
        client.close()


def _batched(customers: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    pending = iter(customers)
    while some := list(islice(pending, ACCOUNTS_AT_ONCE)):
        yield some
