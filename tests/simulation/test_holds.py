"""Holds on a real Redis: what is granted, refused, extended, ended, and that none of it is ever counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from backing import launch, native
from backing.service import silent
from rating.admission import AmountAsk, Ask, EventAsk, MeterAsk
from schemas.account import Account, new_account
from schemas.errors import Conflict, Unavailable
from streams.accounts.port import Position
from streams.accounts.redis import RedisAccounts
from streams.admission.answers import Denial, Standing
from streams.admission.keeper import HoldKeeper
from tests.deployment import settings_in
from tests.simulation.conftest import Place, place_of

NANOS = 10**9


def rich(balance: int, plan: str = "") -> Account:
    account = new_account("t", "c")
    account.balance, account.currency, account.plan = balance, "USD", plan
    return account


@pytest.fixture
async def place(redis_url: str) -> AsyncIterator[Place]:
    """A partition that has just become trusted."""
    made = await place_of(redis_url)
    with suppress(Unavailable):
        await made.admission.held("t", "c")  # found, and believed after the next beat
    await asyncio.sleep(0.002)
    await made.ledger.apply()
    yield made
    await made.redis.aclose()
    await made.admission.close()
    await made.ledger.accounts.close()


def granted(answer: Standing | Denial | None) -> Standing:
    assert isinstance(answer, Standing), answer
    return answer


def denied(answer: Standing | Denial | None) -> Denial:
    assert isinstance(answer, Denial), answer
    return answer


async def test_money_is_held_and_comes_free_again(place: Place) -> None:
    """What is held is not available to another hold until it is released."""
    await place.ledger.apply(rich(10 * NANOS))
    admission = place.admission
    first = granted(await admission.hold("t", "c", Ask(AmountAsk(7 * NANOS))))
    assert (first.state, first.amount, first.available, first.created) == ("open", 7 * NANOS, 3 * NANOS, True)
    refused = denied(await admission.hold("t", "c", Ask(AmountAsk(4 * NANOS))))
    assert (refused.reason, refused.available, refused.held) == ("wallet", 3 * NANOS, 7 * NANOS)
    assert (await admission.denial("t", refused.id)) == refused.document()
    ended = granted(await admission.release("t", first.hold_id))
    assert ended.state == "released"
    assert granted(await admission.release("t", first.hold_id)).state == "released"
    assert (await admission.held("t", "c"))[1:] == (0, 10 * NANOS)
    assert granted(await admission.find("t", first.hold_id)).state == "released"
    granted(await admission.hold("t", "c", Ask(AmountAsk(10 * NANOS))))


async def test_the_same_hold_asked_for_again_is_the_same_hold(place: Place) -> None:
    """By its id and words; other words are a conflict, and another tenant's id is another id."""
    await place.ledger.apply(rich(10 * NANOS))
    admission = place.admission
    for created in (True, False):
        answer = granted(await admission.hold("t", "c", Ask(AmountAsk(NANOS)), "mine"))
        assert (answer.created, answer.available) == (created, 9 * NANOS)
    with pytest.raises(Conflict):
        await admission.hold("t", "c", Ask(AmountAsk(2 * NANOS)), "mine")
    with pytest.raises(Conflict):
        await admission.hold("t", "another", Ask(AmountAsk(0)), "mine")
    await admission.release("t", "mine")
    again = granted(await admission.hold("t", "c", Ask(AmountAsk(NANOS)), "mine"))
    assert (again.state, again.created, again.available) == ("released", False, 10 * NANOS)


@pytest.mark.parametrize("balance", [2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1])
async def test_amounts_are_compared_beyond_doubles(place: Place, balance: int) -> None:
    """One nano more than there is is refused, and all of it is granted."""
    await place.ledger.apply(rich(balance))
    denied(await place.admission.hold("t", "c", Ask(AmountAsk(balance + 1))))
    granted(await place.admission.hold("t", "c", Ask(AmountAsk(balance - 1))))
    denied(await place.admission.hold("t", "c", Ask(AmountAsk(2))))
    granted(await place.admission.hold("t", "c", Ask(AmountAsk(1))))
    assert (await place.admission.held("t", "c"))[1:] == (balance, 0)


async def test_of_two_hundred_at_once_just_those_that_can_be_paid_are_granted(place: Place) -> None:
    """A wallet that can pay 20 grants 20 of 200."""
    await place.ledger.apply(rich(20 * NANOS))
    answers = await asyncio.gather(
        *(place.admission.hold("t", "c", Ask(MeterAsk("token", 100 * NANOS))) for _ in range(200))
    )
    assert sum(isinstance(answer, Standing) for answer in answers) == 20
    assert (await place.admission.held("t", "c"))[1:] == (20 * NANOS, 0)


async def test_an_event_is_sized_and_says_what_is_left_to_buy(place: Place) -> None:
    """By its largest counts; `affordable` is what is available after the hold, at each meter's price."""
    await place.ledger.apply(rich(NANOS))
    ask = Ask(EventAsk("session.tokens_used", {"model": "m", "input_tokens": 1000, "output_tokens": 50_000}))
    hold = granted(await place.admission.hold("t", "c", ask))
    assert hold.amount == 502_000_000
    assert hold.affordable == {"input_tokens": 249_000 * NANOS, "output_tokens": 49_800 * NANOS}


async def test_tiers_are_sized_where_all_that_is_held_would_lead(place: Place) -> None:
    """The first hold of 100 lies in the cheap tier; the second may come to lie in the dear one."""
    await place.ledger.apply(rich(10 * NANOS))
    ask = Ask(MeterAsk("tiered", 100 * NANOS))
    assert granted(await place.admission.hold("t", "c", ask)).amount == NANOS
    assert granted(await place.admission.hold("t", "c", ask)).amount == 2 * NANOS
    both = await asyncio.gather(*(place.admission.hold("t", "c", ask) for _ in range(4)))
    assert sum(isinstance(answer, Standing) for answer in both) == 3
    assert (await place.admission.held("t", "c"))[1:] == (9 * NANOS, NANOS)


async def test_quotas_hold_beside_money(place: Place) -> None:
    """A feature's number, a level and a budget each refuse for their own reason; a boolean is had or not."""
    account = rich(100 * NANOS, "pro")
    await place.ledger.apply(account)
    admission = place.admission
    granted(await admission.hold("t", "c", Ask(MeterAsk("ai_chat", 9 * NANOS))))
    refused = denied(await admission.hold("t", "c", Ask(MeterAsk("ai_chat", 2 * NANOS))))
    assert (refused.reason, refused.limit, refused.held, refused.remaining) == ("quota", 10 * NANOS, 9 * NANOS, NANOS)
    assert denied(await admission.hold("t", "c", Ask(AmountAsk(6 * NANOS)))).reason == "budget"
    granted(await admission.hold("t", "c", Ask(MeterAsk("devices_open", 2 * NANOS))))
    assert denied(await admission.hold("t", "c", Ask(MeterAsk("devices_open", NANOS)))).reason == "quota"
    assert (await admission.check("t", "c", Ask(MeterAsk("sso", NANOS)))).allowed
    assert (await admission.check("t", "without", Ask(MeterAsk("sso", NANOS)))).reason == "subscription"
    account.closed_at = 1
    await place.ledger.apply(account)
    assert denied(await admission.hold("t", "c", Ask(AmountAsk(1)))).reason == "customer_closed"


async def test_a_check_changes_nothing(place: Place) -> None:
    """It says what is left, for the quota that has the least."""
    await place.ledger.apply(rich(100 * NANOS, "pro"))
    for _ in range(3):
        checked = await place.admission.check("t", "c", Ask(MeterAsk("ai_chat", 10 * NANOS)))
        assert checked.allowed
        assert checked.quota is not None
        assert (checked.quota.limit, checked.quota.remaining, checked.available) == (
            10 * NANOS,
            10 * NANOS,
            100 * NANOS,
        )
    assert (await place.admission.check("t", "c", Ask(MeterAsk("ai_chat", 11 * NANOS)))).reason == "quota"


async def test_a_hold_expires_by_redis_s_clock_and_its_money_comes_free(place: Place) -> None:
    """Whoever looks next ends it, once; renewing keeps it."""
    await place.ledger.apply(rich(10 * NANOS))
    admission = place.admission
    store = admission.store
    store.now_ms = 1_000_000
    one = granted(await admission.hold("t", "c", Ask(AmountAsk(4 * NANOS)), ttl_seconds=10))
    two = granted(await admission.hold("t", "c", Ask(AmountAsk(5 * NANOS)), ttl_seconds=10))
    store.now_ms += 9_999
    renewed = granted(await admission.extend("t", two.hold_id, 10, amount=NANOS))
    assert (renewed.amount, renewed.generation, renewed.available) == (6 * NANOS, 2, 0)
    with pytest.raises(Conflict):
        await admission.extend("t", two.hold_id, 10, generation=1)
    store.now_ms += 1
    assert (await admission.held("t", "c"))[1:] == (6 * NANOS, 4 * NANOS)
    assert granted(await admission.find("t", one.hold_id)).state == "expired"
    assert granted(await admission.extend("t", one.hold_id, 10)).state == "expired"
    store.now_ms += 10_000
    assert await store.due(0, store.now_ms, 10) == ["1:t:c"]
    assert await store.sweep(0, "1:t:c") == (1, 0)
    assert (await admission.held("t", "c"))[1:] == (0, 10 * NANOS)
    store.now_ms += 24 * 3600 * 1000
    assert sum(await store.sweep(0, "1:t:c")) == 2
    assert await store.due(0, store.now_ms, 10) == []
    assert await place.redis.exists("{0}:h:1:t:c", "{0}:hx:1:t:c", "{0}:hf:1:t:c") == 0


async def test_a_thousand_holds_that_expire_at_once_are_counted_by_no_answer(place: Place) -> None:
    """One call of a script ends no more than 200, so that Redis serves others too: the question is asked again."""
    await place.ledger.apply(rich(1_000 * NANOS))
    admission, store = place.admission, place.admission.store
    store.now_ms = 1_000_000
    for _ in range(1_000):
        granted(await admission.hold("t", "c", Ask(AmountAsk(NANOS)), ttl_seconds=10))
    assert (await admission.held("t", "c"))[1:] == (1_000 * NANOS, 0)
    store.now_ms += 10_000
    assert granted(await admission.hold("t", "c", Ask(AmountAsk(1_000 * NANOS)))).available == 0


async def test_one_round_of_the_sweeper_ends_all_that_has_expired(place: Place) -> None:
    """However many of one customer and however many customers; then, and a day later, nothing is due any more."""
    store = place.admission.store
    customers = [f"c-{number}" for number in range(150)]
    accounts = [new_account("t", customer) for customer in ("c", *customers)]
    for account in accounts:
        account.balance, account.currency = 1_000 * NANOS, "USD"
    await place.ledger.apply(*accounts)
    store.now_ms = 1_000_000
    for customer in [*customers, *("c" for _ in range(1_000))]:
        granted(await place.admission.hold("t", customer, Ask(AmountAsk(NANOS)), ttl_seconds=10))
    keeper = HoldKeeper("", store, 1, lambda: store.now_ms or 0)
    assert await keeper.tend([0]) == 0
    store.now_ms += 10_000
    assert await keeper.tend([0]) == 1_150
    assert await keeper.count_open([0]) == 0
    assert await store.due(0, store.now_ms, 10) == []
    store.now_ms += 24 * 3600 * 1000
    assert await keeper.tend([0]) == 0
    assert await place.redis.keys("{0}:h*:1:t:c*") == []


async def test_a_sweeper_whose_clock_is_ahead_of_redis_s_comes_to_an_end(place: Place) -> None:
    """What it takes to be due is still open."""
    await place.ledger.apply(rich(10 * NANOS))
    store = place.admission.store
    store.now_ms = 1_000_000
    one = granted(await place.admission.hold("t", "c", Ask(AmountAsk(NANOS)), ttl_seconds=10))
    assert await HoldKeeper("", store, 1, lambda: 2_000_000).tend([0]) == 0
    assert granted(await place.admission.find("t", one.hold_id)).state == "open"


async def test_an_account_that_changed_is_seen_before_anything_is_held(place: Place) -> None:
    """A caller that knows an old account is told the new one by the very call."""
    await place.ledger.apply(rich(10 * NANOS))
    assert (await place.admission.held("t", "c"))[2] == 10 * NANOS
    await place.ledger.apply(rich(3 * NANOS))
    assert denied(await place.admission.hold("t", "c", Ask(AmountAsk(4 * NANOS)))).available == 3 * NANOS


async def test_a_hold_that_redis_lost_is_brought_back_by_its_holder(place: Place) -> None:
    """Whoever renews it; what it holds is held again, and once."""
    await place.ledger.apply(rich(10 * NANOS))
    made = granted(await place.admission.hold("t", "c", Ask(AmountAsk(4 * NANOS))))
    await place.redis.delete("{0}:h:1:t:c", "{0}:hx:1:t:c", "{0}:hq")
    assert (await place.admission.held("t", "c"))[1:] == (0, 10 * NANOS)
    for generation in (2, 3):
        renewed = granted(await place.admission.extend("t", made.hold_id, 300))
        assert (renewed.state, renewed.generation, renewed.amount) == ("open", generation, 4 * NANOS)
    assert (await place.admission.held("t", "c"))[1:] == (4 * NANOS, 6 * NANOS)


async def test_a_redis_that_was_emptied_is_not_believed(place: Place) -> None:
    """Until its owner has beaten again; then what there is counts."""
    await place.ledger.apply(rich(10 * NANOS))
    assert (await place.admission.held("t", "c"))[2] == 10 * NANOS
    await place.redis.flushall()
    with pytest.raises(Unavailable):
        await place.admission.hold("t", "c", Ask(AmountAsk(1)))
    assert (await place.admission.check("t", "c", Ask(AmountAsk(1)))).reason == "unavailable"


async def test_a_redis_that_restarted_serves_only_once_its_holds_are_back(tmp_path: Path) -> None:
    """Its position may be right and holds of its last second missing: its owner must look before anybody is told so."""
    settings = settings_in(tmp_path)
    try:
        url = launch.up(settings, backend="native", only=["redis"]).redis_url
        assert url is not None
        (redis,) = [service for service in native.services(settings) if service.name == "redis"]
        place = await place_of(url)
        store, ledger = place.admission.store, place.ledger
        with suppress(Unavailable):
            await place.admission.held("t", "c")
        await store.mark(0, (await store.mark(0)).run, 0)
        await asyncio.sleep(0.002)
        await ledger.apply(rich(10 * NANOS))
        assert (await place.admission.held("t", "c"))[2] == 10 * NANOS
        await asyncio.to_thread(redis.kill)
        await asyncio.to_thread(redis.start)
        position = Position("ledger", ledger.offset, ledger.offset)
        stands = await RedisAccounts(url).position(0)
        assert stands is not None
        assert stands.offset <= position.offset
        ledger.offset = stands.offset  # what it lost of the ledger is folded again
        with suppress(Unavailable):  # the connection is gone, or made anew in silence
            await ledger.accounts.standing(0)
        with pytest.raises(Unavailable, match="restarted"):
            await ledger.apply()
        assert not await ledger.accounts.beat(0, stands)
        with pytest.raises(Unavailable):
            await place.admission.hold("t", "c", Ask(AmountAsk(1)))
        mark = await store.mark(0)
        assert mark.run != mark.marked_run
        await store.mark(0, mark.run, 0)
        await ledger.apply(rich(10 * NANOS))
        await place.admission.held("t", "c")
        granted(await place.admission.hold("t", "c", Ask(AmountAsk(1))))
        await place.redis.aclose()
        await place.admission.close()
        await ledger.accounts.close()
    finally:
        launch.down(settings, purge=True, report=silent)
