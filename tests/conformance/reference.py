"""What a price comes to, by the words of its definition alone: fractions of money, one line a rule, no speed.

Shares no code with `rating`. Money is in the major unit, quantities in the meter's; nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

ZERO = Fraction(0)


def comes_to(price: Mapping[str, Any], quantities: Sequence[Fraction]) -> Fraction:
    """The period of these events: included quantity, model, discount, minimum, maximum."""
    included = Fraction(price.get("included_quantity", 0))
    if price["model"] == "percentage":
        amount = _percentage(price, quantities, included)
    else:
        amount = _model(price, max(sum(quantities, ZERO) - included, ZERO))
    amount *= 1 - Fraction(price.get("discount_percent", 0)) / 100
    amount = max(amount, Fraction(price["minimum_amount"])) if "minimum_amount" in price else amount
    return min(amount, Fraction(price["maximum_amount"])) if "maximum_amount" in price else amount


def _model(price: Mapping[str, Any], quantity: Fraction) -> Fraction:
    model = price["model"]
    if model == "flat":
        return Fraction(price["amount"])
    if model == "per_unit":
        return quantity * _rate(price, price["unit_amount"])
    if model == "dynamic":
        return quantity * Fraction(price.get("multiplier", 1))
    if model == "package":
        packages = quantity / Fraction(price["package_size"])
        begun = -(-packages // 1) if price.get("rounding", "up") == "up" else packages // 1
        return begun * Fraction(price["amount"])
    return _tiered(price, quantity)


def _tiered(price: Mapping[str, Any], quantity: Fraction) -> Fraction:
    model, tiers = price["model"], price["tiers"]
    if quantity == 0:
        first = Fraction(tiers[0].get("amount" if model == "stairstep" else "flat_amount") or 0)
        return first if price.get("charge_first_flat_at_zero") else ZERO
    # The tier that a quantity reaches is the first whose inclusive end is not below it.
    reached = next(at for at, tier in enumerate(tiers) if tier["up_to"] is None or quantity <= Fraction(tier["up_to"]))
    if model == "stairstep":
        return Fraction(tiers[reached]["amount"])
    if model == "volume":
        return quantity * _tier_rate(price, tiers[reached]) + Fraction(tiers[reached].get("flat_amount") or 0)
    total, start = ZERO, ZERO
    for tier in tiers[: reached + 1]:
        end = quantity if tier["up_to"] is None else min(quantity, Fraction(tier["up_to"]))
        total += (end - start) * _tier_rate(price, tier) + Fraction(tier.get("flat_amount") or 0)
        start = end
    return total


def _tier_rate(price: Mapping[str, Any], tier: Mapping[str, Any]) -> Fraction:
    if price["model"] == "graduated_percentage":
        return Fraction(tier.get("rate_percent") or 0) / 100
    return _rate(price, tier.get("unit_amount") or 0)


def _rate(price: Mapping[str, Any], unit_amount: Any) -> Fraction:
    return Fraction(unit_amount) / Fraction(price.get("unit_divisor", 1))


def _percentage(price: Mapping[str, Any], quantities: Sequence[Fraction], included: Fraction) -> Fraction:
    """Event by event, as the ledger orders them. Money that is included never reaches the rule."""
    total = seen = money = ZERO
    events = 0
    for quantity in quantities:
        wholly_included = seen < included and seen + quantity <= included
        seen += quantity
        if wholly_included:
            continue
        about = min(quantity, seen - included)
        total += _of_one_event(price, events, money, about)
        events, money = events + 1, money + about
    return total


def _of_one_event(price: Mapping[str, Any], events: int, money: Fraction, about: Fraction) -> Fraction:
    free = ZERO
    used_up = [events >= Fraction(price["free_events"])] if "free_events" in price else []
    used_up += [money >= Fraction(price["free_amount"])] if "free_amount" in price else []
    if used_up and not any(used_up):
        free = min(about, Fraction(price["free_amount"]) - money) if "free_amount" in price else about
        if free == about:
            return ZERO
    amount = (about - free) * Fraction(price["rate_percent"]) / 100 + Fraction(price.get("fixed_per_event", 0))
    amount = max(amount, Fraction(price["min_per_event"])) if "min_per_event" in price else amount
    return min(amount, Fraction(price["max_per_event"])) if "max_per_event" in price else amount
