"""Counting what customers' quotas bound, and telling when a bound comes near, is passed, and holds again. Pure.

Called when an event's charges stand, for customers with a plan or terms of their own alone. What a quota has counted is
one counter of the account (`rating.quotas`); what was told of its window is another, made with the first threshold that
is reached. Told is, in the transaction of the event that caused it, on `billing.events`:

    quota.threshold_reached   usage came to so many percent of the limit: once a window and threshold
    quota.exceeded            usage went beyond the limit: once a window
    quota.recovered           usage of a quota that was exceeded is within its limit again: seen with the first event
                              counted after its window ended, or after usage fell

A sliding window has no end: there a threshold is told again after usage had fallen below it.

A meter of `unique`, sum or count adds to its quotas what it added to its period. Of one of min, max, avg and latest a
quota holds the period's quantity as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rating.chunk import Chunk
from rating.decision import Outgoing
from rating.quota_rule import QuotaRule
from rating.quotas import CUSTOMER, USER, Used, billing_of, count_and_use, quota_key, scope_of, used
from rating.wallet import check_room
from rating.weights import COUNTER_BYTES, UTF8
from schemas.account import Account
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import Rate
from schemas.limits import ID_MAX_CHARACTERS
from schemas.money import format_nanos, unpack_int
from schemas.period import format_time

THRESHOLD_REACHED: Final = "quota.threshold_reached"
EXCEEDED: Final = "quota.exceeded"
RECOVERED: Final = "quota.recovered"

COUNTERS_PRUNED: Final = 64
"""From so many counters on, those of windows that are over make room for a new one."""

_OVER, _BACK = "over", "back"
_ADDING: Final = ("sum", "count", "unique")


def count_quotas(chunk: Chunk, index: int, account: Account, event: Event, first: int) -> None:
    """Counts the charges from `first` on, those of an entry that was just settled."""
    catalogue = chunk.book.catalogue(event.tenant, chunk.position, event.occurred_at)
    if catalogue is None:
        return
    rules = catalogue.quotas_of(account.plan_at(event.occurred_at), account.terms.own)
    if not rules:
        return
    rates = [chunk.entries.rates[rate] for rate in chunk.entries.charge_rate[first:]]
    measured = {rate.meter for rate in rates}
    for rule in rules:
        if rule.meter is not None and rule.meter not in measured:
            continue
        meter = catalogue.meter(rule.meter) if rule.meter is not None else None
        adding = meter is None or meter.aggregation in _ADDING
        for scope, quantity in _quantities(chunk, rule, event, first, rates, adding).items():
            _count(chunk, index, account, event, rules, rule, scope, quantity, adding)


def _quantities(
    chunk: Chunk, rule: QuotaRule, event: Event, first: int, rates: list[Rate], adding: bool
) -> dict[str, int]:
    """By scope: what the charges of an event, those from `first` on at these rates, are to a quota."""
    entries, found = chunk.entries, dict[str, int]()
    for at, rate in enumerate(rates, first):
        if rule.meter is not None and rule.meter != rate.meter:
            continue
        scope = "" if rule.per == CUSTOMER else _scope(rule, event, rate)
        if scope is None:
            continue
        quantity = entries.charge_amount[at] if rule.meter is None else unpack_int(entries.charge_quantity[at])
        if not adding:
            quantity += unpack_int(entries.charge_before.get(at, 0))
        found[scope] = found.get(scope, 0) + quantity
    return {scope: quantity for scope, quantity in found.items() if quantity or not adding}


def _scope(rule: QuotaRule, event: Event, rate: Rate) -> str | None:
    """Whom a charge counts for: by user, by the charge's dimension, or by a name in the event's data."""
    if rule.per == USER:
        return scope_of(rule, event.user_id, {})
    named = event.data.get(rule.per)
    dimensions = dict(rate.dimensions)
    if isinstance(named, str) and len(named) <= ID_MAX_CHARACTERS:
        dimensions.setdefault(rule.per, named)
    return scope_of(rule, None, dimensions)


def _count(
    chunk: Chunk,
    index: int,
    account: Account,
    event: Event,
    rules: tuple[QuotaRule, ...],
    rule: QuotaRule,
    scope: str,
    quantity: int,
    adding: bool,
) -> None:
    key, at = quota_key(rule.id, scope), event.occurred_at
    known = account.counters.get(key)
    state = known if isinstance(known, str) else None
    if state is None and not _make_room(account, rules, key, at):
        return
    anchor, months = billing_of(account, at)
    counted, after = count_and_use(rule, state, at, quantity, anchor, months, "add" if adding else "set")
    if counted == state:
        return  # it came too late for its window
    account.counters[key] = counted
    chunk.weight += COUNTER_BYTES + UTF8 * len(key) + len(counted)
    known = account.counters.get(f"t{key}")
    if known is None and after.quantity <= after.limit and not _percent(rule, after):
        return
    before = used(rule, state, at, anchor, months)
    _tell(chunk, index, account, rule, scope, before, after)


def _tell(chunk: Chunk, index: int, account: Account, rule: QuotaRule, scope: str, before: Used, after: Used) -> None:
    """Tells what there is to tell of usage that came near the limit, now or before."""
    key = f"t{quota_key(rule.id, scope)}"
    known = account.counters.get(key)
    percent, over, window = 0, "", after.window_id
    if rule.window.kind == "sliding":
        window = ""
    if isinstance(known, str):
        told, over, told_of = known.split("|", 2)
        percent = int(told)
        if told_of != window:
            if over == _OVER:
                _emit(chunk, index, rule, scope, RECOVERED, after, {})
            percent, over = 0, ""
        elif not window:
            percent = min(percent, _percent(rule, before))
    if over == _OVER and after.quantity <= after.limit:
        _emit(chunk, index, rule, scope, RECOVERED, after, {})
        over = _BACK if window else ""
    for threshold in rule.thresholds:
        if percent < threshold <= _percent(rule, after):
            _emit(chunk, index, rule, scope, THRESHOLD_REACHED, after, {"threshold": threshold})
    if not over and after.quantity > after.limit:
        _emit(chunk, index, rule, scope, EXCEEDED, after, {})
        over = _OVER
    percent = max(percent, _percent(rule, after))
    if percent or over:
        account.counters[key] = f"{percent}|{over}|{window}"
        chunk.weight += COUNTER_BYTES + UTF8 * len(key) + len(window)
    else:
        account.counters.pop(key, None)


def _percent(rule: QuotaRule, now: Used) -> int:
    """The highest of the quota's thresholds that usage has reached; 0: none. Of a limit of nothing, with any usage."""
    if now.quantity <= 0:
        return 0
    return max([threshold for threshold in rule.thresholds if 100 * now.quantity >= threshold * now.limit], default=0)


def _emit(chunk: Chunk, index: int, rule: QuotaRule, scope: str, kind: str, now: Used, more: Mapping[str, Any]) -> None:
    data = {
        "quota": rule.id,
        "meter": rule.meter,
        "per": rule.per,
        "scope": scope or None,
        "window": rule.window_text,
        "window_id": now.window_id,
        "used": format_nanos(now.quantity),
        "limit": format_nanos(now.limit),
        "resets_at": format_time(now.resets_at) if now.resets_at is not None else None,
        **more,
    }
    chunk.emit(Outgoing(index, kind, data))


def _make_room(account: Account, rules: tuple[QuotaRule, ...], key: str, at: int) -> bool:
    """Whether a new scope can be counted; windows that are over go first. A charge is never refused for a counter."""
    if len(account.counters) >= COUNTERS_PRUNED:
        _prune(account, rules, at)
    try:
        check_room(account, key)
    except InvalidInput:
        return False
    return True


def _prune(account: Account, rules: tuple[QuotaRule, ...], at: int) -> None:
    by_prefix = {quota_key(rule.id, ""): rule for rule in rules}
    anchor, months = billing_of(account, at)
    for key in [key for key in account.counters if key.startswith(("q:", "tq:"))]:
        name = key.removeprefix("t")
        rule = by_prefix.get(name[: _prefix_length(name)])
        state = account.counters.get(name)
        over = rule is None or (
            rule.rollover_max is None
            and not used(rule, state if isinstance(state, str) else None, at, anchor, months).quantity
        )
        if over:
            account.counters.pop(key, None)


def _prefix_length(name: str) -> int:
    """Of a quota's key: where the scope begins."""
    digits = name.index(":", 2)
    return digits + 1 + int(name[2:digits]) + 1
