"""What a customer has, used and was charged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from api import queries
from api.answers import Balance, ChargePage, CreditGrant, CurrencyBalance, LedgerPage, UsagePage
from api.auth import needs
from api.cursors import decode_cursor
from api.pages import PAGE_ROWS, Cursor, From, Id, Limit, Month, To, page_of, span_of
from api.parts import Application, Tollgate
from api.problems import PROBLEM_RESPONSES, not_found
from api.shaping import charge, movement, usage_sum
from api.tokens import Token
from rating.admission import NO_CURRENCY
from schemas.account import Account
from schemas.documents import CUSTOMER
from schemas.errors import InvalidInput
from schemas.limits import ID_MAX_CHARACTERS
from schemas.money import format_nanos
from schemas.period import format_time

router = APIRouter(tags=["customers"], prefix="/v1/customers/{id:segment}", responses=PROBLEM_RESPONSES)

Reader = Annotated[Token, needs("usage:read")]
Window = Literal["minute", "hour", "day", "week", "month"]
Kind = Literal[
    "charge", "grant", "deposit", "withdrawal", "transfer_in", "transfer_out", "refund", "adjustment", "expiry",
    "correction",
]  # fmt: skip


@router.get("/balance")
async def get_balance(customer: Id, tollgate: Tollgate, token: Reader) -> Balance:
    """The wallet as of the last applied entry of the ledger."""
    account, held, available = await tollgate.wallet(token.tenant, customer)
    if account is None:
        raise not_found("customer with this id")
    currency = account.currency or await _currency_to_be(tollgate, token, customer)
    return Balance(customer=customer, balances=[_balance(account, currency, held, available)])


@router.get("/usage")
async def get_usage(
    customer: Id,
    tollgate: Tollgate,
    token: Reader,
    since: From = None,
    to: To = None,
    period: Month = None,
    group_by: Annotated[
        list[str] | None, Query(description="Dimensions or columns, several with commas or repeated; meter always is")
    ] = None,
    window: Annotated[Window | None, Query()] = None,
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> UsagePage:
    """Quantities and amounts by meter, and by what else is asked for."""
    groups = _groups(group_by)
    kinds = queries.usage_key(groups)
    page = queries.Page(decode_cursor(cursor, "usage", kinds), limit)
    query = queries.usage(token.tenant, customer, span_of(since, to, period), window, groups, page)
    rows = await _rows_of(tollgate, token, customer, query)
    data, following = page_of(
        rows, limit, "usage", kinds, lambda row: usage_sum(row, groups, windowed=window is not None)
    )
    return UsagePage(customer=customer, data=data, next_cursor=following)


@router.get("/charges")
async def list_charges(
    customer: Id,
    tollgate: Tollgate,
    token: Reader,
    since: From = None,
    to: To = None,
    period: Month = None,
    meter: str | None = None,
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> ChargePage:
    """Charges by the time of their events."""
    page = queries.Page(decode_cursor(cursor, "charges", queries.CHARGE_KEY), limit)
    query = queries.charges(token.tenant, customer, span_of(since, to, period), meter, page)
    rows = await _rows_of(tollgate, token, customer, query)
    data, following = page_of(rows, limit, "charges", queries.CHARGE_KEY, charge)
    return ChargePage(customer=customer, data=data, next_cursor=following)


@router.get("/ledger")
async def list_ledger(
    customer: Id,
    tollgate: Tollgate,
    token: Reader,
    since: From = None,
    to: To = None,
    period: Month = None,
    kind: Annotated[Kind | None, Query()] = None,
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> LedgerPage:
    """Movements of the wallet in the ledger's order; their sum is the balance."""
    page = queries.Page(decode_cursor(cursor, "ledger", queries.LEDGER_KEY), limit)
    query = queries.ledger(token.tenant, customer, span_of(since, to, period), kind, page)
    rows = await _rows_of(tollgate, token, customer, query)
    data, following = page_of(rows, limit, "ledger", queries.LEDGER_KEY, movement)
    return LedgerPage(customer=customer, data=data, next_cursor=following)


async def _rows_of(tollgate: Application, token: Token, customer: str, query: queries.Query) -> list[list[Any]]:
    """The rows of a customer's listing; 404 where there are none since the customer is not known. Who has an account is
    known before the first of its rows is there."""
    rows = await tollgate.parts.rows.fetch(query)
    if rows or await tollgate.parts.rows.fetch(queries.customer_known(token.tenant, customer)):
        return rows
    if await tollgate.balances.account(token.tenant, customer) is None:
        raise not_found("customer with this id")
    return []


def _groups(given: list[str] | None) -> list[str]:
    names = [name.strip() for part in given or () for name in part.split(",")]
    groups = list(dict.fromkeys(name for name in names if name != "meter"))
    if len(groups) > queries.GROUP_BY_MAX or not all(0 < len(name) <= ID_MAX_CHARACTERS for name in groups):
        raise InvalidInput(
            "bad_parameter", f"group_by is 1 to {queries.GROUP_BY_MAX} names of dimensions", "/query/group_by"
        )
    return groups


async def _currency_to_be(tollgate: Application, token: Token, customer: str) -> str:
    """What the first money of a customer without any will be in, unless it says another currency."""
    stated: str | None = (await tollgate.documents.get(token.tenant, CUSTOMER, customer) or {}).get("currency")
    catalogue = tollgate.parts.book.catalogue(token.tenant, tollgate.parts.book.position)
    return stated or (catalogue.currency if catalogue is not None else NO_CURRENCY)


def _balance(account: Account, currency: str, held: int, available: int) -> CurrencyBalance:
    return CurrencyBalance(
        currency=currency,
        balance=format_nanos(account.balance),
        held=format_nanos(held),
        available=format_nanos(available),
        receivable=format_nanos(account.receivable),
        grants=[
            CreditGrant(
                credit_id=grant.credit_id,
                amount=format_nanos(grant.amount),
                remaining=format_nanos(grant.remaining),
                expires_at=format_time(grant.expires_at) if grant.expires_at else None,
                priority=grant.priority,
            )
            for grant in account.grants
        ],
    )
