"""Laws of deciding: whatever comes, in whatever pieces, through whatever restarts.

An oracle of plain dicts follows each account by itself. Events are drawn so that repeats, conflicts, expiries, refusals
and prices that depend on the period meet often.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rating.received import Received
from schemas.account import unpack_account
from schemas.ledger import ACCOUNT, USAGE
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.outcome import REASONS
from tests.fakes.partition import NOW, MemoryPartition, event, granted, paid, refunded, released, reported, tokens

DAY = 86_400 * 10**6

numbers = st.integers(0, 12)
customers = st.sampled_from(["c", "d"])
times = st.sampled_from(["2026-11-01T00:00:00Z", "2026-10-05T00:00:00Z"])
amounts = st.sampled_from(["0.001", "0.5", "1.000000001", "3", "9223372036.854775807", "0"])


@st.composite
def events(draw: st.DrawFn) -> tuple[int, Any]:
    """A topic and an event; few ids, so that the same one comes again, the same or otherwise."""
    number, who, time = draw(numbers), draw(customers), draw(times)
    kind = draw(st.sampled_from(["tokens", "chats", "tiers", "released", "granted", "paid", "refunded", "user", "bad"]))
    if kind == "tokens":
        thought = draw(st.sampled_from([0, 0, 0, 1, 9 * 10**9]))
        model = draw(st.sampled_from(["m", "other"]))
        return USAGE, tokens(
            number,
            draw(st.sampled_from([0, 1, 700, 9 * 10**12])),
            draw(numbers),
            model=model,
            thought=thought,
            subject=who,
            time=time,
        )
    if kind in ("chats", "tiers"):
        quantity = draw(st.sampled_from([0, 1, 0.000000001, 7.25, 10**9, 10**15]))
        return USAGE, reported(f"r{number}", quantity, kind, subject=who, time=time)
    if kind == "released":
        return USAGE, released(f"d{number}", f"a{draw(st.integers(0, 2))}", draw(st.integers(1, 2)), subject=who)
    if kind == "granted":
        expires = {"expires_at": draw(st.sampled_from(["2026-11-18T12:00:00Z", "2026-11-20T00:00:00Z"]))}
        scope = draw(st.sampled_from([{}, {"scope": ["chats"]}, {"scope": ["input_tokens", "tiers"]}]))
        more = draw(st.sampled_from([{}, expires])) | scope
        return ACCOUNT, granted(f"g{number}", draw(amounts), priority=draw(st.integers(-1, 1)), subject=who, **more) | {
            "time": time
        }
    if kind == "paid":
        return ACCOUNT, paid(f"p{number}", draw(amounts), payment=f"pay{draw(st.integers(0, 3))}") | {"subject": who}
    if kind == "refunded":
        refund = refunded(f"f{number}", draw(amounts), payment=f"pay{draw(st.integers(0, 3))}", refund=f"r{number}")
        return ACCOUNT, refund | {"subject": who}
    if kind == "user":
        return ACCOUNT, event(f"u{number}", "user.created", {"user_id": who, "tier": "free"}, subject=who)
    return USAGE, draw(st.sampled_from([b"", b"{", b"\xff", b"[]", b'{"id": "x"}']))


@st.composite
def histories(draw: st.DrawFn) -> list[Received]:
    """Records of both inputs in the order they met, received over a few days."""
    partition, now = MemoryPartition(None), NOW
    made = []
    for topic, value in draw(st.lists(events(), min_size=1, max_size=30)):
        now += draw(st.sampled_from([0, 0, 1, DAY // 2]))
        made.append(partition.received(value, topic, now))
    return made


def decided(
    history: list[Received], cuts: list[int], *, restarts: bool = False, singly: bool = False
) -> MemoryPartition:
    """The history in batches that end at the cuts."""
    partition = MemoryPartition()
    ends = sorted({cut % (len(history) + 1) for cut in cuts} | {len(history)})
    start = 0
    for end in ends:
        if end > start:
            partition.take(history[start:end], singly=singly)
        if restarts:
            partition.restart()
        start = end
    return partition


cuts = st.lists(st.integers(0, 30), max_size=6)


@given(histories())
def test_deciding_again_from_the_same_standing_gives_the_same_bytes(history: list[Received]) -> None:
    """No clock, no hash order, no float: the ledger records are byte for byte the same."""
    first, again = decided(history, []), decided(history, [])
    assert [chunk.encoded for chunk in first.decided] == [chunk.encoded for chunk in again.decided]
    assert [chunk.messages for chunk in first.decided] == [chunk.messages for chunk in again.decided]


@given(histories(), cuts)
def test_how_a_history_is_cut_into_batches_changes_no_entry_and_no_account(
    history: list[Received], cuts: list[int]
) -> None:
    """Outcomes, charges, postings, balances and counters are those of one batch, through restarts as well, and record
    by record."""
    whole = decided(history, [])
    for other in (
        decided(history, cuts),
        decided(history, cuts, restarts=True),
        decided(history, cuts, singly=True),
    ):
        assert other.rows() == whole.rows()
        assert other.told() == whole.told()


@given(histories(), cuts)
def test_every_record_has_exactly_one_entry_in_its_order(history: list[Received], cuts: list[int]) -> None:
    """seq is dense, outcomes are four, a reason stands where it is not rated and is a known one."""
    rows = decided(history, cuts, restarts=True).rows()
    assert [row["seq"] for row in rows] == list(range(len(history)))
    assert [(row["topic"] == "account.events", row["offset"]) for row in rows] == [
        (record.input == ACCOUNT, record.offset) for record in history
    ]
    for row in rows:
        assert (row["outcome"] == "rated") == (row["reason"] == "")
        assert not row["reason"] or row["reason"] in REASONS


@given(histories(), cuts)
def test_a_balance_is_the_sum_of_its_postings_at_every_entry(history: list[Received], cuts: list[int]) -> None:
    """And of what its credits have left, less its debt; a charge's posting is the sum of its charges; what a posting
    burnt is never more than it took, or of what it brought."""
    partition = decided(history, cuts, restarts=True)
    sums: defaultdict[str, int] = defaultdict(int)
    for row in partition.rows():
        for posting in row["postings"]:
            sums[row["customer"]] += posting["amount"]
            assert posting["balance_after"] == sums[row["customer"]]
            burnt = sum(amount for _, amount in posting["burnt"])
            assert 0 <= burnt <= abs(posting["amount"])
            if posting["amount"] > 0:
                assert all(name == posting["cause"] for name, _ in posting["burnt"])
        taken = sum(posting["amount"] for posting in row["postings"] if posting["kind"] == "charge")
        assert taken == -sum(charge["amount"] for charge in row["charges"])
    for packed in partition.told().values():
        account = unpack_account(packed)
        assert account.balance == sums[account.customer]
        assert abs(account.balance) <= AMOUNT_MAX_NANOS
        left = sum(grant.remaining for grant in account.grants)
        assert all(0 < grant.remaining <= grant.amount for grant in account.grants)
        assert account.grants == sorted(account.grants, key=lambda grant: grant.burn_order())
        # Debt is what no credit paid: without one of a scope left, a wallet has either credits or debt.
        if not any(grant.scope for grant in account.grants):
            assert account.balance == left or not left


@given(histories(), cuts)
def test_credits_are_granted_burnt_expired_and_taken_back_to_the_nano(history: list[Received], cuts: list[int]) -> None:
    """For each credit: what came in, less what postings burnt of it, debt that it paid included, is what is left."""
    partition = decided(history, cuts)
    entered: defaultdict[tuple[str, str], int] = defaultdict(int)
    gone: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in partition.rows():
        for posting in row["postings"]:
            if posting["kind"] in ("grant", "deposit"):
                entered[row["customer"], posting["cause"]] += posting["amount"]
            for credit_id, amount in posting["burnt"]:
                gone[row["customer"], credit_id] += amount
    left: defaultdict[tuple[str, str], int] = defaultdict(int)
    for packed in partition.told().values():
        account = unpack_account(packed)
        for grant in account.grants:
            left[account.customer, grant.credit_id] += grant.remaining
    for credit, amount in entered.items():
        assert gone[credit] + left[credit] == amount
    assert gone.keys() | left.keys() <= entered.keys()


@given(histories())
def test_repeating_a_whole_history_moves_nothing(history: list[Received]) -> None:
    """Every record again, later and after a restart: what was booked is a duplicate, what moves money did so once."""
    partition = decided(history, [])
    before = partition.told()
    balances = {key: unpack_account(packed).balance for key, packed in before.items()}
    partition.restart()
    entries = len(partition.rows())
    again = [partition.received(record.value, record.input, record.received_at) for record in history]
    partition.take(again)
    for first, second in zip(partition.rows()[:entries], partition.rows()[entries:], strict=True):
        if first["outcome"] in ("rated", "duplicate"):
            assert second["outcome"] == "duplicate"
            assert second["charges"] == []
            assert second["postings"] == []
        elif first["outcome"] == "ignored":
            assert second["outcome"] == "duplicate"
    retried = sum(
        posting["amount"]
        for row in partition.rows()[entries:]
        if row["outcome"] != "duplicate"
        for posting in row["postings"]
    )
    after = {key: unpack_account(packed).balance for key, packed in partition.told().items()}
    assert sum(after.values()) - sum(balances.values()) == retried


@settings(max_examples=30)
@given(st.lists(st.tuples(customers, st.integers(0, 10**10)), min_size=1, max_size=30), st.randoms())
def test_a_periods_charges_sum_to_its_rounded_total_in_any_order(usage: list[tuple[str, int]], chance: Any) -> None:
    """Of prices that depend on the period: the sum by customer is a function of the quantity alone."""

    def total(order: list[tuple[str, int]]) -> dict[str, int]:
        partition = MemoryPartition()
        values = [
            reported(number, f"{nanos // 10**9}.{nanos % 10**9:09d}", "tiers", subject=who)
            for number, (who, nanos) in enumerate(order)
        ]
        rows = partition.usage(*(as_number(value) for value in values))
        summed: defaultdict[str, int] = defaultdict(int)
        for row in rows:
            summed[row["customer"]] += sum(charge["amount"] for charge in row["charges"])
        return dict(summed)

    shuffled = list(usage)
    chance.shuffle(shuffled)
    assert total(usage) == total(shuffled)


def as_number(value: dict[str, Any]) -> bytes:
    """The event with its quantity as a JSON number of nine decimals, which no float has a say in."""
    quantity = value["data"]["quantity"]
    return json.dumps(value).replace(f'"{quantity}"', quantity).encode()


@given(histories())
def test_the_values_after_are_the_state(history: list[Received]) -> None:
    """What the ledger tells of an account is what the lane has in memory: nothing changes it in silence."""
    partition = decided(history, [3, 9, 17])
    told = {key: unpack_account(packed) for key, packed in partition.told().items()}
    for key, account in partition.accounts.items():
        if key in told:
            assert told[key] == account
        else:
            assert (account.balance, account.grants, account.counters, account.currency, account.plan) == (
                0,
                [],
                {},
                "",
                "",
            )
