"""The parts of a catalogue as frozen values: meters, prices of every model, plans with their credits and quotas.

Owns what a single field may hold. Money is decimal text, never a JSON or YAML number; counts and percentages may also
be whole numbers; nothing is a float. What concerns several fields or several parts is in `schemas.catalog_faults`.

Pydantic at the rim: a value of these classes is well formed, and dumps (`mode="json"`) to the document it came from.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from schemas import expression
from schemas.errors import InvalidInput
from schemas.limits import AMOUNT_MAX_NANOS, ID_MAX_CHARACTERS
from schemas.money import NANOS
from schemas.period import SPAN, format_time, parse_time
from schemas.window import WINDOW

_AMOUNT_MAX: Final = Decimal(AMOUNT_MAX_NANOS) / NANOS
_PLAIN: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
TRIAL_MAX_DAYS: Final = 3_650
"""A trial longer than ten years is a slip of the pen."""

_CURRENCY: Final = re.compile(r"[A-Z]{3}")


def _formed(pattern: re.Pattern[str], form: str) -> BeforeValidator:
    """Text that has the whole of a pattern; `form` says in words which."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > ID_MAX_CHARACTERS or not pattern.fullmatch(value):
            raise PydanticCustomError("form", "must be {form}", {"form": form})
        return value

    return BeforeValidator(check)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, float):
        raise PydanticCustomError("number", "must be a whole number or decimal text in quotes")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not _PLAIN.fullmatch(value):
        raise PydanticCustomError("number", "must be a whole number or decimal text of at most 30 + 30 digits")
    if value.startswith("-"):
        raise PydanticCustomError("number", "must not be negative")
    return Decimal(value)


def _money(value: Any) -> Decimal:
    if not isinstance(value, str):
        raise PydanticCustomError("money", 'must be decimal text in quotes, such as "0.0025"')
    amount = _decimal(value)
    if amount > _AMOUNT_MAX:
        raise PydanticCustomError("money", "is beyond the bounds of an amount")
    return amount


def _positive(value: Decimal) -> Decimal:
    if not value:
        raise PydanticCustomError("number", "must be greater than 0")
    return value


def _at_most_hundred(value: Decimal) -> Decimal:
    if value > 100:
        raise PydanticCustomError("number", "must not be more than 100")
    return value


def _instant(value: Any) -> int:
    try:
        return parse_time(value if isinstance(value, str) else "")
    except InvalidInput as error:
        raise PydanticCustomError("time", "must be a time such as 2026-01-01T00:00:00Z") from error


def _match_text(value: Any) -> str:
    """What an event's value reads as when it is compared: as `rating.measure` writes dimensions."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value
    raise PydanticCustomError("match", "must be text; a number with a point needs quotes")


def _expression(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise PydanticCustomError("expression", "must be an expression")
    try:
        expression.parse(value)
    except InvalidInput as error:
        raise PydanticCustomError("expression", "{detail}", {"detail": error.detail}) from error
    return value.strip()


def _field_path(value: Any) -> str:
    try:
        return expression.parse_field(value if isinstance(value, str) else "").text
    except InvalidInput as error:
        raise PydanticCustomError("expression", "must be a field path such as data.amount") from error


def _feature(value: Any) -> bool | Decimal:
    return value if isinstance(value, bool) else _decimal(value)


def _plain(value: Decimal) -> str:
    return format(value, "f")


def _plain_feature(value: bool | Decimal) -> bool | str:
    return value if isinstance(value, bool) else _plain(value)


_AS_TEXT: Final = PlainSerializer(_plain, return_type=str)

Id: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=ID_MAX_CHARACTERS)]
Text: TypeAlias = Annotated[str, StringConstraints(max_length=1000)]
Money: TypeAlias = Annotated[Decimal, BeforeValidator(_money), _AS_TEXT]
Count: TypeAlias = Annotated[Decimal, BeforeValidator(_decimal), _AS_TEXT]
PositiveCount: TypeAlias = Annotated[Decimal, BeforeValidator(lambda value: _positive(_decimal(value))), _AS_TEXT]
Percent: TypeAlias = Annotated[Decimal, BeforeValidator(_decimal), _AS_TEXT]
Discount: TypeAlias = Annotated[Decimal, BeforeValidator(lambda value: _at_most_hundred(_decimal(value))), _AS_TEXT]
Instant: TypeAlias = Annotated[int, BeforeValidator(_instant), PlainSerializer(format_time, return_type=str)]
Feature: TypeAlias = Annotated[Any, BeforeValidator(_feature), PlainSerializer(_plain_feature)]
DimensionName: TypeAlias = Annotated[str, _formed(_NAME, "the name of a field, such as model")]
Quantity: TypeAlias = Annotated[str, BeforeValidator(_expression)]
Currency: TypeAlias = Annotated[str, _formed(_CURRENCY, "three capital letters of ISO 4217, such as USD")]


class Shape(BaseModel):
    """A part of a catalogue: unchangeable, and with no field but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Bound(Shape):
    """What makes a dimension of a bound: an event's number, and what it must lie above."""

    quantity: Quantity
    above: Count


class Meter(Shape):
    """What is counted of which events, and by which dimensions it can be priced apart.

    `bounds` are dimensions of the catalogue's own making: `{long_context: {quantity: data.input_tokens, above:
    200000}}` gives the dimension `long_context` the value `true` where the event lies above the bound; where it does
    not, it lacks the dimension. So a price can hold for the whole of an event that crosses a bound.
    """

    id: Id
    event_type: Id
    quantity: Quantity | None = None
    aggregation: Literal["sum", "count", "min", "max", "avg", "latest", "unique"] = "sum"
    """How a period's events make its quantity; `unique` counts the values of a lone field."""
    dimensions: tuple[DimensionName, ...] = ()
    bounds: dict[DimensionName, Bound] = {}
    name: Text | None = None
    description: Text | None = None
    unit: Text | None = None


class Priced(Shape):
    """What every price has, whatever its model."""

    id: Id
    meter: Id
    match: dict[DimensionName, Annotated[str, BeforeValidator(_match_text)]] = {}
    effective_from: Instant | None = None
    included_quantity: Count | None = None
    discount_percent: Discount | None = None
    minimum_amount: Money | None = None
    maximum_amount: Money | None = None
    unit_divisor: PositiveCount | None = None
    name: Text | None = None
    description: Text | None = None


class Flat(Priced):
    """One amount a period, whatever the usage."""

    model: Literal["flat"]
    amount: Money


class PerUnit(Priced):
    """Every unit at one price."""

    model: Literal["per_unit"]
    unit_amount: Money


class Package(Priced):
    """Whole packages at one price each."""

    model: Literal["package"]
    package_size: PositiveCount
    amount: Money
    rounding: Literal["up", "down"] = "up"


class UnitTier(Shape):
    """A tier priced by the unit; `up_to` belongs to it, None has no end."""

    up_to: PositiveCount | None = None
    unit_amount: Money | None = None
    flat_amount: Money | None = None


class AmountTier(Shape):
    """A tier with one amount."""

    up_to: PositiveCount | None = None
    amount: Money


class PercentTier(Shape):
    """A tier priced in percent of the money within it."""

    up_to: PositiveCount | None = None
    rate_percent: Percent | None = None
    flat_amount: Money | None = None


class Graduated(Priced):
    """Each tier's units at that tier's price."""

    model: Literal["graduated"]
    tiers: Annotated[tuple[UnitTier, ...], Field(min_length=1)]
    charge_first_flat_at_zero: StrictBool = False


class Volume(Priced):
    """All units at the price of the tier reached."""

    model: Literal["volume"]
    tiers: Annotated[tuple[UnitTier, ...], Field(min_length=1)]
    charge_first_flat_at_zero: StrictBool = False


class Stairstep(Priced):
    """The amount of the tier reached."""

    model: Literal["stairstep"]
    tiers: Annotated[tuple[AmountTier, ...], Field(min_length=1)]
    charge_first_flat_at_zero: StrictBool = False


class Percentage(Priced):
    """A share of the money that each event is about."""

    model: Literal["percentage"]
    rate_percent: Percent
    fixed_per_event: Money | None = None
    free_events: Count | None = None
    free_amount: Money | None = None
    min_per_event: Money | None = None
    max_per_event: Money | None = None


class GraduatedPercentage(Priced):
    """Each tier's money at that tier's share."""

    model: Literal["graduated_percentage"]
    tiers: Annotated[tuple[PercentTier, ...], Field(min_length=1)]
    charge_first_flat_at_zero: StrictBool = False


class Dynamic(Priced):
    """The amount comes with the event."""

    model: Literal["dynamic"]
    amount_field: Annotated[str, BeforeValidator(_field_path)]
    multiplier: Count | None = None


Price: TypeAlias = Annotated[
    Flat | PerUnit | Package | Graduated | Volume | Stairstep | Percentage | GraduatedPercentage | Dynamic,
    Field(discriminator="model"),
]


class Credit(Shape):
    """Money that a plan grants again and again."""

    amount: Money
    every: Literal["month", "year"] = "month"
    expires_after: Annotated[str, _formed(SPAN, "a span of ISO 8601, such as P1M")] | None = None
    rollover_max: Money | None = None
    priority: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] | None = None
    kind: Literal["paid", "promotional"] | None = None
    scope: tuple[Id, ...] | None = None


class Quota(Shape):
    """A bound on a meter's quantity (`limit`) or on money (`spend`) within a window."""

    id: Id | None = None
    """Told in answers and announcements; without one it is what `quota_id` makes of the rest."""
    meter: Id | None = None
    limit: Count | None = None
    spend: Money | None = None
    window: Annotated[
        str, _formed(WINDOW, "minute, hour, day, week, month, period, lifetime, sliding:5h or session:5h")
    ]
    mode: Literal["hard", "soft"] = "hard"
    """Hard refuses what would go beyond, soft only tells: beyond the limit is overage."""
    grace_percent: Percent | None = None
    """Of a hard one: by how much of it usage may go beyond before it refuses."""
    thresholds: tuple[Annotated[int, Field(strict=True, ge=1, le=1000)], ...] = ()
    """Percent of the limit at which to tell."""
    per: DimensionName = "customer"
    """Who or what has it: the customer, each of its users, or each value of a dimension."""
    rollover_max: Count | None = None
    """What of a window's unused rest goes into the next one, at most; in the limit's own unit."""

    @property
    def quota_id(self) -> str:
        """Its id, or, without one: meter or `spend`, window, for whom, and `soft` where it is that."""
        if self.id is not None:
            return self.id
        parts = (self.meter or "spend", self.window, self.per, "soft" if self.mode == "soft" else "")
        return ":".join(part for part in parts if part)


class Commitment(Shape):
    """An amount a period that the customer pays in any case."""

    amount: Money
    overage_factor: PositiveCount | None = None
    true_up: StrictBool | None = None


class Plan(Shape):
    """What a subscriber pays, gets and may use."""

    id: Id
    name: Text | None = None
    description: Text | None = None
    interval: Literal["month", "year"]
    """How long a billing period is, and what the fee is for."""
    amount: Money
    """The recurring fee, in advance."""
    trial_days: Annotated[int, Field(strict=True, ge=0, le=TRIAL_MAX_DAYS)] | None = None
    proration: Literal["seconds", "days"] = "seconds"
    """What a part of a period is counted in when its fee is split."""
    prices: tuple[Id, ...] = ()
    features: dict[Id, Feature] = {}
    """A number is short for a hard quota a billing period, where a meter has the name; a boolean is just told."""
    credits: tuple[Credit, ...] = ()
    quotas: tuple[Quota, ...] = ()
    commitment: Commitment | None = None

    @property
    def months(self) -> int:
        """Of a billing period."""
        return 1 if self.interval == "month" else 12
