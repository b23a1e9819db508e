"""How long Kafka may keep a fetch for which there is nothing yet.

aiokafka asks a broker for one thing at a time, and leaves out a partition of which something waits to be taken: what
comes to that one in the meantime lies there until the fetch for the others is answered. So a fetch that leaves any
partition out must come back soon. One that asks for all of them is answered as soon as anything comes to any, however
long it may wait; and every fetch that comes back empty costs a broker and its client a millisecond of CPU each.

It leans on private names of aiokafka's fetcher; `tests/unit/streams/test_patience.py` fails when they change.
"""

from __future__ import annotations

from typing import Any, Final

FETCH_WAIT_MS: Final = 100
"""Of a fetch that leaves partitions out."""

WHOLE_FETCH_WAIT_MS: Final = 500
"""Of a fetch for all that the broker has of the assignment: what a new assignment, or a seek, may have to wait for."""

IDLE_FETCH_MS: Final = 5_000
"""Of a consumer that reads one partition from one place on, and is closed if it is to read anything else. Every lane
has one: at aiokafka's half second they were a seventh of what an idle deployment takes."""


def be_patient(fetcher: Any) -> None:
    """From now on this fetcher's whole fetches may wait longer than the others, which wait as the consumer was told."""
    actions = fetcher._get_actions_per_node

    def patiently(assignment: Any) -> Any:
        found = actions(assignment)
        for node, request in found[0]:
            led = sum(fetcher._select_read_replica(place) == node for place in assignment.tps)
            if sum(len(partitions) for _, partitions in request.topics) == led:
                request._max_wait_ms = WHOLE_FETCH_WAIT_MS
        return found

    fetcher._get_actions_per_node = patiently
