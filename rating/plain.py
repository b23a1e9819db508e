"""Deciding plain events in runs: what they cost is known (`rating.columns`), so that only money moves one by one.

A run ends before the first event for which anything is out of the ordinary: its customer is new, has a plan, terms,
several or expiring credits, has just no money left, or the record is full. That one
goes the general way, and a new run may begin after it. What a run writes is, byte for byte, what the general way would
have written; a law holds it to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import neg
from typing import Final

from rating.chunk import CHARGE_BYTES, Chunk, account_bytes, utf8
from rating.columns import Priced
from schemas.account import Account
from schemas.ledger import BELOW_ZERO, PostingKind
from schemas.limits import AMOUNT_MAX_NANOS, LEDGER_CHUNK_MAX_BYTES

_CHARGE: Final = int(PostingKind.CHARGE)
_NOBODY: Final = (None, None)
_MODEST: Final = AMOUNT_MAX_NANOS // 4


class Plain:
    """The plain events of a chunk, which begins with event `base` of the batch that was priced."""

    def __init__(self, chunk: Chunk, priced: Priced, base: int) -> None:
        self._chunk = chunk
        self._priced = priced
        self._base = base
        self._places = [-1] * len(priced.table)
        """Of the priced batch's rates: their places in the chunk's table."""
        self._known = [False] * len(priced.of_tariffs)

    def forget(self, key: str) -> None:
        """An account is changed by an event that is not plain: it has to be looked at again."""
        self._priced.usual.pop(key, None)

    def take(self, index: int, keys: Sequence[str]) -> int:
        """Decides a run of plain events from `index` on; where it ends. Without any that is `index`."""
        chunk, priced = self._chunk, self._priced
        first = priced.rows[self._base + index]
        if first < 0:
            return index
        chunk.weigh_rates()
        last = min(priced.ends[first], first + len(keys) - index)
        begun, usual, touched, known = index, priced.usual, chunk.decision.touched, self._known
        burnt, flags, posting = chunk.entries.burnt, chunk.entries.flags, len(chunk.entries.posting_kind)
        room = LEDGER_CHUNK_MAX_BYTES if index else 10 * LEDGER_CHUNK_MAX_BYTES  # the first one always fits
        weight, of_charges = chunk.weight + CHARGE_BYTES * chunk.charged, 0
        balances: list[int] = []
        for key, total, tariff, more, count in zip(
            keys[index : index + last - first],
            priced.totals[first:last],
            priced.tariffs[first:last],
            priced.weights[first:last],
            priced.counts[first:last],
            strict=True,
        ):
            account, size = usual.get(key, _NOBODY)
            if account is None:
                account = chunk.accounts.get(key)
                if account is None or not _usual(account, priced.currencies[tariff]):
                    break
                # What it weighs does not change as long as charges alone move it.
                size = account_bytes(account, key) if not (account.counters or account.allocations) else None
                usual[key] = account, size
            elif account.currency != priced.currencies[tariff]:
                break
            found, grants = account.balance, account.grants
            left = found - total
            if left < 0 and (found >= 0 or found < -_MODEST):
                break
            if key not in touched:
                more += account_bytes(account, key) if size is None else size
            if weight + more > room:
                break
            if grants:
                grant = grants[0]
                if grant.remaining <= total:
                    break
                grant.remaining -= total
                burnt[posting] = [(grant.credit_id, total)]
                more += 22 + utf8(grant.credit_id)
            # From here on it is decided.
            if found < 0:
                flags[index] = BELOW_ZERO
            touched[key] = account
            account.balance = left
            balances.append(left)
            weight += more + CHARGE_BYTES * count
            of_charges += CHARGE_BYTES * count
            room = LEDGER_CHUNK_MAX_BYTES
            if not known[tariff]:
                weight += self._name(tariff)
            posting += 1
            index += 1
        if index > begun:
            chunk.weight = weight - of_charges - CHARGE_BYTES * chunk.charged
            self._write(begun, index, first, first + index - begun, balances)
        return index

    def _name(self, tariff: int) -> int:
        """Takes the rates of a tariff into the chunk's table; what the new ones weigh."""
        chunk = self._chunk
        before = chunk.weight
        for rate in self._priced.of_tariffs[tariff]:
            self._places[rate] = chunk.table.place(self._priced.table[rate])
        self._known[tariff] = True
        chunk.weigh_rates()
        return chunk.weight - before

    def _write(self, begun: int, end: int, first: int, last: int, balances: list[int]) -> None:
        """Puts a run into the columns: entries from `begun` to `end`, rows from `first` to `last`."""
        chunk, priced = self._chunk, self._priced
        entries, decision = chunk.entries, chunk.decision
        start, stop = priced.starts[first], priced.starts[last]
        entries.charge_rate += [self._places[rate] for rate in priced.rates[start:stop]]
        entries.charge_quantity += priced.quantities[start:stop]
        entries.charge_amount += priced.amounts[start:stop]
        chunk.charged = len(entries.charge_amount)
        entries.charges[begun:end] = priced.counts[first:last]
        entries.postings[begun:end] = repeat(1, end - begun)
        entries.posting_kind += repeat(_CHARGE, end - begun)
        entries.posting_amount += map(neg, priced.totals[first:last])
        entries.posting_balance += balances
        entries.posting_currency += [priced.currencies[tariff] for tariff in priced.tariffs[first:last]]
        identities, contents = priced.identities[first:last], priced.contents[first:last]
        entries.fingerprints[begun:end] = priced.fingerprints[first:last]
        decision.identities += identities
        decision.contents += contents
        # Not into `chunk.booked`: each of them comes once in the batch, so nobody in it asks for them.


def _usual(account: Account, currency: str) -> bool:
    """Whether nothing but the balance, and one credit at most, has a say in what a charge does."""
    terms, grants = account.terms, account.grants
    if account.plan or account.spans or account.closed_at or terms.collection or terms.own or terms.top_up_amount:
        return False
    if grants:
        grant = grants[0]
        if len(grants) > 1 or grant.scope or grant.expires_at or grant.remaining > _MODEST:
            return False
    return account.currency == currency and account.balance >= -_MODEST
