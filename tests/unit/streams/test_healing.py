"""Which dead letters are tried again after a catalogue was applied."""

from __future__ import annotations

from collections.abc import Sequence

from streams.healing import HEALABLE, heal
from streams.letter_rows import Refused
from streams.resolving import Place, Resolved


class Waiting:
    def __init__(self, *letters: Refused) -> None:
        self.letters = list(letters)

    async def refused_before(self, position: int, reasons: Sequence[str], limit: int) -> list[Refused]:
        assert set(reasons) == set(HEALABLE)
        return [letter for letter in self.letters if letter.catalog_position < position][:limit]


class Retries:
    def __init__(self) -> None:
        self.sent: list[Place] = []

    async def retry(self, places: Sequence[Place]) -> list[Resolved]:
        resolved = [Resolved(place, "retried", 1, place not in self.sent) for place in places]
        self.sent += [one.place for one in resolved if one.now]
        return resolved


def letter(offset: int, tenant: str, decided_under: int) -> Refused:
    return Refused(Place("usage.events", 0, offset), tenant, "no_price", decided_under)


async def test_only_letters_whose_tenant_has_a_newer_catalogue_are_tried() -> None:
    """Another tenant's catalogue heals nothing, and each letter is tried once."""
    waiting = Waiting(letter(1, "acme", 3), letter(2, "globex", 3), letter(3, "acme", 5))
    retries = Retries()
    newest = {"acme": 5, "globex": 2}
    assert await heal(waiting, retries, 5, newest.__getitem__) == 1
    assert [place.offset for place in retries.sent] == [1]
    assert await heal(waiting, retries, 5, newest.__getitem__) == 0


async def test_without_a_catalogue_nothing_is_tried() -> None:
    """Nothing could have healed."""
    assert await heal(Waiting(letter(1, "acme", 0)), Retries(), 0, lambda tenant: 0) == 0
