"""Dead letters that a newer catalogue may have healed: which they are, and their retry.

A letter is tried again once for each version that is newer than what it was decided under and that its tenant is rated
by. Refused again, it is a new dead letter, decided under the newer version, and waits for the next.

Errors: as `streams.resolving`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from streams.letter_rows import Refused
from streams.resolving import Place, Resolved

HEALABLE: Final = ("no_price", "no_meter", "unknown_type", "unsupported")
"""Reasons that another catalogue, or another version of ours, may take away."""

LETTERS_OF_A_RUN: Final = 5_000
"""A run takes this many at most; the next takes the others."""


class Waiting(Protocol):
    """Where open dead letters are found. Errors: Unavailable."""

    async def refused_before(self, position: int, reasons: Sequence[str], limit: int) -> list[Refused]:
        """Open letters of these reasons that were decided under a catalogue older than `position`."""


class Retries(Protocol):
    """What sends them again. Errors: Unavailable, Doubt."""

    async def retry(self, places: Sequence[Place]) -> list[Resolved]:
        """Once each."""


async def heal(waiting: Waiting, retries: Retries, position: int, newest_for: Callable[[str], int]) -> int:
    """Retries what may have healed; how many were sent again.

    `position`: the newest catalogue version of all. `newest_for`: the version a tenant is rated by, 0 without any.
    """
    if position == 0:
        return 0
    found = await waiting.refused_before(position, HEALABLE, LETTERS_OF_A_RUN)
    places = [letter.place for letter in found if newest_for(letter.tenant) > letter.catalog_position]
    if not places:
        return 0
    return sum(resolved.now for resolved in await retries.retry(places))
