"""Which price of a meter an event takes: by its dimensions, its time and its plan.

A price matches where every pair of its `match` is among the event's dimensions. Of those that do, a plan's own go
before the common ones, then the most specific (most pairs) wins, then the latest that was in effect at the event's
time. Prices between which an event could not choose are refused when a catalogue is applied.

What a set of dimensions leads to is worked out once and kept as a Timeline; an event then costs one bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from rating.rate import Price

FOREVER_AGO: Final = -(2**63)
"""When a price without `effective_from` began."""

FOREVER: Final = 2**63
"""When a price that none follows ends."""


class Offer(NamedTuple):
    """A price with what it applies to."""

    match: Mapping[str, str]
    effective_from: int
    """Microseconds, or FOREVER_AGO."""
    price: Price


@dataclass(frozen=True, slots=True)
class Timeline:
    """The prices that one set of dimensions takes over time: prices[i] from starts[i - 1] on."""

    starts: tuple[int, ...]
    prices: tuple[Price | None, ...]

    def at(self, instant: int) -> Price | None:
        """The price of an instant, None where there was none yet."""
        return self.prices[bisect_right(self.starts, instant)]

    def span(self, instant: int) -> tuple[int, int, Price | None]:
        """The price of an instant, and from when until when it is that."""
        place = bisect_right(self.starts, instant)
        start = self.starts[place - 1] if place else FOREVER_AGO
        end = self.starts[place] if place < len(self.starts) else FOREVER
        return start, end, self.prices[place]


class Offers:
    """The prices of one meter in one group: those of a plan, or the common ones.

    Found by the names that a match is about, then by its values, so that ten thousand models cost one look-up.
    """

    __slots__ = ("_kinds",)

    def __init__(self, offers: Iterable[Offer]) -> None:
        kinds: dict[tuple[str, ...], dict[tuple[str, ...], list[Offer]]] = defaultdict(lambda: defaultdict(list))
        for offer in offers:
            pairs = sorted(offer.match.items())
            kinds[tuple(name for name, _ in pairs)][tuple(value for _, value in pairs)].append(offer)
        # The most specific kinds first, and the latest offers first within each match.
        self._kinds = [
            (names, {values: _latest_first(listed) for values, listed in kinds[names].items()})
            for names in sorted(kinds, key=lambda names: (-len(names), names))
        ]

    def matching(self, dimensions: Mapping[str, str]) -> list[Offer]:
        """All offers for these dimensions, in the order in which they are tried."""
        found: list[Offer] = []
        for names, by_values in self._kinds:
            if all(name in dimensions for name in names):
                found += by_values.get(tuple(dimensions[name] for name in names), ())
        return found


def _latest_first(offers: list[Offer]) -> tuple[Offer, ...]:
    return tuple(sorted(offers, key=lambda offer: -offer.effective_from))


def timeline(groups: Iterable[Offers], dimensions: Mapping[str, str]) -> Timeline:
    """What these dimensions cost over time; `groups` in the order in which they are tried."""
    tried = [offer for offers in groups for offer in offers.matching(dimensions)]
    starts = sorted({offer.effective_from for offer in tried})
    prices = [next(offer.price for offer in tried if offer.effective_from <= start) for start in starts]
    if starts and starts[0] == FOREVER_AGO:
        return Timeline(tuple(starts[1:]), tuple(prices))
    return Timeline(tuple(starts), (None, *prices))
