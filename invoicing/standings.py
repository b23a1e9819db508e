"""How customers stand, read from Redis: accounts, billing documents, subscriptions. Errors: Unavailable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from invoicing.material import Standing, standing_of, subscription_ids
from invoicing.stores import Reader
from schemas import invoicing_commands as types
from schemas.account import account_key, new_account, unpack_account
from schemas.documents import COUNTER, CUSTOMER, SUBSCRIPTION, decode_body, document_key
from schemas.ids import partition_of


async def standings(reader: Reader, partitions: int, tenant: str, customers: Sequence[str]) -> dict[str, Standing]:
    """By customer; of one that nobody knows an empty account."""
    by_partition: dict[int, list[str]] = {}
    for name in customers:
        by_partition.setdefault(partition_of(name, partitions), []).append(name)
    accounts = {}
    for partition, names in by_partition.items():
        _, packed = await reader.snapshot(partition, [account_key(tenant, name) for name in names])
        for name, value in zip(names, packed, strict=True):
            accounts[name] = unpack_account(value) if value is not None else new_account(tenant, name)
    wanted = [(COUNTER, types.billing_id(name)) for name in customers] + [(CUSTOMER, name) for name in customers]
    wanted += [(SUBSCRIPTION, one) for name in customers for one in subscription_ids(accounts[name])]
    found = await documents(reader, partitions, tenant, wanted)
    return {
        name: standing_of(
            tenant,
            accounts[name],
            found.get((COUNTER, types.billing_id(name))),
            found.get((CUSTOMER, name)),
            [
                body
                for one in subscription_ids(accounts[name])
                if (body := found.get((SUBSCRIPTION, one))) is not None and body["customer"] == name
            ],
            partition_of(name, partitions),
        )
        for name in customers
    }


async def documents(
    reader: Reader, partitions: int, tenant: str, wanted: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Documents by kind and id, those there are."""
    bodies = await reader.documents(partitions, [document_key(tenant, kind, name) for kind, name in wanted])
    return {key: decode_body(body) for key, body in zip(wanted, bodies, strict=True) if body is not None}
