"""Section 2: what becomes of every record, by outcome and reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.ids import partition_of
from tests.acceptance.site import Record, Site, Tenant, fresh, plain, until

CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens - data.cached_input_tokens, dimensions: [model]}
  - {id: output_tokens, event_type: session.tokens_used, quantity: data.output_tokens, dimensions: [model]}
  - {id: device_core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
  - {id: ai_chat, event_type: usage.reported}
  - {id: counted_only, event_type: usage.reported}
  - {id: only_gold, event_type: usage.reported, dimensions: [tier]}
  - {id: pages, event_type: printer.printed, quantity: data.pages * data.copies}
  - {id: big, event_type: usage.reported}
prices:
  - {id: in-old, meter: input_tokens, model: per_unit, unit_amount: "0.001", effective_from: 2020-01-01T00:00:00Z}
  - {id: in-new, meter: input_tokens, model: per_unit, unit_amount: "0.002", effective_from: 2026-01-01T00:00:00Z}
  - {id: in-4o, meter: input_tokens, match: {model: gpt-4o}, model: per_unit, unit_amount: "0.0000025"}
  - {id: out, meter: output_tokens, model: per_unit, unit_amount: "0.00001"}
  - {id: cores, meter: device_core_seconds, model: per_unit, unit_amount: "0.01"}
  - {id: chat, meter: ai_chat, model: per_unit, unit_amount: "0.5"}
  - {id: gold, meter: only_gold, match: {tier: gold}, model: per_unit, unit_amount: "1"}
  - {id: page, meter: pages, model: per_unit, unit_amount: "0.1"}
  - {id: dear, meter: big, model: per_unit, unit_amount: "1000000"}
"""
TOKENS = {"session_id": "s", "model": "gpt-4o", "input_tokens": 1200, "cached_input_tokens": 200, "output_tokens": 340}
DEVICE = {
    "device_id": "d", "allocation_id": "a", "allocated_at": "2026-11-20T10:00:00Z", "released_at": "2026-11-20T10:01:00Z",
    "cpu_cores": 2, "memory_mb": 1024.5, "storage_mb": 0,
}  # fmt: skip
NOW = datetime.now(UTC)


def at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("events", CATALOGUE)


def nested(depth: int) -> dict[str, Any]:
    return {"deeper": nested(depth - 1)} if depth else {}


# Name; type; data; what of the envelope differs; outcome; reason; charge by meter.
CASES: list[tuple[str, str, dict[str, Any], dict[str, Any], str, str, dict[str, str]]] = [
    ("tokens", "session.tokens_used", TOKENS, {}, "rated", "", {"input_tokens": "0.0025", "output_tokens": "0.0034"}),
    ("no cached", "session.tokens_used", {**TOKENS, "cached_input_tokens": None}, {}, "rated", "", {"input_tokens": "0.003", "output_tokens": "0.0034"}),
    ("tokens_used alone", "session.tokens_used", {"session_id": "s", "model": "m", "tokens_used": 5}, {}, "rated", "", {}),
    ("all zero", "session.tokens_used", {**TOKENS, "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}, {}, "ignored", "zero", {}),
    ("price of its own time", "session.tokens_used", {**TOKENS, "model": "x", "output_tokens": 0}, {"time": "2025-06-01T00:00:00Z"}, "rated", "", {"input_tokens": "1"}),
    ("price of now", "session.tokens_used", {**TOKENS, "model": "x", "output_tokens": 0}, {"time": "2026-06-01T00:00:00Z"}, "rated", "", {"input_tokens": "2"}),
    ("any offset inward", "session.tokens_used", {**TOKENS, "model": "x", "output_tokens": 0}, {"time": "2026-01-01T00:30:00+01:00"}, "rated", "", {"input_tokens": "1"}),
    ("without time Kafka's is used", "session.tokens_used", TOKENS, {"time": None}, "rated", "", {"input_tokens": "0.0025", "output_tokens": "0.0034"}),
    ("customer of user_id", "session.tokens_used", {**TOKENS, "user_id": "by-user"}, {"subject": None}, "rated", "", {"input_tokens": "0.0025", "output_tokens": "0.0034"}),
    ("upstream cost is never charged", "session.tokens_used", {**TOKENS, "cost_usd": 99.5}, {}, "rated", "", {"input_tokens": "0.0025", "output_tokens": "0.0034"}),
    ("cached beyond input", "session.tokens_used", {**TOKENS, "cached_input_tokens": 1201}, {}, "dead_letter", "*", {}),
    ("negative count", "session.tokens_used", {**TOKENS, "output_tokens": -1}, {}, "dead_letter", "*", {}),
    ("count beyond 10^15", "session.tokens_used", {**TOKENS, "output_tokens": 10**15 + 1}, {}, "dead_letter", "*", {}),
    ("fractional count", "session.tokens_used", {**TOKENS, "output_tokens": 1.5}, {}, "dead_letter", "*", {}),
    ("missing field", "session.tokens_used", {"session_id": "s", "input_tokens": 1, "output_tokens": 1}, {}, "dead_letter", "missing_field", {}),
    ("unknown type", "never.heard_of", {}, {}, "dead_letter", "unknown_type", {}),
    ("unknown version", "session.tokens_used", TOKENS, {"dataschema": "https://x/session.tokens_used/2"}, "dead_letter", "unknown_version", {}),
    ("known version", "session.tokens_used", TOKENS, {"dataschema": "https://x/session.tokens_used/1"}, "rated", "", {"input_tokens": "0.0025", "output_tokens": "0.0034"}),
    ("future", "session.tokens_used", TOKENS, {"time": at(NOW + timedelta(hours=3))}, "dead_letter", "future", {}),
    ("a little ahead", "session.tokens_used", TOKENS, {"time": at(NOW + timedelta(minutes=20))}, "rated", "", {"input_tokens": "0.0025", "output_tokens": "0.0034"}),
    ("before 1970", "session.tokens_used", TOKENS, {"time": "1969-12-31T23:59:59Z"}, "dead_letter", "bad_time", {}),
    ("no time at all", "session.tokens_used", TOKENS, {"time": "soon"}, "dead_letter", "bad_time", {}),
    ("other specversion", "session.tokens_used", TOKENS, {"specversion": "0.3"}, "dead_letter", "*", {}),
    ("nested too deep", "session.tokens_used", {**TOKENS, "x": nested(40)}, {}, "dead_letter", "*", {}),
    ("nested deep", "session.tokens_used", {**TOKENS, "x": nested(20)}, {}, "rated", "", {"input_tokens": "0.0025", "output_tokens": "0.0034"}),
    ("beyond 256 kB", "session.tokens_used", {**TOKENS, "x": "y" * 300_000}, {}, "dead_letter", "*", {}),
    ("device", "device.released", {**DEVICE, "allocation_id": "a1"}, {}, "rated", "", {"device_core_seconds": "1.2"}),
    ("duration within a second", "device.released", {**DEVICE, "allocation_id": "a2", "duration_seconds": 61}, {}, "rated", "", {"device_core_seconds": "1.2"}),
    ("rounded half up", "device.released", {**DEVICE, "allocation_id": "a3", "released_at": "2026-11-20T10:01:00.5Z"}, {}, "rated", "", {"device_core_seconds": "1.22"}),
    ("duration that differs", "device.released", {**DEVICE, "allocation_id": "a4", "duration_seconds": 62}, {}, "dead_letter", "*", {}),
    ("an end before its begin", "device.released", {**DEVICE, "allocation_id": "a5", "released_at": "2026-11-20T09:00:00Z"}, {}, "dead_letter", "*", {}),
    ("reported", "usage.reported", {"meter": "ai_chat", "quantity": 3}, {}, "rated", "", {"ai_chat": "1.5"}),
    ("quantity is 1 by default", "usage.reported", {"meter": "ai_chat"}, {}, "rated", "", {"ai_chat": "0.5"}),
    ("alias", "product.usage_recorded", {"product_id": "ai_chat", "quantity": 2}, {}, "rated", "", {"ai_chat": "1"}),
    ("a meter without any price only counts", "usage.reported", {"meter": "counted_only", "quantity": 4}, {}, "rated", "", {"counted_only": "0"}),
    ("no price", "usage.reported", {"meter": "only_gold", "quantity": 1, "tier": "tin"}, {}, "dead_letter", "no_price", {}),
    ("no price for nothing", "usage.reported", {"meter": "only_gold", "quantity": 0, "tier": "tin"}, {}, "*", "*", {}),
    ("most specific", "usage.reported", {"meter": "only_gold", "quantity": 2, "tier": "gold"}, {}, "rated", "", {"only_gold": "2"}),
    ("no meter", "usage.reported", {"meter": "nobody_s", "quantity": 1}, {}, "dead_letter", "no_meter", {}),
    ("overflow", "usage.reported", {"meter": "big", "quantity": 10**10}, {}, "dead_letter", "amount_overflow", {}),
    ("any further type may be metered", "printer.printed", {"pages": 3, "copies": 2}, {}, "rated", "", {"pages": "0.6"}),
    ("a field that an expression needs", "printer.printed", {"pages": 3}, {}, "dead_letter", "*", {}),
    ("ended, not metered", "session.ended", {"session_id": "s", "started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T10:01:00Z"}, {}, "ignored", "no_meter", {}),
    ("ended before it began", "session.ended", {"session_id": "s", "started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T09:01:00Z"}, {}, "dead_letter", "*", {}),
    ("allocated", "device.allocated", {"device_id": "d", "allocation_id": "l1", "allocated_at": "2026-11-20T10:00:00Z", "cpu_cores": 2, "memory_mb": 1, "storage_mb": 0}, {}, "rated", "", {}),
]  # fmt: skip


def test_every_record_ends_in_one_outcome_by_name(site: Site, tenant: Tenant) -> None:
    """Every record of an input topic ends in exactly one of `rated`, `duplicate`, `ignored`, `dead_letter`, with a
    machine-readable `reason` where it is not `rated`.
    """
    sent = {}
    for name, type_, data, changed, *_ in CASES:
        event = tenant.event(fresh("cust"), type_, data, **({"time": "2026-11-20T10:15:30.123Z"} | changed))
        sent[name] = event
    tenant.send(*sent.values())
    outcomes = tenant.outcomes([event["id"] for event in sent.values()])
    charges: dict[str, dict[str, str]] = {}
    for row in tenant.rows("rated_usage"):
        charges.setdefault(row["event_id"], {})[row["meter"]] = row["amount"]
    wrong = []
    for name, _, _, _, outcome, reason, amounts in CASES:
        ((what, why),) = outcomes[sent[name]["id"]]
        booked = {meter: plain(amount) for meter, amount in charges.get(sent[name]["id"], {}).items()}
        good = (outcome in ("*", what) and reason in ("*", why)) and (what == "rated") == (why == "")
        if not good or (amounts and booked != amounts):
            wrong.append((name, what, why, booked))
    assert wrong == []


BROKEN = [
    ("not json", b"{ broken"),
    ("an array", b"[1, 2]"),
    ("bad UTF-8", b'{"specversion": "1.0", "id": "\xff"}'),
    ("empty", b""),
    ("nothing", None),
    ("a NaN", b'{"specversion": "1.0", "id": NaN}'),
    ("two of a key", b'{"specversion": "1.0", "id": "a", "id": "b"}'),
]


def test_records_that_are_no_events_are_dead_letters(site: Site, tenant: Tenant) -> None:
    """A dead letter keeps the original bytes, topic, partition, offset and a readable `detail`. One bad event never
    stops its partition.
    """
    placed = site.produce([Record("usage.events", value, fresh("k").encode(), 3) for _, value in BROKEN])
    behind = site.produce([Record("usage.events", value, fresh("k").encode(), 3) for _, value in BROKEN[:1]])
    first, last = placed[0][1], behind[0][1]
    query = (
        "SELECT topic, partition, offset, reason, detail, original FROM tollgate.dead_letters "
        "WHERE topic = 'usage.events' AND partition = 3 AND offset BETWEEN {first:Int64} AND {last:Int64}"
    )
    letters = until(lambda: rows if len(rows := site.sql(query, first=first, last=last)) >= len(BROKEN) + 1 else [])
    assert len(letters) == len(BROKEN) + 1
    for letter in letters:
        assert letter["reason"], letter
        assert letter["detail"], letter
    originals = {letter["offset"]: letter["original"] for letter in letters}
    assert originals[placed[0][1]].encode() == BROKEN[0][1]
    assert originals[placed[1][1]].encode() == BROKEN[1][1]


def tokens(tenant: Tenant, customer: str, **changed: Any) -> dict[str, Any]:
    return tenant.event(customer, "session.tokens_used", TOKENS, time="2026-11-20T10:15:30.123Z", **changed)


def _with(event: Mapping[str, Any], **data: Any) -> dict[str, Any]:
    return {**event, "data": {**event["data"], **data}}


def test_a_quarter_of_duplicates_counts_once(tenant: Tenant) -> None:
    """The same identity with the same content counts once, however often, whenever and in whatever batch it arrives."""
    customer = fresh("cust")
    events = [tokens(tenant, customer) for _ in range(80)]
    tenant.send(*events[:40], *events[:20], *events[40:])
    tenant.send(*events[60:])
    tenant.outcomes([event["id"] for event in events], 120)
    found = tenant.rows("event_outcomes", "customer = {c:String}", c=customer)
    counted: dict[str, int] = {}
    for row in found:
        counted[row["outcome"]] = counted.get(row["outcome"], 0) + 1
    assert counted == {"rated": 80, "duplicate": 40}
    assert len(tenant.rows("rated_usage", "customer = {c:String}", c=customer)) == 160
    assert tenant.balance(customer)["balance"] == "-0.472"


# What the second of an identity looks like; what it is.
SECONDS: list[tuple[str, Any, str, str]] = [
    ("other key order", lambda e: dict(reversed(list(e.items()))), "duplicate", "*"),
    ("numbers by value", lambda e: _with(e, output_tokens=340.0, input_tokens=1.2e3), "duplicate", "*"),
    ("absent is null is 0", lambda e: _with(e, cache_write_tokens=0, reasoning_tokens=None), "duplicate", "*"),
    ("other count", lambda e: _with(e, output_tokens=341), "dead_letter", "conflict"),
    ("unknown field", lambda e: _with(e, note="x"), "dead_letter", "conflict"),
    ("other time", lambda e: {**e, "time": "2026-11-20T10:15:31Z"}, "dead_letter", "conflict"),
    ("other source", lambda e: {**e, "source": "elsewhere"}, "rated", ""),
]


def test_the_second_of_an_identity(tenant: Tenant) -> None:
    """The same identity with other content is a conflict: the first stands, the second is a dead letter."""
    sent = {}
    for name, change, _, _ in SECONDS:
        first = tokens(tenant, fresh("cust"))
        sent[name] = first["id"]
        tenant.send(first, change(first))
    outcomes = tenant.outcomes(list(sent.values()), 2 * len(SECONDS))
    for name, _, outcome, reason in SECONDS:
        first, second = outcomes[sent[name]]
        assert first == ("rated", ""), name
        assert second[0] == outcome, (name, second)
        assert reason in ("*", second[1]), (name, second)


def test_a_dead_letter_does_not_use_its_identity_up(tenant: Tenant) -> None:
    """A dead letter and a refused command do not use an identity up."""
    good = tokens(tenant, fresh("cust"))
    tenant.send(_with(good, output_tokens=-5), good)
    assert [outcome for outcome, _ in tenant.outcomes([good["id"]], 2)[good["id"]]] == ["dead_letter", "rated"]


def test_an_allocation_is_released_once(tenant: Tenant) -> None:
    """A second `device.released` of the same allocation is a `duplicate` if its times are equal, else a conflict."""
    customer, allocation = fresh("cust"), fresh("alloc")
    release = {**DEVICE, "allocation_id": allocation}
    first, same, other = (
        tenant.event(customer, "device.released", data, source=f"s{number}")
        for number, data in enumerate((release, release, {**release, "released_at": "2026-11-20T10:02:00Z"}))
    )
    tenant.send(first, same, other)
    outcomes = tenant.outcomes([first["id"], same["id"], other["id"]])
    assert outcomes[first["id"]] == [("rated", "")]
    assert outcomes[same["id"]][0][0] == "duplicate"
    assert outcomes[other["id"]] == [("dead_letter", "conflict")]


def test_a_record_in_another_partition_is_rerouted(site: Site, tenant: Tenant) -> None:
    """`ignored` (`rerouted`) and sent to its own partition in the same transaction."""
    customer = fresh("cust")
    event = tokens(tenant, customer)
    wrong = (partition_of(customer, 8) + 1) % 8
    site.produce([Record("usage.events", json.dumps(event).encode(), customer.encode(), wrong)])
    assert sorted(tenant.outcomes([event["id"]], 2)[event["id"]]) == [("ignored", "rerouted"), ("rated", "")]


def test_an_event_in_the_other_topic_has_its_outcome(site: Site, tenant: Tenant) -> None:
    """Entries of both inputs; a record that is nobody's has an outcome as well."""
    customer = fresh("cust")
    event = tokens(tenant, customer)
    site.produce([Record("account.events", json.dumps(event).encode(), customer.encode())])
    ((outcome, _),) = tenant.outcomes([event["id"]])[event["id"]]
    assert outcome in ("rated", "dead_letter")


def test_the_default_tenant_is_default(site: Site) -> None:
    """`tenantid` defaults to `default`."""
    event = {
        "specversion": "1.0", "id": fresh("e"), "source": "acceptance", "type": "session.tokens_used",
        "data": {"user_id": fresh("u"), "session_id": "s", "model": "m", "input_tokens": 1, "output_tokens": 0},
    }  # fmt: skip
    site.tollgate.send(json.dumps(event).encode() + b"\n")
    (row,) = until(
        lambda: site.sql("SELECT * FROM tollgate.event_outcomes WHERE event_id = {id:String}", id=event["id"])
    )
    assert (row["tenant"], row["customer"], row["outcome"]) == ("default", event["data"]["user_id"], "rated")


def test_a_heartbeat_charges_the_time_since_the_last_mark(tenant: Tenant) -> None:
    """The allocation still runs; charges its time since the last mark; the release settles the rest."""
    customer, allocation = fresh("cust"), fresh("alloc")
    begin = {key: value for key, value in DEVICE.items() if key != "released_at"} | {"allocation_id": allocation}
    events = [
        tenant.event(customer, "device.allocated", begin),
        tenant.event(customer, "device.heartbeat", {"allocation_id": allocation, "until": "2026-11-20T10:00:20Z"}),
        tenant.event(customer, "device.heartbeat", {"allocation_id": allocation, "until": "2026-11-20T10:00:50Z"}),
        tenant.event(customer, "device.released", {**DEVICE, "allocation_id": allocation}),
    ]
    tenant.send(*events)
    outcomes = tenant.outcomes([event["id"] for event in events])
    assert [outcomes[event["id"]] for event in events] == [[("rated", "")]] * 4
    rows = tenant.rows("rated_usage", "allocation_id = {a:String}", a=allocation)
    assert sorted(plain(row["amount"]) for row in rows) == ["0.2", "0.4", "0.6"]
    assert tenant.balance(customer)["balance"] == "-1.2"


def test_a_correction_cancels_or_replaces(tenant: Tenant) -> None:
    """`usage.corrected`: `source`, `id` of an earlier event, `reason`, optional `replace`; books correcting entries."""
    cancelled, replaced = fresh("cust"), fresh("cust")
    first, second = tokens(tenant, cancelled), tokens(tenant, replaced)
    tenant.send(first, second)
    tenant.outcomes([first["id"], second["id"]])
    named = {"source": "acceptance", "reason": "wrong"}
    corrections = [
        tenant.event(cancelled, "usage.corrected", {**named, "id": first["id"]}),
        tenant.event(replaced, "usage.corrected", {**named, "id": second["id"], "replace": {**TOKENS, "output_tokens": 0}}),
    ]  # fmt: skip
    tenant.send(*corrections)
    tenant.outcomes([event["id"] for event in corrections])
    until(lambda: tenant.balance(cancelled)["balance"] == "0", "the cancelled event")
    until(lambda: tenant.balance(replaced)["balance"] == "-0.0025", "the replaced event")


# Type; data; outcome; reason.
ACCOUNT_CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("credit.granted", {"credit_id": "c1", "amount": "5.00", "currency": "USD"}, "rated", ""),
    ("credit.granted", {"credit_id": "c2", "amount": 5.25, "currency": "USD", "timestamp": "2026-11-20T10:00:00Z"}, "rated", ""),
    ("credit.granted", {"credit_id": "c3", "amount": "1.0000000001", "currency": "USD"}, "dead_letter", "*"),
    ("credit.granted", {"credit_id": "c4", "currency": "USD"}, "dead_letter", "missing_field"),
    ("credit.granted", {"credit_id": "c5", "amount": "-5", "currency": "USD"}, "dead_letter", "*"),
    ("payment.completed", {"payment_id": "p1", "amount": "10", "currency": "USD"}, "rated", ""),
    ("payment.failed", {"payment_intent_id": "pi-1", "amount": "10", "currency": "USD", "error": "declined"}, "*", "*"),
    ("payment.intent.created", {"payment_intent_id": "pi-2", "amount": "10", "currency": "USD"}, "*", "*"),
    ("user.created", {"plan_id": "free"}, "rated", ""),
    ("wallet.credits_added", {"amount": "5"}, "*", "*"),
    ("storage.quota_exceeded", {"used": 1}, "*", "*"),
    ("billing.processed", {}, "*", "*"),
    ("order.created", {"order_id": "o1", "order_type": "credits", "total_amount": "5", "currency": "USD", "items": []}, "rated", ""),
    ("subscription.created", {"subscription_id": "s1", "plan_id": "nobody_s_plan", "status": "active", "billing_cycle": "monthly"}, "*", "*"),
]  # fmt: skip


def test_account_events_have_their_outcomes(tenant: Tenant) -> None:
    """Applied, an account event is `rated`, also without money; without effect it is `ignored` (`no_effect`)."""
    sent = [tenant.event(fresh("cust"), type_, data) for type_, data, _, _ in ACCOUNT_CASES]
    tenant.send(*sent)
    outcomes = tenant.outcomes([event["id"] for event in sent])
    for event, (type_, data, outcome, reason) in zip(sent, ACCOUNT_CASES, strict=True):
        ((what, why),) = outcomes[event["id"]]
        assert outcome in ("*", what), (type_, data, what, why)
        assert reason in ("*", why), (type_, data, what, why)
        assert what in ("rated", "ignored", "dead_letter")
        if outcome == "*":
            assert (what, why) in (("rated", ""), ("ignored", "no_effect")) or type_.startswith("subscription"), (type_, what, why)  # fmt: skip


def test_an_order_credits_its_wallet_once(tenant: Tenant) -> None:
    """A wallet is credited at most once per `order_id`, by `payment.completed` or `order.completed`, whichever comes
    first: `credit_amount`, else the paid amount.
    """
    customer, order = fresh("cust"), fresh("order")
    completed = {"order_id": order, "order_type": "credits", "total_amount": "8", "currency": "USD", "items": [], "credit_amount": "10"}  # fmt: skip
    events = [
        tenant.event(customer, "order.completed", completed),
        tenant.event(customer, "payment.completed", {"payment_id": fresh("p"), "order_id": order, "amount": "8", "currency": "USD"}),
    ]  # fmt: skip
    tenant.send(*events)
    outcomes = tenant.outcomes([event["id"] for event in events])
    assert outcomes[events[0]["id"]] == [("rated", "")]
    assert tenant.balance(customer)["balance"] == "10"


def test_a_payment_is_credited_and_refunded(tenant: Tenant) -> None:
    """`payment.completed` credits the wallet; `payment.refunded` takes back."""
    customer, payment = fresh("cust"), fresh("p")
    events = [
        tenant.event(customer, "payment.completed", {"payment_id": payment, "amount": "10", "currency": "USD"}),
        tenant.event(customer, "payment.refunded", {"payment_id": payment, "refund_id": fresh("r"), "amount": "4"}),
    ]
    tenant.send(*events)
    assert set(tenant.outcomes([event["id"] for event in events])) == {event["id"] for event in events}
    assert tenant.balance(customer)["balance"] == "6"
    rows = tenant.rows("ledger", "customer = {c:String}", c=customer)
    assert [(row["kind"], plain(row["amount"])) for row in sorted(rows, key=lambda row: row["seq"])] == [
        ("deposit", "10"),
        ("refund", "-4"),
    ]
