"""The four outcomes of an input record, and the closed set of reasons for what is not `rated`.

The numbers are what the ledger and ClickHouse hold; the words are what people see. Both are append-only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Outcome(IntEnum):
    """Every input record ends in exactly one."""

    RATED = 1
    DUPLICATE = 2
    IGNORED = 3
    DEAD_LETTER = 4


OUTCOME_NAMES: Final[dict[int, str]] = {
    Outcome.RATED: "rated",
    Outcome.DUPLICATE: "duplicate",
    Outcome.IGNORED: "ignored",
    Outcome.DEAD_LETTER: "dead_letter",
}

REASONS: Final[dict[str, str]] = {
    # duplicate
    "same_identity": "an event with this identity and the same content is booked already",
    "same_allocation": "this allocation's release is booked already, with the same times",
    "hold_settled": "the hold it names was settled by the API; that was the charge",
    # ignored
    "zero": "all its counts are zero",
    "rerouted": "it lay in another partition than its customer's and was sent on to its own",
    "no_effect": "an account event that changes nothing",
    "no_meter": "no meter of the catalogue measures its type",
    "refused": "a command that its account does not allow",
    # dead letters: the record itself
    "empty": "the record has no value",
    "too_large": "the record is larger than an event may be",
    "bad_encoding": "the record is not valid UTF-8",
    "not_json": "the record is not one JSON object",
    "too_deep": "the record nests deeper than an event may",
    # dead letters: the envelope and the data
    "missing_field": "a field that is needed is not there",
    "wrong_type": "a field has the wrong type or form",
    "out_of_range": "a number or a text lies outside its bounds",
    "no_customer": "neither subject nor data.user_id names a customer",
    "bad_time": "a time is unreadable, before 1970 or in the wrong order",
    "future": "the event's time lies too far ahead of the time Kafka received it",
    "inconsistent": "fields of the event contradict one another",
    "unknown_version": "the major version in dataschema is not known",
    "unsupported": "a built-in type that this version does not decide yet; it can be retried",
    "unknown_type": "the type is neither built in nor named by a meter",
    # dead letters: rating and accounts
    "conflict": "the same identity stands with other content; the first stands",
    "no_price": "the meter has prices, and none of them matches",
    "amount_overflow": "a charge, quantity or balance is beyond its bounds",
    "currency_mismatch": "the account has another currency",
    "unknown_payment": "the payment it refunds is not known",
    "unknown_invoice": "the invoice it pays is not known; sent again once there is one, it pays it",
    "unknown_allocation": "no device.allocated has opened the allocation, whose release will charge all of it",
    "internal_error": "deciding it failed by our own fault; it can be retried after a fix",
}


def books_identity(outcome: int, reason: str) -> bool:
    """Whether a record with this outcome uses its identity up (a dead letter and a refused command do not)."""
    return outcome == Outcome.RATED or (outcome == Outcome.IGNORED and reason not in ("refused", "rerouted"))
