"""Watches from outside what no lane can see of itself: that Faust still delivers.

A lane that waits for an absent store is well; one that serves, has records in its partition and is delivered none is
not. The remedy is to leave the process: the supervisor starts a new one, and the ledger says where to go on.
"""

from __future__ import annotations

import time
from typing import Final

from aiokafka import TopicPartition

from schemas.topics import USAGE_EVENTS
from streams.inputs import read_range
from streams.lane import Lane
from streams.ledger import committed_consumer

QUIET_SECONDS: Final = 15.0
"""A serving lane that got nothing for this long is compared with the end of its partition; records that are found
waiting there, and wait as long again, are not delivered. A quiet partition's first records are merely on their way."""

LOOK_RECORDS: Final = 1_000
"""Offsets read to tell records from transaction markers."""


class Watchdog:
    """Asked from time to time; remembers the partition ends that turned out to hold markers alone."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._seen: dict[int, int] = {}
        self._waiting: dict[int, tuple[int, float]] = {}
        """By partition: the offset from which on records were found waiting, and since when."""

    async def undelivered(self, lanes: list[Lane]) -> list[int]:
        """Partitions with committed records that their lane, idle since QUIET_SECONDS, was not given for as long again.

        Raises Unavailable if Kafka does not answer, which is no fault of Faust's."""
        now = time.monotonic()
        quiet = [lane for lane in lanes if lane.idle_since is not None and now - lane.idle_since > QUIET_SECONDS]
        if not quiet:
            return []
        places = {TopicPartition(USAGE_EVENTS, lane.partition): lane for lane in quiet}
        async with committed_consumer(self._bootstrap) as consumer:
            ends = await consumer.end_offsets(list(places))
        stuck: list[int] = []
        for place, lane in places.items():
            start, end = max(lane.usage_next, self._seen.get(lane.partition, 0)), ends[place]
            if start >= end:
                continue
            found = await read_range(
                self._bootstrap, USAGE_EVENTS, lane.partition, start, min(end, start + LOOK_RECORDS)
            )
            if not found:
                self._seen[lane.partition] = min(end, start + LOOK_RECORDS)
                continue
            offset, since = self._waiting.get(lane.partition, (-1, now))
            if offset != lane.usage_next:
                self._waiting[lane.partition] = (lane.usage_next, now)
            elif lane.idle_since is not None and now - since > QUIET_SECONDS:
                stuck.append(lane.partition)
        return stuck
