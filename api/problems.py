"""RFC 9457 problems: what a request that is not answered as asked gets instead, and with which status.

The core knows no HTTP status. STATUS_OF_ERROR maps its errors by remedy, STATUS_OF_REASON the few reasons of
InvalidInput that HTTP has a word of its own for. `Refused` is for what only HTTP knows: routes, media types, sizes,
scopes.

A problem's `type` is a URN that ends in its reason, its `errors` name what is wrong by JSON pointer: into the body, or
`/query/<name>` for a query parameter. Nothing of our inside (a stack, a store's address) is in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from schemas.catalog_document import CatalogRefused
from schemas.errors import Conflict, Doubt, InvalidInput, InvariantBroken, TollgateError, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

STATUS_OF_ERROR: Final[dict[type[TollgateError], int]] = {
    InvalidInput: 422,
    Conflict: 409,
    Unavailable: 503,
    Doubt: 503,
    InvariantBroken: 500,
}

STATUS_OF_REASON: Final[dict[str, int]] = {
    "empty": 400,
    "bad_encoding": 400,
    "not_json": 400,
    "tenant_mismatch": 403,
    "missing_scope": 403,
}

RETRY_AFTER_SECONDS: Final = 2
"""What a client is told to wait when a store is away; our own processes are back within it."""

CLIENT_CLOSED_REQUEST: Final = 499
"""The client left before it had sent its request: nobody reads this answer, but the metrics count it."""

_REASON_OF_STATUS: Final = {404: "not_found", 405: "method_not_allowed"}


class Fault(BaseModel):
    """One thing that is wrong in a request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body, or /query/<name> for a query parameter")
    reason: str = Field(description="Machine-readable word, or a sentence where there is none")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="URN that ends in the reason", examples=["urn:tollgate:problem:missing_field"])
    title: str
    status: int
    detail: str
    errors: list[Fault]


class Refused(Exception):
    """A request that HTTP itself refuses."""

    def __init__(self, status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = headers


def not_found(what: str) -> Refused:
    """404: it is not there, or not this tenant's, which is the same to whoever asks."""
    return Refused(404, "not_found", f"there is no {what}")


def problem(
    status: int,
    reason: str,
    detail: str,
    errors: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem as a response; `errors` are pairs of pointer and reason."""
    body = {
        "type": f"urn:tollgate:problem:{reason}",
        "title": _phrase(status),
        "status": status,
        "detail": detail,
        "errors": [{"pointer": pointer, "reason": why} for pointer, why in errors],
    }
    all_headers = dict(headers or {})
    if status == 503:
        all_headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    # A key or a name in a detail may hold half a surrogate pair, which no UTF-8 can.
    try:
        content = orjson.dumps(body)
    except orjson.JSONEncodeError:
        content = orjson.dumps({**body, "detail": _phrase(status), "errors": []})
    return Response(content, status, all_headers, MEDIA_TYPE)


def problem_of(error: TollgateError) -> Response:
    """The problem that an error of the core is to whoever asked."""
    status = status_of(error)
    match error:
        case CatalogRefused():
            faults = [(_pointer_of_path(fault.path), fault.reason) for fault in error.faults]
            return problem(status, error.reason, "the catalogue is refused, nothing of it is taken", faults)
        case InvalidInput():
            return problem(status, error.reason, error.detail, [(error.pointer, error.reason)])
        case Conflict():
            return problem(status, error.reason, error.detail)
        case Doubt():
            return problem(status, "in_doubt", "it is not known whether this took effect")
        case Unavailable():
            return problem(status, "unavailable", "a store is away, /readyz names it; repeat the same request")
        case _:
            return problem(status, "internal_error", "an error of ours; it is logged")


def fault() -> Response:
    """The answer where something happened that we did not foresee; who answers so logs it with its stack."""
    return problem(500, "internal_error", "an error of ours; it is logged")


def status_of(error: TollgateError) -> int:
    """The status of an error by its reason, else by the nearest of its classes."""
    if isinstance(error, InvalidInput) and error.reason in STATUS_OF_REASON:
        return STATUS_OF_REASON[error.reason]
    return next(STATUS_OF_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_OF_ERROR)


def status_of_denial(reason: str) -> int:
    """The status of what an account does not allow; 402 where money or a plan would help."""
    return {"quota": 429, "unavailable": 503}.get(reason, 402)


def install(app: FastAPI) -> None:
    """Makes every error that leaves a route, and every route that is not there, a problem."""
    app.add_exception_handler(TollgateError, _of_core)
    app.add_exception_handler(Refused, _of_core)
    app.add_exception_handler(HTTPException, _of_router)
    app.add_exception_handler(RequestValidationError, _of_parameters)
    app.add_exception_handler(ClientDisconnect, _of_nobody)
    app.add_exception_handler(Exception, _of_fault)


PROBLEM_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase}
    for status in (401, 403, 404, 405, 422, 429, 500, 503)
}
"""What any route may answer besides its own."""

BODY_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in (400, 408, 413, 415)
}
"""What a route that takes a body may answer too."""


def _phrase(status: int) -> str:
    return "Client Closed Request" if status == CLIENT_CLOSED_REQUEST else HTTPStatus(status).phrase


def _pointer_of_path(path: str) -> str:
    """`prices[3].tiers[1].up_to` as a JSON pointer."""
    parts = path.replace("[", ".").replace("]", "").split(".") if path else []
    return "".join(f"/{part.replace('~', '~0').replace('/', '~1')}" for part in parts)


def answer_of(error: TollgateError | Refused) -> Response:
    """What an error that leaves a route is answered, and what of it is logged."""
    if isinstance(error, Refused):
        return problem(error.status, error.reason, error.detail, headers=error.headers)
    if isinstance(error, InvariantBroken):
        log.critical("%s", error, exc_info=error)
    elif isinstance(error, Unavailable):
        log.warning("%s", error)
    return problem_of(error)


async def _of_core(_: Request, error: Exception) -> Response:
    assert isinstance(error, TollgateError | Refused)
    return answer_of(error)


async def _of_router(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = _REASON_OF_STATUS.get(error.status_code, "refused")
    detail = {404: "there is no such route", 405: "this route does not have that method"}.get(
        error.status_code, str(error.detail)
    )
    return problem(error.status_code, reason, detail, headers=error.headers)


async def _of_parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [("/" + "/".join(str(part) for part in fault["loc"]), str(fault["msg"])) for fault in error.errors()]
    detail = "; ".join(f"{pointer.rpartition('/')[2]}: {reason}" for pointer, reason in faults)
    return problem(422, "bad_parameter", detail, faults)


async def _of_nobody(_: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _of_fault(_: Request, error: Exception) -> Response:
    """The server logs it."""
    return fault()
