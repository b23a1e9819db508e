"""Ids within their bounds, and customers where Kafka's Java client puts them."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidInput
from schemas.ids import check_id, murmur2, partition_of, partition_of_key

# From UtilsTest.testMurmur2 of Apache Kafka's Java client.
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), JAVA_MURMUR2.items())
def test_murmur2_is_javas(key: bytes, hashed: int) -> None:
    """The hash equals the one that Apache Kafka's own test expects of its Java client."""
    assert murmur2(key) == hashed % 2**32


@pytest.mark.parametrize("partitions", [1, 8, 64, 7])
@pytest.mark.parametrize(("key", "hashed"), JAVA_MURMUR2.items())
def test_a_partition_is_the_java_clients(key: bytes, hashed: int, partitions: int) -> None:
    """The sign bit is cleared, not negated, before the remainder is taken."""
    expected = (hashed & 0x7FFFFFFF) % partitions
    assert partition_of_key(key, partitions) == expected
    assert partition_of(key.decode(), partitions) == expected


@pytest.mark.parametrize("value", ["a", "é" * 200, "x" * 200, " ", "\x00"])
def test_an_id_has_1_to_200_characters_whatever_they_are(value: str) -> None:
    """Characters count, not bytes."""
    assert check_id(value, "/id") == value


@pytest.mark.parametrize(
    ("value", "reason"), [("", "out_of_range"), ("x" * 201, "out_of_range"), (None, "missing_field"), (7, "wrong_type")]
)
def test_anything_else_is_no_id(value: object, reason: str) -> None:
    """The refusal names the field."""
    with pytest.raises(InvalidInput, match=r"data\.user_id") as refused:
        check_id(value, "/data/user_id")
    assert refused.value.reason == reason
