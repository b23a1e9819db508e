"""One suite for the Accounts port: whoever keeps account values behaves like this, in memory and on the real Redis."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from redis.asyncio import Redis

from rating.holds import HOLD, SESSION, HoldName
from schemas.documents import OPERATION, OPERATION_KEPT_MS, ORDER, PAYMENT, document_key
from schemas.errors import Unavailable
from streams.accounts.parts import PART_MAX_ACCOUNTS
from streams.accounts.port import Accounts, HoldEnd, Position, PositionMoved
from streams.accounts.redis import RedisAccounts
from tests.fakes.accounts import MemoryAccounts

_partitions = itertools.count(5_000)


@dataclass
class Store:
    """An adapter, a partition that nobody used, and how to lose what it holds."""

    accounts: Accounts
    partition: int
    flush: Callable[[], Awaitable[None]]
    url: str = ""


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each implementation in its turn."""
    partition = next(_partitions)
    if request.param == "memory":
        memory = MemoryAccounts()

        async def forget() -> None:
            memory.flush()

        yield Store(memory, partition, forget)
        return
    url = request.getfixturevalue("services").redis_url
    redis = Redis.from_url(url)
    accounts = RedisAccounts(url)

    async def flush() -> None:
        keys = [key async for key in redis.scan_iter(match=f"{{{partition}}}:*", count=10_000)]
        if keys:
            await redis.delete(*keys)

    try:
        yield Store(accounts, partition, flush, url)
    finally:
        await flush()
        await accounts.close()
        await redis.aclose()


def at(offset: int, *, ledger: str = "ledger", seq: int = 0) -> Position:
    return Position(ledger, offset, seq or offset * 10, offset * 2, offset * 3, 4)


async def test_a_partition_nobody_wrote_to_holds_nothing(store: Store) -> None:
    """No position, no accounts, not serving."""
    accounts, partition = store.accounts, store.partition
    assert await accounts.position(partition) is None
    standing, value = await accounts.peek(partition, "k")
    assert (standing.position, standing.serving, value) == (None, False, None)
    assert await accounts.standing(partition) == standing
    assert await accounts.read(partition, at(0), ["k"]) == [None]


async def test_what_was_applied_is_read_at_its_position(store: Store) -> None:
    """Bytes come back as they went in, in the order that was asked; unknown customers are None."""
    accounts, partition = store.accounts, store.partition
    values = {"a": b"\x00\xff", "größe:\U0001f4b0": b"2", "3:a b:c\n": b""}
    await accounts.apply(partition, 0, at(1), values, serving=True)
    assert await accounts.position(partition) == at(1)
    assert await accounts.read(partition, at(1), [*values, "none"]) == [*values.values(), None]
    standing, value = await accounts.peek(partition, "a")
    assert (standing.position, standing.serving, value) == (at(1), True, b"\x00\xff")
    assert standing.beat > 0


async def test_values_are_absolute_and_others_stay(store: Store) -> None:
    """A later application replaces what it names and nothing else; positions may skip offsets."""
    accounts, partition = store.accounts, store.partition
    await accounts.apply(partition, 0, at(1), {"a": b"1", "b": b"1"}, serving=True)
    await accounts.apply(partition, 1, at(5), {"a": b"2"}, serving=True)
    assert await accounts.read(partition, at(5), ["a", "b"]) == [b"2", b"1"]


@pytest.mark.parametrize(
    ("expected", "after"),
    [(0, at(9)), (3, at(9)), (2, at(9, ledger="another")), (2**53 + 1, at(2**53 + 2))],
)
async def test_a_position_that_is_not_the_expected_one_changes_nothing(
    store: Store, expected: int, after: Position
) -> None:
    """Behind, ahead, another ledger: the position that stands is answered, no account is touched."""
    accounts, partition = store.accounts, store.partition
    await accounts.apply(partition, 0, at(2), {"a": b"1"}, serving=True)
    with pytest.raises(PositionMoved) as moved:
        await accounts.apply(partition, expected, after, {"a": b"2", "b": b"2"}, serving=True)
    assert moved.value.found == at(2)
    assert await accounts.read(partition, at(2), ["a", "b"]) == [b"1", None]
    with pytest.raises(PositionMoved):
        await accounts.read(partition, Position(after.ledger_id, expected, 0), ["a"])


async def test_numbers_are_compared_as_they_are_beyond_doubles(store: Store) -> None:
    """2^53 and 2^53 + 1 are two positions."""
    accounts, partition = store.accounts, store.partition
    await accounts.apply(partition, 0, at(2**53), {}, serving=True)
    with pytest.raises(PositionMoved):
        await accounts.apply(partition, 2**53 + 1, at(2**53 + 9), {}, serving=True)
    await accounts.apply(partition, 2**53, at(2**53 + 1), {}, serving=True)
    assert await accounts.position(partition) == at(2**53 + 1)


async def test_applying_again_what_was_applied_is_success_and_changes_nothing(store: Store) -> None:
    """A call whose answer was lost may be repeated."""
    accounts, partition = store.accounts, store.partition
    for _ in range(2):
        await accounts.apply(partition, 0, at(1), {"a": b"1"}, serving=True)
    assert await accounts.read(partition, at(1), ["a"]) == [b"1"]


async def test_the_beat_moves_nothing_and_finds_what_was_lost(store: Store) -> None:
    """With nothing to apply the comparison alone is made: it says if the last writes still stand."""
    accounts, partition = store.accounts, store.partition
    await accounts.apply(partition, 0, at(1), {"a": b"1"}, serving=True)
    first = (await accounts.standing(partition)).beat
    await asyncio.sleep(0.005)
    await accounts.apply(partition, 1, at(1), {}, serving=True)
    assert (await accounts.standing(partition)).beat > first
    assert await accounts.position(partition) == at(1)
    await store.flush()
    with pytest.raises(PositionMoved) as moved:
        await accounts.apply(partition, 1, at(1), {}, serving=True)
    assert moved.value.found is None
    with pytest.raises(PositionMoved):
        await accounts.read(partition, at(1), ["a"])
    await accounts.apply(partition, 0, at(1), {"a": b"1"}, serving=True)
    assert await accounts.read(partition, at(1), ["a"]) == [b"1"]


async def test_a_partition_that_is_rebuilt_does_not_serve(store: Store) -> None:
    """Until its owner says that it is whole."""
    accounts, partition = store.accounts, store.partition
    await accounts.apply(partition, 0, at(1), {"a": b"1"}, serving=False)
    assert not (await accounts.standing(partition)).serving
    await accounts.apply(partition, 1, at(1), {}, serving=True)
    assert (await accounts.standing(partition)).serving


async def test_partitions_do_not_meet(store: Store) -> None:
    """The same key in another partition is another account."""
    accounts, partition = store.accounts, store.partition
    other = next(_partitions)
    await accounts.apply(partition, 0, at(1), {"a": b"1"}, serving=True)
    assert await accounts.position(other) is None
    assert (await accounts.peek(other, "a"))[1] is None


async def test_more_accounts_than_one_call_holds_are_applied_whole(store: Store) -> None:
    """Also twice over, also where only a part had come before a crash."""
    accounts, partition = store.accounts, store.partition
    many = {f"k{number}": str(number).encode() for number in range(2 * PART_MAX_ACCOUNTS + 7)}
    for _ in range(2):
        await accounts.apply(partition, 0, at(1), many, serving=True)
    assert await accounts.read(partition, at(1), list(many)) == list(many.values())


async def test_a_proof_reads_a_position_and_its_accounts_at_one_moment(store: Store) -> None:
    """In the order of the keys; of a partition without anything it is nothing."""
    accounts, partition = store.accounts, store.partition
    assert await accounts.snapshot(partition, ["a"]) == (None, [None])
    await accounts.apply(partition, 0, at(1), {"a": b"1", "b": b"2"}, serving=True)
    assert await accounts.snapshot(partition, ["b", "none", "a"]) == (at(1), [b"2", None, b"1"])
    assert await accounts.snapshot(partition, []) == (at(1), [])


async def test_a_proof_never_sees_the_half_of_an_application(store: Store) -> None:
    """However many parts an application has: the accounts are those of the position beside them, under traffic too."""
    accounts, partition = store.accounts, store.partition
    keys = [f"k{number}" for number in range(3 * PART_MAX_ACCOUNTS)]

    async def traffic() -> None:
        for offset in range(30):
            values = dict.fromkeys(keys, str(offset + 1).encode())
            await accounts.apply(partition, offset, at(offset + 1), values, serving=True)

    running = asyncio.create_task(traffic())
    looks = 0
    while not running.done():
        position, values = await accounts.snapshot(partition, [keys[0], keys[-1]])
        said = None if position is None else str(position.offset).encode()
        assert values == [said, said]
        looks += 1
        await asyncio.sleep(0)
    await running
    assert looks


async def test_a_proof_finds_every_account_that_is_kept(store: Store) -> None:
    """Partition and key as they were applied, whatever the key contains."""
    accounts, partition = store.accounts, store.partition
    keys = ["1:t:c", "1:}:a:x", "größe", "a:b{9}:a:c"]
    await accounts.apply(partition, 0, at(1), dict.fromkeys(keys, b"1"), serving=True)
    found = {key async for number, key in accounts.kept() if number == partition}
    assert found == set(keys)


async def test_a_hold_ends_with_the_entry_that_says_so_and_once(store: Store) -> None:
    """Also one that is not known: it may be brought back, and has ended. What was charged against it ends nothing."""
    accounts, partition = store.accounts, store.partition
    one, other = HoldName("1:t:c", HOLD, "one"), HoldName("1:t:c", HOLD, "other")
    assert await accounts.read_holds(partition, []) == {}
    assert await accounts.read_holds(partition, [one, HoldName("1:t:c", SESSION, "s")]) == {}
    endings = [
        HoldEnd("1:t:c", "one", "settled", 2**63 - 1, 7),
        HoldEnd("1:t:c", "other", "open", 5, 8, (("meter", 10**27),)),
    ]
    await accounts.apply(partition, 0, at(1), {"1:t:c": b"1"}, True, {}, endings)
    assert await accounts.read_holds(partition, [one, other]) == {one: ("settled",)}
    await accounts.apply(partition, 1, at(2), {}, True, {}, [HoldEnd("1:t:c", "one", "released", 0, 9)])
    assert await accounts.read_holds(partition, [other, one]) == {one: ("settled",)}
    with pytest.raises(PositionMoved):
        await accounts.apply(partition, 1, at(3), {}, True, {}, [HoldEnd("1:t:c", "other", "settled", 0, 9)])
    assert await accounts.read_holds(partition, [other]) == {}


async def test_more_holds_than_one_call_ends_end(store: Store) -> None:
    """Of one customer and of many, with and without a change of the account."""
    accounts, partition = store.accounts, store.partition
    names = [HoldName(f"1:t:{number % 7}", HOLD, str(number)) for number in range(3 * PART_MAX_ACCOUNTS // 20)]
    endings = [HoldEnd(name.account, name.name, "settled", 0, 1) for name in names]
    await accounts.apply(partition, 0, at(1), {"1:t:1": b"1", "1:t:99": b"2"}, True, {}, endings)
    assert await accounts.read_holds(partition, names) == dict.fromkeys(names, ("settled",))
    assert await accounts.read(partition, at(1), ["1:t:1", "1:t:99"]) == [b"1", b"2"]


async def test_of_many_that_move_one_position_one_wins(store: Store) -> None:
    """Racing owners: exactly one application stands, the others are told that the position moved."""
    accounts, partition = store.accounts, store.partition
    await accounts.apply(partition, 0, at(1), {}, serving=True)

    async def race(number: int) -> Any:
        try:
            await accounts.apply(partition, 1, at(2 + number), {"a": str(number).encode()}, serving=True)
        except PositionMoved as moved:
            return moved
        return number

    answers = await asyncio.gather(*(race(number) for number in range(20)))
    (winner,) = [answer for answer in answers if isinstance(answer, int)]
    assert await accounts.read(partition, at(2 + winner), ["a"]) == [str(winner).encode()]


async def test_a_redis_that_does_not_answer_is_unavailable() -> None:
    """Every method says so, and as nothing but Unavailable; the same of the fake."""
    memory = MemoryAccounts()
    memory.away = True
    both: list[Accounts] = [RedisAccounts("redis://127.0.0.1:1", timeout_seconds=0.2), memory]
    for accounts in both:
        for call in (
            accounts.position(1),
            accounts.read(1, at(1), ["a"]),
            accounts.apply(1, 0, at(1), {}, serving=True),
            accounts.standing(1),
            accounts.peek(1, "a"),
            accounts.snapshot(1, ["a"]),
            accounts.read_holds(1, [HoldName("a", HOLD, "h")]),
        ):
            with pytest.raises(Unavailable) as away:
                await call
            assert type(away.value) is Unavailable
        await accounts.close()


async def test_a_redis_that_stops_answering_is_unavailable_in_time() -> None:
    """A server that takes the connection and says nothing more is away after the time-out, not for ever."""
    open_until_end = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await open_until_end.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    accounts = RedisAccounts(f"redis://127.0.0.1:{port}", timeout_seconds=0.1)
    try:
        with pytest.raises(Unavailable):
            await accounts.position(1)
    finally:
        await accounts.close()
        open_until_end.set()
        server.close()


async def test_documents_are_written_and_read_by_the_accounts_position(store: Store) -> None:
    """They move with the accounts, are read as of a position only, and are found without knowing their partition."""
    accounts, partition = store.accounts, store.partition
    order, payment = document_key("t", ORDER, "o"), document_key("t", PAYMENT, "p")
    await accounts.apply(partition, 0, at(1), {"a": b"1"}, True, {order: b"{}", payment: b"[]"})
    await accounts.apply(partition, 1, at(2), {}, True, {order: b"new"})
    assert await accounts.read_documents(partition, at(2), [payment, "none", order]) == [b"[]", None, b"new"]
    with pytest.raises(PositionMoved):
        await accounts.read_documents(partition, at(1), [order])
    with pytest.raises(PositionMoved):
        await accounts.apply(partition, 1, at(3), {}, True, {order: b"zombie"})
    assert await accounts.documents(partition + 1, [order, "none"]) == [b"new", None]
    assert await accounts.read(partition, at(2), ["a"]) == [b"1"]


async def test_what_became_of_a_command_is_kept_for_a_day(store: Store) -> None:
    """An operation goes by itself; what stands beside it stays."""
    operation, order = document_key("t", OPERATION, "x"), document_key("t", ORDER, "o")
    await store.accounts.apply(store.partition, 0, at(1), {"a": b"1"}, True, {operation: b"{}", order: b"{}"})
    assert await store.accounts.documents(store.partition + 1, [operation, order]) == [b"{}", b"{}"]
    if not isinstance(store.accounts, RedisAccounts):
        return
    redis = Redis.from_url(store.url)
    try:
        kept = [await redis.pttl(f"{{{store.partition}}}:d:{key}") for key in (operation, order)]
    finally:
        await redis.aclose()
    assert 0 < kept[0] <= OPERATION_KEPT_MS
    assert kept[1] == -1


async def test_an_owner_that_cannot_go_on_says_that_its_values_stand(store: Store) -> None:
    """The beat moves where position and values are as they were left; else nothing is said, and nothing is changed."""
    accounts, partition = store.accounts, store.partition
    assert not await accounts.beat(partition, at(5))
    await accounts.apply(partition, 0, at(5), {"k": b"v"}, serving=True)
    before = await accounts.standing(partition)
    await asyncio.sleep(0.002)  # a beat is a time in whole milliseconds
    assert await accounts.beat(partition, at(5))
    after = await accounts.standing(partition)
    assert (after.position, after.serving) == (before.position, True)
    assert after.beat > before.beat
    assert not await accounts.beat(partition, at(4))
    assert not await accounts.beat(partition, at(5, ledger="another"))
    await accounts.apply(partition, 5, at(6), {}, serving=False)
    assert not await accounts.beat(partition, at(6))
    assert not (await accounts.standing(partition)).serving
    await store.flush()
    assert not await accounts.beat(partition, at(6))
