"""A seeded load: events of many customers with repeats, conflicts, broken inputs, money, and what was meant by each.

What is meant (`Meaning`) is told to the auditor beside the bytes, in plain values, so that the auditor never decodes an
event. Nothing here comes from the pipeline.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

CATALOG = """\
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens - data.cached_input_tokens,
     aggregation: sum, dimensions: [model]}
  - {id: cached_tokens, event_type: session.tokens_used, quantity: data.cached_input_tokens, aggregation: sum,
     dimensions: [model]}
  - {id: output_tokens, event_type: session.tokens_used, quantity: data.output_tokens, aggregation: sum,
     dimensions: [model]}
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores, aggregation: sum}
  - {id: chats, event_type: usage.reported, aggregation: sum}
  - {id: seats, event_type: usage.reported, aggregation: sum}
prices:
  - {id: in-large, meter: input_tokens, match: {model: large}, model: per_unit, unit_amount: "0.0000025"}
  - {id: in-small, meter: input_tokens, match: {model: small}, model: per_unit, unit_amount: "0.00000015"}
  - {id: cached, meter: cached_tokens, model: per_unit, unit_amount: "0.0000000755"}
  - id: out
    meter: output_tokens
    model: graduated
    tiers:
      - {up_to: 10000, unit_amount: "0.00001"}
      - {up_to: null, unit_amount: "0.0000050005", flat_amount: "1.00"}
  - {id: cores, meter: core_seconds, model: package, package_size: 3600, amount: "0.05", rounding: up}
  - {id: chat, meter: chats, model: per_unit, unit_amount: "0.0000000005"}
"""

USAGE = "usage.events"
ACCOUNT = "account.events"


class Meaning(NamedTuple):
    """What a record says, for whoever must not decode it."""

    kind: str
    """tokens, device, chats, seats, zero, grant, payment, refund, user, no_effect, or broken."""
    customer: str = ""
    identity: tuple[str, str] = ("", "")
    """source, id"""
    content: str = ""
    """Equal for records of one identity that say the same."""
    month: str = ""
    values: tuple[Any, ...] = ()
    """tokens: model, input, cached, output. device: allocation, times, (month, core seconds) by month that it ran in.
    chats, seats: nano-units.
    grant: credit id, nanos, currency. payment: payment id, order id, nanos. refund: payment id, refund id, nanos."""
    reason: str = ""
    """broken: of the dead letter."""


class Record(NamedTuple):
    """One record to be sent."""

    topic: str
    customer: str
    """Whose partition it belongs in; empty where that is not known."""
    value: bytes
    meaning: Meaning
    astray: bool
    """To be sent to another partition than the customer's."""


class Load:
    """`records` are the same for the same arguments."""

    def __init__(self, seed: int, customers: int, tenant: str, now: datetime | None = None) -> None:
        self._random = random.Random(seed)
        self._tenant = tenant
        self._customers = [f"{tenant}-cust-{number}" for number in range(customers)]
        self._now = now or datetime.now(UTC)
        self._number = 0
        self._sent: list[Record] = []
        self._paid: list[tuple[str, str]] = []
        self._released: list[tuple[str, str, str, str]] = []

    def records(self, count: int) -> Iterator[Record]:
        """`count` records: one in four a repeat, some of everything else."""
        for customer in self._customers:
            yield self._grant(customer)._replace(astray=False)
        for _ in range(count - len(self._customers)):
            yield self._next()

    def _next(self) -> Record:
        chance = self._random.random()
        if chance < 0.25 and self._sent:
            return self._repeat()
        if chance < 0.26 and self._sent:
            return self._conflict()
        if chance < 0.29:
            return self._broken()
        if chance < 0.33:
            return self._account()
        if chance < 0.40:
            return self._device()
        if chance < 0.48:
            return self._reported()
        return self._tokens(zero=chance < 0.485)

    def _id(self) -> str:
        self._number += 1
        return f"{self._tenant}-{self._number:09d}"

    def _customer(self) -> str:
        # Some customers are much busier than others.
        return self._customers[int(len(self._customers) * self._random.random() ** 2)]

    def _time(self) -> datetime:
        back = timedelta(days=40 * self._random.random()) if self._random.random() < 0.1 else timedelta(0)
        return self._now - back - timedelta(seconds=self._random.randrange(3_000))

    def _made(
        self,
        topic: str,
        kind: str,
        customer: str,
        event_type: str,
        data: dict[str, Any],
        values: tuple[Any, ...],
        moment: datetime | None = None,
    ) -> Record:
        moment = moment or self._time()
        time, month = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z", moment.strftime("%Y-%m")
        event = {
            "specversion": "1.0",
            "id": self._id(),
            "source": self._random.choice(("chat", "devices")),
            "type": event_type,
            "subject": customer,
            "tenantid": self._tenant,
            "time": time,
            "data": data,
        }
        meaning = Meaning(
            kind, customer, (str(event["source"]), str(event["id"])), json.dumps(event, sort_keys=True), month, values
        )
        record = Record(topic, customer, json.dumps(event).encode(), meaning, self._random.random() < 0.01)
        if len(self._sent) < 20_000:
            self._sent.append(record)
        else:
            self._sent[self._random.randrange(20_000)] = record
        return record

    def _tokens(self, *, zero: bool) -> Record:
        chance = self._random
        model = chance.choice(("large", "small"))
        taken, given = (0, 0) if zero else (chance.randrange(1, 4_000), chance.randrange(800))
        cached = chance.randrange(taken + 1) if chance.random() < 0.3 else 0
        data = {
            "session_id": f"s-{chance.randrange(500)}",
            "model": model,
            "input_tokens": taken,
            "output_tokens": given,
        }
        if cached or chance.random() < 0.3:
            data["cached_input_tokens"] = cached
        kind = "zero" if zero else "tokens"
        return self._made(USAGE, kind, self._customer(), "session.tokens_used", data, (model, taken, cached, given))

    def _device(self) -> Record:
        chance, customer = self._random, self._customer()
        if self._released and chance.random() < 0.1:
            # Another event tells of the same release, with the same times or with others.
            customer, allocation, start, end = chance.choice(self._released)
            if chance.random() < 0.5:
                end = end[:-1] + ".5Z"
        else:
            ended = self._time()
            begun = ended - timedelta(seconds=chance.randrange(1, 9_000))
            allocation = f"alloc-{self._number}"
            start, end = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (begun, ended))
            self._released.append((customer, allocation, start, end))
        cores = chance.choice((1, 2, 4))
        data = {
            "device_id": f"d-{chance.randrange(50)}",
            "allocation_id": allocation,
            "allocated_at": start,
            "released_at": end,
            "cpu_cores": cores,
            "memory_mb": 1024,
            "storage_mb": 0,
        }
        values = (allocation, f"{start} {end}", tuple((month, part * cores) for month, part in _by_month(start, end)))
        return self._made(USAGE, "device", customer, "device.released", data, values, datetime.fromisoformat(end))

    def _reported(self) -> Record:
        meter = self._random.choice(("chats", "seats"))
        quantity = self._random.randrange(1, 10_000) * 100_000_000
        data: dict[str, Any] = {"meter": meter, "quantity": quantity / 10**9}
        if self._random.random() < 0.3:
            del data["quantity"]
            quantity = 10**9
        return self._made(USAGE, meter, self._customer(), "usage.reported", data, (quantity,))

    def _grant(self, customer: str) -> Record:
        nanos = self._random.randrange(1, 50 * 10**9)
        data: dict[str, Any] = {
            "credit_id": f"credit-{self._id()}",
            "amount": f"{nanos // 10**9}.{nanos % 10**9:09d}",
            "currency": "USD",
            "priority": self._random.randrange(3),
        }
        if self._random.random() < 0.3:
            data["scope"] = [self._random.choice(("input_tokens", "output_tokens", "chats"))]
        return self._made(ACCOUNT, "grant", customer, "credit.granted", data, (data["credit_id"], nanos, "USD"))

    def _account(self) -> Record:
        chance, customer = self._random, self._customer()
        kind = chance.choice(("grant", "grant", "payment", "payment", "refund", "user", "no_effect"))
        nanos = chance.randrange(1, 10 * 10**9)
        amount = f"{nanos // 10**9}.{nanos % 10**9:09d}"
        if kind == "grant":
            return self._grant(customer)
        if kind == "payment" or (kind == "refund" and not self._paid):
            payment, order = f"pay-{self._id()}", f"order-{chance.randrange(10_000)}"
            self._paid.append((customer, payment))
            data = {"payment_id": payment, "order_id": order, "amount": amount, "currency": "USD"}
            return self._made(ACCOUNT, "payment", customer, "payment.completed", data, (payment, order, nanos))
        if kind == "refund":
            customer, payment = chance.choice(self._paid)
            refund = f"refund-{self._id()}"
            data = {"payment_id": payment, "refund_id": refund, "amount": amount}
            return self._made(ACCOUNT, "refund", customer, "payment.refunded", data, (payment, refund, nanos))
        if kind == "user":
            return self._made(ACCOUNT, "user", customer, "user.created", {"user_id": customer}, (customer,))
        return self._made(ACCOUNT, "no_effect", customer, "billing.processed", {"amount": "1"}, ())

    def _repeat(self) -> Record:
        """The same event again: as it was, or spelled otherwise."""
        record = self._random.choice(self._sent)
        if self._random.random() < 0.5:
            event = json.loads(record.value)
            shuffled = list(event.items())
            self._random.shuffle(shuffled)
            event = dict(shuffled)
            if record.meaning.kind == "tokens" and "cached_input_tokens" not in event["data"]:
                event["data"]["cached_input_tokens"] = self._random.choice((0, None, 0.0))
            record = record._replace(value=json.dumps(event, indent=1).encode())
        return record._replace(astray=self._random.random() < 0.01)

    def _conflict(self) -> Record:
        """The same identity with another content: another time, or another field."""
        record = self._random.choice(self._sent)
        event = json.loads(record.value)
        if self._random.random() < 0.5:
            event["time"] = (self._now - timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
        else:
            event["note"] = self._id()
        content = json.dumps(event, sort_keys=True)
        # Whichever of the two comes first stands, so what it means otherwise stays as it was.
        month = event["time"][:7]
        return record._replace(
            value=json.dumps(event).encode(), meaning=record.meaning._replace(content=content, month=month)
        )

    def _broken(self) -> Record:
        customer = self._customer()
        topic, reason, value = self._random.choice(_BREAKERS)(self._id(), customer, self._tenant)
        return Record(topic, customer, value, Meaning("broken", customer, reason=reason), False)


def _by_month(start: str, end: str) -> list[tuple[str, int]]:
    """Seconds of an interval shorter than a month by the month they ran in; a half second at its end is rounded up."""
    begun, ended = datetime.fromisoformat(start), datetime.fromisoformat(end)
    border = ended.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    parts = [(begun, border), (border, ended)] if begun < border < ended else [(begun, ended)]
    return [(first.strftime("%Y-%m"), int((last - first).total_seconds() + 0.5)) for first, last in parts]


def _tokens_event(number: str, customer: str, tenant: str, **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": number,
        "source": "broken",
        "type": "session.tokens_used",
        "subject": customer,
        "tenantid": tenant,
        "time": "2026-11-01T00:00:00Z",
        "data": {"session_id": "s", "model": "large", "input_tokens": 10, "output_tokens": 10, **data},
    }


def _breaker(reason: str, change: Any, topic: str = USAGE) -> Any:
    """A maker of broken records: `change` gets a good event and answers what to send instead."""

    def make(number: str, customer: str, tenant: str) -> tuple[str, str, bytes]:
        broken = change(_tokens_event(number, customer, tenant))
        return topic, reason, broken if isinstance(broken, bytes) else json.dumps(broken).encode()

    return make


def _released(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    data = {
        "device_id": "d",
        "allocation_id": f"broken-{event['id']}",
        "allocated_at": "2026-11-01T00:00:00Z",
        "released_at": "2026-11-01T01:00:00Z",
        "cpu_cores": 1,
        "memory_mb": 1,
        "storage_mb": 1,
    }
    return event | {"type": "device.released", "data": data | changes}


def _data(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return event | {"data": event["data"] | changes}


def _less(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


def _bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _nested(event: dict[str, Any]) -> bytes:
    return _bytes(event)[:-1] + b', "deep": ' + b'{"a":' * 60 + b"1" + b"}" * 60 + b"}"


_BREAKERS = (
    _breaker("not_json", lambda event: b"{" + _bytes(event)),
    _breaker("not_json", lambda event: b"[" + _bytes(event) + b"]"),
    _breaker("not_json", lambda event: _bytes(event).replace(b'"output_tokens": 10', b'"output_tokens": NaN')),
    _breaker("empty", lambda event: b""),
    _breaker("bad_encoding", lambda event: _bytes(event)[:-1] + b', "x": "\xff\xfe"}'),
    _breaker("too_deep", _nested),
    _breaker("too_large", lambda event: event | {"x": "y" * 300_000}),
    _breaker("too_large", lambda event: event | {"x": "y" * 1_000_000}),
    _breaker("out_of_range", lambda event: _data(event, output_tokens=-1)),
    _breaker("out_of_range", lambda event: _data(event, output_tokens=10**16)),
    _breaker("wrong_type", lambda event: _data(event, output_tokens="10")),
    _breaker("wrong_type", lambda event: _data(event, output_tokens=1.5)),
    _breaker("wrong_type", lambda event: event | {"specversion": "0.3"}),
    _breaker("missing_field", lambda event: event | {"data": {"session_id": "s", "input_tokens": 1}}),
    _breaker("missing_field", lambda event: _less(event, "id")),
    _breaker("no_customer", lambda event: _less(event, "subject")),
    _breaker("unknown_type", lambda event: event | {"type": "rocket.launched"}),
    _breaker("no_meter", lambda event: event | {"type": "usage.reported", "data": {"meter": "unheard-of"}}),
    _breaker("no_price", lambda event: _data(event, model="unheard-of")),
    _breaker("future", lambda event: event | {"time": "2099-01-01T00:00:00Z"}),
    _breaker("bad_time", lambda event: event | {"time": "1969-12-31T23:59:59Z"}),
    _breaker("bad_time", lambda event: event | {"time": "yesterday"}),
    _breaker("bad_time", lambda event: _released(event, released_at="2026-10-01T00:00:00Z")),
    _breaker("inconsistent", lambda event: _data(event, cached_input_tokens=11)),
    _breaker("inconsistent", lambda event: _released(event, duration_seconds=5)),
    _breaker("unknown_version", lambda event: event | {"dataschema": "https://x/session.tokens_used/9"}),
    _breaker(
        "unknown_allocation",
        lambda event: (
            event
            | {"type": "device.heartbeat", "data": {"allocation_id": event["id"], "until": "2020-01-01T00:00:00Z"}}
        ),
    ),
    _breaker(
        "currency_mismatch",
        lambda event: (
            event | {"type": "credit.granted", "data": {"credit_id": event["id"], "amount": "1", "currency": "EUR"}}
        ),
        ACCOUNT,
    ),
    _breaker(
        "unknown_payment",
        lambda event: (
            event
            | {"type": "payment.refunded", "data": {"payment_id": "never", "refund_id": event["id"], "amount": "1"}}
        ),
        ACCOUNT,
    ),
    _breaker(
        "wrong_type",
        lambda event: (
            event
            | {
                "type": "credit.granted",
                "data": {"credit_id": event["id"], "amount": "1.0000000001", "currency": "USD"},
            }
        ),
        ACCOUNT,
    ),
)
