"""Section 4, events over HTTP: what is taken, what is refused and why, and what became of each."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.acceptance.site import Record, Site, Tenant, bearer, fresh, is_problem, until

CATALOGUE = """
currency: USD
meters:
  - {id: calls, event_type: usage.reported, dimensions: [region]}
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
prices:
  - {id: call, meter: calls, model: per_unit, unit_amount: "0.5"}
  - {id: core, meter: core_seconds, model: per_unit, unit_amount: "0.01"}
"""
EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("posted", CATALOGUE)


def call(tenant: Tenant, customer: str | None = None, **changed: Any) -> dict[str, Any]:
    return tenant.event(
        customer or fresh(), "usage.reported", {"meter": "calls", "quantity": 3, "region": "eu"}, **changed
    )


def post(tenant: Tenant, body: Any, kind: str = EVENT) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return tenant.http.post("/v1/events", content=content, headers={"content-type": kind})


def decided(tenant: Tenant, event: dict[str, Any]) -> dict[str, Any]:
    """What became of an event, once that is known."""
    path = f"/v1/events/{quote(event['source'], safe='')}/{quote(event['id'], safe='')}"
    answer = until(lambda: found if (found := tenant.http.get(path)).status_code == 200 else None, path)
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize("kind", [EVENT, "application/json", f"{EVENT}; charset=UTF-8"])
def test_one_event_is_taken_and_told_of(tenant: Tenant, kind: str) -> None:
    """202 with `accepted` (a number) and `rejected[]`; then outcome, reason, charges."""
    event = call(tenant)
    answer = post(tenant, event, kind)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": []})
    told = decided(tenant, event)
    assert (told["outcome"], told["reason"], told["customer"]) == ("rated", None, event["subject"])
    (charge,) = told["charges"]
    assert (charge["meter"], charge["quantity"], charge["price_id"]) == ("calls", "3", "call")
    assert (charge["amount"], charge["currency"], charge["dimensions"]) == ("1.5", "USD", {"region": "eu"})
    assert told["occurred_at"].endswith("Z")


def test_the_tenant_is_the_tokens(site: Site, tenant: Tenant) -> None:
    """Over HTTP `tenantid` is set from the token, and another value is refused (`tenant_mismatch`: 403 alone, in a batch
    `rejected`).
    """
    silent = call(tenant, tenantid=None)
    assert post(tenant, silent).status_code == 202
    assert decided(tenant, silent)["outcome"] == "rated"
    foreign = call(tenant, tenantid="somebody-else")
    assert is_problem(post(tenant, foreign), 403, "tenant_mismatch")
    fine = call(tenant)
    answer = post(tenant, [fine, foreign, silent | {"tenantid": "default"}], BATCH)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1
    assert [(one["index"], one["reason"]) for one in answer.json()["rejected"]] == [
        (1, "tenant_mismatch"), (2, "tenant_mismatch"),
    ]  # fmt: skip
    assert decided(tenant, fine)["outcome"] == "rated"
    stranger = site.tenant("posted-b", CATALOGUE)
    for event in (silent, fine):
        assert is_problem(stranger.http.get(f"/v1/events/acceptance/{event['id']}"), 404)
    assert stranger.http.get("/v1/events").json()["data"] == []


FAULTS: list[tuple[dict[str, Any], int]] = [
    ({"specversion": "0.3"}, 422), ({"specversion": None}, 422), ({"id": None}, 422), ({"id": ""}, 422), ({"id": "x" * 201}, 422),
    ({"id": 7}, 422), ({"source": None}, 422), ({"source": ""}, 422), ({"type": None}, 422), ({"type": ""}, 422),
    ({"subject": ""}, 422), ({"subject": "x" * 201}, 422), ({"time": "soon"}, 422), ({"time": 7}, 422),
    ({"time": "2026-11-20"}, 422), ({"time": "2999-01-01T00:00:00Z"}, 422), ({"time": "1969-12-31T23:59:59Z"}, 422),
    ({"data": None}, 422), ({"data": []}, 422), ({"data": {"meter": "calls", "quantity": -1}}, 422),
    ({"data": {"meter": 7}}, 422), ({"data": {}}, 422), ({"subject": None}, 422),
    ({"dataschema": "https://x/usage.reported/2"}, 422), ({"type": "tollgate.wallet.credit"}, 422),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "status"), FAULTS, ids=str)
def test_one_bad_event_alone_is_422(tenant: Tenant, changed: dict[str, Any], status: int) -> None:
    """One bad event alone is 422, with `errors[] {pointer, reason}`; in a batch it is `rejected {index, reason}`."""
    event = call(tenant) | {name: value for name, value in changed.items() if value is not None}
    event = {
        name: value for name, value in event.items() if changed.get(name, value) is not None or name not in changed
    }
    answer = post(tenant, event)
    assert is_problem(answer, status)
    assert answer.json()["errors"][0].keys() >= {"pointer", "reason"}
    mixed = post(tenant, [call(tenant), event], BATCH)
    assert mixed.status_code == 202, mixed.text
    assert (mixed.json()["accepted"], [one["index"] for one in mixed.json()["rejected"]]) == (1, [1])
    assert mixed.json()["rejected"][0]["reason"]


def test_a_batch_is_up_to_a_thousand(tenant: Tenant) -> None:
    """A batch, up to 1,000, more is 413; an empty one takes nothing."""
    customer = fresh()
    thousand = [call(tenant, customer) for _ in range(1000)]
    answer = post(tenant, thousand, BATCH)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1000, "rejected": []})
    assert is_problem(post(tenant, [*thousand, call(tenant)], BATCH), 413)
    assert post(tenant, [], BATCH).json() == {"accepted": 0, "rejected": []}
    assert is_problem(post(tenant, call(tenant), BATCH), 422)
    assert is_problem(post(tenant, [call(tenant)], EVENT), 422)
    odd = post(tenant, b'[{"a":1}, 7, null, "x", [], {}]', BATCH)
    assert (odd.status_code, len(odd.json()["rejected"])) == (202, 6)
    tenant.outcomes([event["id"] for event in thousand])
    assert tenant.balance(customer)["balance"] == "-1500"
    assert post(tenant, thousand[:500], BATCH).json()["accepted"] == 500
    duplicate = until(
        lambda: tenant.http.get(f"/v1/events?customer={customer}&outcome=duplicate&limit=1000").json()["data"]
    )
    assert {row["outcome"] for row in duplicate} == {"duplicate"}
    assert tenant.balance(customer)["balance"] == "-1500"


def test_events_are_listed_by_customer_time_and_outcome(tenant: Tenant) -> None:
    """`GET /v1/events?customer&from&to&outcome`: half-open periods."""
    customer = fresh()
    times = ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"]
    sent = [call(tenant, customer, time=time) for time in times]
    bad = tenant.event(customer, "usage.reported", {"meter": "nobody_s"}, time=times[1])
    tenant.post(*sent, bad)
    tenant.outcomes([event["id"] for event in [*sent, bad]])

    def listed(query: str) -> list[str]:
        answer = tenant.http.get(f"/v1/events?customer={customer}{query}")
        assert answer.status_code == 200, answer.text
        return [row["id"] for row in answer.json()["data"]]

    one, two, three = (event["id"] for event in sent)
    assert set(listed("")) == {one, two, three, bad["id"]}
    assert set(listed(f"&from={times[1]}&to={times[2]}")) == {two, bad["id"]}
    assert listed(f"&to={times[1]}") == [one]
    assert set(listed("&outcome=rated")) == {one, two, three}
    assert listed("&outcome=dead_letter") == [bad["id"]]
    assert listed("&from=2026-11-02T01:00:00%2B01:00&outcome=rated") in ([two, three], [three, two])
    for wrong in ("outcome=nothing", "from=soon", f"from={times[2]}&to={times[0]}"):
        assert is_problem(tenant.http.get(f"/v1/events?{wrong}"), 422)
    assert decided(tenant, bad)["reason"] == "no_meter"
    assert is_problem(tenant.http.get(f"/v1/events/acceptance/{fresh()}"), 404)


def test_sources_with_slashes_and_odd_ids(tenant: Tenant) -> None:
    """Any source and id can be asked for."""
    for source, name in (("a/b//c", "x/y"), ("urn:chat:1", "ä ö?&#%"), ("https://chat.example/x?y=1", fresh())):
        event = call(tenant, source=source, id=f"{name}{fresh()}")
        assert post(tenant, event).status_code == 202
        assert decided(tenant, event)["source"] == source


def test_account_events_need_the_right_to_move_money(site: Site, tenant: Tenant) -> None:
    """Account types go to `account.events`; who may write events alone may not make money."""
    customer = fresh()
    grant = tenant.event(
        customer, "credit.granted", {"user_id": customer, "credit_id": fresh(), "amount": "5", "currency": "USD"}
    )
    weak = site.issue(tenant.name, "--scopes", "events:write")
    refused = httpx.post(
        f"{site.url}/v1/events", content=json.dumps(grant), headers={**bearer(weak), "content-type": EVENT}
    )
    assert is_problem(refused, 403)
    assert post(tenant, grant).status_code == 202
    assert decided(tenant, grant)["outcome"] == "rated"
    assert tenant.balance(customer)["balance"] == "5"


def test_a_dead_letter_is_listed_explained_and_tried_again(site: Site, tenant: Tenant) -> None:
    """`GET /v1/dead-letters`, `POST /v1/dead-letters/{id}/retry`: as the commands."""
    customer = fresh()
    meter = fresh("late").replace("-", "_")
    event = tenant.event(customer, "usage.reported", {"meter": meter, "quantity": 2})
    tenant.post(event)

    def letters() -> list[dict[str, Any]]:
        rows = tenant.http.get("/v1/dead-letters?limit=1000").json()["data"]
        return [row for row in rows if row["event_id"] == event["id"]]

    (letter,) = until(letters)
    assert (letter["reason"], letter["customer"], letter["topic"]) == ("no_meter", customer, "usage.events")
    assert letter["detail"]
    whole = tenant.http.get(f"/v1/dead-letters/{letter['id']}").json()
    assert json.loads(whole["original"]) == event
    with site.without_jobs():  # one tries letters again each minute, and would end whoever does so at that moment
        tenant.apply(CATALOGUE.replace("prices:", f"  - {{id: {meter}, event_type: usage.reported}}\nprices:", 1))
        again = tenant.http.post(f"/v1/dead-letters/{letter['id']}/retry", json={})
    assert again.status_code in (200, 202), again.text
    until(lambda: decided(tenant, event)["outcome"] == "rated")
    twice = tenant.http.post(f"/v1/dead-letters/{letter['id']}/retry", json={})
    assert twice.status_code == 200, twice.text
    assert [record["outcome"] for record in decided(tenant, event)["records"]].count("rated") == 1
    for name in ("nothing", "usage.events-0-999999999"):
        assert is_problem(tenant.http.post(f"/v1/dead-letters/{name}/retry", json={}), 404)


def test_explanations_of_event_and_charge(tenant: Tenant) -> None:
    """`GET /v1/explain/{kind}/{id}`: why this amount."""
    event = call(tenant)
    tenant.post(event)
    told = decided(tenant, event)
    explained = tenant.http.get(f"/v1/explain/event/{quote('acceptance/' + event['id'], safe='')}")
    assert explained.status_code == 200, explained.text
    text = explained.text
    for part in ("usage.events", '"call"', "0.5", "1.5", event["id"]):
        assert part in text, part
    charge = tenant.http.get(f"/v1/explain/charge/{told['charges'][0]['charge_id']}")
    assert charge.status_code == 200, charge.text
    for kind, name in (("event", "a/b"), ("charge", "9-9-9"), ("line", "x"), ("denial", "x"), ("weather", "x")):
        assert is_problem(tenant.http.get(f"/v1/explain/{kind}/{quote(name, safe='')}"), 404), kind


def report(**changed: Any) -> dict[str, Any]:
    whole = {
        "deviceId": "d-1", "userId": fresh("u"), "allocationId": fresh("a"), "durationSeconds": 60, "cpuCores": 2,
        "memoryMB": 1024, "storageMB": 10, "allocatedAt": "2026-11-20T10:00:00Z", "releasedAt": "2026-11-20T10:01:00Z",
    } | changed  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


REPORT = "/api/internal/metering/device-usage"
FORMS: list[dict[str, Any]] = [
    {},
    {"allocatedAt": None, "releasedAt": None, "startTime": "2026-11-20T10:00:00Z", "endTime": "2026-11-20T10:01:00Z"},
    {"cpuCores": None, "memoryMB": None, "storageMB": None, "deviceConfig": {"cpuCores": 2, "memoryMB": 1024, "storageMB": 10}},
    {"durationSeconds": None}, {"durationSeconds": 60.4}, {"allocatedAt": "2026-11-20T11:00:00+01:00"},
]  # fmt: skip


@pytest.mark.parametrize("changed", FORMS, ids=str)
def test_a_device_report_in_the_schedulers_words(site: Site, tenant: Tenant, changed: dict[str, Any]) -> None:
    """Event source `device-scheduler`, id = `allocationId`; bills `customer` if given, else `userId`; 200 once Kafka has
    it; told again it is charged once.
    """
    body = report(**changed)
    for _ in range(3):
        answer = httpx.post(site.url + REPORT, json=body, headers={"X-Service-Token": tenant.token})
        assert (answer.status_code, answer.json()["success"]) == (200, True), answer.text
    event = {"source": "device-scheduler", "id": body["allocationId"]}
    told = decided(tenant, event)
    assert (told["outcome"], told["customer"], told["charges"][0]["amount"]) == ("rated", body["userId"], "1.2")
    until(lambda: len(decided(tenant, event)["records"]) == 3)
    assert sorted(one["outcome"] for one in decided(tenant, event)["records"]) == ["duplicate", "duplicate", "rated"]
    used = tenant.http.get(f"/metering/users/{body['userId']}")
    assert used.status_code == 200, used.text
    assert [(item["meter"], item["amount"]) for item in used.json()["items"]] == [("core_seconds", "1.2")]


def test_a_device_report_bills_the_customer_it_names(tenant: Tenant) -> None:
    """Bills `customer` if given, else `userId`."""
    body = report(customer=fresh())
    assert tenant.http.post(REPORT, json=body).status_code == 200
    assert decided(tenant, {"source": "device-scheduler", "id": body["allocationId"]})["customer"] == body["customer"]
    for wrong in (
        {"allocationId": None}, {"userId": None}, {"allocatedAt": "soon"}, {"cpuCores": "two"}, {"cpuCores": -1},
        {"durationSeconds": 62}, {"releasedAt": "2026-11-20T09:00:00Z"}, {"releasedAt": None},
    ):  # fmt: skip
        answer = tenant.http.post(REPORT, json=report(**wrong))
        assert is_problem(answer, 422), (wrong, answer.text)
    assert is_problem(tenant.http.post(REPORT, json=report(tenantId="somebody-else")), 403)


def test_a_batch_of_reports(tenant: Tenant) -> None:
    """Batch: an array of them, 200 `{success, failed, errors}`."""
    good = [report() for _ in range(3)]
    answer = tenant.http.post(
        f"{REPORT}/batch", json=[good[0], report(allocationId=None), *good[1:], report(cpuCores=-1), 7]
    )
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["success"], told["failed"], len(told["errors"])) == (3, 3, 3)
    for body in good:
        assert decided(tenant, {"source": "device-scheduler", "id": body["allocationId"]})["outcome"] == "rated"
    assert is_problem(tenant.http.post(f"{REPORT}/batch", json=report()), 422)


def test_what_kafka_has_by_another_road_is_one_with_it(site: Site, tenant: Tenant) -> None:
    """Identity is (tenant, source, id) among the events of one customer, by whatever road they come."""
    event = call(tenant)
    tenant.send(event)
    tenant.post(event)
    tenant.outcomes([event["id"]], 2)
    assert sorted(one["outcome"] for one in decided(tenant, event)["records"]) == ["duplicate", "rated"]
    assert site.produce([Record("usage.events", json.dumps(event).encode(), event["subject"].encode())])
