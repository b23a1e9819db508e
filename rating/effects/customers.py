"""Customers: the customer object, and what of it the account carries; the tick that lets credits expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.effects.credits import customer_named, open_wallet
from rating.own import check_own
from rating.turn import Effect, Naming, NoEffect, Refused, Turn
from schemas import commands
from schemas.customer import FIELDS, check_fields, merged, terms_of
from schemas.documents import CUSTOMER
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.invoicing_commands import CLOCK_SET, CLOCKS_CUSTOMER
from schemas.period import format_time


def put_customer(turn: Turn) -> None:
    """tollgate.customer.put: replaces the customer's fields, or merges into them; its terms hold from now on."""
    data, account = turn.event.data, turn.account
    open_wallet(turn)
    stands = turn.document(CUSTOMER, turn.event.customer) or {}
    before = {name: stands[name] for name in FIELDS if name in stands}
    try:
        fields = check_fields(merged(before if data.get("merge") else {}, data["fields"]))
        catalogue = turn.catalogue
        own = check_own(
            catalogue.catalog if catalogue is not None else None,
            fields.get("price_overrides"),
            fields.get("quota_overrides"),
        )
    except InvalidInput as fault:
        raise Refused(fault.reason, fault.detail) from None
    currency = fields.get("currency")
    if currency is not None and account.currency not in ("", currency):
        raise Refused("currency_mismatch", f"the customer's money is in {account.currency}, not in {currency}")
    account.terms = terms_of(fields, own)
    rest = {name: value for name, value in stands.items() if name not in FIELDS}
    body = {**rest, **fields, "updated_at": format_time(turn.now)}
    turn.put(CUSTOMER, turn.event.customer, body)
    if fields.get("test_clock") and fields["test_clock"] != before.get("test_clock"):
        joining = {"clock": fields["test_clock"], "customers": [turn.event.customer]}
        turn.command(CLOCKS_CUSTOMER, CLOCK_SET, f"{turn.event.id}:clock"[:200], joining)
    turn.result["request"] = data.get("request")
    turn.result["customer"] = body


def tick(turn: Turn) -> None:
    """tollgate.customer.tick: nothing by itself; with any event, what expired by then is booked."""
    raise NoEffect


EFFECTS: Final[dict[str, Effect]] = {commands.CUSTOMER_PUT: put_customer, commands.CUSTOMER_TICK: tick}
DOCUMENTS: Final[dict[str, Naming]] = {commands.CUSTOMER_PUT: customer_named}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
