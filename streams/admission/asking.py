"""The words of a hold: its id, what tells two askings apart, and its value in Redis."""

from __future__ import annotations

import itertools
import os
from binascii import b2a_base64
from typing import Any, Final
from zlib import crc32

import orjson

from rating.admission import AmountAsk, Ask, Assessment, EventAsk, MeterAsk
from schemas.canonical import content_of, json_of
from schemas.errors import InvalidInput
from schemas.money import format_nanos
from streams.admission.values import Hold, digits

RANDOM_BYTES: Final = 15
"""A multiple of three, so that base64 ends without padding."""

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_ENDS: Final = tuple(b"%x" % number for number in range(256))
"""Mostly one of the first few does."""


def own_id(prefix: str, partition: int, partitions: int) -> str:
    """A new id whose directory entry lies in a partition."""
    # As secrets.token_urlsafe has it, whose every layer would cost each hold as much as the random bytes.
    begun = prefix + b2a_base64(os.urandom(RANDOM_BYTES), newline=False).translate(_URL_SAFE).decode()
    checked = crc32(begun.encode())
    for end in _ENDS:
        if crc32(end, checked) % partitions == partition:
            return begun + end.decode()
    for number in itertools.count(len(_ENDS)):
        if crc32(b"%x" % number, checked) % partitions == partition:
            return f"{begun}{number:x}"
    raise AssertionError("unreachable")


def digest_of(customer: str, ask: Ask, ttl_seconds: int) -> str:
    """By which two askings under one id are told apart."""
    wish = ask.wish
    match wish:
        case MeterAsk():
            wanted: list[Any] = ["meter", wish.meter, str(wish.quantity)]
        case AmountAsk():
            wanted = ["amount", wish.meter, str(wish.amount)]
        case EventAsk():
            wanted = ["event", wish.type, dict(wish.data)]
    words = [customer, wanted, ask.user, dict(sorted(ask.dimensions.items())), ask.session, ask.allocation, ttl_seconds]
    return content_of(words).hex()


def new_hold(digest: str, ask: Ask, assessment: Assessment) -> tuple[Hold, dict[str, Any]]:
    """The hold as it is asked for, and what its body says; Redis says until when it holds."""
    wish = ask.wish
    body: dict[str, Any] = {
        "prices": [
            {
                "meter": one.meter,
                "quantity": format_nanos(one.quantity),
                "amount": format_nanos(one.amount),
                "price_id": one.dearest.id if one.dearest is not None else None,
                "unit_amount": one.dearest.unit_amount_text if one.dearest is not None else None,
                "catalog_version": assessment.catalog_version,
            }
            for one in assessment.sized
        ]
    }
    if isinstance(wish, EventAsk):
        body["type"] = wish.type
        body["data"] = wish.data
    elif wish.meter is not None:
        body["meter"] = wish.meter
    if ask.user is not None:
        body["user"] = ask.user
    if ask.dimensions:
        body["dimensions"] = dict(ask.dimensions)
    bounds = assessment.bounds
    hold = Hold(
        digest,
        1,
        0,
        ask.session,
        ask.allocation,
        [bound.name for bound in bounds],
        [bound.meter for bound in bounds],
        [digits(bound.wanted) for bound in bounds],
        "",
        assessment.currency,
        "",
        json_of(body).decode(),
    )
    return hold, body


def asked_by(hold: Hold) -> Ask:
    """What a hold was asked for, as far as it tells what its money buys."""
    asked = orjson.loads(hold.body)
    if "type" in asked:
        return Ask(EventAsk(asked["type"], asked["data"]), asked.get("user"), asked.get("dimensions", {}))
    return Ask(AmountAsk(0, asked.get("meter")), asked.get("user"), asked.get("dimensions", {}))


def more_of(hold: Hold, quantity: int | None, amount: int | None) -> Ask:
    """What an extension asks for besides: of the hold's one meter, or of money. InvalidInput for a quantity of none."""
    asked = orjson.loads(hold.body)
    dimensions, user = asked.get("dimensions", {}), asked.get("user")
    if amount is not None:
        return Ask(AmountAsk(amount, asked.get("meter")), user, dimensions)
    if quantity is None:
        return Ask(AmountAsk(0), user, dimensions)
    meters = [asked["meter"]] if "meter" in asked else [line["meter"] for line in asked["prices"]]
    if len(meters) != 1:
        raise InvalidInput("wrong_type", "the hold is not of one meter: extend it by an amount", "/quantity")
    if "data" in asked:
        dimensions = {**{k: v for k, v in asked["data"].items() if isinstance(v, str)}, **dimensions}
    return Ask(MeterAsk(meters[0], quantity), user, dimensions)
