"""What the device scheduler asks and tells, in its own words: camel case, and a balance as a number."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from api import queries
from api.answers import Amount, Quantity
from api.auth import needs
from api.bodies import JSON, described_body, json_judged, read_body
from api.pages import From, Month, To, span_of
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, Refused, not_found
from api.tokens import Token
from ingest.accept import Record, split_batch
from ingest.device_report import released
from rating.wallet import spendable
from schemas.account import Account
from schemas.errors import InvalidInput, Unavailable
from schemas.limits import BATCH_MAX_ENTRIES
from schemas.money import format_nanos

router = APIRouter(tags=["device scheduler"], responses=PROBLEM_RESPONSES)

UserId = Annotated[str, Path(alias="userId")]

_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 200}
_TIME: Final = {"type": "string", "format": "date-time"}
_SIZE: Final = {"type": "number", "minimum": 0}
_SIZES: Final[dict[str, Any]] = dict.fromkeys(("cpuCores", "memoryMB", "storageMB"), _SIZE)
_REPORT: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A released allocation; times also as startTime and endTime, sizes also in deviceConfig",
    "required": ["deviceId", "allocationId"],
    "properties": {
        **dict.fromkeys(("deviceId", "allocationId", "userId", "customer", "tenantId"), _NAME),
        **dict.fromkeys(("allocatedAt", "releasedAt", "startTime", "endTime"), _TIME),
        "durationSeconds": {"type": "number", "minimum": 0},
        **_SIZES,
        "deviceConfig": {"type": "object", "properties": _SIZES},
    },
}


class ReportTaken(BaseModel):
    """Kafka has the report."""

    success: Literal[True] = True
    allocationId: str  # noqa: N815 - the scheduler's word


class ReportFault(BaseModel):
    """A report of a batch that was not taken."""

    index: int
    allocationId: str | None  # noqa: N815 - the scheduler's word
    reason: str
    detail: str
    pointer: str


class ReportsTaken(BaseModel):
    """Kafka has all reports but the failed ones, which would fail again."""

    success: Annotated[int, Field(description="How many were taken")]
    failed: int
    errors: list[ReportFault]


class UsageItem(BaseModel):
    """One meter at one price."""

    meter: str
    priceId: Annotated[str, Field(description="Empty: the meter has no price and only counts")]  # noqa: N815
    unitAmount: Amount | None  # noqa: N815
    quantity: Quantity
    amount: Amount
    currency: str
    events: int


class UserUsage(BaseModel):
    """What a user used and what it cost, item by item."""

    userId: str  # noqa: N815
    items: list[UsageItem]
    totals: Annotated[dict[str, str], Field(description="By currency, decimal")]


@router.post(
    "/api/internal/metering/device-usage",
    responses=BODY_RESPONSES,
    openapi_extra=described_body(_REPORT, JSON),
)
async def post_device_usage(
    request: Request, tollgate: Tollgate, token: Annotated[Token, needs("events:write")]
) -> ReportTaken:
    """Takes the report of one release; 200 once Kafka has it. Sent again it is charged once."""
    _, body = await read_body(request, JSON)
    parts = tollgate.parts
    with tollgate.measures.reporting() as report, json_judged(body):
        record = released(body, token.tenant, parts.now(), parts.max_future)
        report.taken = 1
        await parts.publisher.publish([record])
    tollgate.measures.events_taken(1, 0)
    return ReportTaken(allocationId=_allocation(body) or "")


@router.post(
    "/api/internal/metering/device-usage/batch",
    responses=BODY_RESPONSES,
    openapi_extra=described_body({"type": "array", "items": _REPORT, "maxItems": BATCH_MAX_ENTRIES}, JSON),
)
async def post_device_usage_batch(
    request: Request, tollgate: Tollgate, token: Annotated[Token, needs("events:write")]
) -> ReportsTaken:
    """Takes an array of reports; 200 once Kafka has all that are well formed."""
    _, body = await read_body(request, JSON)
    parts = tollgate.parts
    with tollgate.measures.reporting() as report, json_judged(body):
        taken, errors = _judge(_split(body), token.tenant, parts.now(), parts.max_future)
        report.taken, report.refused = len(taken), len(errors)
        if taken:
            await parts.publisher.publish(taken)
    tollgate.measures.events_taken(len(taken), len(errors))
    return ReportsTaken(success=len(taken), failed=len(errors), errors=errors)


def _split(body: bytes) -> list[bytes]:
    reports = split_batch(body)
    if len(reports) > BATCH_MAX_ENTRIES:
        raise Refused(413, "too_many", f"a batch has at most {BATCH_MAX_ENTRIES} reports, this one {len(reports)}")
    return reports


def _judge(reports: list[bytes], tenant: str, now: int, max_future: int) -> tuple[list[Record], list[ReportFault]]:
    taken: list[Record] = []
    errors: list[ReportFault] = []
    for index, report in enumerate(reports):
        try:
            taken.append(released(report, tenant, now, max_future))
        except InvalidInput as fault:
            errors.append(
                ReportFault(
                    index=index,
                    allocationId=_allocation(report),
                    reason=fault.reason,
                    detail=fault.detail,
                    pointer=f"/{index}{fault.pointer}",
                )
            )
    return taken, errors


_BALANCE: Final[dict[str, Any]] = {
    "description": "Whether the user may begin something that costs",
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "required": ["hasBalance", "balance", "balanceText", "reason"],
                "properties": {
                    "hasBalance": {"type": "boolean", "description": "Something is available"},
                    "balance": {"type": "number", "description": "In the currency's major unit"},
                    "balanceText": {"type": "string", "description": "The same, exact"},
                    "reason": {
                        "type": ["string", "null"],
                        "description": "Why not: unknown_user, wallet, customer_closed, unavailable; else null",
                    },
                },
            }
        }
    },
}


@router.get("/api/internal/balance/user/{userId:segment}", response_class=Response, responses={200: _BALANCE})
async def get_user_balance(user: UserId, tollgate: Tollgate, token: Annotated[Token, needs("quota:check")]) -> Response:
    """Whether a user has anything to spend. In trouble it answers as TOLLGATE_ADMISSION_ON_ERROR says."""
    parts = tollgate.parts
    try:
        account, available = await _wallet(tollgate, token.tenant, user)
    except Unavailable:
        allowed = parts.admission_on_error == "allow"
        return _balance(0, allowed, None if allowed else "unavailable")
    if account is None:
        return _balance(0, False, "unknown_user")
    return _balance(account.balance, available > 0, None if available > 0 else "wallet")


@router.get("/metering/users/{userId:segment}")
async def get_user_usage(
    user: UserId,
    tollgate: Tollgate,
    token: Annotated[Token, needs("usage:read")],
    since: From = None,
    to: To = None,
    period: Month = None,
) -> UserUsage:
    """A user's metered usage and cost: of the events that name the user, and of those billed to it that name none."""
    rows = await tollgate.parts.rows.fetch(queries.user_usage(token.tenant, user, span_of(since, to, period)))
    if not rows and not await tollgate.parts.rows.fetch(queries.user_known(token.tenant, user)):
        raise not_found("user with this id")
    totals: dict[str, Decimal] = {}
    items = []
    for meter, price_id, unit_amount, currency, quantity, amount, events in rows:
        totals[currency] = totals.get(currency, Decimal()) + Decimal(amount)
        items.append(
            UsageItem(
                meter=meter,
                priceId=price_id,
                unitAmount=unit_amount or None,
                quantity=quantity,
                amount=amount,
                currency=currency,
                events=int(events),
            )
        )
    return UserUsage(
        userId=user, items=items, totals={currency: _plain(total) for currency, total in sorted(totals.items())}
    )


async def _wallet(tollgate: Application, tenant: str, user: str) -> tuple[Account | None, int]:
    """The account, and what of it may be spent beside what open holds hold, of one moment; nanos."""
    if tollgate.parts.admission is not None:
        account, _, available = await tollgate.parts.admission.held(tenant, user)
        return account, available
    account = await tollgate.balances.account(tenant, user)
    return account, spendable(account) if account is not None else 0


def _allocation(report: bytes) -> str | None:
    """The allocation that a report names, as far as it can be read."""
    try:
        return _read_named(report).allocationId
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class _Named(msgspec.Struct, gc=False):
    allocationId: str | None = None  # noqa: N815 - the scheduler's word


_read_named: Final = msgspec.json.Decoder(_Named).decode


def _balance(nanos: int, has: bool, reason: str | None) -> Response:
    """The one money that leaves as a JSON number, which has the same digits as the text."""
    text = format_nanos(nanos)
    answer = {"hasBalance": has, "balance": msgspec.Raw(text.encode()), "balanceText": text, "reason": reason}
    return Response(msgspec.json.encode(answer), media_type=JSON)


def _plain(amount: Decimal) -> str:
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
