"""What the identity index costs: time, memory and disk an event, by how many identities it holds.

    python -m benchmarks.identity [--identities 1000000,10000000] [--json]

Each index is grown batch by batch, all its work in one thread: `all_ns` is what a fresh event takes with sorting,
writing and merging included. It is then opened as a worker opens it and timed over batches that come at 250,000
events a second: `calling_ns` is what a fresh event (one `find` and one `add`) takes of the caller, the worker's event
loop, while merges run in the index's own thread; `duplicate_ns` is what finding a booked one takes. Beside it, in the
same run, runs the baseline, a plain dict of 1,000,000 identities asked and filled by a loop: shared machines drift, so
only ratios are worth comparing. Every answer is checked: a fresh identity is not found, a booked one is, with its first
content, before and after opening the index again; else the benchmark fails.

Measured by `python -m benchmarks.identity` on 2 shared cores (AMD EPYC, Python 3.11, other work beside it), the plain
dict taking 290 ns: at 11 M identities 325-373 ns of the caller (1.1 to 1.3 of the dict) and 0.9 µs with all merging; at
2 M 280-380 ns and 0.5-1.0 µs; longest call 4-15 ms; duplicates 2.0-2.5 µs; opening 33-48 ns an identity; 24.0 bytes of
disk and 2.125 of memory an identity, beside a memtable of at most 32,768 entries of some 206 bytes at rest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from statistics import mean, median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from streams.identity import IdentityIndex, Limits, Position

BATCH = 5_000
TIMED_BATCHES = 200
TIMED_EVENTS_PER_S = 250_000
DUPLICATE_BATCHES = 20
BASELINE_IDENTITIES = 1_000_000
LEDGER_ID = "benchmark"

T = TypeVar("T")
Batch = tuple[list[bytes], list[bytes]]


def batches(seed: int) -> Iterator[Batch]:
    """Endless batches of random identities and contents, the same ones for the same seed."""
    random = np.random.default_rng(seed)
    while True:
        identities, contents = random.bytes(16 * BATCH), random.bytes(8 * BATCH)
        yield (
            [identities[at : at + 16] for at in range(0, len(identities), 16)],
            [contents[at : at + 8] for at in range(0, len(contents), 8)],
        )


def baseline_ns() -> float:
    """Nanoseconds a fresh event takes in a loop over a plain dict."""
    source = batches(seed=0)
    known: dict[bytes, bytes] = {}
    for _ in range(BASELINE_IDENTITIES // BATCH):
        known.update(zip(*next(source), strict=True))
    timings = []
    for _ in range(TIMED_BATCHES):
        identities, contents = next(source)
        start = time.perf_counter_ns()
        for identity, content in zip(identities, contents, strict=True):
            if identity not in known:
                known[identity] = content
        timings.append((time.perf_counter_ns() - start) / BATCH)
    return median(timings)


def check(found: dict[bytes, bytes], booked: Batch) -> None:
    """SystemExit unless just what is `booked` was `found`."""
    if found != dict(zip(*booked, strict=True)):
        raise SystemExit(f"wrong answers: {len(found)} found, {len(booked[0])} booked")


def _rows(digests: list[bytes]) -> NDArray[np.uint8]:
    """As a lane has them: in columns."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)


class InCaller(Executor):
    """Runs what is submitted at once, in the thread that submits it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def nanoseconds(call: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """What `call` gives, and the time it took, by event of a batch."""
    start = time.perf_counter_ns()
    result = call(*arguments)
    return result, (time.perf_counter_ns() - start) / BATCH


def measure(count: int, directory: Path) -> dict[str, float]:
    """Grow one index to `count` identities and say what it took; SystemExit if an answer was wrong."""
    grown = -(-count // BATCH)
    total = grown + TIMED_BATCHES
    source = batches(seed=count)
    booked: list[Batch] = []
    growing, finding, adding, repeating = [], [], [], []
    index = IdentityIndex.open(directory, LEDGER_ID, limits=Limits(grace_seconds=0), executor=InCaller())
    index.bulk_load([], Position(0, 0))
    for number in range(1, total + 1):
        identities, contents = next(source)
        if number == grown + 1:
            index.flush()
            index.close()
            index = IdentityIndex.open(directory, LEDGER_ID, limits=Limits(grace_seconds=0))
        if number > grown:
            time.sleep(BATCH / TIMED_EVENTS_PER_S)
        position = Position(number, number * BATCH)
        laid = _rows(identities)
        bookings = np.hstack((laid, _rows(contents)))
        found, find_ns = nanoseconds(index.find, laid)
        _, add_ns = nanoseconds(index.add, bookings, position)
        check(found, ([], []))
        if number <= grown:
            growing.append(find_ns + add_ns)
        else:
            finding.append(find_ns)
            adding.append(add_ns)
        if number % max(1, total // DUPLICATE_BATCHES) == 0:
            booked.append((identities, contents))
    runs = index.size().runs
    for batch in booked:
        found, find_ns = nanoseconds(index.find, _rows(batch[0]))
        check(found, batch)
        repeating.append(find_ns)
    index.flush()
    index.close()
    index, open_ns = nanoseconds(IdentityIndex.open, directory, LEDGER_ID)
    if index.position != Position(total, total * BATCH):
        raise SystemExit(f"opened again at {index.position}")
    for batch in booked:
        check(index.find(_rows(batch[0])), batch)
    check(index.find(_rows(next(source)[0])), ([], []))
    size = index.size()
    index.close()
    return {
        "identities": size.identities,
        "runs": runs,
        "calling_ns": round(mean(finding) + mean(adding), 1),
        "find_ns": round(mean(finding), 1),
        "longest_call_ms": round(max(*finding, *adding) * BATCH / 1e6, 1),
        "all_ns": round(mean(growing), 1),
        "duplicate_ns": round(mean(repeating), 1),
        "open_ns": round(open_ns * BATCH / size.identities, 1),
        "disk_bytes": round(size.disk_bytes / size.identities, 3),
        "filter_bytes": round(size.filter_bytes / size.identities, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", default="1000000,10000000", help="sizes, with commas between")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    base = baseline_ns()
    results = []
    for count in map(int, arguments.identities.split(",")):
        directory = Path(tempfile.mkdtemp(prefix="tollgate-identity-"))
        try:
            result = measure(count, directory)
        finally:
            shutil.rmtree(directory)
        result["calling_to_dict"] = round(result["calling_ns"] / base, 2)
        result["all_to_dict"] = round(result["all_ns"] / base, 2)
        results.append(result)
    machine = f"{os.cpu_count()} x {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    if arguments.json:
        print(json.dumps({"dict_ns": round(base, 1), "results": results, "exact": True, "machine": machine}))
        return
    print(f"{machine}; a loop over a plain dict: {base:.0f} ns a fresh event")
    for result in results:
        print(", ".join(f"{name} {value:g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
