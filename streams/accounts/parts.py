"""What is applied to Redis, cut so that no script call holds it for long, and the names of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.documents import OPERATION, kind_of
from streams.accounts.port import HoldEnd
from streams.admission.keys import hold_keys, sweep_key
from streams.admission.values import digits

PART_MAX_ACCOUNTS: Final = 400
"""Accounts in one script call: some 0.3 ms of Redis, so that no check waits longer for it."""

HOLD_WEIGHT: Final = 20
"""What ending a hold costs, in accounts."""


def account_key(partition: int, account: str) -> str:
    """Where a packed account lies."""
    return f"{{{partition}}}:a:{account}"


def document_key(partition: int, document: str) -> str:
    """Where a document's body lies."""
    return f"{{{partition}}}:d:{document}"


@dataclass(slots=True)
class Part:
    """What one script call applies."""

    values: dict[str, bytes] = field(default_factory=dict)
    """By key."""
    brief: list[str] = field(default_factory=list)
    """Keys that are kept for a while only."""
    endings: dict[str, list[HoldEnd]] = field(default_factory=dict)
    """By account key."""
    weight: int = 0

    def arguments(self, partition: int) -> tuple[list[str], list[str | bytes | int]]:
        """KEYS and ARGV of the script, from KEYS[3] and ARGV[12] on."""
        places = {key: place for place, key in enumerate(self.values, 3)}
        keys = list(self.values)
        tail: list[str | bytes | int] = [len(self.values), len(self.brief), *self.values.values()]
        tail += [places[key] for key in self.brief]
        if self.endings:
            keys.append(sweep_key(partition))
        for account, told in self.endings.items():
            keys += hold_keys(partition, account)
            tail += [account, len(told)]
            for end in told:
                tail += [end.hold_id, end.state, digits(end.charged), digits(end.seq), len(end.used)]
                for meter, quantity in end.used:
                    tail += [meter, digits(quantity)]
        return keys, tail


def parts_of(
    partition: int, accounts: Mapping[str, bytes], documents: Mapping[str, bytes], endings: Sequence[HoldEnd]
) -> Iterator[Part]:
    """Cuts what is to be applied. A customer's holds end in the part that has its account, or, where they are too many,
    right behind it: for a moment less looks available than is, never more."""
    of_account: dict[str, list[HoldEnd]] = {}
    for end in endings:
        of_account.setdefault(end.account, []).append(end)
    part = Part()
    for account in (*accounts, *(account for account in of_account if account not in accounts)):
        if account in accounts:
            part.values[account_key(partition, account)] = accounts[account]
            part.weight += 1
        told = of_account.get(account, [])
        while told:
            some = max((PART_MAX_ACCOUNTS - part.weight) // HOLD_WEIGHT, 1)
            part.endings[account], told = told[:some], told[some:]
            part.weight += HOLD_WEIGHT * len(part.endings[account])
            if told:
                yield part
                part = Part()
        if part.weight >= PART_MAX_ACCOUNTS:
            yield part
            part = Part()
    for document, body in documents.items():
        key = document_key(partition, document)
        part.values[key] = body
        part.weight += 1
        if kind_of(document) == OPERATION:
            part.brief.append(key)
        if part.weight >= PART_MAX_ACCOUNTS:
            yield part
            part = Part()
    if part.weight:
        yield part
