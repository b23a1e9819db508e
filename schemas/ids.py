"""Ids and where a customer lives.

An id is a text of 1 to ID_MAX_CHARACTERS characters, whatever they are. A customer's partition is Kafka's own:
murmur2 (seed 0x9747b28c) of the UTF-8 bytes of the id, its sign bit cleared, modulo the number of partitions, as the
Java client's default partitioner computes it for a record's key. The law in tests/laws/test_event_partition.py holds
this form to aiokafka's slower one; known Java values stand in tests/unit/schemas/test_ids.py.

Refuses: any other text as an id (InvalidInput `missing_field`, `wrong_type`, `out_of_range`).
"""

from __future__ import annotations

from functools import lru_cache
from struct import unpack_from
from typing import Any, Final

from schemas.errors import InvalidInput
from schemas.limits import ID_MAX_CHARACTERS

PARTITIONS_REMEMBERED: Final = 65_536
"""Customers whose partition is kept at hand: at most some 15 MB; another one costs a few microseconds again."""

_SEED: Final = 0x9747B28C
_FACTOR: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF


def check_id(value: Any, pointer: str) -> str:
    """`value` if it is an id; else InvalidInput that names the field by its JSON pointer."""
    field = pointer.lstrip("/").replace("/", ".") or "id"
    if value is None:
        raise InvalidInput("missing_field", f"{field} is missing", pointer)
    if not isinstance(value, str):
        raise InvalidInput("wrong_type", f"{field} is no text", pointer)
    if not 1 <= len(value) <= ID_MAX_CHARACTERS:
        detail = f"{field} has {len(value)} characters, not 1 to {ID_MAX_CHARACTERS}"
        raise InvalidInput("out_of_range", detail, pointer)
    return value


def murmur2(key: bytes) -> int:
    """Kafka's murmur2 of a record's key, as an unsigned 32-bit number."""
    size = len(key)
    words = size >> 2
    hashed = _SEED ^ size
    for word in unpack_from(f"<{words}I", key):
        mixed = word * _FACTOR & _WORD
        mixed = (mixed ^ mixed >> 24) * _FACTOR & _WORD
        hashed = hashed * _FACTOR & _WORD ^ mixed
    if size & 3:
        hashed = (hashed ^ int.from_bytes(key[words << 2 :], "little")) * _FACTOR & _WORD
    hashed = (hashed ^ hashed >> 13) * _FACTOR & _WORD
    return hashed ^ hashed >> 15


@lru_cache(PARTITIONS_REMEMBERED)
def partition_of_key(key: bytes, partitions: int) -> int:
    """The partition that the Java client's default partitioner gives a record with this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(PARTITIONS_REMEMBERED)
def partition_of(customer: str, partitions: int) -> int:
    """The partition that all records of a customer belong in."""
    return (murmur2(customer.encode()) & 0x7FFFFFFF) % partitions
