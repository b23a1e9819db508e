"""Section 4, checks and holds: what may be spent, what is held, and how a hold ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.acceptance.site import Site, Tenant, bearer, fresh, is_problem, until

CATALOGUE = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, dimensions: [model]}
  - {id: output_tokens, event_type: session.tokens_used, quantity: data.output_tokens, dimensions: [model]}
  - {id: core_seconds, event_type: device.released, quantity: data.duration_seconds * data.cpu_cores}
  - {id: calls, event_type: usage.reported}
  - {id: free_calls, event_type: usage.reported}
  - {id: counted, event_type: usage.reported}
  - {id: tiered, event_type: usage.reported}
prices:
  - {id: in, meter: input_tokens, model: per_unit, unit_amount: "0.001"}
  - {id: in-dear, meter: input_tokens, match: {model: dear}, model: per_unit, unit_amount: "0.01"}
  - {id: out, meter: output_tokens, model: per_unit, unit_amount: "0.002"}
  - {id: core, meter: core_seconds, model: per_unit, unit_amount: "0.01"}
  - {id: call, meter: calls, model: per_unit, unit_amount: "1"}
  - id: steps
    meter: tiered
    model: graduated
    tiers: [{up_to: 10, unit_amount: "1"}, {up_to: null, unit_amount: "2"}]
plans:
  - id: pro
    name: Pro
    interval: month
    amount: "0"
    features: {free_calls: 3, agent_seats: 2, sso: true, sms: false, devices_open: 1}
    quotas:
      - {spend: "50.00", window: day, mode: hard}
"""


@pytest.fixture(scope="module")
def tenant(site: Site) -> Tenant:
    """A tenant with a catalogue of its own."""
    return site.tenant("holds", CATALOGUE)


def funded(tenant: Tenant, amount: str = "10") -> str:
    """A customer with money."""
    customer = fresh()
    tenant.grant(customer, amount)
    return customer


def hold(tenant: Tenant, customer: str, **body: Any) -> dict[str, Any]:
    answer = tenant.http.post("/v1/holds", json={"customer": customer, **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def end(tenant: Tenant, hold_id: str, how: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settles or releases a hold."""

    def ended() -> httpx.Response | None:
        answer = tenant.http.post(f"/v1/holds/{hold_id}/{how}", json=body or {})
        return answer if answer.status_code != 202 else None

    answer = until(ended)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def state(tenant: Tenant, hold_id: str) -> str:
    found: str = tenant.http.get(f"/v1/holds/{hold_id}").json()["state"]
    return found


def standing(tenant: Tenant, customer: str) -> tuple[str, str, str]:
    found = tenant.balance(customer)
    return found["balance"], found["held"], found["available"]


def tokens(tenant: Tenant, customer: str, count: int, hold_id: str | None = None, **data: Any) -> dict[str, Any]:
    whole = {"session_id": "s", "model": "m", "input_tokens": count, "output_tokens": 0, **data}
    return tenant.event(customer, "session.tokens_used", whole | ({"hold_id": hold_id} if hold_id is not None else {}))


CHAT = {"type": "session.tokens_used", "data": {"model": "m", "input_tokens": 1000, "output_tokens": 500}}
FORMS: list[tuple[str, dict[str, Any], str]] = [
    ("of a meter", {"meter": "calls", "quantity": 2}, "2"),
    ("of a meter, decimal text", {"meter": "calls", "quantity": "2.5"}, "2.5"),
    ("of a meter with a dimension", {"meter": "input_tokens", "quantity": 100, "dimensions": {"model": "dear"}}, "1"),
    ("of a meter without its dimension", {"meter": "input_tokens", "quantity": 100}, "1"),
    ("of money", {"amount": "3.25"}, "3.25"),
    ("of money for a meter", {"amount": "3", "meter": "calls"}, "3"),
    ("of an event", {"event": CHAT}, "2"),
    ("of a device", {"event": {"type": "device.released", "data": {"duration_seconds": 60, "cpu_cores": 2}}}, "1.2"),
    ("of a price with tiers", {"meter": "tiered", "quantity": 3}, "3"),
    ("of what costs nothing", {"meter": "counted", "quantity": 3}, "0"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "amount"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_a_hold_in_each_form(tenant: Tenant, body: dict[str, Any], amount: str) -> None:
    """201 `{hold_id, expires_at, held: {amount, currency}, available, quotas, affordable}`; default of 300 seconds."""
    customer = funded(tenant)
    before = time.time()
    made = hold(tenant, customer, **body)
    assert made.keys() >= {"hold_id", "expires_at", "held", "available", "quotas", "affordable"}
    assert made["held"] == {"amount": amount, "currency": "USD"}
    left = tenant.balance(customer)["available"]
    assert made["available"] == left
    assert float(left) == 10 - float(amount)
    seen = tenant.http.get(f"/v1/holds/{made['hold_id']}").json()
    assert (seen["state"], seen["held"], seen["expires_at"]) == ("open", made["held"], made["expires_at"])
    from datetime import datetime

    assert 290 < datetime.fromisoformat(made["expires_at"]).timestamp() - before < 330


def test_affordable_says_how_many_units_are_left_to_buy(tenant: Tenant) -> None:
    """`affordable: {meter: quantity}`: how many units the balance still buys at the current tier."""
    customer = funded(tenant)
    made = hold(tenant, customer, event=CHAT)
    assert (made["available"], made["affordable"]) == ("8", {"input_tokens": "8000", "output_tokens": "4000"})
    other = funded(tenant)
    made = hold(tenant, other, amount="3", meter="calls")
    assert made["affordable"] == {"calls": "7"}
    steps = funded(tenant, "30")
    assert hold(tenant, steps, meter="tiered", quantity=4)["affordable"] == {"tiered": "16"}, "6 of the first tier"
    assert hold(tenant, steps, meter="counted", quantity=4)["affordable"] == {"counted": None}, "it costs nothing"


BAD: list[dict[str, Any]] = [
    {}, {"customer": "c"}, {"customer": "c", "meter": "calls"}, {"customer": "c", "quantity": 1}, {"amount": "1"},
    {"customer": "c", "meter": "nobody_s", "quantity": 1}, {"customer": "c", "amount": "1", "meter": "nobody_s"},
    {"customer": "c", "event": {"type": "nobody.s", "data": {}}}, {"customer": "c", "event": {"data": {}}},
    {"customer": "c", "event": {"type": "session.tokens_used"}}, {"customer": "c", "event": "chat"},
    {"customer": "c", "amount": 1}, {"customer": "c", "amount": 1.5}, {"customer": "c", "amount": "-1"},
    {"customer": "c", "meter": "calls", "quantity": -1}, {"customer": "c", "meter": "calls", "quantity": 1.5},
    {"customer": "c", "meter": "calls", "quantity": "one"}, {"customer": "c", "amount": "1", "ttl_seconds": 0},
    {"customer": "c", "amount": "1", "ttl_seconds": 30 * 86400 + 1}, {"customer": "c", "amount": "1", "ttl_seconds": "5"},
    {"customer": "c", "amount": "1", "hold_id": ""}, {"customer": "c", "amount": "1", "hold_id": "x" * 201},
    {"customer": "", "amount": "1"}, {"customer": 7, "amount": "1"}, {"customer": "c", "amount": "1", "user": 7},
    {"customer": "c", "amount": "1", "dimensions": "x"}, {"customer": "c", "amount": "0.0000000001"},
    {"customer": "c", "event": {"type": "session.tokens_used", "data": {"model": "m", "input_tokens": -1}}},
    {"customer": "c", "event": {"type": "session.tokens_used", "data": {"model": "m", "input_tokens": 1, "cached_input_tokens": 2}}},
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=str)
def test_a_hold_that_cannot_be_is_422(tenant: Tenant, body: dict[str, Any]) -> None:
    """An unknown meter 422; money as a JSON number is 422."""
    if "customer" in body and body["customer"] == "c":
        body = {**body, "customer": fresh()}
    answer = tenant.http.post("/v1/holds", json=body)
    assert is_problem(answer, 422)
    assert answer.json()["errors"]


def test_an_unknown_customer_has_an_empty_wallet(tenant: Tenant) -> None:
    """402 with `reason` wallet and a `denial_id` that can be explained; nothing comes into being."""
    customer = fresh()
    answer = tenant.http.post("/v1/holds", json={"customer": customer, "amount": "0.000000001"})
    assert is_problem(answer, 402)
    body = answer.json()
    assert (body["reason"], body["available"]) == ("wallet", "0")
    explained = tenant.http.get(f"/v1/explain/denial/{body['denial_id']}").json()
    assert (explained["customer"], explained["reason"]) == (customer, "wallet")
    checked = tenant.http.post("/v1/quota/check", json={"customer": customer, "amount": "1"}).json()
    assert (checked["allowed"], checked["reason"], checked["available"]) == (False, "wallet", "0")
    assert (
        tenant.http.post("/v1/holds", json={"customer": customer, "meter": "counted", "quantity": 1}).status_code == 201
    )
    assert tenant.http.get(f"/v1/customers/{customer}").status_code == 404


def test_the_same_hold_id_is_the_same_hold(site: Site, tenant: Tenant) -> None:
    """The same `hold_id` and body again: 200 and the same hold; other body: 409; `hold_id` is unique per tenant."""
    customer, name = funded(tenant), fresh("hold")
    body = {"customer": customer, "meter": "calls", "quantity": 2, "hold_id": name}
    first = tenant.http.post("/v1/holds", json=body)
    assert (first.status_code, first.json()["hold_id"]) == (201, name)
    for same in (
        body,
        {**body, "quantity": "2"},
        {**body, "quantity": "2.0"},
        dict(reversed(body.items())),
        {**body, "user": None},
    ):
        again = tenant.http.post("/v1/holds", json=same)
        assert (again.status_code, again.json()["held"], again.json()["expires_at"]) == (
            200, first.json()["held"], first.json()["expires_at"],
        ), same  # fmt: skip
    for other in (
        {**body, "quantity": 3}, {**body, "meter": "tiered"}, {"customer": customer, "amount": "2", "hold_id": name},
        {**body, "user": "u"}, {**body, "session_id": "s"}, {**body, "ttl_seconds": 600},
        {**body, "customer": funded(tenant)},
    ):  # fmt: skip
        assert is_problem(tenant.http.post("/v1/holds", json=other), 409), other
    assert standing(tenant, customer) == ("10", "2", "8")
    end(tenant, name, "release")
    ended = tenant.http.post("/v1/holds", json=body)
    assert (ended.status_code, ended.json()["state"]) == (200, "released")
    assert is_problem(tenant.http.post("/v1/holds", json={**body, "quantity": 3}), 409)
    stranger = site.tenant("holds-b", CATALOGUE)
    theirs = funded(stranger)
    assert stranger.http.post("/v1/holds", json={**body, "customer": theirs}).status_code == 201
    assert state(tenant, name) == "released"


def test_two_hundred_at_once_on_a_wallet_that_pays_for_twenty(tenant: Tenant) -> None:
    """Atomic under any concurrency: exactly 20 are held, also when each then uses more than it held."""
    customer = funded(tenant, "20")
    with ThreadPoolExecutor(40) as pool:
        answers = list(
            pool.map(
                lambda _: tenant.http.post("/v1/holds", json={"customer": customer, "meter": "calls", "quantity": 1}),
                range(200),
            )
        )
    assert sorted(answer.status_code for answer in answers) == [201] * 20 + [402] * 180
    assert standing(tenant, customer) == ("20", "20", "0")
    granted = [answer.json()["hold_id"] for answer in answers if answer.status_code == 201]
    tenant.post(
        *(
            tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 2, "hold_id": one})
            for one in granted
        )
    )
    until(lambda: standing(tenant, customer) == ("-20", "0", "-20"))
    assert {state(tenant, one) for one in granted} == {"settled"}
    name, names = fresh("hold"), funded(tenant, "20")
    body = {"customer": names, "meter": "calls", "quantity": 1, "hold_id": name}
    with ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(lambda _: tenant.http.post("/v1/holds", json=body).status_code, range(100)))
    assert sorted(codes) == [200] * 99 + [201]
    assert standing(tenant, names) == ("20", "1", "19")


def test_extending(tenant: Tenant) -> None:
    """`/extend` `{ttl_seconds, quantity? | amount?}`; refused, it stays as it was; an ended hold stays ended."""
    customer = funded(tenant)
    made = hold(tenant, customer, meter="calls", quantity=2)
    path = f"/v1/holds/{made['hold_id']}/extend"
    longer = tenant.http.post(path, json={"ttl_seconds": 3600})
    assert (longer.status_code, longer.json()["state"], longer.json()["held"]["amount"]) == (200, "open", "2")
    assert longer.json()["expires_at"] > made["expires_at"]
    more = tenant.http.post(path, json={"ttl_seconds": 3600, "quantity": 3})
    assert (more.status_code, more.json()["held"]["amount"], more.json()["available"]) == (200, "5", "5")
    money = tenant.http.post(path, json={"ttl_seconds": 60, "amount": "1.5"})
    assert (money.json()["held"]["amount"], money.json()["available"]) == ("6.5", "3.5")
    too_much = tenant.http.post(path, json={"ttl_seconds": 60, "amount": "3.51"})
    assert is_problem(too_much, 402)
    assert too_much.json()["denial_id"]
    assert standing(tenant, customer) == ("10", "6.5", "3.5")
    for bad in (
        {},
        {"ttl_seconds": 0},
        {"ttl_seconds": 60, "amount": 1},
        {"ttl_seconds": 60, "quantity": 1, "amount": "1"},
    ):
        assert is_problem(tenant.http.post(path, json=bad), 422), bad
    end(tenant, made["hold_id"], "release")
    after = tenant.http.post(path, json={"ttl_seconds": 60})
    assert (after.status_code, after.json()["state"]) == (200, "released")
    assert standing(tenant, customer) == ("10", "0", "10")
    for action in ("extend", "settle", "release"):
        assert is_problem(tenant.http.post(f"/v1/holds/{fresh()}/{action}", json={}), 404)
    assert is_problem(tenant.http.get(f"/v1/holds/{fresh()}"), 404)


SETTLEMENTS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("by quantity", {"meter": "calls", "quantity": 3}, {"quantity": 1}, "9"),
    ("by quantity, above what was held", {"meter": "calls", "quantity": 3}, {"quantity": "12.5"}, "-2.5"),
    ("by amount", {"meter": "calls", "quantity": 3}, {"amount": "2.25"}, "7.75"),
    ("by amount, above what was held", {"amount": "1"}, {"amount": "11"}, "-1"),
    ("for nothing", {"amount": "1"}, {"amount": "0"}, "10"),
    ("by data", {"event": CHAT}, {"data": {"model": "m", "input_tokens": 100, "output_tokens": 50}}, "9.8"),
    ("by data, above what was held", {"event": CHAT}, {"data": {"model": "m", "input_tokens": 20000, "output_tokens": 0}}, "-10"),
    ("by data of a device", {"event": {"type": "device.released", "data": {"duration_seconds": 60, "cpu_cores": 1}}, "allocation_id": "a"},
     {"data": {"duration_seconds": 120, "cpu_cores": 1}}, "8.8"),
    ("of a dimension", {"meter": "input_tokens", "quantity": 100, "dimensions": {"model": "dear"}}, {"quantity": 50}, "9.5"),
    ("of tiers", {"meter": "tiered", "quantity": 3}, {"quantity": 12}, "-4"),
    ("a meter's by data", {"meter": "input_tokens", "quantity": 100}, {"data": {"model": "m", "input_tokens": 1000, "output_tokens": 500}}, "8"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "body", "left"), [one[1:] for one in SETTLEMENTS], ids=[one[0] for one in SETTLEMENTS]
)
def test_settling_books_the_charge_and_frees_the_rest(
    tenant: Tenant, wish: dict[str, Any], body: dict[str, Any], left: str
) -> None:
    """`settle` books the charge (also above what was held) and frees the rest; ending it again: 200 with the state it
    has, nothing changes; the event that names it is a `duplicate` (`hold_settled`); the charge stands in
    `rated_usage` of `event_type` `hold.settled`, without a price where it was by amount.
    """
    customer = funded(tenant)
    if wish.get("allocation_id"):
        wish = {**wish, "allocation_id": fresh()}
    made = hold(tenant, customer, **wish)
    assert end(tenant, made["hold_id"], "settle", body)["state"] == "settled"
    until(lambda: standing(tenant, customer) == (left, "0", left), f"{left}, not {standing(tenant, customer)}")
    assert end(tenant, made["hold_id"], "settle", {"amount": "5"})["state"] == "settled"
    assert end(tenant, made["hold_id"], "release")["state"] == "settled"
    event = tenant.event(customer, "usage.reported", {"meter": "calls", "quantity": 9, "hold_id": made["hold_id"]})
    tenant.post(event)
    assert tenant.outcomes([event["id"]])[event["id"]] == [("duplicate", "hold_settled")]
    assert standing(tenant, customer) == (left, "0", left)
    rows = [row for row in tenant.rows("rated_usage", "customer = {c:String}", c=customer) if float(row["amount"])]
    if left != "10":
        assert {row["event_type"] for row in rows} == {"hold.settled"}
        assert sum(float(row["amount"]) for row in rows) == pytest.approx(10 - float(left))
        assert all((row["price_id"] == "") == ("amount" in body) for row in rows)


def test_a_settlement_that_cannot_be_is_422_and_leaves_the_hold_open(tenant: Tenant) -> None:
    """422; the hold stays as it was."""
    customer = funded(tenant)
    made = hold(tenant, customer, event=CHAT)
    for body in (
        {}, {"amount": 1}, {"amount": "-1"}, {"quantity": -1}, {"quantity": 1}, {"amount": "1", "quantity": 1},
        {"data": 7}, {"data": {"model": "m", "input_tokens": -1}}, {"data": {"input_tokens": 1.5, "model": "m"}},
        {"amount": "99999999999999"},
    ):  # fmt: skip
        assert is_problem(tenant.http.post(f"/v1/holds/{made['hold_id']}/settle", json=body), 422), body
    assert state(tenant, made["hold_id"]) == "open"
    assert standing(tenant, customer) == ("10", "2", "8")
    assert end(tenant, made["hold_id"], "settle", {"amount": "1"})["state"] == "settled"


def test_usage_names_a_hold(tenant: Tenant) -> None:
    """While it is open the event is charged and taken out of the hold, which ends with it unless the event says
    `final: false`.
    """
    customer = funded(tenant)
    made = hold(tenant, customer, event=CHAT)["hold_id"]
    tenant.post(tokens(tenant, customer, 500, made, final=False))
    until(lambda: standing(tenant, customer) == ("9.5", "1.5", "8"), str(standing(tenant, customer)))
    tenant.post(tokens(tenant, customer, 2500, made, final=False))
    until(lambda: standing(tenant, customer) == ("7", "0", "7"))
    assert state(tenant, made) == "open"
    tenant.post(tokens(tenant, customer, 1000, made))
    until(lambda: standing(tenant, customer) == ("6", "0", "6"))
    assert state(tenant, made) == "settled"
    tenant.post(tokens(tenant, customer, 1000, made))
    until(lambda: standing(tenant, customer) == ("5", "0", "5"), "late usage of an ended hold is charged once")


def test_usage_of_a_hold_that_is_not_open_is_charged_in_full(tenant: Tenant) -> None:
    """If it was released, has expired or is unknown, the event is charged in full and flagged."""
    customer = funded(tenant)
    released, expired = (
        hold(tenant, customer, amount="1")["hold_id"],
        hold(tenant, customer, amount="1", ttl_seconds=1)["hold_id"],
    )
    end(tenant, released, "release")
    until(lambda: state(tenant, expired) == "expired")
    assert standing(tenant, customer) == ("10", "0", "10")
    for how in ("release", "settle"):
        assert end(tenant, expired, how, {"amount": "1"} if how == "settle" else {})["state"] == "expired"
    tenant.post(*(tokens(tenant, customer, 1000, name) for name in (released, expired, fresh("unknown"))))
    until(lambda: standing(tenant, customer) == ("7", "0", "7"))
    assert (state(tenant, released), state(tenant, expired)) == ("released", "expired")


def test_the_hold_of_another_is_not_ended(tenant: Tenant) -> None:
    """A hold is its customer's: usage of another that names it is charged in full, and the hold stays open."""
    customer, other = funded(tenant), funded(tenant)
    made = hold(tenant, customer, amount="4")["hold_id"]
    tenant.post(tokens(tenant, other, 1000, made))
    until(lambda: standing(tenant, other) == ("9", "0", "9"))
    assert state(tenant, made) == "open"
    assert standing(tenant, customer) == ("10", "4", "6")


TIMES = {"started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T10:00:10Z"}
SPAN = {"allocated_at": "2026-11-20T10:00:00Z", "released_at": "2026-11-20T10:00:10Z"}
SIZES = {"device_id": "d", "cpu_cores": 1, "memory_mb": 1, "storage_mb": 1}
ENDS: list[tuple[str, dict[str, Any], Callable[[str, str], tuple[str, dict[str, Any]]], str]] = [
    ("the session's end, by session", {"session_id": "S"}, lambda s, h: ("session.ended", {"session_id": s, **TIMES}), "10"),
    ("the session's end, by name", {}, lambda s, h: ("session.ended", {"session_id": s, "hold_id": h, **TIMES}), "10"),
    ("the release, by allocation", {"allocation_id": "S"}, lambda s, h: ("device.released", {"allocation_id": s, **SIZES, **SPAN}), "9.9"),
    ("the release, by name", {}, lambda s, h: ("device.released", {"allocation_id": s, "hold_id": h, **SIZES, **SPAN}), "9.9"),
    ("an ignored event", {}, lambda s, h: ("session.tokens_used", {"session_id": s, "model": "m", "input_tokens": 0, "output_tokens": 0, "hold_id": h}), "10"),
    ("reported usage", {}, lambda s, h: ("usage.reported", {"meter": "calls", "quantity": 1, "hold_id": h}), "9"),
    ("usage without a price", {}, lambda s, h: ("usage.reported", {"meter": "free_calls", "quantity": 1, "hold_id": h}), "10"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "event", "left"), [one[1:] for one in ENDS], ids=[one[0] for one in ENDS])
def test_what_ends_a_hold(
    tenant: Tenant, more: dict[str, Any], event: Callable[[str, str], tuple[str, dict[str, Any]]], left: str
) -> None:
    """`session.ended` and `device.released` end the holds they name, and those made with their `session_id` or
    `allocation_id`; an `ignored` event ends the hold it names as well.
    """
    customer, name = funded(tenant), fresh("s")
    made = hold(tenant, customer, amount="4", **dict.fromkeys(more, name))["hold_id"]
    beside = hold(tenant, customer, amount="1", session_id=fresh(), allocation_id=fresh())["hold_id"]
    type_, data = event(name, made)
    tenant.post(tenant.event(customer, type_, data))
    until(lambda: state(tenant, made) == "settled", state(tenant, made))
    available = f"{float(left) - 1:g}"
    until(lambda: standing(tenant, customer) == (left, "1", available), str(standing(tenant, customer)))
    assert state(tenant, beside) == "open"


def on_plan(tenant: Tenant, amount: str = "100") -> str:
    customer = funded(tenant, amount)
    tenant.post(tenant.event(customer, "user.upgraded", {"user_id": customer, "plan_id": "pro"}))
    until(lambda: tenant.http.get(f"/v1/customers/{customer}/entitlements").json()["features"])
    return customer


def check(tenant: Tenant, customer: str, **body: Any) -> dict[str, Any]:
    answer = tenant.http.post("/v1/quota/check", json={"customer": customer, **body})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told.keys() >= {"allowed", "reason", "denial_id", "limit", "remaining", "resets_at", "available"}
    assert told["allowed"] == (told["reason"] is None) == (told["denial_id"] is None)
    return told


def test_a_check_says_why_not(tenant: Tenant) -> None:
    """200 with `{allowed, reason, denial_id, limit, remaining, resets_at, available}`; changes nothing; `limit: null` is
    unlimited; an unknown meter 422.
    """
    customer = on_plan(tenant)
    fine = check(tenant, customer, meter="free_calls", quantity=3)
    assert (fine["allowed"], fine["limit"], fine["remaining"], fine["available"]) == (True, "3", "3", "100")
    assert fine["resets_at"].endswith("Z")
    assert check(tenant, customer, meter="free_calls", quantity=3)["remaining"] == "3"
    over = check(tenant, customer, meter="free_calls", quantity=4)
    assert (over["allowed"], over["reason"], over["limit"], over["remaining"]) == (False, "quota", "3", "3")
    assert check(tenant, customer, amount="51")["reason"] == "budget"
    assert check(tenant, customer, amount="50")["allowed"]
    assert check(tenant, customer, event={**CHAT, "data": {"model": "m", "input_tokens": 50001}})["reason"] == "budget"
    assert check(tenant, customer, meter="sso", quantity=1)["allowed"]
    assert check(tenant, customer, meter="sms", quantity=1)["reason"] == "subscription"
    assert check(tenant, customer, meter="agent_seats", quantity=2)["allowed"]
    assert check(tenant, customer, meter="agent_seats", quantity=3)["reason"] == "quota"
    assert check(tenant, customer, meter="calls", quantity=1)["allowed"]
    plain = funded(tenant)
    assert check(tenant, plain, meter="calls", quantity=1)["limit"] is None
    assert check(tenant, plain, meter="calls", quantity=11)["reason"] == "wallet"
    assert check(tenant, plain, meter="sso", quantity=1)["reason"] == "subscription"
    for bad in ({"meter": "nobody_s", "quantity": 1}, {"meter": "calls"}, {}, {"amount": 1}, {"event": {}}):
        assert is_problem(tenant.http.post("/v1/quota/check", json={"customer": plain, **bad}), 422), bad
    tenant.post(tenant.event(plain, "user.deleted", {"user_id": plain}))
    until(lambda: check(tenant, plain, meter="calls", quantity=1)["reason"] == "customer_closed")


def test_consuming_is_check_and_report_in_one(tenant: Tenant) -> None:
    """`POST /v1/quota/consume`: check and `usage.reported` in one, with `Idempotency-Key`: 200 with `allowed`."""
    customer = on_plan(tenant)
    body = {"customer": customer, "meter": "free_calls", "quantity": 1}
    assert is_problem(tenant.http.post("/v1/quota/consume", json=body), 428)

    def consume(key: str, **changed: Any) -> httpx.Response:
        return tenant.http.post("/v1/quota/consume", json={**body, **changed}, headers={"Idempotency-Key": key})

    keys = [fresh("key") for _ in range(3)]
    for key in (*keys, *keys):
        answer = consume(key)
        assert (answer.status_code, answer.json()["allowed"]) == (200, True), answer.text
    assert is_problem(consume(keys[0], quantity=2), 409)
    refused = consume(fresh("key"))
    assert (refused.status_code, refused.json()["allowed"], refused.json()["reason"]) == (200, False, "quota")
    assert refused.json()["denial_id"]
    until(lambda: check(tenant, customer, meter="free_calls", quantity=1)["remaining"] == "0")
    query = "customer = {c:String} AND event_type = 'usage.reported'"
    until(lambda: len(tenant.rows("rated_usage", query, c=customer)) == 3)
    racer = on_plan(tenant)
    with ThreadPoolExecutor(30) as pool:
        said = list(pool.map(lambda _: consume(fresh("key"), customer=racer).json()["allowed"], range(60)))
    assert said.count(True) == 3
    charged = on_plan(tenant)
    assert consume(fresh("key"), customer=charged, meter="calls", quantity=2).json()["allowed"]
    until(lambda: standing(tenant, charged) == ("98", "0", "98"))


def test_a_quota_refuses_with_429_and_when_to_come_again(tenant: Tenant) -> None:
    """402 (`wallet`, `budget`) / 429 (`quota`) with `denial_id` and Retry-After."""
    customer = on_plan(tenant)
    made = hold(tenant, customer, meter="free_calls", quantity=2)
    (quota,) = [one for one in made["quotas"] if one["meter"] == "free_calls"]
    assert (quota["remaining"], quota["resets_at"][-1]) == ("1", "Z")
    over = tenant.http.post("/v1/holds", json={"customer": customer, "meter": "free_calls", "quantity": 2})
    assert is_problem(over, 429)
    assert (over.json()["reason"], over.json()["remaining"]) == ("quota", "1")
    assert int(over.headers["retry-after"]) > 0
    assert tenant.http.get(f"/v1/explain/denial/{over.json()['denial_id']}").status_code == 200
    budget = tenant.http.post("/v1/holds", json={"customer": customer, "amount": "50.01"})
    assert is_problem(budget, 402)
    assert budget.json()["reason"] == "budget"
    wallet = tenant.http.post("/v1/holds", json={"customer": customer, "amount": "100.01"})
    assert is_problem(wallet, 402)
    missing = tenant.http.post("/v1/holds", json={"customer": customer, "meter": "sms", "quantity": 1})
    assert is_problem(missing, 402)
    assert missing.json()["reason"] == "subscription"


def test_holds_are_their_tenants(site: Site, tenant: Tenant) -> None:
    """404 also for another tenant's object; 401, 403, 404, body in this order."""
    customer = funded(tenant)
    made = hold(tenant, customer, amount="1")["hold_id"]
    stranger, weak = site.issue(fresh("t")), site.issue(tenant.name, "--scopes", "usage:read")
    for action in ("extend", "settle", "release"):
        path = f"{site.url}/v1/holds/{made}/{action}"
        for headers, code in ((None, 401), (bearer(weak), 403), (bearer(stranger), 404)):
            assert is_problem(httpx.post(path, content=b"{", headers=headers), code)
    assert is_problem(httpx.get(f"{site.url}/v1/holds/{made}", headers=bearer(stranger)), 404)
    assert state(tenant, made) == "open"
