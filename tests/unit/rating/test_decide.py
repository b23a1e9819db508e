"""What a record comes to: one outcome, one reason, its charges and postings, and nothing where it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.ledger import ACCOUNT, BELOW_ZERO, HOLD_NOT_OPEN, LATE
from schemas.limits import ACCOUNT_MAX_BYTES, AMOUNT_MAX_NANOS
from schemas.outcome import REASONS
from tests.fakes.partition import (
    CATALOG,
    NOW,
    MemoryPartition,
    event,
    granted,
    paid,
    refunded,
    released,
    reported,
    rows_of,
    tokens,
)

NANOS = 10**9


def became(row: dict[str, Any]) -> tuple[str, str]:
    return row["outcome"], row["reason"]


def moved(rows: list[dict[str, Any]]) -> int:
    return sum(posting["amount"] for row in rows for posting in row["postings"])


RATED = ("rated", "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (tokens(1), RATED),
        (reported(1), RATED),
        (released(1), RATED),
        (event(1, "rocket.launched", {"thrust": 3}), RATED),
        (event(1, "product.usage_recorded", {"product_id": "chats"}), RATED),
        (
            event(1, "device.allocated", {**released(1)["data"], "released_at": "x"}),
            RATED,
        ),
        (tokens(1, 0, 0), ("ignored", "zero")),
        (
            event(
                1,
                "session.ended",
                {"session_id": "s", "started_at": "2026-11-01T00:00:00Z", "ended_at": "2026-11-01T00:00:01Z"},
            ),
            ("ignored", "no_meter"),
        ),
        (event(1, "order.updated", {"order_id": "o"}), ("ignored", "no_effect")),
        (event(1, "user.created", {"user_id": "c"}), RATED),
        (granted(1), RATED),
        (paid(1), RATED),
        (refunded(1), ("dead_letter", "unknown_payment")),
        (None, ("dead_letter", "empty")),
        (b"", ("dead_letter", "empty")),
        (b"{", ("dead_letter", "not_json")),
        (tokens(1, thought=1, model="other"), ("dead_letter", "no_price")),
        (tokens(1, time="2099-01-01T00:00:00Z"), ("dead_letter", "future")),
        (tokens(1, subject=None), ("dead_letter", "no_customer")),
        (reported(1, meter="unheard-of"), ("dead_letter", "no_meter")),
        (event(1, "rocket.landed", {}), ("dead_letter", "unknown_type")),
        (event(1, "rocket.launched", {}), ("dead_letter", "missing_field")),
        (event(1, "rocket.launched", {"thrust": "much"}), ("dead_letter", "wrong_type")),
        (
            event(1, "device.heartbeat", {"allocation_id": "a", "until": "2026-11-01T00:00:00Z"}),
            ("dead_letter", "unknown_allocation"),
        ),
        (reported(1, 10**15), ("dead_letter", "amount_overflow")),
    ],
)
def test_a_record_has_one_outcome_with_its_reason(value: Any, expected: tuple[str, str]) -> None:
    """Every kind of record ends in one entry, whose reason is one of the closed set; a dead letter is sent on whole."""
    partition = MemoryPartition()
    (row,) = partition.usage(value)
    assert became(row) == expected
    assert not expected[1] or expected[1] in REASONS
    messages = [message for message in partition.decided[0].messages if message.topic != "billing.events"]
    assert len(messages) == (expected[0] == "dead_letter")
    for message in messages:
        headers = {header: text.decode() for header, text in message.headers}
        assert (message.topic, message.partition) == ("usage.dlq", 0)
        assert (headers["reason"], headers["offset"], headers["seq"]) == (expected[1], "0", "0")
        assert headers["detail"]


def test_a_charge_names_what_it_was_made_of() -> None:
    """A charge says meter, quantity, price, version, dimensions and amount; zero quantities are no charge."""
    partition = MemoryPartition()
    (row,) = partition.usage(tokens(1, 3, 1, hold_id="h"))
    assert row["charges"] == [
        {
            "charge_id": "0-0-0",
            "meter": "input_tokens",
            "price_id": "input",
            "catalog_version": 1,
            "unit_amount": "0.001",
            "currency": "USD",
            "dimensions": {"model": "m"},
            "quantity": 3 * NANOS,
            "quantity_before": 0,
            "counters_before": [0],
            "amount": 3_000_000,
        },
        {
            "charge_id": "0-0-1",
            "meter": "output_tokens",
            "price_id": "output",
            "catalog_version": 1,
            "unit_amount": "0.0000000015",
            "currency": "USD",
            "dimensions": {},
            "quantity": NANOS,
            "quantity_before": 0,
            "counters_before": [0],
            "amount": 2,
        },
    ]
    assert [posting["amount"] for posting in row["postings"]] == [-3_000_002]
    assert partition.of("c").balance == -3_000_002


def test_a_meter_without_prices_only_counts() -> None:
    """A meter without any price is a charge of 0 under no price, and moves no money."""
    partition = MemoryPartition()
    (row,) = partition.usage(reported(1, 5, "seats"))
    assert became(row) == RATED
    assert [(charge["price_id"], charge["quantity"], charge["amount"]) for charge in row["charges"]] == [
        ("", 5 * NANOS, 0)
    ]
    assert row["postings"] == []


def test_the_same_event_counts_once_however_it_is_spelled_and_whenever_it_comes() -> None:
    """Repeats in the same batch, in a later one and after a restart are duplicates; nothing moves again."""
    partition = MemoryPartition()
    first, second = partition.usage(tokens(1), tokens(1))
    assert (became(first), became(second)) == (RATED, ("duplicate", "same_identity"))
    respelled = tokens(1)
    respelled["data"]["cached_input_tokens"] = None
    respelled["data"]["input_tokens"] = 1.0
    assert became(partition.usage(dict(reversed(respelled.items())))[0]) == ("duplicate", "same_identity")
    partition.restart()
    assert became(partition.usage(tokens(1))[0]) == ("duplicate", "same_identity")
    assert partition.of("c").balance == -1_000_000


@pytest.mark.parametrize("changes", [{"time": "2025-01-01T00:00:00Z"}, {"note": "x"}, {"tenantid": "default", "x": 1}])
def test_the_same_identity_with_other_content_is_a_conflict(changes: dict[str, Any]) -> None:
    """The first stands, the other is a dead letter, in the same batch and after a restart, and uses nothing up."""
    partition = MemoryPartition()
    first, other = partition.usage(tokens(1), tokens(1, **changes))
    assert (became(first), became(other)) == (RATED, ("dead_letter", "conflict"))
    partition.restart()
    assert became(partition.usage(tokens(1, **changes))[0]) == ("dead_letter", "conflict")
    assert became(partition.usage(tokens(1))[0]) == ("duplicate", "same_identity")


def test_an_identity_belongs_to_its_tenant_and_source() -> None:
    """The same id of another tenant or source is another event, on another account where the tenant differs."""
    partition = MemoryPartition()
    found = partition.usage(tokens(1), tokens(1, tenantid="other"), tokens(1, source="other"))
    assert [became(row) for row in found] == [RATED] * 3
    assert partition.of("c").balance == -2_000_000
    assert partition.of("c", "other").balance == -1_000_000


def test_a_dead_letter_does_not_use_its_identity_up() -> None:
    """The same identity, mended, is rated."""
    partition = MemoryPartition()
    assert became(partition.usage(tokens(1, thought=1, model="other"))[0]) == ("dead_letter", "no_price")
    assert became(partition.usage(tokens(1))[0]) == RATED


def test_an_ignored_event_uses_its_identity_up() -> None:
    """All zero, sent again with other counts, is a conflict."""
    partition = MemoryPartition()
    assert became(partition.usage(tokens(1, 0, 0))[0]) == ("ignored", "zero")
    assert became(partition.usage(tokens(1, 0, 0))[0]) == ("duplicate", "same_identity")
    assert became(partition.usage(tokens(1, 5, 0))[0]) == ("dead_letter", "conflict")


def test_an_allocation_is_released_once() -> None:
    """A second release under another id is a duplicate with equal times, however written, else a conflict."""
    partition = MemoryPartition()
    same = released(2)
    same["data"]["released_at"] = "2026-11-01T01:01:00+01:00"
    found = partition.usage(released(1), same, released(3, seconds=61), released(4, "another"))
    assert [became(row) for row in found] == [
        RATED,
        ("duplicate", "same_allocation"),
        ("dead_letter", "conflict"),
        RATED,
    ]
    partition.restart()
    assert became(partition.usage(released(5))[0]) == ("duplicate", "same_allocation")
    assert became(partition.usage(released(6, seconds=59))[0]) == ("dead_letter", "conflict")
    assert partition.of("c").balance == -2 * 60 * NANOS // 100


def test_a_customer_of_another_partition_is_sent_home() -> None:
    """Its record is ignored here, whatever it says, sent on as it came, and its identity is not used up here."""
    partition = MemoryPartition(partition=0, partitions=2)
    stray = next(name for name in map(str, range(100)) if partition_home(name) == 1)
    (row,) = partition.usage(tokens(1, subject=stray))
    assert became(row) == ("ignored", "rerouted")
    (message,) = partition.decided[0].messages
    assert (message.topic, message.partition, message.key) == ("usage.events", 1, b"key")
    assert partition.booked == {}
    assert partition.told() == {}
    home = MemoryPartition(partition=1, partitions=2)
    assert became(home.usage(message.value)[0]) == RATED


def partition_home(customer: str) -> int:
    from aiokafka.partitioner import murmur2

    return int(murmur2(customer.encode()) & 0x7FFFFFFF) % 2


REFUSALS = {
    "no price on its third meter": (tokens("x", 5, 5, thought=7, model="other"), "no_price"),
    "a charge beyond 63 bit": (reported("x", 10**15), "amount_overflow"),
    "two charges that are so together": (tokens("x", 9 * 10**12, 0, thought=9 * 10**9), "amount_overflow"),
}


@pytest.mark.parametrize(("value", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_event_leaves_nothing_behind(value: Any, reason: str) -> None:
    """Neither account nor columns nor a later decision differ from what they are without it."""
    with_it, without = MemoryPartition(), MemoryPartition()
    before, refused, after = with_it.usage(tokens(1, subject="d"), value, tokens(2))
    assert became(refused) == ("dead_letter", reason)
    assert refused["charges"] == refused["postings"] == []
    undisturbed = without.usage(tokens(1, subject="d"), tokens(2))
    assert [row["charges"][0]["amount"] for row in (before, after)] == [
        row["charges"][0]["amount"] for row in undisturbed
    ]
    assert with_it.told() == without.told()


def test_a_refused_first_charge_does_not_settle_the_currency() -> None:
    """An account that was only refused has no currency yet, whoever remembers it."""
    partition = MemoryPartition()
    (row,) = partition.usage(tokens(1, 9 * 10**12, 0, thought=9 * 10**9))
    assert became(row) == ("dead_letter", "amount_overflow")
    assert partition.of("c").currency == ""
    assert became(partition.account(granted(2, "1", currency="EUR"))[0]) == RATED


def test_an_account_has_one_currency() -> None:
    """Money and charges of another currency are dead letters and leave it as it is."""
    partition = MemoryPartition()
    partition.account(granted(1, "5"))
    assert became(partition.account(granted(2, "5", currency="EUR"))[0]) == ("dead_letter", "currency_mismatch")
    assert became(partition.account(paid(3, "5", currency="EUR"))[0]) == ("dead_letter", "currency_mismatch")
    assert partition.of("c").balance == 5 * NANOS
    other = MemoryPartition()
    other.account(granted(1, "5", currency="EUR"))
    (row,) = other.usage(tokens(2))
    assert became(row) == ("dead_letter", "currency_mismatch")
    assert row["charges"] == []
    assert other.of("c").balance == 5 * NANOS


@pytest.mark.parametrize("edge", [2**53, 2**63 - 1])
def test_balances_are_exact_at_the_edges_of_doubles_and_of_64_bit(edge: int) -> None:
    """At 2^53 nanos and at 2^63 - 1 one nano more or less is one nano; one beyond 2^63 - 1 is refused."""
    partition = MemoryPartition()
    text = f"{edge // NANOS}.{edge % NANOS:09d}"
    partition.account(granted(1, text))
    assert partition.of("c").balance == edge
    (above,) = partition.account(granted(2, "0.000000001"))
    if edge == AMOUNT_MAX_NANOS:
        assert became(above) == ("dead_letter", "amount_overflow")
        assert partition.of("c").balance == edge
    else:
        assert partition.of("c").balance == edge + 1
        partition.usage(tokens(3, 0, 1))
        assert partition.of("c").balance == edge - 1
    partition.restart()
    partition.usage(tokens(4, 0, 1))
    assert partition.of("c").balance == (edge - 2 if edge == AMOUNT_MAX_NANOS else edge - 3)


def test_a_charge_that_the_ledger_cannot_hold_is_refused_also_where_the_balance_could() -> None:
    """Two charges above 2^63 - 1 together are refused for a wallet that could pay them."""
    partition = MemoryPartition()
    partition.account(granted(1, "9223372036.854775807"))
    (row,) = partition.usage(tokens(2, 10**12, 0, thought=8_900_000_000))
    assert became(row) == ("dead_letter", "amount_overflow")
    assert partition.of("c").balance == AMOUNT_MAX_NANOS


def test_debt_stays_within_bounds_when_a_scoped_credit_expires() -> None:
    """No charge makes a debt that an expiry would take beyond 2^63 - 1: the expiry is always booked."""
    partition = MemoryPartition()
    partition.account(granted(1, "9000000000", scope=["seats"], expires_at="2026-12-01T00:00:00Z"))
    found = [became(partition.usage(reported(number, 5_000_000_000))[0]) for number in (2, 3)]
    assert found == [RATED, ("dead_letter", "amount_overflow")]
    late = NOW + 30 * 86_400 * 10**6
    (row,) = partition.usage(reported(4, 1), received_at=late)
    assert [posting["kind"] for posting in row["postings"]] == ["expiry", "charge"]
    assert partition.of("c").balance == -5_000_000_001 * NANOS


def test_expiry_is_booked_with_the_next_event_even_if_that_is_refused() -> None:
    """What expired when Kafka received an event leaves the wallet before it, and stays out if the event is refused."""
    partition = MemoryPartition()
    partition.account(granted(1, "5", expires_at="2026-11-19T00:00:00Z"))
    late = NOW + 3 * 86_400 * 10**6
    (row,) = partition.usage(tokens(2, thought=1, model="other"), received_at=late)
    assert became(row) == ("dead_letter", "no_price")
    assert [(posting["kind"], posting["amount"], posting["cause"]) for posting in row["postings"]] == [
        ("expiry", -5 * NANOS, "credit-1")
    ]
    assert partition.of("c").balance == 0
    partition.restart()
    assert partition.of("c").balance == 0


def test_a_payment_credits_once_by_payment_and_by_order() -> None:
    """The same payment under another event has no effect; another of the same order is known, and credits nothing."""
    partition = MemoryPartition()
    found = partition.account(
        paid(1, "3", payment="p1", order_id="o"),
        paid(2, "3", payment="p1"),
        paid(3, "3", payment="p2", order_id="o"),
        paid(4, "3", payment="p3"),
    )
    assert [became(row) for row in found] == [RATED, ("ignored", "no_effect"), RATED, RATED]
    assert found[2]["postings"] == []
    assert partition.of("c").balance == 6 * NANOS
    partition.restart()
    assert became(partition.account(paid(5, "3", payment="p3"))[0]) == ("ignored", "no_effect")


def test_a_refund_takes_back_once_what_a_payment_brought() -> None:
    """A refund of a known payment is a negative posting, its repetition under another event has no effect."""
    partition = MemoryPartition()
    partition.account(paid(1, "3"))
    assert became(partition.account(refunded(2, "2"))[0]) == RATED
    assert became(partition.account(refunded(3, "2"))[0]) == ("ignored", "no_effect")
    assert became(partition.account(refunded(4, "2", payment="never", refund="s"))[0]) == (
        "dead_letter",
        "unknown_payment",
    )
    assert partition.of("c").balance == NANOS


def test_a_payment_of_an_invoice_that_is_not_known_waits_as_a_dead_letter() -> None:
    """It is nobody's wallet's, and does not vanish; whatever comes for it is not refunded either, and it can be told
    again."""
    partition = MemoryPartition()
    for _ in range(2):
        (row,) = partition.account(paid(1, "3", invoice_id="i"))
        assert (became(row), row["postings"]) == (("dead_letter", "unknown_invoice"), [])
    assert became(partition.account(refunded(2, "3"))[0]) == ("dead_letter", "unknown_payment")
    assert partition.of("c").balance == 0
    assert became(partition.account(paid(3, "3"))[0]) == RATED


def test_flags_tell_what_is_worth_a_second_look() -> None:
    """Late, below zero, and a hold that was not open are flagged; upstream cost is kept and not charged."""
    partition = MemoryPartition()
    partition.account(granted(1, "0.001"))
    plain = tokens(2)
    late = tokens(3, time="2026-10-31T23:59:59Z")
    late["data"] |= {"hold_id": "h", "cost_usd": "0.12"}
    first, second = partition.usage(plain, late)
    assert (first["flags"], second["flags"]) == (0, LATE | BELOW_ZERO | HOLD_NOT_OPEN)
    assert (second["hold_id"], second["upstream_cost"]) == ("h", "0.120000000")
    assert [charge["meter"] for charge in second["charges"]] == ["input_tokens"]


def test_a_period_price_counts_from_where_its_month_stands() -> None:
    """Charges of a month sum to the rounded total of its quantity; another month counts anew."""
    partition = MemoryPartition()
    quantities = [1, 3, 7.5, 2, 0.000000001]
    found = partition.usage(*(reported(number, quantity, "tiers") for number, quantity in enumerate(quantities)))
    amounts = [row["charges"][0]["amount"] for row in found]
    # 10 units at 1.5 nanos, 5 once, and 3.500000001 units at 333,333,333.3 nanos: 1,166,666,666.88...
    assert sum(amounts) == 15 + 5 * NANOS + 1_166_666_667
    assert [row["charges"][0]["quantity_before"] for row in found] == [
        0,
        NANOS,
        4 * NANOS,
        11_500_000_000,
        13_500_000_000,
    ]
    (row,) = partition.usage(reported("later", 1, "tiers", time="2026-10-01T00:00:00Z"))
    assert (row["charges"][0]["quantity_before"], row["charges"][0]["amount"]) == (0, 2)


def test_an_account_grows_no_further_than_its_bound() -> None:
    """Credits and counters beyond the bound are dead letters; the account stays readable and goes on being charged."""
    partition = MemoryPartition(CATALOG.replace("id: tier\n", f"id: {'t' * 190}\n"))
    scope = [f"{number:03d}-{'x' * 190}" for number in range(ACCOUNT_MAX_BYTES * 3 // 5 // 200)]
    found = [became(partition.account(granted(number, "1", scope=scope))[0]) for number in range(3)]
    assert found == [RATED, ("dead_letter", "out_of_range"), ("dead_letter", "out_of_range")]
    months = [f"{1970 + number // 12}-{number % 12 + 1:02d}-01T00:00:00Z" for number in range(672)]
    outcomes = [became(row) for row in partition.usage(*(reported(month, 1, "tiers", time=month) for month in months))]
    counted = outcomes.count(RATED)
    assert outcomes == [RATED] * counted + [("dead_letter", "out_of_range")] * (672 - counted)
    assert 16 < counted < 672
    assert all(len(packed) <= 2 * ACCOUNT_MAX_BYTES for packed in partition.told().values())
    assert became(partition.usage(reported("again", 1, "tiers", time=months[0]))[0]) == RATED


def test_before_any_catalogue_applies_to_a_tenant_its_events_are_dead_letters() -> None:
    """Without a catalogue nothing can be measured: not to charge silently would lose money."""
    partition = MemoryPartition(None)
    assert became(partition.usage(tokens(1))[0]) == ("dead_letter", "no_meter")
    assert became(partition.usage(event(2, "rocket.launched", {}))[0]) == ("dead_letter", "unknown_type")
    assert became(partition.account(granted(3))[0]) == RATED


def test_both_inputs_decide_the_same_of_an_event() -> None:
    """An event's topic does not matter to what it is; its offset is that of the topic it came by."""
    partition = MemoryPartition()
    mixed = rows_of(
        partition.take([partition.received(granted(1)), partition.received(tokens(2), ACCOUNT)]),
    )
    assert [(row["topic"], row["offset"], became(row)) for row in mixed] == [
        ("usage.events", 0, RATED),
        ("account.events", 0, RATED),
    ]
