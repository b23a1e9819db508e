"""Names of admission's keys in Redis: every one with the hash tag of its partition."""

from __future__ import annotations

from zlib import crc32


def meta_key(partition: int) -> str:
    """The partition's position, which the worker writes."""
    return f"{{{partition}}}:m"


def customer_keys(partition: int, account: str) -> list[str]:
    """KEYS[1..6] of every script, see lua/prelude.lua."""
    tag = f"{{{partition}}}"
    return [
        f"{tag}:m",
        f"{tag}:a:{account}",
        f"{tag}:h:{account}",
        f"{tag}:hx:{account}",
        f"{tag}:hf:{account}",
        f"{tag}:hq",
    ]


def hold_keys(partition: int, account: str) -> list[str]:
    """KEYS[3..5] of every script: a customer's holds, when they expire, the ended ones by when they are forgotten."""
    return customer_keys(partition, account)[2:5]


def holds_key(partition: int, account: str) -> str:
    """The hash of a customer's holds."""
    return f"{{{partition}}}:h:{account}"


def sweep_key(partition: int) -> str:
    """The partition's customers by when something of theirs is due."""
    return f"{{{partition}}}:hq"


def directory_partition(name: str, partitions: int) -> int:
    """Where the directory entry of a hold or a denial lies. Not Kafka's partitioner, but one that is quickly computed:
    ids that we make ourselves are chosen so that their entry lies with their customer."""
    return crc32(name.encode()) % partitions


def directory_key(partition: int, tenant: str, hold_id: str) -> str:
    """Whose hold an id of the tenant names."""
    return f"{{{partition}}}:hd:{len(tenant)}:{tenant}:{hold_id}"


def denial_key(partition: int, tenant: str, denial_id: str) -> str:
    """What was denied."""
    return f"{{{partition}}}:hn:{len(tenant)}:{tenant}:{denial_id}"


def journal_key(partition: int) -> str:
    """How far the journal is known to stand in this Redis."""
    return f"{{{partition}}}:hj"
