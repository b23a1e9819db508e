"""What measures an event and what that costs, worked out once for all events that are alike.

Events are alike where their type, the dimensions that any meter of the type looks at, and their customer's plan and own
prices are the same. A Tariff holds for one chunk: the rates of its lines are places in that chunk's table of rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rating.book import CompiledCatalogue, CompiledMeter, Price, PriceBook, likeness_of
from rating.measure import Dimensions
from rating.rate import PerEventPrice, PeriodPrice
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import Rate
from schemas.usage_types import USAGE_REPORTED


class RateTable:
    """What many charges of a record share, each once."""

    __slots__ = ("_places", "rates")

    def __init__(self, rates: list[Rate]) -> None:
        self.rates = rates
        self._places: dict[Rate, int] = {}

    def place(self, rate: Rate) -> int:
        """The index of a rate, which is taken in where it is new."""
        place = self._places.get(rate)
        if place is None:
            place = self._places[rate] = len(self.rates)
            self.rates.append(rate)
        return place


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
        "fields",
        "how",
        "measure",
        "meter_id",
        "numerator",
        "price",
        "priced",
        "rate",
        "signed",
        "start",
        "value_of",
    )

    def __init__(
        self,
        catalogue: CompiledCatalogue,
        meter: CompiledMeter,
        dimensions: Dimensions,
        plan: str,
        own: bytes,
        table: RateTable,
    ) -> None:
        self.measure = meter.measure
        self.meter_id = meter.id
        self.how = meter.how
        """How a period's quantity comes about; None: every event has a part of its own (sum, count)."""
        self.signed = meter.signed
        """Whether a quantity may be negative, so that its period has to be counted."""
        self.fields = meter.fields
        """The fields of data that it measures, one or a difference of two; None: by no such rule."""
        self.value_of = meter.value_of
        """What `unique` tells apart; None for other meters."""
        self.priced = meter.priced
        """Whether any price is for the meter; one without only counts."""
        self._catalogue = catalogue
        self._meter = meter
        self._dimensions = dimensions
        self._timeline = catalogue.timeline(meter.id, dimensions, plan or None, own)
        self._table = table
        self.start = self.end = 0
        self.price: Price | None = None
        self.rate = -1
        """Index in the chunk's table of what a charge at the price says."""
        self.numerator = self.denominator = 0
        """The price as a ratio, where it charges every event by itself and counts nothing; else 0."""

    def move(self, instant: int) -> None:
        """Takes the price of a time."""
        self.start, self.end, price = self._timeline.span(instant)
        if self.how is not None and price is not None:
            price = self._of_the_period(price)
        if price is not self.price or self.rate < 0:
            self.price = price
            alone = isinstance(price, PerEventPrice) and not self.signed
            self.numerator, self.denominator = price.ratio if alone and isinstance(price, PerEventPrice) else (0, 0)
            self.rate = self._rate(price)

    def _of_the_period(self, price: Price) -> PeriodPrice:
        """The price as one of its period's quantity; what prices event by event has none for such a meter."""
        if isinstance(price, PerEventPrice):
            return PeriodPrice(price.id, price.model, price.arithmetic, price.unit_amount_text)
        if not isinstance(price, PeriodPrice):
            raise InvalidInput("no_price", f"the price {price.id!r} prices event by event; its meter does not sum")
        return price

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
        return self._table.place(rate)


class Tariff:
    """The lines of events that are alike."""

    __slots__ = ("currency", "lines", "unique")

    def __init__(self, currency: str, lines: tuple[Line, ...]) -> None:
        self.currency = currency
        self.lines = lines
        self.unique = any(line.how == "unique" for line in lines)
        """Whether values have to be looked up before an event can be counted."""


class _Reign:
    """What is known of events while one catalogue holds; None: while none does."""

    __slots__ = ("alike", "catalogue", "known")

    def __init__(self, catalogue: CompiledCatalogue | None) -> None:
        self.catalogue = catalogue
        self.alike: dict[str, Callable[[Any], Dimensions]] = {}
        self.known: dict[tuple[str, Dimensions, str, bytes], Tariff | None] = {}


class Tariffs:
    """The tariffs of one tenant in one chunk."""

    def __init__(self, book: PriceBook, tenant: str, position: int, table: RateTable) -> None:
        self._reigns = book.reigns(tenant, position)
        self._table = table
        self._seen: dict[int, _Reign] = {}
        self._move(0)

    def of(self, event: Event, plan: str, own: bytes = b"") -> Tariff | None:
        """The tariff of an event, whose customer then had this plan and has these own terms (empty: none); None if no
        meter measures it.

        Errors: InvalidInput for an unusable dimension, and for own terms that were never checked.
        """
        if not self.start <= event.occurred_at < self.end:
            self._move(event.occurred_at)
        kind = event.type if event.type != USAGE_REPORTED else f"{event.type}\x1f{event.data.get('meter')}"
        alike = self._alike.get(kind)
        if alike is None:
            alike = self._alike[kind] = self._likeness(event)
        key = (kind, alike(event), plan, own)
        try:
            return self._known[key]
        except KeyError:
            tariff = self._known[key] = self._work_out(event, plan, own)
            return tariff

    def of_plain(self, event: Event, first: int, last: int) -> Tariff | None:
        """The tariff of all plain events of the event's model between two times, for who has neither plan nor own
        terms; None where more than the model makes a difference."""
        if not self.start <= first < self.end:
            self._move(first)
        if last >= self.end or self.catalogue is None or not self.catalogue.plain_by_model:
            return None
        return self.of(event, "")

    def _move(self, instant: int) -> None:
        """Takes the catalogue of a time."""
        self.start, self.end, catalogue = self._reigns.span(instant)
        """While the catalogue of the event that was last asked about holds."""
        reign = self._seen.get(self.start)
        if reign is None:
            reign = self._seen[self.start] = _Reign(catalogue)
        self.catalogue = catalogue
        """Of the event that was last asked about; None where its time has none."""
        self._alike, self._known = reign.alike, reign.known

    def _likeness(self, event: Event) -> Callable[[Any], Dimensions]:
        if self.catalogue is None:
            return likeness_of(())
        measuring = {meter.id for meter in self.catalogue.meters_of(event.type, event.data)}
        return likeness_of(meter for meter in self.catalogue.catalog.meters if meter.id in measuring)

    def _work_out(self, event: Event, plan: str, own: bytes) -> Tariff | None:
        catalogue = self.catalogue
        meters = catalogue.meters_of(event.type, event.data) if catalogue is not None else ()
        if catalogue is None or not meters:
            return None
        return Tariff(
            catalogue.currency,
            tuple(Line(catalogue, meter, meter.dimensions(event), plan, own, self._table) for meter in meters),
        )
