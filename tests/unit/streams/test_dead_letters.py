"""Dead letters become rows, whoever wrote them."""

from __future__ import annotations

from types import SimpleNamespace

from streams.dead_letters import encode
from streams.native import int64s


def dead_letter(**headers: str) -> SimpleNamespace:
    return SimpleNamespace(
        topic="usage.dlq",
        partition=3,
        offset=77,
        timestamp=1_795_000_000_123,
        key=None,
        value=None,
        headers=[(name, value.encode()) for name, value in headers.items()],
    )


def place_of(record: SimpleNamespace) -> tuple[bool, bool, bool]:
    """Whether the row is at the input's place, at the dead letter's own, and received when Kafka had it."""
    data = encode([record])
    at_input = int64s([5]) in data and int64s([6]) in data and b"usage.events" in data
    return at_input, b"usage.dlq" in data, int64s([1_795_000_000_123_000]) in data


def test_the_row_is_at_the_place_of_the_input_record() -> None:
    """That is what there is one outcome for."""
    record = dead_letter(topic="usage.events", partition="5", offset="6", received_at="1795000000000123")
    assert place_of(record) == (True, False, False)


def test_a_dead_letter_that_says_nothing_is_at_its_own_place() -> None:
    """It is shown, with the time Kafka has for it."""
    assert place_of(dead_letter()) == (False, True, True)


def test_a_dead_letter_that_says_nonsense_is_at_its_own_place() -> None:
    """A partition or offset that is no number, or none that can be."""
    for partition, offset in (("x", "6"), ("5", "-6"), ("5", "9" * 30), ("70000", "6"), ("٣", "6")):
        assert place_of(dead_letter(topic="usage.events", partition=partition, offset=offset)) == (False, True, True)
