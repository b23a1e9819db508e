"""Section 2: identity. What counts once, what is a conflict, what may come again; and whose a record is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.ids import partition_of
from tests.acceptance.site import Record, Site, Tenant, fresh, until
from tests.acceptance.test_events import CATALOGUE, DEVICE, changed, tokens


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("events", CATALOGUE)


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
    assert len(tenant.rows("rated_usage", "customer = {c:String}", c=customer)) == 240
    assert tenant.balance(customer)["balance"] == "-1232.472"


# What the second of an identity looks like; what it is.
SECONDS: list[tuple[str, Any, str, str]] = [
    ("other key order", lambda e: dict(reversed(list(e.items()))), "duplicate", "*"),
    ("numbers by value", lambda e: changed(e, output_tokens=340.0, input_tokens=1.2e3), "duplicate", "*"),
    ("absent is null is 0", lambda e: changed(e, cache_write_tokens=0, reasoning_tokens=None), "duplicate", "*"),
    ("a null attribute is absent", lambda e: json.dumps(e)[:-1].encode() + b', "dataschema": null}', "duplicate", "*"),
    ("what is filled in", lambda e: changed(e, tokens_used=1540, final=True, message_id=None), "duplicate", "*"),
    ("white space", lambda e: json.dumps(e, indent=None, separators=(" ,\t", " :\r")).encode(), "duplicate", "*"),
    ("other type", lambda e: {**e, "type": "usage.reported", "data": {"meter": "ai_chat"}}, "dead_letter", "conflict"),
    ("no time", lambda e: {name: value for name, value in e.items() if name != "time"}, "dead_letter", "conflict"),
    ("a field of the envelope", lambda e: {**e, "traceparent": "00-1"}, "dead_letter", "conflict"),
    ("other id", lambda e: {**e, "id": e["id"] + " "}, "rated", ""),
    ("other count", lambda e: changed(e, output_tokens=341), "dead_letter", "conflict"),
    ("unknown field", lambda e: changed(e, note="x"), "dead_letter", "conflict"),
    ("other time", lambda e: {**e, "time": "2026-11-20T10:15:31Z"}, "dead_letter", "conflict"),
    ("other source", lambda e: {**e, "source": "elsewhere"}, "rated", ""),
]


def test_the_second_of_an_identity(tenant: Tenant) -> None:
    """The same identity with other content is a conflict: the first stands, the second is a dead letter."""
    sent = {name: tokens(tenant, fresh("cust")) for name, *_ in SECONDS}
    tenant.send(*sent.values(), *(change(sent[name]) for name, change, _, _ in SECONDS))
    ids = [event["id"] for event in sent.values()]
    outcomes = tenant.outcomes([*ids, sent["other id"]["id"] + " "], 2 * len(SECONDS))
    for name, _, outcome, reason in SECONDS:
        name_of_second = sent[name]["id"] + (" " if name == "other id" else "")
        (first, *_), (*_, second) = outcomes[sent[name]["id"]], outcomes[name_of_second]
        assert first == ("rated", ""), name
        assert second[0] == outcome, (name, second)
        assert reason in ("*", second[1]), (name, second)


def test_kafkas_time_is_no_content(tenant: Tenant) -> None:
    """Never Kafka's time: an event without `time` that is sent again later is the same."""
    event = {name: value for name, value in tokens(tenant, fresh("cust")).items() if name != "time"}
    tenant.send(event)
    tenant.outcomes([event["id"]])
    tenant.send(event)
    assert [outcome for outcome, _ in tenant.outcomes([event["id"]], 2)[event["id"]]] == ["rated", "duplicate"]


def test_an_identity_is_of_one_tenant(site: Site, tenant: Tenant) -> None:
    """(tenant, source, id)."""
    other = site.tenant("events", CATALOGUE)
    event = tokens(tenant, fresh("cust"))
    tenant.send(event, {**event, "tenantid": other.name})
    assert tenant.outcomes([event["id"]]) == other.outcomes([event["id"]]) == {event["id"]: [("rated", "")]}


def test_a_dead_letter_does_not_use_its_identity_up(tenant: Tenant) -> None:
    """A dead letter and a refused command do not use an identity up."""
    good = tokens(tenant, fresh("cust"))
    tenant.send(changed(good, output_tokens=-5), good)
    assert [outcome for outcome, _ in tenant.outcomes([good["id"]], 2)[good["id"]]] == ["dead_letter", "rated"]


def test_an_allocation_is_released_once(tenant: Tenant) -> None:
    """A second `device.released` of the same allocation under another source or id is a `duplicate` if its times are
    equal, else a conflict.
    """
    customer, allocation = fresh("cust"), fresh("alloc")
    release = {**DEVICE, "allocation_id": allocation}
    seconds = (release, {**release, "memory_mb": 7, "allocated_at": "2026-11-20T11:00:00+01:00"}, {**release, "released_at": "2026-11-20T10:02:00Z"})  # fmt: skip
    first, same, other = (
        tenant.event(customer, "device.released", data, source=f"s{number}") for number, data in enumerate(seconds)
    )
    tenant.send(first, same, other)
    outcomes = tenant.outcomes([first["id"], same["id"], other["id"]])
    assert outcomes[first["id"]] == [("rated", "")]
    assert outcomes[same["id"]][0][0] == "duplicate"
    assert outcomes[other["id"]] == [("dead_letter", "conflict")]


def test_an_event_in_the_other_topic_has_its_outcome(site: Site, tenant: Tenant) -> None:
    """A record that is in the other input has an outcome as well."""
    customer = fresh("cust")
    event = tokens(tenant, customer)
    site.produce([Record("account.events", json.dumps(event).encode(), customer.encode())])
    ((outcome, _),) = tenant.outcomes([event["id"]])[event["id"]]
    assert outcome in ("rated", "dead_letter")


def test_a_record_in_another_partition_is_rerouted(site: Site, tenant: Tenant) -> None:
    """`ignored` (`rerouted`) and sent to its own partition in the same transaction."""
    customer, partitions = fresh("cust"), site.tollgate.settings.partitions
    strangers = [partition for partition in range(partitions) if partition != partition_of(customer, partitions)]
    events = [tokens(tenant, customer) for _ in strangers]
    site.produce(
        Record("usage.events", json.dumps(event).encode(), customer.encode(), wrong)
        for event, wrong in zip(events, strangers, strict=True)
    )
    outcomes = tenant.outcomes([event["id"] for event in events], 2 * len(events))
    for event in events:
        assert sorted(outcomes[event["id"]]) == [("ignored", "rerouted"), ("rated", "")]


def test_the_default_tenant_is_default(site: Site) -> None:
    """`tenantid` defaults to `default`."""
    event = {
        "specversion": "1.0", "id": fresh("e"), "source": "acceptance", "type": "session.tokens_used",
        "data": {"user_id": fresh("u"), "session_id": "s", "model": "m", "input_tokens": 1, "output_tokens": 0},
    }  # fmt: skip
    named = [event, {**event, "tenantid": "default", "subject": event["data"]["user_id"]}]
    site.tollgate.send(b"".join(json.dumps(one).encode() + b"\n" for one in named))
    query = "SELECT * FROM tollgate.event_outcomes WHERE event_id = {id:String} ORDER BY seq"
    rows = until(lambda: found if len(found := site.sql(query, id=event["id"])) == 2 else [])
    assert {(row["tenant"], row["customer"]) for row in rows} == {("default", event["data"]["user_id"])}
    assert [row["outcome"] for row in rows] == ["rated", "duplicate"]
