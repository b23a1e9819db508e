"""What a chunk's entries say, while it is decided: what general events put down one by one, and which plain events were
taken. `columns` makes the ledger's columns of both.

Charges and postings of general events lie in lists of their own, as if plain events had none; where some index one of
them (`charge_before`, `posting_cause`, `burnt`) it is in these lists.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rating.columns import Numbers, Priced
from rating.names import Names
from rating.wallet import Burnt
from schemas.ledger import BELOW_ZERO, FINGERPRINT_BYTES, PostingKind, Rate
from schemas.ledger_packed import Columns, pack_quantities
from schemas.outcome import Outcome
from schemas.packing import Texts, Words, pack_counts, pack_int64s, pack_texts
from schemas.spans import joined, pack_codes, pack_spans

_CHARGE: Final = int(PostingKind.CHARGE)
_OF_COUNT: Final = "I"


@dataclass(slots=True)
class Taken:
    """The plain events of a chunk that were taken: rows of the batch's priced ones, and what became of the wallets."""

    priced: Priced
    rows: Numbers
    entries: Numbers
    """By row: its entry."""
    places: Numbers
    """By rate of the batch: its place in the chunk's table."""
    balances: Numbers
    """By row: the wallet's balance after it."""
    below_zero: list[int]
    """Entries that found their wallet below zero."""
    credits: Sequence[str]
    burnt: Numbers
    """By row: the credit that it burnt, an index into those; -1: none."""


@dataclass(slots=True)
class Draft:
    """As `schemas.ledger.Entries`, where it names the same."""

    outcome: bytearray
    charges: array[int]
    postings: array[int]
    fingerprints: dict[int, bytes] = field(default_factory=dict)
    """By entry index."""
    charge_rate: list[int] = field(default_factory=list)
    charge_quantity: list[int | str] = field(default_factory=list)
    charge_amount: list[int] = field(default_factory=list)
    charge_before: dict[int, int | str] = field(default_factory=dict)
    posting_kind: list[int] = field(default_factory=list)
    posting_amount: list[int] = field(default_factory=list)
    posting_balance: list[int] = field(default_factory=list)
    posting_currency: list[str] = field(default_factory=list)
    posting_cause: dict[int, str] = field(default_factory=dict)
    burnt: dict[int, Burnt] = field(default_factory=dict)
    rates: list[Rate] = field(default_factory=list)
    reason: dict[int, str] = field(default_factory=dict)
    flags: dict[int, int] = field(default_factory=dict)
    upstream_cost: dict[int, str] = field(default_factory=dict)
    subscription_id: dict[int, str] = field(default_factory=dict)
    documents: dict[int, list[tuple[str, str, bytes]]] = field(default_factory=dict)
    hold_ends: dict[int, list[tuple[str, str, int]]] = field(default_factory=dict)

    def booked(self, taken: Taken | None) -> NDArray[np.uint8]:
        """All that the entries book, identity and content end to end."""
        general = np.frombuffer(b"".join(self.fingerprints.values()), np.uint8).reshape(-1, FINGERPRINT_BYTES)
        return general if taken is None else np.concatenate((general, taken.priced.fingerprints[taken.rows]))

    @classmethod
    def of(cls, count: int) -> Draft:
        """With room for so many entries, all of them rated."""
        return cls(
            bytearray([int(Outcome.RATED)]) * count,
            array(_OF_COUNT, bytes(4 * count)),
            array(_OF_COUNT, bytes(4 * count)),
        )

    def columns(
        self,
        names: Names,
        start: int,
        stop: int,
        taken: Taken | None,
        told_as: Mapping[int, str],
        used_by: Mapping[int, tuple[str, str]],
    ) -> Columns:
        """The columns of the batch's records from `start` on and before `stop`. `told_as`: by entry, its event type
        where that is not its record's; `used_by`: by entry, user and device of an event that itself may name neither.

        Errors: OverflowError for a number beyond its column."""
        count = stop - start
        charges = np.frombuffer(self.charges, np.uint32)[:count].astype(np.int64)
        postings = np.frombuffer(self.postings, np.uint32)[:count].astype(np.int64)
        plain = np.zeros(count, np.bool_)
        if taken is not None:
            plain[taken.entries] = True
            charges[taken.entries] = taken.priced.counts[taken.rows]
            postings[taken.entries] = 1
        charged, posted = _Flat(plain, charges), _Flat(plain, postings)
        kinds = posted.merged(np.array(self.posting_kind, np.uint8), _CHARGE)
        rates, quantities, amounts = self._charges(charged, taken)
        moved, balances, flags = pack_int64s(self.posting_amount), pack_int64s(self.posting_balance), self.flags
        if taken is not None:
            moved = posted.merged(np.frombuffer(moved, np.int64), -taken.priced.totals[taken.rows]).tobytes()
            balances = posted.merged(np.frombuffer(balances, np.int64), taken.balances).tobytes()
            if taken.below_zero:
                flags = dict(sorted({**flags, **dict.fromkeys(taken.below_zero, BELOW_ZERO)}.items()))
        event_type = names.event_type.codes[start:stop]
        types = names.event_type.words
        for index, told in told_as.items():
            if index < count:
                types, event_type = _with(types, event_type, index, told)
        user_id = names.user_id.pack(start, stop)
        device_id = names.given(names.device_id, start, stop)
        used = {index: who for index, who in used_by.items() if index < count}
        if used:
            users = [names.user_id[place] for place in range(start, stop)]
            for index, (user, device) in used.items():
                users[index] = users[index] or user
                if device:
                    device_id.setdefault(index, device)
            user_id = pack_texts(users)
        return Columns(
            names.input[start:stop].tobytes(),
            names.offset[start:stop].tobytes(),
            bytes(self.outcome[:count]),
            names.tenant.pack(start, stop),
            names.customer.pack(start, stop),
            names.source.pack(start, stop),
            names.event_id.pack(start, stop),
            pack_codes(types, event_type),
            self._fingerprints(count, taken),
            names.occurred_at[start:stop].tobytes(),
            names.received_at[start:stop].tobytes(),
            user_id,
            names.session_id.pack(start, stop),
            charges.astype(np.uint32).tobytes(),
            postings.astype(np.uint32).tobytes(),
            rates,
            quantities,
            amounts,
            kinds.tobytes(),
            moved,
            balances,
            self._currencies(posted, taken),
            self.rates,
            self.reason,
            flags,
            device_id,
            names.given(names.allocation_id, start, stop),
            names.given(names.hold_id, start, stop),
            self.upstream_cost,
            charged.moved(self.charge_before),
            posted.moved(self.posting_cause),
            *self._burnt(posted, taken),
            self.subscription_id,
            self.documents,
            self.hold_ends,
        )

    def _charges(self, charged: _Flat, taken: Taken | None) -> tuple[bytes, bytes | list[int | str], bytes]:
        """Rates, quantities and amounts."""
        rates, quantities = pack_counts(self.charge_rate), pack_quantities(self.charge_quantity)
        amounts = pack_int64s(self.charge_amount)
        if taken is None:
            return rates, quantities, amounts
        priced = taken.priced
        chosen = priced.charges_of(taken.rows)
        rate = charged.merged(np.frombuffer(rates, np.uint32), taken.places[priced.rates[chosen]])
        amount = charged.merged(np.frombuffer(amounts, np.int64), priced.amounts[chosen])
        if isinstance(quantities, bytes):
            quantity = charged.merged(np.frombuffer(quantities, np.int64), priced.quantities[chosen])
            return rate.tobytes(), quantity.tobytes(), amount.tobytes()
        texts = charged.merged(np.array(quantities, object), priced.quantities[chosen]).tolist()
        return rate.tobytes(), texts, amount.tobytes()

    def _currencies(self, posted: _Flat, taken: Taken | None) -> Words:
        place_of: dict[str, int] = {}
        of_general = [place_of.setdefault(currency, len(place_of)) for currency in self.posting_currency]
        codes = np.array(of_general, np.int32)
        if taken is not None:
            priced = taken.priced
            of_tariff = [place_of.setdefault(currency, len(place_of)) for currency in priced.currencies]
            codes = posted.merged(codes, np.array(of_tariff, np.int32)[priced.tariffs[taken.rows]])
        return pack_codes(list(place_of), codes)

    def _fingerprints(self, count: int, taken: Taken | None) -> Texts:
        of_general = joined(list(self.fingerprints.values()), np.empty(0, np.uint8))
        buffer = of_general.buffer
        starts, sizes = np.zeros(count, np.int32), np.zeros(count, np.int32)
        general = list(self.fingerprints)
        starts[general], sizes[general] = of_general.starts, of_general.sizes
        if taken is not None:
            first, last = int(taken.rows[0]), int(taken.rows[-1])
            starts[taken.entries] = (taken.rows - first) * FINGERPRINT_BYTES + len(buffer)
            sizes[taken.entries] = FINGERPRINT_BYTES
            buffer = np.concatenate((buffer, taken.priced.fingerprints[first : last + 1].ravel()))
        return pack_spans(buffer, starts, sizes)

    def _burnt(self, posted: _Flat, taken: Taken | None) -> tuple[bytes, Texts, bytes]:
        """Of each credit that was burnt: the posting, the credit and the nanos."""
        parts = [(posting, *part) for posting in sorted(self.burnt) for part in self.burnt[posting]]
        credit_ids = [credit_id for _, credit_id, _ in parts]
        if taken is None:
            return (
                pack_counts(posting for posting, _, _ in parts),
                pack_texts(credit_ids),
                pack_int64s(amount for _, _, amount in parts),
            )
        general = posted.general()[[posting for posting, _, _ in parts]]
        by_plain = taken.burnt >= 0
        postings = np.concatenate((general, np.flatnonzero(posted.plain)[by_plain]))
        of_parts = np.array([amount for _, _, amount in parts], np.int64)
        amounts = np.concatenate((of_parts, taken.priced.totals[taken.rows][by_plain]))
        spans = joined([credit_id.encode() for credit_id in (*taken.credits, *credit_ids)], np.empty(0, np.uint8))
        of_general = np.arange(len(taken.credits), len(spans))
        codes = np.concatenate((of_general, taken.burnt[by_plain]))
        order = np.argsort(postings, kind="stable")
        codes = codes[order]
        return (
            postings[order].astype(np.uint32).tobytes(),
            pack_spans(spans.buffer, spans.starts[codes], spans.sizes[codes]),
            amounts[order].tobytes(),
        )


class _Flat:
    """A flat column of both: of each value whether it is a plain event's."""

    def __init__(self, plain: NDArray[np.bool_], counts: Numbers) -> None:
        self.plain = np.repeat(plain, counts)

    def merged(self, of_general: NDArray[Any], of_plain: NDArray[Any] | int) -> NDArray[Any]:
        """The values of both, in the order of entries; as wide as those of general events."""
        column = np.empty(len(self.plain), of_general.dtype)
        column[self.plain] = of_plain
        column[~self.plain] = of_general
        return column

    def general(self) -> Numbers:
        """Where the values of general events stand."""
        return np.flatnonzero(~self.plain)

    def moved(self, by_index: dict[int, Any]) -> dict[int, Any]:
        """What general events have by index, by where it stands."""
        if not by_index:
            return by_index
        places = self.general().tolist()
        return {places[index]: value for index, value in by_index.items()}


def _with(words: list[str], codes: NDArray[np.int32], index: int, word: str) -> tuple[list[str], NDArray[np.int32]]:
    """A column of words with another word at an index."""
    words = words if word in words else [*words, word]
    codes = codes.copy()
    codes[index] = words.index(word)
    return words, codes
