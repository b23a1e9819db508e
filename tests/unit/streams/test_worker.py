"""The worker's lanes: opened with their assignment, ended with its revocation, and never holding one another up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from schemas.errors import InvariantBroken
from streams.lane import DELIVERIES_WAITING, Delivery, Lane
from streams.transport import UNKNOWN, Batch
from streams.worker import EXIT_INVARIANT, Lanes, Worker, build_app
from tests.fakes.partition import record_at


def worker(tmp_path: Path) -> Worker:
    return Worker(
        bootstrap="127.0.0.1:1",
        redis_url="redis://127.0.0.1:1",
        partitions=8,
        data_dir=tmp_path,
        max_future=0,
        registry=CollectorRegistry(),
        tell=lambda ready: None,
    )


def delivery() -> Delivery:
    return Delivery(1, UNKNOWN, record_at(1), lambda: None)


async def test_lanes_open_with_their_assignment_and_end_with_its_revocation(tmp_path: Path) -> None:
    """Also a partition without traffic has a lane; assigned again it keeps the one it has."""
    lanes = worker(tmp_path).lanes
    lanes.assigned({1, 2})
    kept = dict(lanes._lanes)
    lanes.assigned({1, 2, 3})
    assert len(lanes) == 3
    assert all(lanes._lanes[partition] == kept[partition] for partition in (1, 2))
    await lanes.revoked({1, 7})
    assert len(lanes) == 2
    await lanes.close()
    assert len(lanes) == 0
    assert lanes.open() == []


async def test_a_delivery_for_a_partition_that_is_not_ours_is_dropped(tmp_path: Path) -> None:
    """It will be read again by whoever owns it."""
    lanes = worker(tmp_path).lanes
    await asyncio.wait_for(lanes.deliver(5, delivery()), 1)


async def test_revoking_a_full_lane_lets_the_agent_go_on(tmp_path: Path) -> None:
    """The agent waits to deliver to a lane that waits itself, here for a catalogue; its partition is revoked: the agent
    is free for the others."""
    lanes = worker(tmp_path).lanes
    lanes.assigned({1, 2})
    delivering = [asyncio.create_task(lanes.deliver(1, delivery())) for _ in range(DELIVERIES_WAITING + 1)]
    await asyncio.sleep(0.01)
    assert [task.done() for task in delivering] == [True] * DELIVERIES_WAITING + [False]
    revoking = asyncio.create_task(lanes.revoked({1}))
    await asyncio.wait_for(delivering[-1], 1)
    await asyncio.wait_for(lanes.deliver(2, delivery()), 1)
    revoking.cancel()
    for _, task in lanes._lanes.values():
        task.cancel()


async def test_a_batch_of_an_older_generation_is_not_delivered(tmp_path: Path) -> None:
    """Read before a rebalance, it may be another's by now."""
    made = worker(tmp_path)
    seen: list[Any] = []

    class Noting(Lanes):
        async def deliver(self, partition: int, delivery: Delivery) -> None:
            seen.append((partition, delivery.after, delivery.records))

    made.lanes = Noting(made.lanes._around, made.leave)

    class Event:
        def ack(self) -> None:
            """Nothing."""

    records = record_at(1)
    made._app.consumer_generation_id = 2
    await made._dispatch(Event(), Batch(4, 1, 5, records))
    await made._dispatch(Event(), Batch(4, 2, 5, records))
    assert seen == [(4, 5, records)]


@pytest.mark.parametrize(("error", "code"), [(InvariantBroken("x"), EXIT_INVARIANT), (RuntimeError("x"), 1)])
async def test_a_lane_that_fails_ends_the_process_with_its_code(tmp_path: Path, error: Exception, code: int) -> None:
    """A lane never dies alone while its queue blocks the others."""
    left: list[int] = []
    lanes = Lanes(worker(tmp_path).lanes._around, lambda number, why: left.append(number))

    async def failing() -> None:
        raise error

    task = asyncio.create_task(failing())
    task.add_done_callback(lanes._ended)
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)
    assert left == [code]


async def test_the_first_reason_to_leave_is_the_one_that_counts(tmp_path: Path) -> None:
    """What fails while the process leaves does not change its code."""
    made = worker(tmp_path)
    made.leave(EXIT_INVARIANT, "first")
    made.leave(1, "second")
    assert made._exit_code == EXIT_INVARIANT


def test_the_app_is_configured_as_exactly_once_needs_it(tmp_path: Path) -> None:
    """Settings that cost events when they were otherwise."""
    conf = build_app("one:1,two:2", tmp_path).conf
    assert [str(url) for url in conf.broker] == ["kafka://one:1", "kafka://two:2"]
    assert not conf.stream_wait_empty
    assert conf.table_standby_replicas == 0
    assert conf.consumer_auto_offset_reset == "earliest"
    assert not conf.topic_allow_declare
    assert conf.topic_disable_leader
    assert conf.broker_session_timeout > 2 * conf.broker_heartbeat_interval
    assert Path(conf.datadir).is_relative_to(tmp_path)


async def test_a_lane_knows_whether_it_is_still_assigned(tmp_path: Path) -> None:
    """Asked after a doubt: a lane whose partition went opens no more."""
    lanes = worker(tmp_path).lanes
    lanes.assigned({1})
    made: Lane = lanes._lanes[1][0]
    assert made._still_mine()
    await lanes.close()
    assert not made._still_mine()
