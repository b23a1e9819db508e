"""How the data of an account event or of a command is held to its shape: its money then in nanos, its times in
microseconds.

Money is decimal text, or a number that is read from its text; at most 9 places and never negative, in a command above
zero. The content that identical events are compared by keeps money and times as they were sent.

Errors: as `schemas.shape`, and InvalidInput `amount_overflow`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.errors import InvalidInput
from schemas.money import parse_amount
from schemas.period import Timestamp
from schemas.shape import Currency, Id, read, read_money, read_time
from schemas.usage_types import BuiltIn, Filled

_MONEY: Final[tuple[str, ...]] = ("amount", "credit_amount", "total_amount")
_TIMES: Final[tuple[str, ...]] = ("expires_at", "at")


class Named(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What any account event may carry."""

    user_id: Id | None = None
    organization_id: Id | None = None
    expires_at: Timestamp | None = None
    amount: Any = None
    credit_amount: Any = None
    total_amount: Any = None
    currency: Currency | None = None


def account_type(
    shape: type[msgspec.Struct], defaults: dict[str, Any] | None = None, *, positive: bool = False
) -> BuiltIn:
    """A type by its shape. `positive`: its `amount` is above zero."""
    required = frozenset(field.encode_name for field in msgspec.structs.fields(shape) if field.required)
    money = tuple(name for name in _MONEY if name in shape.__struct_fields__)
    times = tuple(name for name in _TIMES if name in shape.__struct_fields__)
    absent = defaults or {}

    def complete(data: dict[str, Any]) -> Filled:
        sent = read(data, shape, "/data")
        computed: dict[str, Any] = {}
        for name in money:
            if name in data or name in required:
                computed[name] = read_money(data.get(name), f"/data/{name}")
        for name in times:
            moment = getattr(sent, name)
            if moment is not None:
                computed[name] = read_time(moment, data, name)
        if positive and computed.get("amount") == 0:
            raise InvalidInput("out_of_range", "data.amount is not above zero", "/data/amount")
        return Filled(absent | data, computed)

    return BuiltIn(shape, complete)


def signed_type(shape: type[msgspec.Struct]) -> BuiltIn:
    """A type whose `amount` is decimal text of either sign, and not zero."""

    def complete(data: dict[str, Any]) -> Filled:
        read(data, shape, "/data")
        sent = data.get("amount")
        if not isinstance(sent, str):
            raise InvalidInput("wrong_type", "data.amount is no decimal text", "/data/amount")
        amount = parse_amount(sent, "/data/amount")
        if not amount:
            raise InvalidInput("out_of_range", "data.amount is zero", "/data/amount")
        return Filled(data, {"amount": amount})

    return BuiltIn(shape, complete)
