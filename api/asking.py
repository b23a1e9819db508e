"""Bodies of requests that ask for usage: what is wanted, of whom, and for how long.

Errors: InvalidInput by the body's fields.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from fastapi import Request

from api.bodies import JSON, json_judged, read_body
from rating.admission import AmountAsk, Ask, EventAsk, MeterAsk, Wish
from schemas.canonical import parse
from schemas.errors import InvalidInput
from schemas.event import ACCOUNT_TYPES, COMMAND_PREFIX
from schemas.ids import check_id
from schemas.limits import QUANTITY_MAX_UNITS
from schemas.money import NANOS, format_nanos, parse_amount, parse_nanos
from streams.admission.client import OWN_PREFIX, TTL_MAX_SECONDS, TTL_SECONDS
from streams.admission.settlement import Settlement

CONSUME_PREFIX: Final = "c:"
"""Begins the ids of holds that are made for `consume`."""

_ID: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 200}
_TEXT: Final = {"type": "string", "pattern": r"^[0-9]{1,19}(\.[0-9]{1,9})?$"}
QUANTITY: Final[dict[str, Any]] = {
    "anyOf": [_TEXT, {"type": "integer", "minimum": 0, "maximum": 10**15}],
    "description": "Units of the meter",
}
MONEY: Final[dict[str, Any]] = {**_TEXT, "description": "Decimal text of the major unit"}
TTL: Final[dict[str, Any]] = {"type": "integer", "minimum": 1, "maximum": TTL_MAX_SECONDS}
EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "data"],
    "properties": {"type": _ID, "data": {"type": "object"}},
    "description": "An event that is to come, with its largest counts",
}
_WHOM: Final[dict[str, Any]] = {
    "customer": _ID,
    "user": _ID,
    "dimensions": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 200}},
}
WISHES: Final[list[dict[str, Any]]] = [
    {"required": ["meter", "quantity"], "properties": {"meter": _ID, "quantity": QUANTITY}},
    {"required": ["event"], "properties": {"event": EVENT}},
    {"required": ["amount"], "properties": {"amount": MONEY, "meter": _ID}},
]
CHECK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["customer"],
    "properties": _WHOM,
    "oneOf": WISHES,
    "description": "What is asked for: of a meter, of an event that is to come, or of money",
}
HOLD: Final[dict[str, Any]] = {
    **CHECK,
    "properties": {**_WHOM, "session_id": _ID, "allocation_id": _ID, "hold_id": _ID, "ttl_seconds": TTL},
}


async def json_body(request: Request) -> dict[str, Any]:
    """A JSON object with what is null left out; an empty body is an empty object."""
    if request.headers.get("content-length") in (None, "0") and "transfer-encoding" not in request.headers:
        return {}
    _, body = await read_body(request, JSON)
    return object_of(body)


def object_of(body: bytes) -> dict[str, Any]:
    """A JSON object with what is null left out."""
    with json_judged(body):
        return {name: value for name, value in parse(body).items() if value is not None}


def ask_of(body: dict[str, Any]) -> Ask:
    """What a body asks for."""
    return Ask(
        _wish(body),
        _id_in(body, "user"),
        _dimensions(body.get("dimensions", {})),
        _id_in(body, "session_id") or "",
        _id_in(body, "allocation_id") or "",
    )


def hold_id_in(body: dict[str, Any]) -> str | None:
    """The id that a holder gives its hold."""
    hold_id = _id_in(body, "hold_id")
    if hold_id is not None and hold_id.startswith((OWN_PREFIX, CONSUME_PREFIX)):
        raise InvalidInput("wrong_type", "hold_id begins like the holds of commands", "/hold_id")
    return hold_id


def ttl_in(body: dict[str, Any]) -> int:
    """Seconds."""
    ttl = body.get("ttl_seconds", TTL_SECONDS)
    if isinstance(ttl, bool) or not isinstance(ttl, int):
        raise InvalidInput("wrong_type", "ttl_seconds is no whole number", "/ttl_seconds")
    if not 1 <= ttl <= TTL_MAX_SECONDS:
        raise InvalidInput("out_of_range", f"ttl_seconds is not 1 to {TTL_MAX_SECONDS}", "/ttl_seconds")
    return ttl


def generation_in(body: dict[str, Any]) -> int | None:
    """The generation that a hold must have."""
    generation = body.get("generation")
    if generation is not None and (isinstance(generation, bool) or not isinstance(generation, int)):
        raise InvalidInput("wrong_type", "generation is no whole number", "/generation")
    return generation


def more_in(body: dict[str, Any]) -> tuple[int | None, int | None]:
    """Quantity or amount of an extension; neither: time alone."""
    if "quantity" in body and "amount" in body:
        raise InvalidInput("inconsistent", "quantity and amount exclude one another", "/amount")
    quantity = quantity_of(body["quantity"]) if "quantity" in body else None
    return quantity, amount_of(body["amount"]) if "amount" in body else None


def settlement_in(body: dict[str, Any]) -> Settlement:
    """What a hold is settled for."""
    given = [name for name in ("quantity", "amount", "data") if name in body]
    if len(given) != 1:
        raise InvalidInput("missing_field", "exactly one of quantity, amount and data is needed", "/quantity")
    if "data" in body:
        if not isinstance(body["data"], dict):
            raise InvalidInput("wrong_type", "data is no object", "/data")
        return Settlement(data=body["data"])
    quantity, amount = more_in(body)
    return Settlement(amount=amount, quantity=quantity)


def quantity_of(value: Any, pointer: str = "/quantity") -> int:
    """Decimal text or a whole number, at least 0, in nano-units."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidInput("wrong_type", "quantity is neither decimal text nor a whole number", pointer)
    nanos = value * NANOS if isinstance(value, int) else parse_nanos(value, pointer)
    if not 0 <= nanos <= QUANTITY_MAX_UNITS * NANOS:
        raise InvalidInput("out_of_range", f"quantity is not 0 to {QUANTITY_MAX_UNITS}", pointer)
    return nanos


def amount_of(value: Any, pointer: str = "/amount") -> int:
    """Money as decimal text, at least 0, in nanos."""
    if not isinstance(value, str):
        raise InvalidInput("wrong_type", "amount is money, and so decimal text", pointer)
    nanos = parse_amount(value, pointer)
    if nanos < 0:
        raise InvalidInput("out_of_range", "amount is below zero", pointer)
    return nanos


def _wish(body: dict[str, Any]) -> Wish:
    given = [name for name in ("quantity", "event", "amount") if name in body]
    if len(given) != 1:
        missing = "exactly one of meter with quantity, event and amount is needed"
        raise InvalidInput("missing_field", missing, f"/{given[1] if given else 'quantity'}")
    if "event" in body:
        return _event(body["event"])
    if "amount" in body:
        return AmountAsk(amount_of(body["amount"]), _id_in(body, "meter"))
    return MeterAsk(check_id(body.get("meter"), "/meter"), quantity_of(body["quantity"]))


def _event(event: Any) -> EventAsk:
    if not isinstance(event, dict):
        raise InvalidInput("wrong_type", "event is no object", "/event")
    event_type = check_id(event.get("type"), "/event/type")
    if event_type in ACCOUNT_TYPES or event_type.startswith(COMMAND_PREFIX):
        raise InvalidInput("unknown_meter", f"{event_type} events are not metered", "/event/type")
    data = event.get("data")
    if not isinstance(data, dict):
        reason = "wrong_type" if data is not None else "missing_field"
        raise InvalidInput(reason, "event.data is no object", "/event/data")
    return EventAsk(event_type, data)


def _dimensions(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise InvalidInput("wrong_type", "dimensions is no object", "/dimensions")
    return {name: _dimension(name, value) for name, value in given.items() if value is not None}


def _dimension(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return format_nanos(quantity_of(str(value), f"/dimensions/{name}"))
    return check_id(value, f"/dimensions/{name}")


def _id_in(body: dict[str, Any], name: str) -> str | None:
    return check_id(body[name], f"/{name}") if name in body else None
