"""The law that recovery leans on: the same records under the same catalogues give the same bytes, whoever decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from schemas.catalog import parse
from schemas.outcome import Outcome
from tests.architecture.sources import ROOT
from tests.laws.replay import catalog


def started(hash_seed: str, events: int) -> subprocess.Popen[str]:
    """A replay in a process that hashes in an order of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.laws.replay", str(events)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def answer(replay: subprocess.Popen[str]) -> dict[str, Any]:
    """What it came to."""
    with replay:
        told, _ = replay.communicate()
    assert replay.returncode == 0
    found: dict[str, Any] = json.loads(told)
    return found


@pytest.mark.parametrize("events", [30_000, pytest.param(300_000, marks=pytest.mark.long)])
def test_a_replay_gives_the_same_bytes(events: int) -> None:
    """Events under two catalogue versions, twice, in two processes: ledger records, accounts and messages.

    Every price and every outcome takes part, so that nothing is the same for want of happening.
    """
    first, second = [answer(replay) for replay in [started("1", events), started("2", events)]]
    assert first == second
    assert first["entries"] == events
    assert set(first["outcomes"]) == {outcome.name for outcome in Outcome}
    assert set(first["charges"]) == {price.id for price in parse(catalog("1")).prices}
    assert {"conflict", "same_identity", "zero", "no_price", "missing_field"} <= set(first["reasons"])
