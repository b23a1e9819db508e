"""Invoices: what a period came to, drafted, finalized, void, paid; as JSON, a page or a PDF."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import COMMAND_RESPONSES, PENDING_RESPONSE, Key, body_of, carried_out, command, optional_key
from api.cursors import decode_cursor, encode_cursor
from api.pages import PAGE_ROWS, Cursor, Id, Limit
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, Refused, not_found
from api.tokens import Token
from invoicing.close import Closer
from invoicing.periods import period_at
from schemas import invoicing_commands as types
from schemas.commands import operation_id
from schemas.documents import COUNTER, INVOICE
from schemas.errors import InvalidInput
from schemas.invoice import Draft, Identity, period_from
from schemas.period import Period, parse_month
from streams.commands import Operation

router = APIRouter(tags=["invoices"], responses=PROBLEM_RESPONSES)

Reader = Annotated[Token, needs("usage:read")]
Writer = Annotated[Token, needs("invoices:write")]

Document = dict[str, Any]

_PERIOD: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["period"],
    "properties": {"period": {"type": "string", "description": "YYYY-MM: the periods that end in it, or with it"}},
}
_PAYMENT: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "payment_id": {"type": "string", "minLength": 1, "maxLength": 200},
        "amount": {"type": "string", "description": "Decimal text; what is due where it is not said"},
        "currency": {"type": "string"},
    },
}
_REFUSED: Final = {"not_found": 404}
PENDING_STATES: Final = frozenset({"draft", "open"})
"""What `state=pending` asks for."""

NUMBER_SECONDS: Final = 2.0
"""How long whoever asks for an invoice that was just finalized waits for its number, which another partition gives."""

NUMBER_LOOK_SECONDS: Final = 0.02


@router.post(
    "/v1/customers/{id:segment}/invoices",
    status_code=201,
    responses={**BODY_RESPONSES, **COMMAND_RESPONSES},
    response_model=Document,
    openapi_extra=described_body(_PERIOD, JSON),
)
async def post_invoice(customer: Id, request: Request, tollgate: Tollgate, token: Writer) -> Response:
    """Drafts the invoice of every billing period that ends in a month, or brings its draft up to date: the last of
    them. 200 where it is final already."""
    body = await body_of(request)
    month = body.get("period")
    if not isinstance(month, str):
        raise InvalidInput("missing_field", "period is missing", "/period")
    window = parse_month(month, "/period")
    await _known(tollgate, token, customer)
    closer = await tollgate.parts.closing()
    summary = await closer.close(window, tenant=token.tenant, customer=customer)
    if summary.invoices:
        drafted = [await closer.invoice(token.tenant, name) for _, name in summary.invoices]
        return JSONResponse(shown(drafted[-1], [one["id"] for one in drafted]), 201)
    final = [one for one in await _listed(tollgate, token, customer) if _ends_in(one, window)]
    if not final:
        raise Refused(409, "nothing_to_bill", f"there is nothing to bill in {month}")
    return JSONResponse(shown(final[-1], [one["id"] for one in final]), 200)


@router.get("/v1/customers/{id:segment}/invoices", response_model=Document)
async def list_invoices(
    customer: Id,
    tollgate: Tollgate,
    token: Reader,
    state: Annotated[str | None, Query(description="One state; `pending` is draft or open")] = None,
    period: Annotated[str | None, Query(description="YYYY-MM: those whose period ends in it or with it")] = None,
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> Response:
    """A customer's invoices by the end of their period."""
    await _known(tollgate, token, customer)
    listed = await _listed(tollgate, token, customer)
    if state is not None:
        listed = [
            one for one in listed if one["state"] == state or (state == "pending" and one["state"] in PENDING_STATES)
        ]
    if period is not None:
        window = parse_month(period, "/query/period")
        listed = [one for one in listed if _ends_in(one, window)]
    after = decode_cursor(cursor, "invoices", (int,))
    start = int(after[0]) if after else 0
    page = listed[start : start + limit]
    following = encode_cursor("invoices", [start + limit]) if len(listed) > start + limit else None
    return JSONResponse({"customer": customer, "data": [shown(one) for one in page], "next_cursor": following})


@router.get("/v1/customers/{id:segment}/invoices/upcoming", response_model=Document)
async def get_upcoming(customer: Id, tollgate: Tollgate, token: Reader) -> Response:
    """What the current period's invoice would be now, by the same builder; nothing is kept of it."""
    await _known(tollgate, token, customer)
    closer = await tollgate.parts.closing()
    standing = (await closer.standings(token.tenant, [customer]))[customer]
    now = standing.account.clock or tollgate.parts.now()
    period = period_at(standing.account.spans, now)
    body = await closer.upcoming(token.tenant, customer, period)
    if body is None:
        currency = standing.account.currency or str(standing.customer.get("currency") or "USD")
        identity = Identity(token.tenant, customer, currency, period)
        body = Draft(identity, "prepaid", ()).document(now)
    return JSONResponse({**shown(body), "id": None, "invoice_id": None, "state": "upcoming"})


_DRAWN: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            "text/html": {"schema": {"type": "string"}},
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


@router.get("/v1/invoices/{id:segment}", responses=_DRAWN, response_model=Document)
async def get_invoice(name: Id, tollgate: Tollgate, token: Reader) -> Response:
    """An invoice: as JSON, or with `.html` or `.pdf` behind its id to be read."""
    stem, _, form = name.rpartition(".")
    if not stem or form not in ("json", "html", "pdf"):
        stem, form = name, "json"
    body = await _invoice(tollgate, token, stem)
    if form == "json":
        return JSONResponse(shown(body))
    from invoicing.render import html, pdf

    days = await (await tollgate.parts.closing()).days(token.tenant, body)
    if form == "html":
        return HTMLResponse(await asyncio.to_thread(html, body, days, tollgate.parts.seller))
    drawn = await asyncio.to_thread(pdf, body, days, tollgate.parts.seller)
    named = body["number"] or body["id"]
    return Response(
        drawn, media_type="application/pdf", headers={"Content-Disposition": f'inline; filename="{named}.pdf"'}
    )


@router.post("/v1/invoices/{id:segment}/finalize", responses=COMMAND_RESPONSES, response_model=Document)
async def post_finalize(name: Id, tollgate: Tollgate, token: Writer) -> Response:
    """Brings a draft up to date, takes its fees and tax, and gives it its number."""
    await _invoice(tollgate, token, name)
    closer = await tollgate.parts.closing()
    return JSONResponse(shown(await _judged(closer, "finalize", token.tenant, name)))


@router.post("/v1/invoices/{id:segment}/void", responses=COMMAND_RESPONSES, response_model=Document)
async def post_void(name: Id, tollgate: Tollgate, token: Writer) -> Response:
    """Takes an invoice back; closing its period again makes the next revision."""
    await _invoice(tollgate, token, name)
    closer = await tollgate.parts.closing()
    return JSONResponse(shown(await _judged(closer, "void", token.tenant, name)))


@router.post(
    "/v1/invoices/{id:segment}/payments",
    status_code=201,
    responses={**BODY_RESPONSES, **COMMAND_RESPONSES, **PENDING_RESPONSE},
    response_model=Document,
    openapi_extra=described_body(_PAYMENT, JSON),
)
async def post_payment(name: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None) -> Response:
    """Records a payment of the invoice: what is due, or an amount."""
    stands = await _invoice(tollgate, token, name)
    body, used = await body_of(request), optional_key(key)
    unknown = next((field for field in body if field not in _PAYMENT["properties"]), None)
    if unknown is not None:
        raise InvalidInput("unknown_field", f"a payment has no field {unknown[:60]!r}", f"/{unknown}")
    customer = stands["customer"]
    body.setdefault("payment_id", f"pay_{operation_id(customer, used).removeprefix('op_')}")
    made = command(tollgate, token, customer, types.INVOICE_PAY, {"invoice_id": name, **body}, used)
    done = await carried_out(tollgate, made)
    if not isinstance(done, Operation):
        return done
    return JSONResponse({**shown(done.result["invoice"]), "payment_id": body["payment_id"]}, 201)


def shown(body: Document, together: list[str] | None = None) -> Document:
    """An invoice's document as it is answered."""
    inner = ("takes", "adjusts", "numbering")
    answer = {name: value for name, value in body.items() if name not in inner}
    answer["invoice_id"] = body["id"]
    answer["period_start"], answer["period_end"] = body["period"]["start"], body["period"]["end"]
    if together is not None:
        answer["invoices"] = together
    return answer


async def _judged(closer: Closer, action: str, tenant: str, name: str) -> Document:
    try:
        return await (closer.finalize(tenant, name) if action == "finalize" else closer.void(tenant, name))
    except InvalidInput as refused:
        raise Refused(_REFUSED.get(refused.reason, 409), refused.reason, refused.detail) from None


async def _known(tollgate: Application, token: Token, customer: str) -> None:
    if await tollgate.balances.account(token.tenant, customer) is None:
        raise not_found("customer with this id")


async def _invoice(tollgate: Application, token: Token, name: str) -> Document:
    async def read() -> list[Document]:
        body = await tollgate.documents.get(token.tenant, INVOICE, name)
        return [body] if body is not None else []

    found = await _numbered(read)
    if not found:
        raise not_found("invoice with this id")
    return found[0]


async def _listed(tollgate: Application, token: Token, customer: str) -> list[Document]:
    billing = await tollgate.documents.get(token.tenant, COUNTER, types.billing_id(customer))
    ids = [one["id"] for one in billing["invoices"]] if billing is not None else []
    closer = await tollgate.parts.closing()

    async def read() -> list[Document]:
        found = await closer.documents(token.tenant, [(INVOICE, one) for one in ids])
        return [found[INVOICE, one] for one in ids if (INVOICE, one) in found]

    return await _numbered(read)


async def _numbered(read: Callable[[], Awaitable[list[Document]]]) -> list[Document]:
    """Invoices as they are once none of them waits for its number: what is finalized is not shown as a draft. After
    NUMBER_SECONDS as they are then."""
    deadline = time.monotonic() + NUMBER_SECONDS
    while True:
        found = await read()
        if not any(one.get("numbering") for one in found) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(NUMBER_LOOK_SECONDS)


def _ends_in(body: Document, window: Period) -> bool:
    return window.start < period_from(body["period"]).end <= window.end
