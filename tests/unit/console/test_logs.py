"""What is written to standard error while Kafka is away: enough to know, not a disk full."""

from __future__ import annotations

import logging

from console.logs import REPEATED_SECONDS, Seldom


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def record(name: str, line: int, node: int = 0) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "x.py", line, "node %d is away", (node,), None)


def test_a_kafka_client_that_repeats_itself_is_heard_once_in_a_while() -> None:
    """Place by place, and what was not said is counted with the next."""
    clock = Clock()
    seldom = Seldom(clock)
    assert seldom.filter(record("aiokafka", 7))
    assert seldom.filter(record("aiokafka", 8))
    assert seldom.filter(record("aiokafka.consumer.fetcher", 7))
    assert not any(seldom.filter(record("aiokafka", 7, node)) for node in range(40))
    clock.seconds = REPEATED_SECONDS
    again = record("aiokafka", 7, 3)
    assert seldom.filter(again)
    assert again.getMessage() == "node 3 is away (and 40 more like it before)"
    assert not seldom.filter(record("aiokafka", 7))


def test_our_own_lines_are_all_written() -> None:
    """They are few, and each says what another does not."""
    seldom = Seldom(Clock())
    assert all(seldom.filter(record(name, 7)) for name in ("streams.lane", "api.problems", "aiokafkaesque") * 3)
