"""What is told of usage: once a customer and transaction, whatever the chunks; its sums are those of the ledger."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.ledger_packed import packed
from streams.announcing import announcements
from tests.fakes.partition import MemoryPartition, granted, reported, tokens


def told(made: MemoryPartition) -> list[dict[str, Any]]:
    """All events, as who reads the topic sees them."""
    found = [(key, orjson.loads(value)) for key, value in announcements(list(map(packed, made.records())))]
    assert all(key.decode() == sent["subject"] for key, sent in found)
    return [sent for _, sent in found]


def test_a_customer_is_told_of_once_a_transaction_with_the_sums_of_its_entries() -> None:
    """Usage, amount and wallet over all chunks; another tenant's customer of the same name is another."""
    made = MemoryPartition()
    made.account(granted(0, "1"))
    made.usage(tokens(1, 3, 2), tokens(2, 1, 0), reported(3, 1, tenantid="x"))
    made.usage(tokens(4, 1, 0), tokens(4, 1, 0), reported(5, 1, "none"), reported(6, 2, "seats", subject='q"\\'))
    first, *_ = found = told(made)
    assert [(sent["type"], sent["tenantid"], sent["subject"]) for sent in found] == [
        ("usage.recorded", "default", "c"),
        ("billing.processed", "default", "c"),
        ("wallet.consumed", "default", "c"),
        ("usage.recorded", "x", "c"),
        ("billing.processed", "x", "c"),
        ("wallet.consumed", "x", "c"),
        ("usage.recorded", "default", 'q"\\'),
        ("billing.processed", "default", 'q"\\'),
    ]
    assert first == {
        "specversion": "1.0",
        "source": "tollgate",
        "id": "0-4-usage",
        "time": "2026-11-18T11:06:40Z",
        "type": "usage.recorded",
        "dataschema": "https://tollgate.dev/schemas/usage.recorded/1",
        "subject": "c",
        "tenantid": "default",
        "data": {
            "events": 3,
            "charges": 4,
            "amount": "0.005000003",
            "currency": "USD",
            "usage": {"input_tokens": "5", "output_tokens": "2"},
            "consumed": "0.005000003",
            "balance_after": "0.994999997",
            "first_seq": 1,
            "last_seq": 4,
        },
    }
    assert {sent["id"] for sent in found[:3]} == {"0-4-usage", "0-4-billing", "0-4-wallet"}
    assert found[-1]["data"]["balance_after"] is None


def test_a_transaction_without_charges_is_silent() -> None:
    """Dead letters, duplicates and payments are told of by others, or not at all."""
    made = MemoryPartition()
    made.account(granted(0, "1"))
    made.usage(b"{", tokens(1, 0, 0))
    assert told(made) == []


def test_quantities_beyond_64_bits_are_told_whole() -> None:
    """A quantity that the record holds as text is a number like the others."""
    made = MemoryPartition()
    made.usage(reported(1, 10**15, "seats"), reported(2, 10**15, "seats"))
    assert told(made)[0]["data"]["usage"] == {"seats": "2000000000000000"}


def test_a_wallet_that_falls_below_zero_is_told_of_once() -> None:
    """By the charge that took it there; again only after it had been filled."""
    made = MemoryPartition()
    made.account(granted(0, "0.002"))
    made.usage(tokens(1, 2), tokens(2, 1), tokens(3, 1))
    made.account(granted(4, "0.005"))
    made.usage(tokens(5, 9))
    found = [
        orjson.loads(message.value or b"")
        for chunk in made.decided
        for message in chunk.messages
        if message.topic == "billing.events"
    ]
    found = [(sent["id"], sent["data"]) for sent in found if sent["type"] == "wallet.insufficient_funds"]
    assert [place for place, _ in found] == ["0-2-0", "0-5-0"]
    assert (found[0][1]["balance"], found[0][1]["currency"]) == ("-0.001", "USD")
