from __future__ import annotations

import pytest

from api.balances import Balances
from schemas.account import Account, account_key, pack_account
from schemas.errors import Unavailable
from streams.accounts.port import Position
from tests.fakes.api import FakeAccounts

ACCOUNT = Account(1, "acme", "c", "USD", 5, [], {}, "")


async def one_partition() -> int:
    return 1


def balances() -> tuple[FakeAccounts, Balances]:
    accounts = FakeAccounts()
    accounts.packed[account_key("acme", "c")] = pack_account(ACCOUNT)
    return accounts, Balances(accounts, one_partition, wait_seconds=0)


async def test_an_account_is_read_once_its_partition_beats() -> None:
    """The first question waits for a beat; a customer that is not there is None."""
    _, asked = balances()
    assert await asked.account("acme", "c") == ACCOUNT
    assert await asked.account("acme", "d") is None
    assert await asked.account("globex", "c") is None


async def test_a_partition_without_a_beat_is_not_trusted_at_first() -> None:
    """What a process finds at its start may be old until its owner has compared it."""
    accounts, asked = balances()
    accounts.still = True
    with pytest.raises(Unavailable):
        await asked.account("acme", "c")


async def test_a_trusted_partition_stays_so_without_a_beat() -> None:
    """A worker that is away changes nothing in what was applied."""
    accounts, asked = balances()
    await asked.account("acme", "c")
    accounts.still = True
    assert await asked.account("acme", "c") == ACCOUNT


async def test_after_an_outage_a_new_beat_is_needed() -> None:
    """Redis may have come back with less than it had."""
    accounts, asked = balances()
    await asked.account("acme", "c")
    accounts.away, accounts.still = True, True
    with pytest.raises(Unavailable):
        await asked.account("acme", "c")
    accounts.away = False
    with pytest.raises(Unavailable):
        await asked.account("acme", "c")
    accounts.beat += 500
    assert await asked.account("acme", "c") == ACCOUNT


async def test_a_position_that_went_back_is_not_trusted() -> None:
    """A store set back to an earlier copy, without a connection lost, is noticed by its position."""
    accounts, asked = balances()
    await asked.account("acme", "c")
    accounts.positions[0], accounts.still = Position("ledger", 6, 2), True
    with pytest.raises(Unavailable):
        await asked.account("acme", "c")


async def test_a_partition_that_is_rebuilt_or_empty_is_not_answered_from() -> None:
    """A wiped store says nothing about its customers: 503, never 404."""
    accounts, asked = balances()
    accounts.serving = False
    with pytest.raises(Unavailable):
        await asked.account("acme", "c")
    with pytest.raises(Unavailable):
        await asked.account("acme", "nobody")
