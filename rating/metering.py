"""A quantity that is told, not measured: the tariff of one meter that measures just that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rating.book import CompiledCatalogue, CompiledMeter
from rating.tariff import Line, RateTable, Tariff
from schemas.account import Account
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.usage_types import PRODUCT_USAGE_RECORDED, USAGE_REPORTED


class Columns(Protocol):
    """What of a chunk is needed here."""

    table: RateTable


def meter_tariff(
    catalogue: CompiledCatalogue | None,
    chunk: Columns,
    account: Account,
    event: Event,
    meter: str,
    quantity: int,
    dimensions: Mapping[str, str],
) -> Tariff:
    """The tariff by which `event` is so many nano-units of a meter. Errors: InvalidInput `no_meter`, `unsized`."""
    compiled = _compiled(catalogue, meter) if catalogue is not None else None
    if catalogue is None or compiled is None:
        raise InvalidInput("no_meter", f"the catalogue has no meter {meter!r}", "/data/meter")
    declared = catalogue.meter(meter)
    assert declared is not None
    known = tuple((name, dimensions[name]) for name in (*declared.dimensions, *declared.bounds) if name in dimensions)
    plan = account.plan_at(event.occurred_at)
    line = Line(catalogue, compiled, known, plan, account.terms.own, chunk.table)
    if line.how is not None:
        raise InvalidInput("unsized", f"a quantity of the meter {meter!r} is made of events, not told", "/data/meter")
    line.measure = lambda _: quantity
    return Tariff(catalogue.currency, (line,))


def _compiled(catalogue: CompiledCatalogue, meter: str) -> CompiledMeter | None:
    declared = catalogue.meter(meter)
    if declared is None:
        return None
    reported = declared.event_type in (USAGE_REPORTED, PRODUCT_USAGE_RECORDED)
    event_type = USAGE_REPORTED if reported else declared.event_type
    return next((one for one in catalogue.meters_of(event_type, {"meter": meter}) if one.id == meter), None)
