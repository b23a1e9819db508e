"""The auditor itself: a load decided in memory satisfies it, and one unit of damage anywhere does not."""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.account import unpack_account
from schemas.ledger import ACCOUNT as ACCOUNT_INPUT
from schemas.ledger import USAGE as USAGE_INPUT
from tests.fakes.partition import NOW, MemoryPartition
from tests.faults.auditor import Auditor
from tests.faults.load import ACCOUNT, CATALOG, USAGE, Load

Rows = dict[tuple[str, int, int], dict[str, Any]]
INPUTS = {USAGE: USAGE_INPUT, ACCOUNT: ACCOUNT_INPUT}


def audited(seed: int, count: int = 6_000) -> tuple[Auditor, Rows, dict[str, int | None]]:
    """A load through one partition in memory, in batches of any size and with restarts between."""
    chance = random.Random(seed)
    partition, auditor = MemoryPartition(CATALOG), Auditor(lambda customer: 0)
    waiting = []
    for record in Load(seed, 50, "t", datetime.fromtimestamp(NOW / 10**6, UTC)).records(count):
        auditor.told(record.value, record.meaning)
        received = partition.received(record.value, INPUTS[record.topic])
        auditor.take(record.topic, 0, received.offset, record.value)
        waiting.append(received)
        if chance.random() < 0.005:
            partition.take(waiting)
            waiting = []
            if chance.random() < 0.3:
                partition.restart()
    partition.take(waiting)
    rows = {(row["topic"], 0, row["offset"]): row for row in partition.rows()}
    balances = {account.customer: account.balance for account in map(unpack_account, partition.told().values())}
    return auditor, rows, dict(balances)


def first(rows: Rows, **wanted: Any) -> tuple[str, int, int]:
    return next(place for place, row in rows.items() if all(row[name] == value for name, value in wanted.items()))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_load_decided_in_memory_satisfies_the_auditor(seed: int) -> None:
    """Every outcome, reason, charge, posting and balance, of all kinds that the load has."""
    auditor, rows, balances = audited(seed)
    assert auditor.compare(rows, balances) == []
    assert min(auditor.outcomes.values()) > 0
    reasons = {row["reason"] for row in rows.values()}
    assert {"conflict", "same_identity", "same_allocation", "zero", "no_effect", "not_json", "no_price"} <= reasons


def test_one_unit_of_damage_is_named() -> None:
    """A nano of an amount, a posting, a balance; an entry too few, too many, of another outcome or reason."""
    auditor, rows, balances = audited(7, 2_000)

    def damaged(change: Any) -> list[str]:
        copied, held = copy.deepcopy(rows), dict(balances)
        change(copied, held)
        return auditor.compare(copied, held)

    charged = next(place for place, row in rows.items() if row["charges"] and row["postings"])
    customer = rows[charged]["customer"]

    def charge(copied: Rows, _: Any) -> None:
        copied[charged]["charges"][0]["amount"] += 1

    def quantity(copied: Rows, _: Any) -> None:
        copied[charged]["charges"][0]["quantity"] += 1

    def posting(copied: Rows, _: Any) -> None:
        copied[charged]["postings"][0]["amount"] -= 1

    def balance(_: Any, held: dict[str, int | None]) -> None:
        held[customer] = (held[customer] or 0) + 1

    def lost(copied: Rows, _: Any) -> None:
        del copied[charged]

    def made_up(copied: Rows, _: Any) -> None:
        copied[USAGE, 0, 10**9] = copied[charged]

    def twice(copied: Rows, _: Any) -> None:
        repeat = first(copied, outcome="duplicate", reason="same_identity")
        copied[repeat] |= {"outcome": "rated", "reason": ""}

    def misnamed(copied: Rows, _: Any) -> None:
        copied[first(copied, reason="conflict")]["reason"] = "no_price"

    for change in (charge, quantity, posting, balance, lost, made_up, twice, misnamed):
        assert damaged(change), change.__name__
    assert damaged(lambda copied, held: None) == []


def test_a_load_is_the_same_for_a_seed() -> None:
    """Byte for byte, so that a failed storm can be sent again."""
    now = datetime(2026, 11, 18, tzinfo=UTC)
    one, other = (list(Load(5, 20, "t", now).records(2_000)) for _ in range(2))
    assert one == other
    assert one != list(Load(6, 20, "t", now).records(2_000))
