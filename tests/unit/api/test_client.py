"""The Python client, sync and async: the same calls, typed answers, errors by what to do, patience with who is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from api.client import (
    ApiError,
    AsyncClient,
    Away,
    BadRequest,
    Client,
    Contradiction,
    Fault,
    Forbidden,
    NotFound,
    Refused,
    Unauthorized,
)

TOKEN = "tk_secret"
Handler = Callable[[httpx.Request], httpx.Response]


class Sync:
    """Calls by name on the client that waits."""

    def __init__(self, handler: Handler, patience_seconds: float = 5) -> None:
        self.client = Client(
            "http://t", TOKEN, patience_seconds=patience_seconds, transport=httpx.MockTransport(handler)
        )

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.client, name)(*args, **kwargs)


class Async:
    """Calls by name on the client that is awaited."""

    def __init__(self, handler: Handler, patience_seconds: float = 5) -> None:
        self.handler = handler
        self.patience_seconds = patience_seconds

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            transport = httpx.MockTransport(self.handler)
            async with AsyncClient(
                "http://t", TOKEN, patience_seconds=self.patience_seconds, transport=transport
            ) as client:
                return await getattr(client, name)(*args, **kwargs)

        return asyncio.run(call())


either = pytest.mark.parametrize("of", [Sync, Async])

INVOICE = {
    "id": "inv_1", "number": None, "state": "draft", "currency": "USD", "total": "20.00", "amount_due": "20.00",
    "due_at": None, "lines": [{"kind": "fee", "description": "Pro", "amount": "20.00", "quantity": None}],
}  # fmt: skip
PLAN = {"id": "pro", "name": "Pro", "interval": "month", "amount": "20.00", "features": {"sso": True}}
CHECK = {
    "allowed": False, "reason": "quota", "denial_id": "d", "limit": "10", "remaining": "0",
    "resets_at": "2026-12-01T00:00:00Z", "available": None,
}  # fmt: skip
SUBSCRIPTION = {"id": "s", "plan_id": "pro", "status": "active"}
HOLD = {
    "hold_id": "h", "customer": "c", "state": "open", "generation": 1, "held": {"amount": "1.5", "currency": "USD"},
    "expires_at": "2026-12-01T00:00:00Z", "available": "2", "affordable": {"m": "7", "n": None},
}  # fmt: skip
QUOTAS = [
    {"meter": "chats", "limit": "10", "remaining": "3", "resets_at": None},
    {"meter": "chats", "limit": None, "remaining": None, "resets_at": None},
    {"meter": "chats", "limit": "5", "remaining": "1.5", "resets_at": None},
    {"meter": "mails", "limit": "5", "remaining": "0", "resets_at": None},
]
ROW = {"meter": "m", "quantity": "3", "amount": "0.5", "currency": "USD", "events": 2}


def answering(body: Any, status: int = 200, asked: list[httpx.Request] | None = None, **headers: str) -> Handler:
    """Answers all alike."""

    def handler(request: httpx.Request) -> httpx.Response:
        if asked is not None:
            asked.append(request)
        return httpx.Response(status, json=body, headers=headers)

    return handler


@either
@pytest.mark.parametrize(
    ("call", "args", "answer", "method", "target", "sent"),
    [
        ("plans", (), {"data": [PLAN]}, "GET", "/v1/plans", None),
        ("plan", ("a/b",), PLAN, "GET", "/v1/plans/a%2Fb", None),
        ("check_quota", ("c", "chats", 2), CHECK, "POST", "/v1/quota/check",
         {"customer": "c", "meter": "chats", "quantity": "2"}),
        ("consume", ("c", "chats"), CHECK, "POST", "/v1/quota/consume",
         {"customer": "c", "meter": "chats", "quantity": "1"}),
        ("find_hold", ("h/1",), HOLD, "GET", "/v1/holds/h%2F1", None),
        ("extend_hold", ("h", 60), HOLD, "POST", "/v1/holds/h/extend", {"ttl_seconds": 60}),
        ("settle_hold", ("h",), HOLD, "POST", "/v1/holds/h/settle", {}),
        ("release_hold", ("h",), HOLD, "POST", "/v1/holds/h/release", {}),
        ("invoice", ("inv_1",), INVOICE, "GET", "/v1/invoices/inv_1", None),
        ("generate_invoice", ("c", "2026-10"), INVOICE, "POST", "/v1/customers/c/invoices", {"period": "2026-10"}),
        ("upgrade_subscription", ("c", "pro"), {"id": "s", "plan_id": "pro", "status": "active"}, "PATCH",
         "/v1/customers/c/subscription", {"plan_id": "pro", "when": "now"}),
        ("usage_summary", ("c", "2026-11"), {"data": [ROW], "next_cursor": None}, "GET",
         "/v1/customers/c/usage?period=2026-11", None),
    ],
)  # fmt: skip
def test_a_call_asks_the_route_of_the_api(
    of: type, call: str, args: tuple[Any, ...], answer: Any, method: str, target: str, sent: Any
) -> None:
    """Method, path, body and token."""
    asked: list[httpx.Request] = []
    of(answering(answer, asked=asked))(call, *args)
    (request,) = asked
    assert (request.method, request.url.raw_path.decode()) == (method, target)
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert (json.loads(request.content) if request.content else None) == sent


@either
def test_answers_are_typed(of: type) -> None:
    """Decimals and times; what the client does not name stays in `body`."""
    check = of(answering({**CHECK, "new": 1}))("check_quota", "c", "chats")
    assert (check.allowed, check.limit, check.resets_at) == (False, Decimal(10), datetime(2026, 12, 1, tzinfo=UTC))
    assert check.body["new"] == 1
    hold = of(answering(HOLD, 201))("hold", "c")
    assert (hold.id, hold.state, hold.held, hold.charged) == ("h", "open", Decimal("1.5"), None)
    assert (hold.available, hold.affordable) == (2, {"m": 7, "n": None})
    invoice = of(answering(INVOICE))("invoice", "inv_1")
    assert (invoice.is_pending, invoice.total, invoice.lines[0].description) == (True, Decimal("20.00"), "Pro")
    assert of(answering({"data": QUOTAS}))("remaining_quota", "c", "chats") == Decimal("1.5")
    assert of(answering({"data": QUOTAS}))("remaining_quota", "c", "unheard of") is None


@either
@pytest.mark.parametrize(
    ("answer", "status", "active"),
    [
        ({"id": "s", "plan_id": "p", "status": "past_due"}, 200, True),
        ({"id": "s", "plan_id": "p", "status": "canceled"}, 200, False),
        ({"type": "urn:tollgate:problem:not_found"}, 404, False),
    ],
)
def test_who_is_served_by_a_subscription(of: type, answer: Any, status: int, active: bool) -> None:
    """Without one nobody is; who is late in paying still is."""
    assert of(answering(answer, status))("has_active_subscription", "c") is active


@either
def test_usage_is_one_event_however_often_it_is_sent(of: type) -> None:
    """The caller's id is the event's; a call that is repeated repeats it."""
    asked: list[httpx.Request] = []
    answers = iter([httpx.Response(503), httpx.Response(202, json={"accepted": 1, "rejected": []})])

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return next(answers)

    of(handler)("record_usage", "c", "chats", Decimal("1.5"), event_id="e-1", user_id="u")
    first, second = (json.loads(request.content) for request in asked)
    assert first == second
    assert (first["id"], first["type"], first["subject"]) == ("e-1", "usage.reported", "c")
    assert first["data"] == {"meter": "chats", "quantity": "1.5", "user_id": "u"}


@either
def test_a_key_of_ours_is_the_same_when_a_call_is_repeated(of: type) -> None:
    """An answer that was lost is no second subscription."""
    asked: list[httpx.Request] = []
    answers = iter([None, httpx.Response(200, json={"id": "s", "plan_id": "p", "status": "active"})])

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        answer = next(answers)
        if answer is None:
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    assert of(handler)("create_subscription", "c", "p", trial_days=3).id == "s"
    assert len({request.headers["idempotency-key"] for request in asked}) == 1
    assert json.loads(asked[0].content) == {"plan_id": "p", "trial_days": 3}


@either
@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (("create_subscription", "c", "pro"), SUBSCRIPTION),
        (("upgrade_subscription", "c", "pro"), SUBSCRIPTION),
        (("cancel_subscription", "c"), SUBSCRIPTION),
        (("generate_invoice", "c", "2026-11"), INVOICE),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_what_is_not_known_in_time_is_asked_again(of: type, call: tuple[str, ...], answer: Any) -> None:
    """Under the key of the first time; where it is not known within the caller's patience, that is said."""
    answers = iter([httpx.Response(202, headers={"Location": "/v1/operations/o"}, json={"operation_id": "o"})] * 2)
    keys: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers.get("idempotency-key"))
        return next(answers, httpx.Response(200, json=answer))

    assert of(handle)(*call) is not None
    assert len(keys) == 3
    assert len(set(keys)) == 1
    with pytest.raises(Away, match="/v1/operations/o") as unknown:
        of(lambda request: httpx.Response(202, headers={"Location": "/v1/operations/o"}, json={}), 0.3)(*call)
    assert unknown.value.reason == "pending"


@either
def test_all_pages_of_a_listing_are_read(of: type) -> None:
    """Until none follows."""

    def handler(request: httpx.Request) -> httpx.Response:
        cursor = request.url.params.get("cursor")
        return httpx.Response(200, json={"data": [INVOICE], "next_cursor": None if cursor else "more"})

    assert len(of(handler)("invoices", "c")) == 2


@either
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest), (401, Unauthorized), (402, Refused), (403, Forbidden), (404, NotFound),
        (409, Contradiction), (413, BadRequest), (422, BadRequest), (428, BadRequest), (500, Away),
    ],
)  # fmt: skip
def test_an_error_is_by_what_to_do(of: type, status: int, kind: type[ApiError]) -> None:
    """With reason, detail and the fields at fault, and never the token."""
    problem = {
        "type": "urn:tollgate:problem:missing_field",
        "detail": "meter is missing",
        "errors": [{"pointer": "/meter", "reason": "missing_field"}],
        "denial_id": "d-1",
    }
    with pytest.raises(kind) as raised:
        of(answering(problem, status))("plan", "p")
    error = raised.value
    assert (error.status, error.reason, error.denial_id) == (status, "missing_field", "d-1")
    assert error.errors == (Fault("/meter", "missing_field"),)
    assert TOKEN not in str(error)


@either
def test_patience_ends(of: type) -> None:
    """Who stays away is Away; a quota's refusal is an answer and is not waited for."""
    with pytest.raises(Away):
        of(answering({}, 503), 0.3)("plans")
    asked: list[httpx.Request] = []
    with pytest.raises(Refused):
        of(answering({"denial_id": "d"}, 429, asked))("plans")
    assert len(asked) == 1


def test_both_clients_have_the_same_calls() -> None:
    """What one can, the other can."""
    assert {name for name in vars(Client) if name[0] != "_"} == {name for name in vars(AsyncClient) if name[0] != "_"}
