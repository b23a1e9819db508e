"""Holds of customers who are at work: their accounts move between any two questions, and no answer may show it.

Who asks computed with an account that was charged since. What it is told is what somebody is told who has just looked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from rating.admission import AmountAsk, Ask, EventAsk, MeterAsk
from rating.quotas import billing_of, count, quota_key
from schemas.account import (
    POSTPAID,
    PREPAID,
    Account,
    Allocation,
    PlanSpan,
    Terms,
    account_key,
    bytes_of_terms,
    counter_key,
    new_account,
    pack_account,
)
from schemas.errors import Unavailable
from schemas.period import SECOND
from streams.accounts.redis import RedisAccounts
from streams.admission.answers import Standing
from streams.admission.client import Admission
from streams.admission.store import HoldStore
from tests.simulation.conftest import Ledger, book_of

NANOS = 10**9
HOUR = 3600 * SECOND
BEGINNING = 1_790_000_000 * SECOND
CATALOGUE = {
    "currency": "USD",
    "meters": [
        {"id": name, "event_type": "usage.reported"} for name in ("plain", "tiered", "chat", "seats", "calls", "steps")
    ]
    + [{"id": "in", "event_type": "session.tokens_used", "quantity": "data.input_tokens"}],
    "prices": [
        {"id": "plain", "meter": "plain", "model": "per_unit", "unit_amount": "0.01"},
        {"id": "in", "meter": "in", "model": "per_unit", "unit_amount": "0.01"},
        {
            "id": "tiered",
            "meter": "tiered",
            "model": "graduated",
            "tiers": [{"up_to": 100, "unit_amount": "0.01"}, {"up_to": None, "unit_amount": "0.02"}],
        },
    ],
    "plans": [
        {
            "id": plan,
            "interval": "month",
            "amount": "1",
            "features": {"devices_open": 2},
            "quotas": [
                {"meter": "chat", "limit": limit, "window": "day", "mode": "hard", "rollover_max": "5"},
                {"meter": "seats", "limit": limit, "window": "lifetime", "mode": "hard"},
                {"meter": "calls", "limit": limit, "window": "session:5h", "mode": "hard"},
                {"meter": "steps", "limit": limit, "window": "sliding:1h", "mode": "hard"},
                {"meter": "plain", "limit": limit, "window": "hour", "mode": "hard", "per": "user"},
                {"meter": "in", "limit": limit, "window": "month", "mode": "soft"},
                {"spend": "30", "window": "day", "mode": "hard"},
            ],
        }
        for plan, limit in (("pro", "50"), ("max", "80"))
    ],
}


@dataclass
class World:
    """A partition, one who asks and may be late, and one who has always just looked."""

    ledger: Ledger
    asking: Admission
    looking: Admission
    redis: Redis
    now: int = BEGINNING

    async def asked(self) -> int:
        """How many script calls there were."""
        stats = await self.redis.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    redis = Redis.from_url(redis_url)
    await redis.flushall()
    ledger = Ledger(RedisAccounts(redis_url))
    await ledger.apply()
    asking, looking = (
        Admission(HoldStore(redis_url, 2.0), 1, book_of(CATALOGUE), now=lambda: made.now, patience_seconds=0.0)
        for _ in range(2)
    )
    made = World(ledger, asking, looking, redis)
    for admission in (asking, looking):
        with suppress(Unavailable):
            await admission.held("t", "c")  # found, and believed after the next beat
    await asyncio.sleep(0.002)
    await ledger.apply()
    yield made
    await redis.aclose()
    await asking.close()
    await looking.close()
    await ledger.accounts.close()


def customer(balance: int, plan: str = "pro") -> Account:
    account = new_account("t", "c")
    account.balance, account.currency, account.plan = balance, "USD", plan
    return account


def use(account: Account, now: int, meter: str | None, quantity: int, user: str | None = None) -> None:
    """Counts usage as the worker does."""
    catalogue = book_of(CATALOGUE).catalogue("t", 10**9, now)
    assert catalogue is not None
    for rule in catalogue.quotas_of(account.plan_at(now), b""):
        scope = "" if rule.per == "customer" else user
        if rule.meter == meter and scope is not None:
            key = quota_key(rule.id, scope)
            state = account.counters.get(key)
            assert not isinstance(state, int)
            account.counters[key] = count(rule, state, now, quantity, *billing_of(account, now))


async def test_what_was_charged_meanwhile_takes_no_second_question(world: World) -> None:
    """The hold is granted beside the account that stands, and what it tells is told of that one."""
    account = customer(100 * NANOS)
    await world.ledger.apply(account)
    ask = Ask(MeterAsk("chat", 3 * NANOS))
    assert isinstance(await world.asking.hold("t", "c", ask), Standing)
    for step in range(1, 4):
        account.balance -= NANOS
        use(account, world.now, "chat", 2 * NANOS)
        use(account, world.now, None, NANOS)
        await world.ledger.apply(account)
        before = await world.asked()
        hold = await world.asking.hold("t", "c", ask)
        assert await world.asked() == before + 1
        assert isinstance(hold, Standing)
        assert hold.available == (100 - step) * NANOS
        left = {quota.meter: quota.remaining for quota in hold.quotas}
        assert left["chat"] == (50 - 3 * (step + 1) - 2 * step) * NANOS
        assert hold.created
    account.balance -= NANOS
    await world.ledger.apply(account)
    before = await world.asked()
    extended = await world.asking.extend("t", hold.hold_id, 600, amount=NANOS)
    assert await world.asked() == before + 2  # how the hold stands, and its extension
    assert isinstance(extended, Standing)
    assert extended.available == 95 * NANOS


@pytest.mark.parametrize(("more", "granted"), [(0, True), (1, False)])
async def test_the_last_nano_is_told_from_none_though_the_account_moved(world: World, more: int, granted: bool) -> None:
    """A wallet and a quota alike: what is left now is granted, one nano more is not."""
    account = customer(100 * NANOS)
    await world.ledger.apply(account)
    await world.asking.hold("t", "c", Ask(AmountAsk(0)))
    account.balance = 7 * NANOS + 3
    await world.ledger.apply(account)
    assert isinstance(await world.asking.hold("t", "c", Ask(AmountAsk(7 * NANOS + 3 + more))), Standing) is granted
    use(account, world.now, "seats", 20 * NANOS + 1)
    await world.ledger.apply(account)
    await world.asking.hold("t", "c", Ask(MeterAsk("seats", 0)))
    use(account, world.now, "seats", 20 * NANOS)
    await world.ledger.apply(account)
    asked = Ask(MeterAsk("seats", 10 * NANOS - 1 + more))
    assert isinstance(await world.asking.hold("t", "c", asked), Standing) is granted


@pytest.mark.parametrize("balance", [2**51, 2**51 + 1, 2**53 + 1, 2**63 - 1])
async def test_money_beyond_doubles_is_compared_exactly_though_the_account_moved(world: World, balance: int) -> None:
    """One nano more than there is is refused, and all of it is granted."""
    account = customer(balance, "")
    await world.ledger.apply(account)
    await world.asking.hold("t", "c", Ask(AmountAsk(0)))
    account.balance -= 1
    await world.ledger.apply(account)
    assert not isinstance(await world.asking.hold("t", "c", Ask(AmountAsk(balance))), Standing)
    account.balance -= 1
    await world.ledger.apply(account)
    assert isinstance(await world.asking.hold("t", "c", Ask(AmountAsk(balance - 2))), Standing)


async def test_a_hold_that_is_known_is_answered_beside_the_account_that_stands(world: World) -> None:
    """Asked for again, open or ended, while the account moves."""
    account = customer(10 * NANOS)
    for state in ("open", "open", "released"):
        account.balance -= 1
        await world.ledger.apply(account)
        hold = await world.asking.hold("t", "c", Ask(AmountAsk(NANOS)), "mine")
        assert isinstance(hold, Standing)
        assert (hold.state, hold.available) == (state, account.balance - (NANOS if state == "open" else 0))
        if state == "open" and not hold.created:
            await world.looking.release("t", "mine")


def test_an_account_of_another_shape_is_not_taken_apart() -> None:
    """Of one that older code has packed, or newer, it is not known where its terms end."""
    account = customer(5)
    account.terms = Terms(POSTPAID, 7, own=b"{}")
    packed = pack_account(account)
    length = bytes_of_terms(account, packed)
    assert length == len(pack_account((account.plan, account.spans, account.terms))) - 1
    assert bytes_of_terms(account, packed + b"\x01") is None
    assert bytes_of_terms(account, packed[:-1]) is None


def move(draw: random.Random, account: Account, now: int) -> None:
    """Something that a worker may do to an account between two questions."""
    kind = draw.randrange(24)
    if kind < 8:
        account.balance -= draw.choice([1, NANOS // 7, 3 * NANOS])
        use(account, now, None, NANOS)
    elif kind < 14:
        meter = draw.choice(["chat", "seats", "calls", "steps", "plain", "in"])
        late = draw.choice([0, 0, 0, HOUR, 26 * HOUR])
        use(account, now - late, meter, draw.choice([1, NANOS, 7 * NANOS]), draw.choice(["u", "v"]))
    elif kind == 14:
        account.balance += draw.randrange(60 * NANOS)
    elif kind == 15:
        account.receivable = max(account.receivable + draw.randrange(-20, 20) * NANOS, 0)
    elif kind == 16:
        credit, overdraft = draw.choice([0, 2**52, 40 * NANOS]), draw.choice([0, 5 * NANOS])
        account.terms = Terms(draw.choice([PREPAID, POSTPAID]), credit, overdraft)
    elif kind == 17:
        account.count(counter_key("tiered", 0), draw.randrange(200) * NANOS)
    elif kind == 18:
        account.closed_at = draw.choice([0, 0, 1])
    elif kind == 19:
        account.spans = [PlanSpan(0, draw.choice(["pro", "max", ""]), "s", 0, 1)]
    elif kind == 20:
        account.allocations = {str(at): Allocation(0, 0, 0, b"{}") for at in range(draw.randrange(4))}
    elif kind == 21:
        account.balance = draw.choice([2**53 + 1, 50 * NANOS, 50 * NANOS, -NANOS])
    elif kind == 22:
        account.counters = {}
    else:
        account.clock = draw.choice([0, 0, now + 30 * HOUR])


@pytest.mark.parametrize("seed", range(6))
async def test_whoever_asks_late_is_told_what_one_is_told_who_has_just_looked(world: World, seed: int) -> None:
    """Whether it is granted, what is available then, and what is left of every quota; however the account moved."""
    print(f"seed {seed}")
    draw = random.Random(seed)
    account = customer(100 * NANOS)
    key = account_key("t", "c")
    seen = {True: 0, False: 0}
    for step in range(400):
        world.now += draw.choice([0, 0, SECOND, 20 * 60 * SECOND, 3 * HOUR])
        for _ in range(draw.randrange(3)):
            move(draw, account, world.now)
        await world.ledger.apply(account)
        assert (await world.redis.get(f"{{0}}:a:{key}")) == pack_account(account)
        meter = draw.choice(["plain", "tiered", "chat", "seats", "calls", "steps", "devices_open"])
        quantity = draw.choice([0, 1, 3 * NANOS, draw.randrange(30) * NANOS])
        wish = draw.choice(
            [
                MeterAsk(meter, quantity),
                AmountAsk(quantity),
                EventAsk("session.tokens_used", {"model": "m", "input_tokens": draw.randrange(40)}),
            ]
        )
        ask = Ask(wish, draw.choice([None, "u", "v"]))
        expected = await world.looking.check("t", "c", ask)
        answer = await world.asking.hold("t", "c", ask, f"h{step}")
        assert isinstance(answer, Standing) is expected.allowed, (step, ask, expected, answer)
        seen[expected.allowed] += 1
        if not isinstance(answer, Standing):
            assert (answer.reason, answer.available) == (expected.reason, expected.available)
            continue
        after = await world.looking.check("t", "c", ask)
        assert answer.available == after.available == (expected.available or 0) - answer.amount
        assert answer.quotas == after.quotas
        move(draw, account, world.now)
        await world.ledger.apply(account)
        more = draw.choice([0, 1, draw.randrange(40) * NANOS])
        expected = await world.looking.check("t", "c", Ask(AmountAsk(more), ask.user))
        extended = await world.asking.extend("t", answer.hold_id, 600, amount=more)
        assert isinstance(extended, Standing) is expected.allowed, (step, more, expected, extended)
        if isinstance(extended, Standing):
            assert (extended.state, extended.amount) == ("open", answer.amount + more)
            assert extended.available == (expected.available or 0) - more
        if draw.random() < 0.7:
            await world.asking.release("t", answer.hold_id)
    assert min(seen.values()) > 20, seen
