"""What a quota has counted: its state in the account, and how much of it is used at a moment. Pure.

One counter of the account for each quota and scope (the customer, a user, a value of a dimension), under `quota_key`.
Its state is text and knows its own window, so that an account keeps one counter however many windows went by:

    calendar, period, lifetime   start of the window | quantity | what was carried over into it
    session                      first use | quantity
    sliding                      bucket:quantity, ... of the last 60 buckets, ascending

Quantities are nano-units; of a quota in money (`spend`) nanos. Usage that comes late, for a window before the one that
is counted, changes nothing: that window is over. What a quota carries over (`rollover_max`) is what was left of the
window before, carried amount included, up to that bound; of a window without usage all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from schemas.account import Account
from schemas.window import SLIDING_BUCKETS, Window, WindowSpan, bucket_end, bucket_of, buckets_of, session_span, span_of

if TYPE_CHECKING:
    from rating.quota_rule import QuotaRule

CUSTOMER: Final = "customer"
USER: Final = "user"

DEVICES_OPEN: Final = "devices_open"
"""The built-in level: how many devices of the customer are allocated and not released."""

How = Literal["add", "set", "most"]
"""How a quantity is counted: added (sum, count), as the value of now (latest), as the largest so far (max)."""


class Used(NamedTuple):
    """How a quota stands at a moment."""

    quantity: int
    limit: int
    """With what was carried over."""
    refuse_above: int | None
    """The limit with its grace; None: it never refuses."""
    window_id: str
    resets_at: int | None
    """When what is used now stops counting (of a sliding window: the first part of it); None: never."""


def quota_key(rule_id: str, scope: str) -> str:
    """The account's counter of a quota for one scope. Prices' counters begin with a digit, these with a letter."""
    return f"q:{len(rule_id)}:{rule_id}:{scope}"


def scope_of(rule: QuotaRule, user: str | None, dimensions: Mapping[str, str]) -> str | None:
    """Whom of the customer's the quota counts: empty for the customer as a whole; None where usage names no such user
    or dimension, and the quota has nothing to say of it."""
    if rule.per == CUSTOMER:
        return ""
    return user if rule.per == USER else dimensions.get(rule.per)


def limit_of(rule: QuotaRule) -> int:
    """Nano-units, or nanos of a quota in money."""
    limit = rule.spend if rule.limit is None else rule.limit
    assert limit is not None
    return limit


def usage(rule: QuotaRule, account: Account | None, scope: str, now: int) -> Used:
    """How the quota stands at `now`."""
    state = account.counters.get(quota_key(rule.id, scope)) if account is not None else None
    return used(rule, state if isinstance(state, str) else None, now, *billing_of(account, now))


def used(rule: QuotaRule, state: str | None, now: int, anchor: int = 0, months: int = 1) -> Used:
    """As `usage`, of a state; `anchor` and `months` of the customer's billing period."""
    limit, refuse = limit_of(rule), rule.refuse_above
    kind = rule.window.kind
    if kind == "sliding":
        counting = _buckets(rule.window, state, now)
        resets_at = bucket_end(rule.window, min(counting) + SLIDING_BUCKETS - 1) if counting else None
        return Used(sum(counting.values()), limit, refuse, f"sliding@{bucket_of(rule.window, now)}", resets_at)
    if kind == "session":
        start, quantity, _ = _parts(state)
        if state is None or now >= start + rule.window.length:
            return Used(0, limit, refuse, "", None)
        span = session_span(rule.window, start)
        return Used(quantity, limit, refuse, span.id, span.end)
    span = span_of(rule.window, now, anchor, months)
    quantity, carried = _at(rule, _parts(state), span, anchor, months) if state is not None else (0, 0)
    return _used(rule, quantity, carried, span)


def count(
    rule: QuotaRule, state: str | None, at: int, quantity: int, anchor: int = 0, months: int = 1, how: How = "add"
) -> str:
    """The state after usage of a time; the same state for what comes too late for its window."""
    kind = rule.window.kind
    if kind == "sliding":
        return _count_sliding(rule.window, state, at, quantity, how)
    if kind == "session":
        start, before, _ = _parts(state)
        if state is not None and at < start:
            return state
        if state is None or at >= start + rule.window.length:
            start, before = at, 0
        return f"{start}|{_counted(before, quantity, how)}"
    return _count_window(rule, state, at, quantity, anchor, months, how)[0]


def count_and_use(
    rule: QuotaRule, state: str | None, at: int, quantity: int, anchor: int = 0, months: int = 1, how: How = "add"
) -> tuple[str, Used]:
    """As `count`, and how the quota then stands at that time."""
    if rule.window.kind in ("sliding", "session"):
        counted = count(rule, state, at, quantity, anchor, months, how)
        return counted, used(rule, counted, at, anchor, months)
    return _count_window(rule, state, at, quantity, anchor, months, how)


def _count_window(
    rule: QuotaRule, state: str | None, at: int, quantity: int, anchor: int, months: int, how: How
) -> tuple[str, Used]:
    """Of windows that are computed from an instant: the state after, and how the quota stands with it."""
    span = span_of(rule.window, at, anchor, months)
    before, carried = 0, 0
    if state is not None:
        parts = _parts(state)
        before, carried = _at(rule, parts, span, anchor, months)
        if span.start < parts[0]:
            return state, _used(rule, before, carried, span)
    after = _counted(before, quantity, how)
    return f"{span.start}|{after}|{carried}", _used(rule, after, carried, span)


def billing_of(account: Account | None, instant: int) -> tuple[int, int]:
    """Anchor and months of a customer's billing period at a time; without a subscription the calendar month."""
    span = account.span_at(instant) if account is not None and account.spans else None
    return (span.anchor, span.months) if span is not None and span.plan else (0, 1)


def level_of(account: Account | None, meter: str) -> int | None:
    """The value of a built-in level, in nano-units; None for whatever else."""
    if meter != DEVICES_OPEN:
        return None
    return sum(not one.expired for one in account.allocations.values()) * 10**9 if account is not None else 0


def _used(rule: QuotaRule, quantity: int, carried: int, span: WindowSpan) -> Used:
    """How a quota stands in a window, with what was carried over into it."""
    refuse = rule.refuse_above
    return Used(
        quantity,
        limit_of(rule) + carried,
        refuse + carried if refuse is not None else None,
        span.id,
        span.end if rule.window.kind != "lifetime" else None,
    )


def _at(rule: QuotaRule, parts: tuple[int, int, int], span: WindowSpan, anchor: int, months: int) -> tuple[int, int]:
    """Used in a window, and carried over into it, as a state's parts have it."""
    start, quantity, carried = parts
    if start >= span.start:  # a later window than asked for counts as that one
        return quantity, carried
    if rule.rollover_max is None:
        return 0, 0
    limit = limit_of(rule)
    left = min(max(limit + carried - quantity, 0), rule.rollover_max)
    return 0, min(left + limit * _unused(rule.window, start, span, anchor, months), rule.rollover_max)


def _unused(window: Window, start: int, until: WindowSpan, anchor: int, months: int) -> int:
    """How many windows lie between the one that began at `start` and a later one."""
    end = span_of(window, start, anchor, months).end
    if window.kind not in ("month", "period"):
        return (until.start - end) // (until.end - until.start)
    between = 0
    while end < until.start:
        end = span_of(window, end, anchor, months).end
        between += 1
    return between


def _count_sliding(window: Window, state: str | None, at: int, quantity: int, how: How) -> str:
    counted = _all_buckets(state)
    bucket = bucket_of(window, at)
    newest = max(bucket, *counted) if counted else bucket
    if bucket > newest - SLIDING_BUCKETS:
        counted[bucket] = _counted(counted.get(bucket, 0), quantity, how)
    return ",".join(f"{number}:{counted[number]}" for number in sorted(counted) if number > newest - SLIDING_BUCKETS)


def _buckets(window: Window, state: str | None, now: int) -> dict[int, int]:
    counting = buckets_of(window, now)
    return {bucket: quantity for bucket, quantity in _all_buckets(state).items() if bucket >= counting.start}


def _all_buckets(state: str | None) -> dict[int, int]:
    pairs = (part.split(":") for part in state.split(",")) if state else ()
    return {int(bucket): int(quantity) for bucket, quantity in pairs}


def _counted(before: int, quantity: int, how: How) -> int:
    match how:
        case "add":
            return before + quantity
        case "set":
            return quantity
        case "most":
            return max(before, quantity)


def _parts(state: str | None) -> tuple[int, int, int]:
    if state is None:
        return 0, 0, 0
    parts = state.split("|")
    return int(parts[0]), int(parts[1]), int(parts[2]) if len(parts) > 2 else 0
