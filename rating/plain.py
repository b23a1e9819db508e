"""Taking plain events in runs: what they cost is known (`rating.columns`), so that only money moves one by one.

A run ends before the first event for which anything is out of the ordinary: its customer is new, has a plan, terms,
several or expiring credits, has just no money left, or the record is full. That one
goes the general way, and a new run may begin after it. What a run writes is, byte for byte, what the general way would
have written; a law holds it to that.

While runs go on, the wallets of the batch's customers are columns of numbers. An account is brought up to date before
an event that is not plain looks at it, and when the batch is decided.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rating.chunk import Chunk
from rating.columns import Numbers, Priced
from rating.draft import Taken
from rating.names import NOBODY, Names
from rating.weights import CHARGE_BYTES, account_bytes, utf8
from schemas.account import Account
from schemas.compiled import compiled
from schemas.limits import AMOUNT_MAX_NANOS, LEDGER_CHUNK_MAX_BYTES

_MODEST: Final = AMOUNT_MAX_NANOS // 4
_BURNT_BYTES: Final = 22
_ASK: Final = -1
"""A weight that changes with the account's values: it is asked for when the account is changed first."""

_UNKNOWN, _USUAL, _UNUSUAL = range(3)
_RAN, _GENERAL, _LOOK, _WEIGH, _NAME = range(5)
"""Why a run ends: it is over; an event has to go the general way; its account is not known, or not weighed; the rates
of its tariff, which is taken, are not in the chunk's table yet."""

_OF_WALLET, _PRICED, _OF_ROW = 9, 6, 10


class Plain:
    """The plain events of a batch."""

    def __init__(self, priced: Priced, names: Names, accounts: dict[str, Account]) -> None:
        self._priced = priced
        self._names = names
        self._accounts = accounts
        size = len(names.keys)
        self._wallets = np.zeros((_OF_WALLET, size), np.int64)
        """By account: see below. A call of a compiled loop costs by the arrays it is given, so they are one."""
        (
            self._state,
            self._balance,
            self._remaining,
            self._credit,
            self._credit_bytes,
            self._currency,
            self._bytes,
            self._touched,
            self._changed,
        ) = self._wallets
        self._rows = np.zeros((_OF_ROW, len(priced.places)), np.int64)
        """By row: what is priced, and what becomes of it."""
        self._rows[:_PRICED] = (
            priced.places,
            priced.accounts,
            priced.tariffs,
            priced.totals,
            priced.counts,
            priced.weights,
        )
        self._taken, self._below, self._after, self._burnt = self._rows[_PRICED:]
        self._weighed_late: list[int] = []
        self._codes: dict[str, int] = {}
        self._tariffs = np.zeros((2, len(priced.currencies)), np.int64)
        """By tariff: its currency, and whether the chunk's table has its rates."""
        self._tariffs[0] = [self._code(currency) for currency in priced.currencies]
        self._credits: list[str] = []
        self._order = np.zeros(size, np.int64)
        self._chunk: Chunk | None = None
        for account in np.unique(priced.accounts).tolist():
            self._look(account)

    def begin(self, chunk: Chunk, base: int) -> None:
        """A chunk, which begins with event `base` of the batch."""
        self._chunk = chunk
        self._base = base
        self._touched[:] = 0
        self._places = np.full(len(self._priced.table), -1)
        self._tariffs[1] = 0
        self._bytes[self._weighed_late] = _ASK

    def release(self, index: int) -> None:
        """An account is looked at, and maybe changed, by an event that is not plain."""
        account = int(self._names.account[self._base + index])
        if account != NOBODY:
            self._put_back(account)
            self._state[account] = _UNKNOWN

    def flush(self) -> None:
        """Brings all accounts up to date."""
        for account in np.flatnonzero(self._changed).tolist():
            self._put_back(account)

    def take(self, index: int, count: int) -> int:
        """Takes a run of plain events from `index` on and before `count`; where it ends.

        Without any that is `index`."""
        chunk, priced = self._chunk, self._priced
        assert chunk is not None
        row = int(priced.rows[self._base + index])
        if row < 0:
            return index
        chunk.weigh_rates()
        general = CHARGE_BYTES * chunk.charged
        why = _RAN
        while True:
            room = LEDGER_CHUNK_MAX_BYTES if index else 10 * LEDGER_CHUNK_MAX_BYTES  # the first one always fits
            before = row
            row, weight, touched, why = _take(
                row,
                self._base + index,
                self._base + count,
                chunk.weight + general,
                room,
                LEDGER_CHUNK_MAX_BYTES,
                CHARGE_BYTES,
                _MODEST,
                self._rows,
                self._tariffs,
                self._wallets,
                self._order,
            )
            index += row - before
            chunk.weight = weight - general
            for account in self._order[:touched].tolist():
                key = self._names.keys[account]
                chunk.decision.touched[key] = self._accounts[key]
            if why == _NAME:
                self._name(chunk, int(priced.tariffs[row - 1]))
            elif why == _LOOK:
                self._look(int(priced.accounts[row]))
            elif why == _WEIGH:
                self._weigh(int(priced.accounts[row]))
            else:
                break
        # None goes into `chunk.booked`: each of them comes once in the batch, so nobody in it asks for them.
        return index

    def taken(self, count: int) -> Taken | None:
        """What was taken of the chunk, which has so many entries; None: nothing."""
        places = self._priced.places
        first, last = np.searchsorted(places, (self._base, self._base + count)).tolist()
        rows = np.flatnonzero(self._taken[first:last]) + first
        if not len(rows):
            return None
        entries = places[rows] - self._base
        return Taken(
            self._priced,
            rows,
            entries,
            self._places,
            self._after[rows],
            entries[self._below[rows] != 0].tolist(),
            self._credits,
            self._burnt[rows],
        )

    def _code(self, currency: str) -> int:
        return self._codes.setdefault(currency, len(self._codes))

    def _look(self, number: int) -> None:
        """Takes an account's values into the columns."""
        key = self._names.keys[number]
        account = self._accounts.get(key)
        if account is None or not _usual(account):
            self._state[number] = _UNUSUAL
            return
        self._state[number] = _USUAL
        self._balance[number] = account.balance
        self._currency[number] = self._code(account.currency)
        self._remaining[number] = -1
        self._credit[number] = -1
        if account.grants:
            (grant,) = account.grants
            self._remaining[number] = grant.remaining
            self._credit[number] = len(self._credits)
            self._credits.append(grant.credit_id)
            self._credit_bytes[number] = utf8(grant.credit_id)
        self._touched[number] = self._chunk is not None and key in self._chunk.decision.touched
        if account.counters or account.allocations:
            self._weighed_late.append(number)
            self._bytes[number] = _ASK
        else:
            self._bytes[number] = account_bytes(account, key)

    def _weigh(self, number: int) -> None:
        key = self._names.keys[number]
        self._put_back(number)
        self._bytes[number] = account_bytes(self._accounts[key], key)

    def _put_back(self, number: int) -> None:
        """Brings an account up to date."""
        if not self._changed[number]:
            return
        self._changed[number] = 0
        account = self._accounts[self._names.keys[number]]
        account.balance = int(self._balance[number])
        if self._remaining[number] >= 0:
            account.grants[0].remaining = int(self._remaining[number])

    def _name(self, chunk: Chunk, tariff: int) -> None:
        """Takes the rates of a tariff into the chunk's table, and what the new ones weigh."""
        for rate in self._priced.of_tariffs[tariff]:
            self._places[rate] = chunk.table.place(self._priced.table[rate])
        self._tariffs[1, tariff] = 1
        chunk.weigh_rates()


def _usual(account: Account) -> bool:
    """Whether nothing but the balance, and one credit at most, has a say in what a charge does."""
    terms, grants = account.terms, account.grants
    if account.plan or account.spans or account.closed_at or terms.collection or terms.own or terms.top_up_amount:
        return False
    if grants:
        grant = grants[0]
        if len(grants) > 1 or grant.scope or grant.expires_at or grant.remaining > _MODEST:
            return False
    return account.balance >= -_MODEST


@compiled
def _take(
    row: int,
    place: int,
    stop: int,
    weight: int,
    room: int,
    room_after: int,
    charge_bytes: int,
    modest: int,
    rows: Numbers,
    of_tariffs: Numbers,
    wallets: Numbers,
    order: Numbers,
) -> tuple[int, int, int, int]:
    """Takes rows from that of `place` on, while they follow on one another: the row after, the chunk's weight, how many
    accounts were changed first, which are in `order`, and why it ends."""
    places, accounts, tariffs, totals, counts, weights = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    taken, below, after, burnt = rows[6], rows[7], rows[8], rows[9]
    currencies, known = of_tariffs[0], of_tariffs[1]
    state, balance, remaining, credit, credit_bytes = wallets[0], wallets[1], wallets[2], wallets[3], wallets[4]
    currency, sizes, touched, changed = wallets[5], wallets[6], wallets[7], wallets[8]
    newly = 0
    while row < len(places) and places[row] == place and place < stop:
        account, tariff, total = accounts[row], tariffs[row], totals[row]
        if state[account] == _UNKNOWN:
            return row, weight, newly, _LOOK
        if state[account] == _UNUSUAL or currency[account] != currencies[tariff]:
            return row, weight, newly, _GENERAL
        found = balance[account]
        left = found - total
        if left < 0 and (found >= 0 or found < -modest):
            return row, weight, newly, _GENERAL
        more = weights[row]
        if not touched[account]:
            if sizes[account] < 0:
                return row, weight, newly, _WEIGH
            more += sizes[account]
        if weight + more > room:
            return row, weight, newly, _GENERAL
        if remaining[account] >= 0:
            if remaining[account] <= total:
                return row, weight, newly, _GENERAL
            remaining[account] -= total
            more += _BURNT_BYTES + credit_bytes[account]
        # From here on it is decided.
        burnt[row] = credit[account]
        below[row] = 1 if found < 0 else 0
        if not touched[account]:
            touched[account] = 1
            order[newly] = account
            newly += 1
        balance[account] = left
        changed[account] = 1
        after[row] = left
        weight += more + charge_bytes * counts[row]
        room = room_after
        taken[row] = 1
        row += 1
        place += 1
        if not known[tariff]:
            return row, weight, newly, _NAME
    return row, weight, newly, _RAN
