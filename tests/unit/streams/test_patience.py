"""A fetch may wait long exactly when nothing that a broker has for the consumer is left out of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest_v4

from streams.patience import FETCH_WAIT_MS, WHOLE_FETCH_WAIT_MS, be_patient

PLACES = [TopicPartition("t", number) for number in range(3)] + [TopicPartition("u", 0)]
BROKERS = {place: 1 if place.topic == "t" else 2 for place in PLACES}


def state(position: int | None = 5, *, paused: bool = False) -> Any:
    return SimpleNamespace(has_valid_position=position is not None, position=position, paused=paused, resume_fut=None)


def waits(states: dict[TopicPartition, Any], *, untaken: tuple[TopicPartition, ...] = (), asked: int = -1) -> Any:
    """By broker: how long the next fetch of it may wait, of a fetcher of aiokafka's own with these partitions."""
    fetcher = Fetcher.__new__(Fetcher)
    fetcher.__dict__ |= {
        "_client": SimpleNamespace(cluster=SimpleNamespace(leader_for_partition=BROKERS.__getitem__)),
        "_client_rack": None,
        "_preferred_read_replica": {},
        "_records": {place: SimpleNamespace(calculate_backoff=lambda: 0) for place in untaken},
        "_in_flight": {asked},
        "_fetch_max_wait_ms": FETCH_WAIT_MS,
        "_fetch_min_bytes": 1,
        "_fetch_max_bytes": 1,
        "_isolation_level": 1,
        "_max_partition_fetch_bytes": 1,
        "_fetcher_timeout": 0.1,
    }
    be_patient(fetcher)
    requests, *rest = fetcher._get_actions_per_node(SimpleNamespace(tps=set(states), state_value=states.__getitem__))
    assert len(rest) == 4
    return {node: request.build(FetchRequest_v4).max_wait_time for node, request in requests}


def test_a_fetch_for_all_may_wait() -> None:
    """Of each broker: all that it has."""
    everything = {place: state() for place in PLACES}
    assert waits(everything) == {1: WHOLE_FETCH_WAIT_MS, 2: WHOLE_FETCH_WAIT_MS}
    assert waits(everything, asked=2) == {1: WHOLE_FETCH_WAIT_MS}


@pytest.mark.parametrize(
    ("first", "untaken"),
    [(state(), (PLACES[0],)), (state(paused=True), ())],
    ids=["something waits to be taken", "it is paused"],
)
def test_a_fetch_that_leaves_a_partition_out_comes_back_soon(first: Any, untaken: tuple[TopicPartition, ...]) -> None:
    """What comes to it is asked for when that fetch is answered; the other broker's is another."""
    states = {place: state() for place in PLACES} | {PLACES[0]: first}
    assert waits(states, untaken=untaken) == {1: FETCH_WAIT_MS, 2: WHOLE_FETCH_WAIT_MS}
