"""An effect's turn: what it writes, tells and sends stands with the entry, or, if it raises, not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

import rating.effects
from rating.turn import Effect, NoEffect, Refused, Turn
from rating.wallet import credit
from schemas.account import PAID, Grant, pack_account
from schemas.documents import ORDER
from schemas.errors import InvalidInput
from schemas.ledger import PostingKind
from tests.fakes.partition import MemoryPartition, event, granted, reported

KIND = "order.created"


def order(number: object = 1, **data: Any) -> Any:
    """An event of the type that the tests give an effect to."""
    return event(number, KIND, {"order_id": "o", **data})


@pytest.fixture
def acting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the type an effect and the document it looks at."""

    def register(effect: Effect) -> MemoryPartition:
        monkeypatch.setitem(rating.effects.EFFECTS, KIND, effect)
        return MemoryPartition()

    return register


def everything(turn: Turn) -> None:
    """All that an effect may do."""
    credit(turn.account, Grant("k", 5, 5, 0, 0, 0, PAID, ()))
    turn.account.currency = "USD"
    turn.post(PostingKind.DEPOSIT, 5, "k")
    turn.put(ORDER, "o", {"state": "made"})
    turn.emit("order.created", {"user_id": "c", "order_id": "o", "status": "created"})
    turn.command("other", "credit.granted", "second-leg", {"credit_id": "s"})
    turn.end_hold("h", "settled", 5)
    turn.claim(b"i" * 16, b"c" * 8)
    turn.charge()


def test_what_an_effect_does_stands_in_one_entry(acting: Any) -> None:
    """Posting, document, hold end and claim are in the entry; the event of ours and the command beside it."""
    partition = acting(everything)
    (decided,) = partition.take([partition.received(order())])
    (row,) = partition.rows()
    assert row["outcome"] == "rated"
    assert [(posting["kind"], posting["balance_after"]) for posting in row["postings"]] == [("deposit", 5)]
    assert row["documents"] == [{"kind": "order", "id": "o", "body": {"customer": "c", "state": "made"}}]
    assert row["hold_ends"] == [{"hold_id": "h", "state": "settled", "charged": 5}]
    assert partition.booked[b"i" * 16] == b"c" * 8
    told, sent = (json.loads(message.value) for message in decided.messages)
    assert [message.topic for message in decided.messages] == ["billing.events", "account.events"]
    assert (told["type"], told["subject"], told["id"], told["data"]["order_id"]) == (
        "order.created",
        "c",
        "0-0-0",
        "o",
    )
    assert (sent["type"], sent["subject"], sent["id"], sent["tenantid"]) == (
        "credit.granted", "other", "second-leg", "default",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (InvalidInput("out_of_range", "no"), "dead_letter", "out_of_range"),
        (Refused("wallet", "not enough"), "ignored", "refused"),
        (NoEffect(), "ignored", "no_effect"),
    ],
)
def test_what_an_effect_did_before_it_raised_is_undone(
    acting: Any, error: Exception, outcome: str, reason: str
) -> None:
    """The account is what it was, and nothing is written, told or sent; what others of the chunk did stands."""

    def failing(turn: Turn) -> None:
        everything(turn)
        raise error

    partition = acting(failing)
    partition.account(granted(1, "1"))
    before = pack_account(partition.of("c"))
    (decided,) = partition.take([partition.received(reported(2)), partition.received(order(3))])
    _, charged, failed = partition.rows()
    assert (failed["outcome"], failed["reason"]) == (outcome, reason)
    assert not failed["postings"] + failed["documents"] + failed["hold_ends"] + failed["charges"]
    assert len(charged["charges"]) == len(charged["postings"]) == 1
    assert not [message for message in decided.messages if message.topic in ("billing.events", "account.events")]
    assert b"i" * 16 not in partition.booked
    assert partition.of("c").balance == 0
    assert pack_account(partition.of("c")) != before
    assert partition.told()[next(iter(partition.told()))] == pack_account(partition.of("c"))


def test_a_refused_command_may_come_again(acting: Any) -> None:
    """It does not use its identity up: told again, it is decided again."""
    answers = iter([Refused("wallet", "not enough"), None])

    def first_refused(turn: Turn) -> None:
        if (answer := next(answers)) is not None:
            raise answer

    partition = acting(first_refused)
    partition.account(order())
    partition.account(order())
    partition.account(order())
    assert [(row["outcome"], row["reason"]) for row in partition.rows()] == [
        ("ignored", "refused"),
        ("rated", ""),
        ("duplicate", "same_identity"),
    ]


def test_a_document_of_the_same_batch_is_found(acting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an event wrote, the next one of its batch reads; after a restart too."""
    monkeypatch.setitem(rating.effects.DOCUMENTS, KIND, lambda event: [(ORDER, "o")])
    seen: list[Any] = []

    def count(turn: Turn) -> None:
        stands = turn.document(ORDER, "o") or {"count": 0}
        seen.append(stands["count"])
        turn.put(ORDER, "o", {"count": stands["count"] + 1})

    partition = acting(count)
    partition.account(order(1), order(2))
    partition.restart()
    partition.account(order(3))
    assert seen == [0, 1, 2]


def test_another_customers_document_is_a_conflict(acting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id is unique in its tenant: the second customer to name it is refused."""
    monkeypatch.setitem(rating.effects.DOCUMENTS, KIND, lambda event: [(ORDER, "o")])

    def write(turn: Turn) -> None:
        turn.document(ORDER, "o")
        turn.put(ORDER, "o", {})

    partition = acting(write)
    rows = partition.account(order(1), order(2, user_id="x") | {"subject": "x"})
    assert [(row["outcome"], row["reason"]) for row in rows] == [("rated", ""), ("dead_letter", "conflict")]


def test_documents_of_one_event_are_bounded(acting: Any) -> None:
    """What would not fit a ledger record is a dead letter."""
    partition = acting(lambda turn: turn.put(ORDER, "o", {"text": "x" * 200_000}))
    (row,) = partition.account(order())
    assert (row["outcome"], row["reason"]) == ("dead_letter", "too_large")
