"""Customers as objects: who they are, and the terms that decide about their money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.answers import NextCursor, Time
from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import (
    COMMAND_RESPONSES,
    PENDING_RESPONSE,
    Key,
    body_of,
    carried_out,
    command,
    optional_key,
)
from api.cursors import decode_cursor, encode_cursor
from api.documents import customers
from api.pages import PAGE_ROWS, Cursor, Id, Limit
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.tokens import Token
from rating.own import check_own
from schemas.commands import CUSTOMER_PUT
from schemas.customer import FIELDS, check_fields
from schemas.documents import CUSTOMER, decode_body
from streams.commands import Operation

router = APIRouter(tags=["customers"], responses=PROBLEM_RESPONSES)

Reader = Annotated[Token, needs("usage:read")]
Writer = Annotated[Token, needs("wallet:write")]

_TEXT: Final = {"type": ["string", "null"]}
_BODY: Final[dict[str, Any]] = {
    "type": "object",
    "description": "All fields are optional; money and rates are decimal text",
    "properties": {
        **dict.fromkeys((name for name in FIELDS if name != "collection"), _TEXT),
        "collection": {"enum": ["prepaid", "postpaid", None]},
        "auto_topup": {
            "type": ["object", "null"],
            "required": ["below", "amount"],
            "properties": {
                "below": {"type": "string"},
                "amount": {"type": "string"},
                "cool_off": {"description": "Seconds, or a span such as 30m or PT30M", "type": ["string", "integer"]},
            },
        },
        "address": {"type": ["string", "object", "null"]},
        "price_overrides": {"type": ["array", "null"], "items": {"type": "object"}},
        "quota_overrides": {"type": ["array", "null"], "items": {"type": "object"}},
        "metadata": {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}},
    },
}


class AutoTopUp(BaseModel):
    """When a wallet asks for payment by itself, and for how much."""

    below: str
    amount: str
    cool_off: int | str | None = None


class Customer(BaseModel):
    """A customer; what nobody said is null."""

    id: str
    name: str | None = None
    email: str | None = None
    address: str | dict[str, str] | None = None
    tax_id: str | None = None
    tax_rate: Annotated[str | None, Field(description="Below 1 a share, such as 0.19; from 1 on percent")] = None
    currency: Annotated[str | None, Field(description="One for all its money, for ever from the first on")] = None
    timezone: str | None = None
    collection: str = "prepaid"
    credit_limit: str | None = None
    overdraft: str | None = None
    auto_topup: AutoTopUp | None = None
    price_overrides: list[dict[str, Any]] = []
    quota_overrides: list[dict[str, Any]] = []
    stripe_customer_id: str | None = None
    test_clock: str | None = None
    metadata: dict[str, str] = {}
    created_at: Time | None = None
    updated_at: Time | None = None
    closed_at: Time | None = None


class CustomerPage(BaseModel):
    """A page of customers."""

    data: list[Customer]
    next_cursor: NextCursor


_READ_ONLY: Final = frozenset(("id", "created_at", "updated_at", "closed_at"))
"""What an answer has besides the fields: sent back, it is left aside."""

_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {**BODY_RESPONSES, **COMMAND_RESPONSES, **PENDING_RESPONSE}


@router.put(
    "/v1/customers/{id:segment}",
    responses=_WRITTEN,
    response_model=Customer,
    openapi_extra=described_body(_BODY, JSON),
)
async def put_customer(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Customer | Response:
    """Makes a customer, or replaces all that is known of it. Its terms hold from now on."""
    return await _written(request, tollgate, token, customer, key, merge=False)


@router.patch(
    "/v1/customers/{id:segment}",
    responses=_WRITTEN,
    response_model=Customer,
    openapi_extra=described_body(_BODY, JSON),
)
async def patch_customer(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Customer | Response:
    """Changes what is named; null takes a field out, metadata is merged by name."""
    if await _found(tollgate, token, customer) is None:
        raise not_found("customer with this id")
    return await _written(request, tollgate, token, customer, key, merge=True)


@router.get("/v1/customers/{id:segment}")
async def get_customer(customer: Id, tollgate: Tollgate, token: Reader) -> Customer:
    """What is known of a customer, also of one that came into being by an event."""
    found = await _found(tollgate, token, customer)
    if found is None:
        raise not_found("customer with this id")
    return found


@router.get("/v1/customers")
async def list_customers(
    tollgate: Tollgate, token: Reader, limit: Limit = PAGE_ROWS, cursor: Cursor = None
) -> CustomerPage:
    """All customers of the tenant, by id."""
    (after,) = decode_cursor(cursor, "customers", (str,)) or ("",)
    rows = await tollgate.parts.rows.fetch(customers(token.tenant, after, limit))
    shown = [shaped(row[0], decode_body(row[1].encode()) if row[1] else {}) for row in rows[:limit]]
    following = encode_cursor("customers", [shown[-1].id]) if len(rows) > limit else None
    return CustomerPage(data=shown, next_cursor=following)


async def _found(tollgate: Application, token: Token, customer: str) -> Customer | None:
    body = await tollgate.documents.get(token.tenant, CUSTOMER, customer)
    account = await tollgate.balances.account(token.tenant, customer)
    if body is None and account is None:
        return None
    found = shaped(customer, body or {})
    if account is not None and account.currency:
        found.currency = account.currency
    return found


async def _written(
    request: Request, tollgate: Application, token: Token, customer: str, key: str | None, *, merge: bool
) -> Customer | Response:
    fields = await body_of(request, nulls=merge)
    fields = {name: value for name, value in fields.items() if name not in _READ_ONLY}
    catalogue = tollgate.parts.book.catalogue(token.tenant, tollgate.parts.book.position)
    checked = check_fields({name: value for name, value in fields.items() if not _takes_out(name, value)})
    check_own(
        catalogue.catalog if catalogue is not None else None,
        checked.get("price_overrides"),
        checked.get("quota_overrides"),
    )
    data = {"fields": fields, "merge": merge}
    made = command(tollgate, token, customer, CUSTOMER_PUT, data, optional_key(key))
    operation = await carried_out(tollgate, made)
    if not isinstance(operation, Operation):
        return operation
    return shaped(customer, operation.result["customer"])


def _takes_out(name: str, value: Any) -> bool:
    """A change of metadata that takes names out is judged when it is merged."""
    return name == "metadata" and isinstance(value, dict) and None in value.values()


def shaped(customer: str, body: Mapping[str, Any]) -> Customer:
    """A customer by its document."""
    known = {name: body[name] for name in Customer.model_fields if body.get(name) is not None}
    return Customer(**{**known, "id": customer})
