"""What a process of admission saw last: accounts beside their bytes, how far open holds reach, and holds it granted.

None of it is trusted: the scripts compare it with what stands, so what is old costs a round, never an answer. Bounded.
"""

from __future__ import annotations

import itertools
from typing import Final

from rating.admission import Assessment
from schemas.account import Account, bytes_of_terms, unpack_account
from streams.admission.values import Refused

ACCOUNTS_KEPT: Final = 20_000
HOLDS_KEPT: Final = 20_000
"""Holds that this process granted and can bring back, should Redis lose them."""


class Seen:
    """By account key: the account, and how much of each meter open holds reach for beyond what is used."""

    def __init__(self) -> None:
        self._accounts: dict[str, tuple[bytes | None, Account | None]] = {}
        self._terms: dict[str, int | None] = {}
        self._reach: dict[str, dict[str, int]] = {}

    def account(self, key: str) -> tuple[bytes | None, Account | None]:
        """Its bytes and what they say; nothing of an account that was not seen, or that nobody has."""
        return self._accounts.get(key, (None, None))

    def take(self, key: str, packed: bytes | None) -> None:
        """The account as it stands now."""
        if len(self._accounts) >= ACCOUNTS_KEPT:
            for old in list(itertools.islice(self._accounts, ACCOUNTS_KEPT // 4)):
                del self._accounts[old]
                self._terms.pop(old, None)
        self._accounts[key] = (packed, unpack_account(packed) if packed is not None else None)
        self._terms.pop(key, None)

    def terms_bytes(self, key: str) -> int | None:
        """See `bytes_of_terms`; None of an account that was not seen."""
        if key in self._terms:
            return self._terms[key]
        packed, account = self.account(key)
        if packed is None or account is None:
            return None
        found = self._terms[key] = bytes_of_terms(account, packed)
        return found

    def reach(self, key: str) -> dict[str, int] | None:
        """What holds reach for, as last seen."""
        return self._reach.get(key)

    def take_reach(self, key: str, assessment: Assessment, held: tuple[int, ...]) -> None:
        """What holds reach for now."""
        reach = reach_after(assessment, held)
        if reach:
            if len(self._reach) >= ACCOUNTS_KEPT:
                self._reach.clear()
            self._reach.setdefault(key, {}).update(reach)

    def take_reach_of(self, key: str, assessment: Assessment, answer: Refused) -> bool:
        """Whether a refusal only says that more is on its way than was taken; then it is asked again."""
        if assessment.bounds[answer.which].kind != "reach":
            return False
        self.take_reach(key, assessment, answer.held)
        return True


def reach_after(assessment: Assessment, held: tuple[int, ...]) -> dict[str, int]:
    """By name: what is held under the bounds that only say how far holds reach."""
    return {
        bound.name: holding for bound, holding in zip(assessment.bounds, held, strict=True) if bound.kind == "reach"
    }


class GrantedHolds:
    """Account key and packed hold by tenant and id: as objects so many would be walked through by every collection of
    garbage."""

    def __init__(self) -> None:
        self._packed: dict[tuple[str, str], tuple[str, bytes]] = {}

    def remember(self, tenant: str, hold_id: str, key: str, hold: bytes) -> None:
        """A packed hold as it was granted or extended."""
        if len(self._packed) >= HOLDS_KEPT:
            for old in list(itertools.islice(self._packed, HOLDS_KEPT // 4)):
                del self._packed[old]
        self._packed[tenant, hold_id] = key, hold

    def find(self, tenant: str, hold_id: str) -> tuple[str, bytes] | None:
        """Its account key and bytes."""
        return self._packed.get((tenant, hold_id))

    def forget(self, tenant: str, hold_id: str) -> None:
        """A hold that was ended here."""
        self._packed.pop((tenant, hold_id), None)
