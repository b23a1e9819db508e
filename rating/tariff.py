"""What measures an event and what that costs, worked out once for all events that are alike.

Events are alike where their type, the dimensions that any meter of the type looks at, and their customer's plan are the
same. A Tariff holds for one chunk: the rates of its lines are places in that chunk's table of rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rating.book import CompiledCatalogue, CompiledMeter, Price
from rating.measure import Dimensions, compile_dimensions
from rating.rate import PerEventPrice
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import Rate
from schemas.usage_types import USAGE_REPORTED


class Line:
    """One meter of a tariff, and its price of the moment: what holds from `start` until `end`.

    Events of a chunk lie close in time, so the price is looked up when an event lies outside of that, and not for each.
    """

    __slots__ = (
        "_catalogue",
        "_dimensions",
        "_meter",
        "_table",
        "_timeline",
        "denominator",
        "end",
        "measure",
        "numerator",
        "price",
        "priced",
        "rate",
        "start",
    )

    def __init__(
        self, catalogue: CompiledCatalogue, meter: CompiledMeter, dimensions: Dimensions, plan: str, table: list[Rate]
    ) -> None:
        self.measure = meter.measure
        self.priced = meter.priced
        """Whether any price is for the meter; one without only counts."""
        self._catalogue = catalogue
        self._meter = meter
        self._dimensions = dimensions
        self._timeline = catalogue.timeline(meter.id, dimensions, plan or None)
        self._table = table
        self.start = self.end = 0
        self.price: Price | None = None
        self.rate = -1
        """Index in the chunk's table of what a charge at the price says."""
        self.numerator = self.denominator = 0
        """The price as a ratio, where it charges every event by itself; else 0."""

    def move(self, instant: int) -> None:
        """Takes the price of a time."""
        self.start, self.end, price = self._timeline.span(instant)
        if price is not self.price or self.rate < 0:
            self.price = price
            self.numerator, self.denominator = price.ratio if isinstance(price, PerEventPrice) else (0, 0)
            self.rate = self._rate(price)

    def no_price(self) -> InvalidInput:
        """Why it cannot be charged."""
        named = ", ".join(f"{name}={value!r}" for name, value in self._dimensions) or "an event without dimensions"
        return InvalidInput("no_price", f"no price of meter {self._meter.id!r} matches {named} at its time")

    def _rate(self, price: Price | None) -> int:
        rate = Rate(
            self._meter.id,
            price.id if price is not None else "",
            self._catalogue.version,
            (price.unit_amount_text or "") if price is not None else "",
            self._catalogue.currency,
            self._dimensions,
        )
        if rate in self._table:
            return self._table.index(rate)
        self._table.append(rate)
        return len(self._table) - 1


class Tariff:
    """The lines of events that are alike."""

    __slots__ = ("currency", "lines")

    def __init__(self, currency: str, lines: tuple[Line, ...]) -> None:
        self.currency = currency
        self.lines = lines


class Tariffs:
    """The tariffs of one catalogue in one chunk."""

    def __init__(self, catalogue: CompiledCatalogue, table: list[Rate]) -> None:
        self.catalogue = catalogue
        self._table = table
        self._alike: dict[str, Callable[[Any], Dimensions]] = {}
        self._known: dict[tuple[str, Dimensions, str], Tariff | None] = {}

    def of(self, event: Event, plan: str) -> Tariff | None:
        """The tariff of an event; None if no meter measures it. Raises InvalidInput for an unusable dimension."""
        kind = event.type if event.type != USAGE_REPORTED else f"{event.type}\x1f{event.data.get('meter')}"
        alike = self._alike.get(kind)
        if alike is None:
            alike = self._alike[kind] = self._dimensions_looked_at(event)
        key = (kind, alike(event), plan)
        try:
            return self._known[key]
        except KeyError:
            tariff = self._known[key] = self._work_out(event, plan)
            return tariff

    def _dimensions_looked_at(self, event: Event) -> Callable[[Any], Dimensions]:
        measuring = {meter.id for meter in self.catalogue.meters_of(event.type, event.data)}
        names = {name for meter in self.catalogue.catalog.meters if meter.id in measuring for name in meter.dimensions}
        return compile_dimensions(tuple(sorted(names)))

    def _work_out(self, event: Event, plan: str) -> Tariff | None:
        meters = self.catalogue.meters_of(event.type, event.data)
        if not meters:
            return None
        lines = tuple(Line(self.catalogue, meter, meter.dimensions(event), plan, self._table) for meter in meters)
        return Tariff(self.catalogue.currency, lines)
