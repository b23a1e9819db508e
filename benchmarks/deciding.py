"""Where a worker's time goes: the stages of deciding on recorded batches of the canonical workload, without stores.

    python -m benchmarks.deciding [--events 60000] [--profile] [--json]

One partition of eight: its 1,250 customers with a credit each, batches of 20,000 records as they come from Kafka,
decoded, looked up in a real identity index, decided, encoded, told of, and added to the index, as a lane does between
its reads and its writes. Microseconds of CPU an event and stage, the least of several rounds, and beside them what
reading the same records by orjson alone costs, in the same minutes. What was decided must come to the workload's own
sums, else the benchmark fails.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import orjson

from benchmarks import workload
from benchmarks.machine import machine
from rating.book import PriceBook
from rating.decision import Standing
from rating.received import Received, Records
from schemas.account import Account
from schemas.catalog import CatalogVersion, from_document
from schemas.ids import partition_of
from schemas.ledger import ACCOUNT, USAGE
from schemas.packing import int64s_of
from streams.announcing import announcements
from streams.deciding import Decided, Find, Named, Place, decide_batch, name
from streams.identity import IdentityIndex, Position
from streams.transport import BATCH_MAX_RECORDS
from streams.worker import GC_THRESHOLD

EVENTS: Final = 60_000
PARTITIONS: Final = 8
BATCH: Final = BATCH_MAX_RECORDS
ROUNDS: Final = 3
MAX_FUTURE: Final = 3_600 * 10**6

Answer = TypeVar("Answer")
Asked = ParamSpec("Asked")


class Stages:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, work: Callable[Asked, Answer], *asked: Asked.args, **named: Asked.kwargs) -> Answer:
        """Runs a stage."""
        begun = time.process_time()
        answer = work(*asked, **named)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - begun
        return answer


def recorded(events: int) -> tuple[list[Records], workload.Expected]:
    """Batches of partition 0: the grants, then usage; and what they must come to."""
    now = datetime.now(UTC).replace(microsecond=0)
    received_at = int(now.timestamp()) * 10**6
    names = [customer for customer in workload.customers() if partition_of(customer, PARTITIONS) == 0]
    expected = workload.Expected()
    for customer in names:
        expected.grant(customer)
    granted = [
        Received(ACCOUNT, at, received_at, customer.encode(), value)
        for at, (customer, value) in enumerate(workload.grants(names, now))
    ]
    used: list[Received] = []
    for at, sent in enumerate(workload.usage(names, events, now)):
        expected.take(sent)
        used.append(Received(USAGE, at, received_at, sent.customer.encode(), sent.value))
    batches = [granted, *(used[at : at + BATCH] for at in range(0, events, BATCH))]
    return list(map(Records.of, batches)), expected


def decided_once(batches: list[Records], stages: Stages) -> tuple[list[Decided], dict[str, Account]]:
    """A partition's life from its first record on."""
    book = PriceBook()
    book.add(CatalogVersion(1, None, 0, from_document(workload.catalogue())))
    place = Place(0, "ledger", 0, 0, 0, 0, 0, PARTITIONS)
    accounts: dict[str, Account] = {}
    everything: list[Decided] = []
    with tempfile.TemporaryDirectory() as folder:
        index = IdentityIndex.open(Path(folder), "ledger")
        index.bulk_load((), Position(0, 0))
        for batch in batches:
            named = stages.timed("decode", name, batch, MAX_FUTURE)
            standing = Standing(accounts, stages.timed("look_up", index.find, named.identities), {})
            decided = stages.timed("decide", _decided, named, standing, book, place, index.find)
            stages.timed("tell", _told, decided)
            for one in decided:
                at = Position(one.packed.next_seq, one.packed.next_seq)
                stages.timed("book", index.add, one.booked, at)
            everything += decided
        index.close()
    return everything, accounts


def _decided(named: Named, standing: Standing, book: PriceBook, place: Place, find: Find) -> list[Decided]:
    return [one for one in decide_batch(named, standing, book, 1, place, _now, find) if one is not None]


def _told(decided: list[Decided]) -> int:
    return sum(len(value) for _, value in announcements([one.packed for one in decided]))


def _now() -> int:
    return time.time_ns() // 1_000


def _read_alone(values: list[bytes]) -> None:
    for value in values:
        orjson.loads(value)


def check(decided: list[Decided], accounts: dict[str, Account], expected: workload.Expected) -> None:
    """AssertionError unless charges and balances are what plain integers made of the seed."""
    entries = [one.packed.entries for one in decided if one.packed.entries is not None]
    amounts = [int64s_of(columns.charge_amount) for columns in entries]
    assert sum(map(len, amounts)) == expected.charges
    assert sum(int(column.sum()) for column in amounts) == expected.amount
    assert {account.customer: account.balance for account in accounts.values()} == expected.balances


def run(events: int) -> dict[str, Any]:
    """The least of several rounds, in microseconds an event."""
    batches, expected = recorded(events)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 100, 100)  # as a worker has it
    least: dict[str, float] = {}
    for _ in range(ROUNDS):
        stages = Stages()
        decided, accounts = decided_once(batches, stages)
        check(decided, accounts, expected)
        values = [record.value or b"" for batch in batches[1:] for record in batch]
        stages.timed("orjson_alone", _read_alone, values)
        for stage, seconds in stages.seconds.items():
            least[stage] = min(least.get(stage, seconds), seconds)
    cost = {stage: round(seconds / events * 1e6, 2) for stage, seconds in least.items()}
    alone = cost.pop("orjson_alone")
    return {"events": events, "cpu_us": cost, "total_us": round(sum(cost.values()), 2), "orjson_alone_us": alone}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--profile", action="store_true", help="where the functions' time goes, instead")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.profile:
        batches, _ = recorded(chosen.events)
        profile = cProfile.Profile()
        profile.runcall(decided_once, batches, Stages())
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    document = {**run(chosen.events), "machine": machine()}
    if chosen.json:
        print(json.dumps(document))
        return
    for stage, cost in document["cpu_us"].items():
        print(f"{stage:>10} {cost:6.2f} us an event")
    print(f"{'all':>10} {document['total_us']:6.2f}; orjson alone {document['orjson_alone_us']:.2f}")


if __name__ == "__main__":
    main()
