"""Real traces as events: complete, deterministic, and what their rows say."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ingest.traces import CARRIED, NAMES, Trace, from_trace
from schemas.errors import InvalidInput
from schemas.event import decode
from schemas.period import parse_time
from tests.deployment import ROOT

WHOLE_GPU_TRACE = ROOT.parent / "shared" / "data" / "alibaba_gpu_pods_2023.csv"
LATER = parse_time("2026-01-01T00:00:00Z")


def made(name: str, customers: int = 100, seed: int = 1, tenant: str | None = None, file: Path | None = None) -> Trace:
    """The events of a carried trace, or of another file."""
    with (file or CARRIED[name]).open(newline="") as lines:
        return from_trace(name, lines, customers, seed, tenant)


def read(trace: Trace) -> list[dict[str, Any]]:
    """Its events as plain JSON."""
    return [json.loads(event, parse_float=Decimal) for event in trace.events]


def test_every_call_of_the_llm_trace_is_an_event() -> None:
    """19,366 calls with the very counts of the file."""
    events = read(made("azure-llm"))
    rows = [line.split(",") for line in CARRIED["azure-llm"].read_text().splitlines()[1:]]
    assert len(events) == len(rows) == 19_366
    counts = Counter((event["data"]["input_tokens"], event["data"]["output_tokens"]) for event in events)
    assert counts == Counter((int(row[1]), int(row[2])) for row in rows)
    assert events[0]["time"] == "2023-11-16T18:15:46.680590Z"


def test_scheduled_pods_are_releases_and_the_others_are_counted() -> None:
    """A pod without a scheduled time was never allocated."""
    trace = made("alibaba-gpu")
    rows = [line.split(",") for line in CARRIED["alibaba-gpu"].read_text().splitlines()[1:]]
    assert (len(trace.events), trace.left_out) == (274, 28)
    assert len(rows) == 302
    expected = {
        row[0]: (Decimal(row[1]) / 1000, int(row[2]), int(row[3]), int(row[9]) - int(row[10]))
        for row in rows
        if row[10]
    }
    for event in read(trace):
        data = event["data"]
        seconds = (parse_time(data["released_at"]) - parse_time(data["allocated_at"])) // 1_000_000
        found = (data["cpu_cores"], data["memory_mb"], data["gpu_count"], seconds)
        assert found == expected[data["device_id"]]
        assert data["device_type"] == ("gpu" if data["gpu_count"] else "cpu")


@pytest.mark.skipif(not WHOLE_GPU_TRACE.exists(), reason="the whole trace is not the project's to carry")
def test_the_whole_gpu_trace_has_7255_allocations() -> None:
    """8,152 pods, 897 of them never scheduled."""
    trace = made("alibaba-gpu", file=WHOLE_GPU_TRACE)
    assert (len(trace.events), trace.left_out) == (7_255, 897)


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_one_that_the_workers_read(name: str) -> None:
    """Each decodes, with an identity of its own, in the order of its time."""
    events = [decode(raw, LATER, 0) for raw in made(name, tenant="demo").events]
    assert len({event.identity for event in events}) == len(events)
    assert {event.tenant for event in events} == {"demo"}
    assert all(one.occurred_at <= other.occurred_at for one, other in pairwise(events))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    """Another seed, or another number of customers, gives other identities altogether."""
    first = made(name, 50, 7)
    assert made(name, 50, 7) == first
    identities = {(event["source"], event["id"]) for event in read(first)}
    for other in (made(name, 50, 8), made(name, 51, 7)):
        assert not identities & {(event["source"], event["id"]) for event in read(other)}


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("azure-llm", "49b01e05bdeb5121b8e1f51a76ce7b359f913055d82a075cd128859f639ce19d"),
        ("alibaba-gpu", "501c3ef828d95c339bd8e1bd29e209362a2e4e8d1cfa4f6a4f63a1860bca50fa"),
    ],
)
def test_the_bytes_of_a_seed_never_change(name: str, digest: str) -> None:
    """What was sent once must be a duplicate when a later version makes it and sends it again."""
    assert sha256(b"\n".join(made(name, 100, 42).events)).hexdigest() == digest


def test_customers_are_as_many_as_asked_and_unequally_busy() -> None:
    """A few have much, many have little; nobody is beyond the number."""
    counts = Counter(event["subject"] for event in read(made("azure-llm", 100)))
    assert len(counts) == 100
    assert max(counts) == "customer-000099"
    assert counts["customer-000000"] > 5 * counts["customer-000099"]
    assert {event["subject"] for event in read(made("azure-llm", 1))} == {"customer-000000"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: no column TIMESTAMP"),
        ("a,b\n1,2\n", "line 1: no column TIMESTAMP"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,5,x\n", "line 2: GeneratedTokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,5\n", "line 2: GeneratedTokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,5,6\n", "line 2: time"),
    ],
)
def test_another_file_is_refused_by_its_line(text: str, fault: str) -> None:
    """The first line that is at fault, and what is wrong with it."""
    with pytest.raises(InvalidInput, match=fault):
        from_trace("azure-llm", text.splitlines(keepends=True), 10, 1)


@pytest.mark.parametrize("customers", [0, -1, 1_000_001])
def test_there_is_at_least_one_customer_and_no_more_than_ids_can_tell_apart(customers: int) -> None:
    """Six digits."""
    with pytest.raises(InvalidInput, match="customers"):
        from_trace("azure-llm", [], customers, 1)
