"""What the API asks ClickHouse: each question a value of SQL and parameters, made by a pure function.

Every value of a request is a parameter; the text of a query has only names of ours in it. Tenant and customer are in
every WHERE. Amounts and quantities come back as decimal text or whole nanos, times as microseconds. A listing reads one
row more than a page has, behind the key of its cursor, in an order that ends in a unique key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.errors import InvalidInput

Value = str | int


@dataclass(frozen=True, slots=True)
class Query:
    """One question."""

    sql: str
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows of a listing: those behind a key, and how many."""

    after: tuple[Any, ...] | None
    limit: int


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open, microseconds; None: no bound."""

    start: int | None = None
    end: int | None = None


WINDOWS: Final = {"minute": "MINUTE", "hour": "HOUR", "day": "DAY", "week": "WEEK", "month": "MONTH"}
GROUP_BY_MAX: Final = 8

GROUP_COLUMNS: Final = frozenset(
    ("user_id", "price_id", "event_type", "source", "session_id", "device_id", "allocation_id", "unit_amount")
)
"""Columns that usage may be grouped by; any other name is a dimension's."""

EVENT_KEY: Final = (int, int, int)
CHARGE_KEY: Final = (int, int, int, int)
LEDGER_KEY: Final = (int, int, str)
DEAD_LETTER_KEY: Final = (int, str, int, int)

_ENTRY_COLUMNS: Final = """
    toUnixTimestamp64Micro(occurred_at), partition, seq, toString(topic), offset, toString(outcome), reason,
    customer, source, event_id, event_type, toUnixTimestamp64Micro(received_at),
    toUnixTimestamp64Micro(rated_at),
    charge.meter, charge.price_id, charge.catalog_version, charge.unit_amount, charge.currency, charge.dimensions,
    charge.quantity_units, charge.quantity_nanos, charge.amount"""


def answers() -> Query:
    """Whether ClickHouse answers and the tables are there."""
    return Query("SELECT count() FROM tollgate.ledger_entries WHERE tenant = '' AND seq < 0", {})


def customer_known(tenant: str, customer: str) -> Query:
    """One row if any event of the customer was rated."""
    return Query(
        "SELECT 1 FROM tollgate.ledger_entries\n"
        "WHERE tenant = {tenant:String} AND customer = {customer:String} AND outcome = 'rated'\nLIMIT 1",
        {"tenant": tenant, "customer": customer},
    )


def event(tenant: str, source: str, event_id: str, limit: int) -> Query:
    """The entries of all records with this source and id: first the one that booked it, then in the ledger's order."""
    return Query(
        f"SELECT{_ENTRY_COLUMNS}\nFROM tollgate.ledger_entries\n"
        "WHERE tenant = {tenant:String} AND source = {source:String} AND event_id = {event_id:String}\n"
        "ORDER BY outcome = 'rated' DESC, outcome = 'ignored' AND reason != 'rerouted' DESC, rated_at, partition, seq\n"
        "LIMIT {limit:UInt32}",
        {"tenant": tenant, "source": source, "event_id": event_id, "limit": limit},
    )


def events(tenant: str, customer: str | None, span: Span, outcome: str | None, page: Page) -> Query:
    """Entries, by the time of their events."""
    asked = _Asked("tenant", tenant)
    asked.equal("customer", customer)
    asked.equal("outcome", outcome)
    asked.within("occurred_at", _narrowed(span, page))
    asked.behind(("toUnixTimestamp64Micro(occurred_at)", "partition", "seq"), EVENT_KEY, page.after)
    return asked.query(
        f"SELECT{_ENTRY_COLUMNS}\nFROM tollgate.ledger_entries", "ORDER BY occurred_at, partition, seq", page
    )


def charges(tenant: str, customer: str, span: Span, meter: str | None, page: Page) -> Query:
    """Charges of a customer, by the time of their events. `number` counts those of an event from 1."""
    asked = _Asked("tenant", tenant)
    asked.equal("customer", customer)
    if meter is not None:
        asked.add("charge.meter = {meter:String}", meter=meter)
    asked.within("occurred_at", _narrowed(span, page))
    asked.behind(("toUnixTimestamp64Micro(occurred_at)", "partition", "seq", "number"), CHARGE_KEY, page.after)
    return asked.query(
        """SELECT
    toUnixTimestamp64Micro(occurred_at), partition, seq, number, toString(topic), offset, source, event_id, event_type,
    user_id, session_id, device_id, allocation_id, toUnixTimestamp64Micro(rated_at), bitAnd(flags, 1),
    charge.meter, charge.price_id, charge.catalog_version, charge.unit_amount, charge.currency, charge.dimensions,
    charge.quantity_units, charge.quantity_nanos, charge.amount
FROM tollgate.ledger_entries
ARRAY JOIN charge, arrayEnumerate(charge.meter) AS number""",
        "ORDER BY occurred_at, partition, seq, number",
        page,
    )


def ledger(tenant: str, customer: str, span: Span, kind: str | None, page: Page) -> Query:
    """Movements of a customer's wallet, in the ledger's order."""
    asked = _Asked("tenant", tenant)
    asked.equal("customer", customer)
    asked.equal("kind", kind)
    asked.within("occurred_at", span)
    # An entry's movements are numbered at the end of entry_id: the shorter number is the lower one.
    asked.behind(("seq", "length(entry_id)", "entry_id"), LEDGER_KEY, page.after)
    return asked.query(
        """SELECT
    seq, length(entry_id), entry_id, toString(kind), toString(amount), toString(balance_after), currency,
    toUnixTimestamp64Micro(occurred_at), cause
FROM tollgate.ledger""",
        "ORDER BY seq, length(entry_id), entry_id",
        page,
    )


def usage(tenant: str, customer: str, span: Span, window: str | None, group_by: Sequence[str], page: Page) -> Query:
    """Sums of a customer's usage by window, meter, currency and whatever else it is grouped by."""
    asked = _Asked("tenant", tenant)
    asked.equal("customer", customer)
    asked.within("occurred_at", span)
    keys = [_window(window), "meter", "currency"]
    for index, name in enumerate(group_by):
        if name in GROUP_COLUMNS:
            keys.append(f"toString({name})")
        else:
            keys.append(f"dimensions[{asked.name(f'group_{index}', name)}]")
    kinds = usage_key(group_by)
    asked.behind(keys, kinds, page.after)
    listed = ", ".join(keys)
    return asked.query(
        f"SELECT\n    {listed},\n    toString(sum(quantity)), toString(sum(amount)), count()\n"
        "FROM tollgate.rated_usage",
        f"GROUP BY {listed}\nORDER BY {listed}",
        page,
    )


def usage_key(group_by: Sequence[str]) -> tuple[type, ...]:
    """The kinds of a cursor's parts in a listing of usage."""
    return (int, str, str, *(str for _ in group_by))


def entry_of_event(tenant: str | None, event_id: str) -> Query:
    """The entries of all records of an event, by its id alone or behind its source and a slash: first the one that
    booked it. For operators also of all tenants."""
    asked = _Asked("tenant", tenant)
    asked.add("(event_id = {id:String} OR concat(source, '/', event_id) = {id:String})", id=event_id)
    return asked.whole(
        f"SELECT{_PLACE_COLUMNS}\nFROM tollgate.ledger_entries",
        "ORDER BY outcome = 'rated' DESC, outcome = 'ignored' AND reason != 'rerouted' DESC, rated_at, partition, seq\n"
        "LIMIT 100",
    )


def entry_at(tenant: str | None, partition: int, seq: int) -> Query:
    """One entry of the ledger."""
    asked = _Asked("tenant", tenant)
    asked.add("partition = {partition:UInt16} AND seq = {seq:Int64}", partition=partition, seq=seq)
    return asked.whole(f"SELECT{_PLACE_COLUMNS}\nFROM tollgate.ledger_entries", "LIMIT 1")


_PLACE_COLUMNS: Final = """
    tenant, source, event_id, toString(outcome), reason, toString(topic), partition, offset, seq, ledger_offset"""


def user_usage(tenant: str, user: str, span: Span) -> Query:
    """What a user used, by meter and price: of events that name the user, and of the customer's own without a user."""
    asked = _Asked("tenant", tenant)
    asked.add(_USER, user=user)
    asked.within("occurred_at", span)
    keys = "meter, price_id, unit_amount, currency"
    return asked.whole(
        f"SELECT\n    {keys},\n    toString(sum(quantity)), toString(sum(amount)), count()\nFROM tollgate.rated_usage",
        f"GROUP BY {keys}\nORDER BY {keys}",
    )


def user_known(tenant: str, user: str) -> Query:
    """One row if any event of the user was rated."""
    asked = _Asked("tenant", tenant)
    asked.add(_USER, user=user)
    asked.equal("outcome", "rated")
    return asked.whole("SELECT 1 FROM tollgate.ledger_entries", "LIMIT 1")


_USER: Final = "(user_id = {user:String} OR (user_id = '' AND customer = {user:String}))"


def dead_letters(
    tenant: str | None, reason: str | None, customer: str | None, span: Span, page: Page, *, unresolved: bool = False
) -> Query:
    """Dead letters without their originals, by the time Kafka received them. For operators also of all tenants."""
    asked = _Asked("tenant", tenant)
    if unresolved:
        asked.add("retried_at IS NULL AND dropped_at IS NULL")
    asked.equal("reason", reason)
    asked.equal("customer", customer)
    asked.within("received_at", _narrowed(span, page))
    asked.behind(
        ("toUnixTimestamp64Micro(received_at)", "toString(topic)", "partition", "offset"), DEAD_LETTER_KEY, page.after
    )
    return asked.query(
        f"SELECT{_DEAD_LETTER_COLUMNS}\nFROM tollgate.dead_letters",
        "ORDER BY received_at, toString(topic), partition, offset",
        page,
    )


def dead_letter(tenant: str | None, topic: str, partition: int, offset: int) -> Query:
    """One dead letter with its original, by the place of its record."""
    asked = _Asked("tenant", tenant)
    asked.add(
        "toString(topic) = {topic:String} AND partition = {partition:UInt32} AND offset = {offset:Int64}",
        topic=topic,
        partition=partition,
        offset=offset,
    )
    return asked.whole(
        f"SELECT{_DEAD_LETTER_COLUMNS},\n    base64Encode(original)\nFROM tollgate.dead_letters", "LIMIT 1"
    )


_DEAD_LETTER_COLUMNS: Final = """
    toUnixTimestamp64Micro(received_at), toString(topic), partition, offset, customer, source, event_id, event_type,
    reason, detail, length(original), toUnixTimestamp64Micro(retried_at), toUnixTimestamp64Micro(dropped_at), note"""

_KINDS: Final = {int: "Int64", str: "String"}


class _Asked:
    """Conditions of a query and their parameters."""

    def __init__(self, column: str, value: str | None) -> None:
        self._conditions: list[str] = []
        self._parameters: dict[str, Value] = {}
        self.equal(column, value)

    def equal(self, column: str, value: str | None) -> None:
        if value is not None:
            self.add(f"{column} = {{{column}:String}}", **{column: value})

    def within(self, column: str, span: Span) -> None:
        for name, sign, bound in (("start", ">=", span.start), ("end", "<", span.end)):
            if bound is not None:
                self.add(f"{column} {sign} fromUnixTimestamp64Micro({{{name}:Int64}})", **{name: bound})

    def behind(self, keys: Sequence[str], kinds: Sequence[type], after: Sequence[Value] | None) -> None:
        if after is None:
            return
        bound = {f"after_{index}": part for index, part in enumerate(after)}
        marks = ", ".join(f"{{{name}:{_KINDS[kind]}}}" for name, kind in zip(bound, kinds, strict=True))
        self.add(f"({', '.join(keys)}) > ({marks})", **bound)

    def add(self, condition: str, **parameters: Value) -> None:
        self._conditions.append(condition)
        self._parameters |= parameters

    def name(self, parameter: str, value: str) -> str:
        """The mark of a parameter that is no condition's."""
        self._parameters[parameter] = value
        return f"{{{parameter}:String}}"

    def whole(self, select: str, rest: str) -> Query:
        """A question that is not paged."""
        return Query(f"{select}\nWHERE {self._where()}\n{rest}", self._parameters)

    def query(self, select: str, rest: str, page: Page) -> Query:
        parameters = {**self._parameters, "limit": page.limit + 1}
        return Query(f"{select}\nWHERE {self._where()}\n{rest}\nLIMIT {{limit:UInt32}}", parameters)

    def _where(self) -> str:
        return "\n  AND ".join(self._conditions) or "true"


def _narrowed(span: Span, page: Page) -> Span:
    """Where a listing is by time, nothing before its cursor's time need be read."""
    if page.after is None:
        return span
    reached = page.after[0]
    return Span(reached if span.start is None else max(span.start, reached), span.end)


def _window(window: str | None) -> str:
    """When the window that an event lies in began, microseconds; 0 where all are one window."""
    if window is None:
        return "toInt64(0)"
    if window not in WINDOWS:
        raise InvalidInput("bad_parameter", f"window is one of {', '.join(WINDOWS)}", "/query/window")
    # The window of a month or a week is a Date, that of an hour a DateTime.
    started = f"toStartOfInterval(occurred_at, INTERVAL 1 {WINDOWS[window]}, 'UTC')"
    return f"toInt64(toUnixTimestamp(toDateTime({started}, 'UTC'))) * 1000000"
