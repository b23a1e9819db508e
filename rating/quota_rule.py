"""A quota, ready to be counted: a plan's, a feature's number, or a customer's own, with its numbers in nanos.

Which quotas a customer has is decided here, once for each plan and set of own terms: a feature's number is short for
a hard quota a billing period where a meter has its name, and gives way to a quota of the plan that says the same more
fully; own ones replace those of the plan. What a quota has counted is `rating.quotas`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from schemas.catalog_shapes import Plan, Quota
from schemas.money import NANOS
from schemas.window import Window, parse_window


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """A bound on a meter's quantity (`limit`) or on money (`spend`) within a window; exactly one of the two is set."""

    id: str
    """Unique among a customer's quotas, and the same for as long as the quota is."""
    meter: str | None
    """None: of money."""
    limit: int | None
    """Nano-units."""
    spend: int | None
    """Nanos."""
    window: Window
    window_text: str
    """The window as the catalogue writes it."""
    hard: bool
    refuse_above: int | None
    """The limit with its grace, in its own unit; None: it never refuses."""
    thresholds: tuple[int, ...]
    """Percent of the limit, ascending."""
    per: str
    """`customer`, `user` or a dimension."""
    rollover_max: int | None
    """In the limit's own unit; None: nothing rolls over."""


def compile_quota(quota: Quota) -> QuotaRule | None:
    """The rule of a quota; None for one that bounds nothing, as only a customer's own may."""
    bound = quota.spend if quota.meter is None else quota.limit
    if bound is None:
        return None
    limit = _nanos(bound)
    hard = quota.mode == "hard"
    grace = Fraction(quota.grace_percent or 0) / 100
    return QuotaRule(
        id=quota.quota_id,
        meter=quota.meter,
        limit=limit if quota.meter is not None else None,
        spend=limit if quota.meter is None else None,
        window=parse_window(quota.window),
        window_text=quota.window,
        hard=hard,
        refuse_above=int(limit * (1 + grace)) if hard else None,
        thresholds=quota.thresholds,
        per=quota.per,
        rollover_max=_nanos(quota.rollover_max) if quota.rollover_max is not None else None,
    )


def rules_of(plan: Plan | None, own: Iterable[Quota], countable: Collection[str]) -> tuple[QuotaRule, ...]:
    """The quotas of a plan's subscriber with own ones; `countable` are the meters and levels there are."""
    quotas: list[Quota] = list(plan.quotas) if plan is not None else []
    told = {_kind(quota) for quota in quotas}
    for name, value in plan.features.items() if plan is not None else ():
        if isinstance(value, Decimal) and name in countable:
            short = Quota.model_construct(meter=name, limit=value, window="period")
            if _kind(short) not in told:
                quotas.append(short)
    own = list(own)
    replaced = {quota.quota_id for quota in own} | {_kind(quota) for quota in own}
    quotas = [quota for quota in quotas if quota.quota_id not in replaced and _kind(quota) not in replaced]
    return tuple(rule for quota in (*quotas, *own) if (rule := compile_quota(quota)) is not None)


def _kind(quota: Quota) -> tuple[str | None, str, str]:
    return quota.meter, quota.window, quota.per


def _nanos(value: Decimal) -> int:
    return int(Fraction(value) * NANOS)
