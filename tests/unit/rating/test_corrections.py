"""Corrections: an event is cancelled or replaced once, by further entries, at the time and prices of the original."""

from __future__ import annotations

from typing import Any

import pytest

from rating.effects.corrections import BOOKED, PENDING, UNKNOWN
from schemas.canonical import identity_of
from schemas.device_commands import USAGE_CORRECT
from schemas.documents import CORRECTION, document_key
from schemas.period import format_time
from tests.fakes.partition import NOW, MemoryPartition, event, granted, reported, tokens

NAME = identity_of("default", "c", "test", "1").hex()


def corrects(number: object, original: object = 1, **data: Any) -> dict[str, Any]:
    return event(
        number, "usage.corrected", {"source": "test", "id": str(original), "reason": "wrong", **data}, time=None
    )


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["outcome"], row["reason"]) for row in rows]


def document(partition: MemoryPartition) -> dict[str, Any]:
    """The correction as it stands."""
    newest: dict[str, Any] = {}
    for row in partition.rows():
        for written in row["documents"]:
            if written["kind"] == CORRECTION:
                newest = written["body"]
    return newest


def resolves(original: dict[str, Any], number: object = "resolved") -> dict[str, Any]:
    """What is sent once the original's entry is found."""
    data = {
        "correction": NAME,
        "event_type": original["event_type"],
        "occurred_at": format_time(original["occurred_at"]),
        "charges": [
            {
                "meter": charge["meter"],
                "price_id": charge["price_id"],
                "catalog_version": charge["catalog_version"],
                "unit_amount": charge["unit_amount"],
                "currency": charge["currency"],
                "dimensions": charge["dimensions"],
                "quantity": charge["quantity"],
                "amount": charge["amount"],
            }
            for charge in original["charges"]
        ],
    }
    return event(number, USAGE_CORRECT, data, time=None)


def test_a_cancelled_event_leaves_nothing_of_its_charges() -> None:
    """Quantities and amounts sum to zero, the wallet is where it was, and the posting says that it is a correction."""
    partition = MemoryPartition()
    partition.account(granted("g", "10"))
    (original,) = partition.usage(tokens(1, 700, 300))
    partition.usage(corrects("k"))
    assert (document(partition)["status"], partition.rows()[-1]["charges"]) == (PENDING, [])
    (row,) = partition.account(resolves(original))
    assert outcomes([row]) == [("rated", "")]
    assert [posting["kind"] for posting in row["postings"]] == ["correction"]
    for what in ("quantity", "amount"):
        assert sum(charge[what] for each in partition.rows() for charge in each["charges"]) == 0
    assert partition.of("c").balance == 10 * 10**9
    assert (document(partition)["status"], document(partition)["taken_back"]) == (BOOKED, "0.70000045")


def test_a_replaced_event_is_charged_as_it_should_have_been() -> None:
    """At the time of the original, not of its correction."""
    partition = MemoryPartition()
    (original,) = partition.usage(tokens(1, 700, 300))
    partition.usage(corrects("k", replace=tokens(1, 100, 0)["data"]))
    (row,) = partition.account(resolves(original))
    assert [posting["kind"] for posting in row["postings"]] == ["correction", "charge"]
    assert partition.of("c").balance == -100 * 10**6
    assert document(partition)["charged"] == "0.1"


def test_a_period_price_gives_back_what_its_total_falls_by() -> None:
    """Of two events of a graduated price the first is cancelled: what stays is the price of the second alone."""
    partition = MemoryPartition()
    (original, _) = partition.usage(reported(1, 8, "tiers"), reported(2, 6, "tiers"))
    partition.usage(corrects("k"))
    partition.account(resolves(original))
    alone = MemoryPartition()
    alone.usage(reported(2, 6, "tiers"))
    assert partition.of("c").balance == alone.of("c").balance
    assert partition.of("c").counters == alone.of("c").counters


def test_an_event_is_corrected_once() -> None:
    """Told again it has no effect, told otherwise it is a conflict, resolved again nothing is booked."""
    partition = MemoryPartition()
    (original,) = partition.usage(tokens(1, 700))
    rows = partition.usage(corrects("k"), corrects("k2"), corrects("k3", reason="another"), corrects("k"))
    assert outcomes(rows) == [
        ("rated", ""),
        ("ignored", "no_effect"),
        ("dead_letter", "conflict"),
        ("duplicate", "same_identity"),
    ]
    partition.restart()
    again = partition.account(resolves(original), resolves(original, "twice"))
    assert outcomes(again) == [("rated", ""), ("ignored", "no_effect")]
    assert partition.of("c").balance == 0


def test_a_correction_of_what_is_not_there_ends_as_unknown() -> None:
    """Its asker sees that nothing was booked."""
    partition = MemoryPartition()
    partition.usage(corrects("k"))
    (row,) = partition.account(event("u", USAGE_CORRECT, {"correction": NAME}, time=None))
    assert (row["outcome"], row["postings"], document(partition)["status"]) == ("rated", [], UNKNOWN)


def test_data_that_cannot_replace_books_nothing() -> None:
    """The correction stays pending, and the command says what is wrong."""
    partition = MemoryPartition()
    (original,) = partition.usage(tokens(1, 700))
    partition.usage(corrects("k", replace={"session_id": "s"}))
    (row,) = partition.account(resolves(original))
    assert outcomes([row]) == [("dead_letter", "missing_field")]
    assert partition.of("c").balance == -700 * 10**6
    assert document(partition)["status"] == PENDING


@pytest.mark.parametrize(
    "data", [{"source": "test"}, {"source": "test", "id": "1"}, {"source": 7, "id": "1", "reason": "x"}]
)
def test_a_correction_says_what_and_why(data: dict[str, Any]) -> None:
    """Else it is a dead letter."""
    partition = MemoryPartition()
    (row,) = partition.usage(event("k", "usage.corrected", data))
    assert row["outcome"] == "dead_letter"


def test_the_document_is_the_tenants_and_names_its_customer() -> None:
    """Under the identity of what it corrects."""
    partition = MemoryPartition()
    partition.usage(corrects("k"))
    assert document_key("default", CORRECTION, NAME) in {
        document_key(row["tenant"], one["kind"], one["id"]) for row in partition.rows() for one in row["documents"]
    }
    assert document(partition)["customer"] == "c"
    assert document(partition)["asked_at"] == format_time(NOW)
