"""The customer object: what is known of a customer besides its money, and what of it decides about money.

Every field is optional; a field that is null is not there. Money and rates are decimal text. `check_fields` holds
fields to their shapes and answers them as they are kept; `terms_of` makes of them what the account carries.

Errors: InvalidInput with the JSON pointer of the field at fault.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final, Literal
from zoneinfo import available_timezones

import msgspec

from schemas.account import POSTPAID, PREPAID, Terms
from schemas.errors import InvalidInput
from schemas.money import parse_amount
from schemas.period import SECOND
from schemas.shape import Currency, Id, read

OVERRIDES_MAX: Final = 50
"""Prices, and quotas, that a customer may have of its own: they travel with every value of its account."""

METADATA_MAX: Final = 50
COOL_OFF_SECONDS: Final = 3600
"""Between two requests for payment where the customer says nothing else."""

COOL_OFF_MAX_SECONDS: Final = 366 * 86_400

Line = Annotated[str, msgspec.Meta(max_length=1000)]
Words = Annotated[str, msgspec.Meta(max_length=500)]

_SPAN: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_DURATION: Final = re.compile(r"P(?:(\d{1,3})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,7})M)?(?:(\d{1,9})S)?)?", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _AutoTopUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    below: str
    amount: str
    cool_off: int | str | None = None


class _Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Line | None = None
    email: Words | None = None
    address: Line | dict[str, Line] | None = None
    tax_id: Words | None = None
    tax_rate: str | None = None
    currency: Currency | None = None
    timezone: Words | None = None
    collection: Literal["prepaid", "postpaid"] | None = None
    credit_limit: str | None = None
    overdraft: str | None = None
    auto_topup: _AutoTopUp | None = None
    price_overrides: list[dict[str, Any]] | None = None
    quota_overrides: list[dict[str, Any]] | None = None
    stripe_customer_id: Id | None = None
    test_clock: Id | None = None
    metadata: dict[str, Line] | None = None


FIELDS: Final[tuple[str, ...]] = _Fields.__struct_fields__
"""The names of all fields, in the order in which they are shown."""


def check_fields(fields: dict[str, Any], pointer: str = "") -> dict[str, Any]:
    """The fields that are there, in their kept form."""
    unknown = next((name for name in fields if name not in FIELDS), None)
    if unknown is not None:
        raise InvalidInput("unknown_field", f"a customer has no field {unknown[:60]!r}", f"{pointer}/{unknown}")
    sent = read(fields, _Fields, pointer)
    for name in ("credit_limit", "overdraft"):
        _check_money(getattr(sent, name), f"{pointer}/{name}")
    if sent.tax_rate is not None:
        tax_fraction(sent.tax_rate, f"{pointer}/tax_rate")
    if sent.timezone is not None and sent.timezone not in _timezones():
        raise InvalidInput("out_of_range", f"timezone {sent.timezone!r} is not known", f"{pointer}/timezone")
    if sent.auto_topup is not None:
        _check_top_up(sent.auto_topup, f"{pointer}/auto_topup")
    if sent.metadata is not None and len(sent.metadata) > METADATA_MAX:
        raise InvalidInput("out_of_range", f"metadata has more than {METADATA_MAX} names", f"{pointer}/metadata")
    _check_overrides(sent, pointer)
    return {name: fields[name] for name in FIELDS if fields.get(name) is not None}


def merged(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Fields with changes put over them: null takes a field out, metadata is merged by name."""
    after = {**before, **changes}
    old, new = before.get("metadata"), changes.get("metadata")
    if isinstance(old, dict) and isinstance(new, dict):
        after["metadata"] = {name: text for name, text in {**old, **new}.items() if text is not None}
    return {name: value for name, value in after.items() if value is not None}


def terms_of(fields: dict[str, Any], own: bytes = b"") -> Terms:
    """What of checked fields decides about money; `own`: the overrides in their canonical form."""
    top_up = fields.get("auto_topup")
    return Terms(
        collection=POSTPAID if fields.get("collection") == "postpaid" else PREPAID,
        credit_limit=parse_amount(fields.get("credit_limit") or "0"),
        overdraft=parse_amount(fields.get("overdraft") or "0"),
        top_up_below=parse_amount(top_up["below"]) if top_up else 0,
        top_up_amount=parse_amount(top_up["amount"]) if top_up else 0,
        top_up_cool_off=cool_off_seconds(top_up.get("cool_off")) * SECOND if top_up else 0,
        own=own,
    )


def tax_fraction(text: str, pointer: str = "") -> Decimal:
    """The share of an amount that a `tax_rate` adds: below 1 it is that share ("0.19"), else percent ("19")."""
    nanos = parse_amount(text, pointer)
    rate = Decimal(nanos).scaleb(-9)
    if not 0 <= rate <= 100:
        raise InvalidInput("out_of_range", f"tax_rate {text} is not between 0 and 100", pointer)
    return rate / 100 if rate >= 1 else rate


def cool_off_seconds(sent: int | str | None, pointer: str = "") -> int:
    """Seconds of a span: a whole number of them, "30m", or "PT30M"."""
    if sent is None:
        return COOL_OFF_SECONDS
    seconds = None
    if isinstance(sent, int):
        seconds = sent
    elif (span := _SPAN.fullmatch(sent)) is not None:
        seconds = int(span[1]) * _SECONDS[span[2]]
    elif (duration := _DURATION.fullmatch(sent)) is not None and any(duration.groups()):
        days, hours, minutes, rest = (int(part or 0) for part in duration.groups())
        seconds = days * 86_400 + hours * 3_600 + minutes * 60 + rest
    if seconds is None or not 0 <= seconds <= COOL_OFF_MAX_SECONDS:
        raise InvalidInput("out_of_range", f"{sent!r} is no span such as 30m, PT30M or 1800", pointer)
    return seconds


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def _check_money(text: str | None, pointer: str) -> None:
    if text is not None and parse_amount(text, pointer) < 0:
        raise InvalidInput("out_of_range", f"{pointer.rpartition('/')[2]} is negative", pointer)


def _check_top_up(sent: _AutoTopUp, pointer: str) -> None:
    parse_amount(sent.below, f"{pointer}/below")
    if parse_amount(sent.amount, f"{pointer}/amount") <= 0:
        raise InvalidInput("out_of_range", "auto_topup.amount is not above zero", f"{pointer}/amount")
    cool_off_seconds(sent.cool_off, f"{pointer}/cool_off")


def _check_overrides(sent: _Fields, pointer: str) -> None:
    """How many; what they say is for `rating.own`, which knows the catalogue."""
    for name in ("price_overrides", "quota_overrides"):
        if len(getattr(sent, name) or ()) > OVERRIDES_MAX:
            raise InvalidInput("out_of_range", f"{name} has more than {OVERRIDES_MAX} entries", f"{pointer}/{name}")
