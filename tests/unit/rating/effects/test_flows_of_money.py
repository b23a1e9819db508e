"""Account events about payments, orders and users: each once, whoever tells of it and in whatever order."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from schemas.commands import CUSTOMER_PUT, ORDER_CREATE, Command
from schemas.documents import decode_body, document_key
from schemas.ledger import CUSTOMER_CLOSED
from tests.fakes.commands import FakeCommands
from tests.fakes.partition import event, granted, paid, refunded, reported

NANOS = 10**9


class World:
    """One partition, with what follows from what it decides."""

    def __init__(self, catalog: str | None = None) -> None:
        self.commands = FakeCommands()
        if catalog is not None:
            self.commands = FakeCommands(type(self.commands.partition)(catalog))
        self.partition = self.commands.partition
        self.seen = 0

    def take(self, *values: dict[str, Any]) -> list[tuple[str, str]]:
        """Outcomes of events, one after the other, without those of what follows from them."""
        ended = []
        for value in values:
            before = len(self.partition.rows())
            self.commands.take(json.dumps(value).encode())
            row = self.partition.rows()[before]
            ended.append((row["outcome"], row["reason"]))
        return ended

    def document(self, kind: str, name: str) -> dict[str, Any]:
        return decode_body(self.partition.documents[document_key("default", kind, name)])

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Our own events since the last time."""
        found = [
            (body["type"], body["data"])
            for chunk in self.partition.decided
            for message in chunk.messages
            if message.topic == "billing.events"
            for body in [json.loads(message.value or b"")]
        ]
        new, self.seen = found[self.seen :], len(found)
        return new

    def types(self) -> list[str]:
        return [name for name, _ in self.told()]

    @property
    def balance(self) -> int:
        return self.partition.of("c").balance


def order(number: object, state: str, **data: Any) -> dict[str, Any]:
    """An order of another service's."""
    return event(number, f"order.{state}", {"order_id": "o", "order_type": "credits", "currency": "USD", **data})


RATED = ("rated", "")
NO_EFFECT = ("ignored", "no_effect")


@pytest.mark.parametrize("told", list(itertools.permutations(range(4))))
def test_an_order_credits_once_in_whatever_order_it_is_told_of(told: tuple[int, ...]) -> None:
    """Created, completed, paid, and paid told twice: the credit is there once, whoever brought it; both are known."""
    world = World()
    events = [
        order(1, "created", total_amount="10", credit_amount="12"),
        order(2, "completed", total_amount="10", credit_amount="12", payment_id="p"),
        paid(3, "10", order_id="o"),
        paid(4, "10", order_id="o"),
    ]
    world.take(*(events[place] for place in told))
    # Whoever pays before anything said what the order brings, brings what was paid.
    assert world.balance == (10 if told[0] in (2, 3) else 12) * NANOS
    assert world.document("order", "o")["status"] == "completed"
    assert world.document("payment", "p")["status"] == "succeeded"
    assert [row["outcome"] for row in world.partition.rows()].count("dead_letter") == 0
    assert sum(len(row["postings"]) for row in world.partition.rows()) == 1


def test_a_refund_of_an_order_that_its_completion_credited_takes_that_back() -> None:
    """Also what it gave on top, once the whole payment is refunded; then the order says so."""
    world = World()
    world.take(order(1, "completed", total_amount="10", credit_amount="12"), paid(2, "10", order_id="o"))
    assert world.balance == 12 * NANOS
    assert world.take(refunded(3, "4", refund="r1"), refunded(4, "6", refund="r2")) == [RATED, RATED]
    assert world.balance == 0
    assert world.document("payment", "p")["status"] == "refunded"
    assert world.document("order", "o")["status"] == "refunded"


def test_no_more_is_refunded_than_was_paid() -> None:
    """In one or in parts; the same refund again is nothing, with another amount a conflict."""
    world = World()
    world.take(paid(1, "10"))
    assert world.take(refunded(2, "11", refund="r")) == [("dead_letter", "refund_too_large")]
    assert world.take(refunded(3, "6", refund="r"), refunded(4, "6", refund="r")) == [RATED, NO_EFFECT]
    assert world.take(refunded(5, "5", refund="r")) == [("dead_letter", "conflict")]
    assert world.take(refunded(6, "5", refund="s")) == [("dead_letter", "refund_too_large")]
    assert (world.balance, world.document("payment", "p")["status"]) == (4 * NANOS, "partially_refunded")


def test_a_second_payment_of_an_order_brings_nothing_and_its_refund_takes_nothing() -> None:
    """It is known all the same."""
    world = World()
    world.take(paid(1, "10", order_id="o"), paid(2, "10", payment="q", order_id="o"))
    assert world.take(refunded(3, "10", payment="q")) == [RATED]
    assert world.balance == 10 * NANOS


def test_a_payment_told_otherwise_is_a_conflict() -> None:
    """And a credit too; the first stands."""
    world = World()
    assert world.take(paid(1, "10"), paid(2, "11")) == [RATED, ("dead_letter", "conflict")]
    assert world.take(granted(3, "1", credit="g"), granted(4, "2", credit="g")) == [RATED, ("dead_letter", "conflict")]
    assert world.balance == 11 * NANOS


@pytest.mark.parametrize(
    ("before", "after", "stands"),
    [
        ("created", "payment_pending", "payment_pending"),
        ("completed", "payment_pending", "completed"),
        ("fulfilled", "completed", "fulfilled"),
        ("expired", "completed", "completed"),
        ("canceled", "expired", "canceled"),
        ("fulfilled", "refunded", "refunded"),
    ],
)
def test_an_orders_state_only_moves_forward(before: str, after: str, stands: str) -> None:
    """What comes late tells nothing new, but for the credit of a completion."""
    world = World()
    first, second = world.take(order(1, before), order(2, after))
    assert first == RATED
    assert second == (RATED if stands != before else NO_EFFECT)
    assert world.document("order", "o")["status"] == stands


def test_an_order_keeps_what_its_sender_put_into_it() -> None:
    """Numbers of any size and precision, nested; told on in our own events too, when it is our order."""
    world = World()
    items = [{"sku": "a", "price": 9.99, "big": 10**30, "none": None, "text": "\u00e9"}]
    assert world.take(order(1, "created", items=items, metadata={"ratio": 0.1})) == [RATED]
    assert world.document("order", "o")["items"] == items
    assert world.take(order(2, "updated", changes={"price": 1.5})) == [RATED]
    assert world.document("order", "o")["items"] == items
    ours = {"order_id": "ours", "order_type": "credits", "total_amount": "3", "currency": "USD", "items": items}
    world.commands.take(Command("default", "c", ORDER_CREATE, "k", ours).encoded())
    assert [data["items"] for name, data in world.told() if name == "order.created"] == [items]


def test_a_payment_that_fails_can_be_tried_again() -> None:
    """Each failure is told; an intent told of again, or after it succeeded, is nothing."""
    world = World()
    intent = {"payment_intent_id": "i", "amount": "5", "currency": "USD"}
    assert world.take(event(1, "payment.intent.created", intent), event(2, "payment.intent.created", intent)) == [
        RATED,
        NO_EFFECT,
    ]
    failed = [event(number, "payment.failed", {**intent, "error": "declined"}) for number in (3, 4)]
    assert world.take(*failed) == [RATED, RATED]
    assert world.types() == ["payment.failed", "payment.failed"]
    assert world.take(paid(5, "5", payment_intent_id="i"), event(6, "payment.failed", intent)) == [RATED, NO_EFFECT]
    assert (world.document("payment", "i")["status"], world.document("payment", "i")["payment_id"]) == (
        "succeeded",
        "p",
    )


def test_a_deleted_user_has_nothing_left_and_is_still_charged() -> None:
    """What was paid goes back, what was given lapses, open orders end with their intents; usage later is debt."""
    world = World()
    world.take(granted(1, "5", kind="promotional"), paid(2, "10"), reported(3, 7))
    create = {"order_id": "later", "order_type": "credits", "total_amount": "3", "currency": "USD"}
    world.commands.take(Command("default", "c", ORDER_CREATE, "k", create).encoded())
    world.told()
    assert world.take(event(4, "user.deleted", {"user_id": "c"})) == [RATED]
    told = world.told()
    assert ("wallet.refunded", "8") in [(name, data.get("amount")) for name, data in told]
    assert "order.canceled" in [name for name, _ in told]
    assert (world.balance, world.partition.of("c").grants) == (0, [])
    assert world.document("order", "later")["status"] == "canceled"
    assert world.document("payment", "pi_later")["status"] == "canceled"
    assert world.take(event(5, "user.deleted", {"user_id": "c"})) == [NO_EFFECT]
    (row,) = world.partition.usage(reported(6, 2, time="2026-11-02T00:00:00Z"))
    assert row["flags"] & CUSTOMER_CLOSED
    assert world.balance == -2 * NANOS
    assert "wallet.insufficient_funds" in world.types()


def test_an_upgrade_holds_from_its_time_on() -> None:
    """Usage of before, however late it comes, keeps the plan it had; the same plan again is nothing."""
    world = World()
    up = {"user_id": "c", "tier": "pro"}
    assert world.take(
        event(1, "user.created", {"user_id": "c", "tier": "free"}),
        event(2, "user.upgraded", up, time="2026-11-05T00:00:00Z"),
        event(3, "user.upgraded", up, time="2026-11-06T00:00:00Z"),
    ) == [RATED, RATED, NO_EFFECT]
    account = world.partition.of("c")
    day = 86_400 * 10**6
    at = account.spans[-1].start
    assert [account.plan_at(at - day), account.plan_at(at), account.plan_at(at + day)] == ["free", "pro", "pro"]


def test_a_wallet_below_its_threshold_asks_for_payment_once_a_cool_off() -> None:
    """Charges and withdrawals alike; a payment that comes in for it deposits."""
    world = World()
    terms = {"fields": {"auto_topup": {"below": "5", "amount": "20", "cool_off": "1h"}}}
    world.commands.take(Command("default", "c", CUSTOMER_PUT, "terms", terms).encoded())
    world.take(paid(1, "10"))
    world.told()
    now = 1_795_000_000_000_000
    for number, (minutes, asks) in enumerate([(0, 0), (1, 1), (2, 0), (62, 1)]):
        world.partition.usage(reported(f"u{number}", 3), received_at=now + minutes * 60 * 10**6)
        told = [data for name, data in world.told() if name == "payment.intent.created"]
        assert len(told) == asks, minutes
        for data in told:
            assert (data["amount"], data["reason"]) == ("20", "auto_topup")
            assert world.document("payment", data["payment_intent_id"])["status"] == "pending"


def test_the_wallet_comes_into_being_once() -> None:
    """With whatever touches it first."""
    world = World()
    world.take(event(1, "user.created", {"user_id": "c"}), granted(2), paid(3), order(4, "created"))
    assert world.types().count("wallet.created") == 1


PLANS = """
currency: USD
meters:
  - {id: chats, event_type: usage.reported, aggregation: sum}
prices:
  - {id: chat, meter: chats, model: per_unit, unit_amount: "1"}
plans:
  - {id: pro, interval: month, amount: "20"}
"""


def test_an_order_of_a_plan_is_fulfilled_by_its_subscription() -> None:
    """Paid, it subscribes; the wallet has the payment and gives it for the first fee."""
    world = World(PLANS)
    create = {
        "order_id": "plan",
        "order_type": "subscription",
        "plan_id": "pro",
        "total_amount": "20",
        "currency": "USD",
    }
    world.commands.take(Command("default", "c", ORDER_CREATE, "k", create).encoded())
    assert world.take(paid(1, "20", payment_intent_id="pi_plan")) == [RATED]
    assert world.document("order", "plan")["status"] == "fulfilled"
    assert world.document("subscription", "sub_plan")["status"] == "active"
    assert world.balance == 0
    wrong = {**create, "order_id": "other", "plan_id": "none"}
    world.commands.take(Command("default", "c", ORDER_CREATE, "l", wrong).encoded())
    assert world.document("operation", "l")["reason"] == "unknown_plan"
