"""200 concurrent tasks do 20,000 random things to few customers; a naive model follows every step in its order.

The model is a dict of balances and a dict of holds, with nothing shared with the scripts but the meaning of words. It
predicts each answer: whether it was granted, what was held under the wallet's name, what was available. At every step
available = balance - holds, and is never below zero by more than usage went beyond what was held for it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from rating.admission import AmountAsk, Ask, MeterAsk
from rating.holds import HOLD, OPEN, HoldName
from schemas.account import Account, account_key, new_account
from schemas.errors import Conflict
from streams.accounts.port import HoldEnd
from streams.admission.answers import Standing
from streams.admission.client import Admission
from streams.admission.values import Ended, Settling, unpack_ended, unpack_hold
from tests.simulation.conftest import Ledger, book_of
from tests.simulation.recorded import Record, RecordedAccounts, RecordedHolds, Step

NANOS = 10**9
CUSTOMERS = 4
TASKS = 200
OPERATIONS = 20_000
BEGINNING_MS = 1_700_000_000_000


@dataclass
class Modelled:
    """A hold as the model has it."""

    customer: str
    amount: int
    expires: int
    state: str = "open"


@dataclass
class Model:
    """What should stand."""

    balances: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Modelled] = field(default_factory=dict)
    unended: defaultdict[str, list[Modelled]] = field(default_factory=lambda: defaultdict(list))
    beyond: Counter[str] = field(default_factory=Counter)
    """By customer: usage that no hold held."""
    seen: Counter[str] = field(default_factory=Counter)

    def open(self, customer: str) -> list[Modelled]:
        self.unended[customer] = [one for one in self.unended[customer] if one.state == "open"]
        return self.unended[customer]

    def held(self, customer: str) -> int:
        return sum(one.amount for one in self.open(customer))

    def follow(self, step: Step) -> None:
        """Does what a step asks for, and compares its answer."""
        if step.name == "apply":
            self._apply(step.arguments)
            return
        customer, now = step.arguments[0], int(step.arguments[1])
        for one in self.open(customer) if step.name != "sweep" else ():
            if one.expires <= now:
                one.state = "expired"
        getattr(self, f"_{step.name}")(customer, now, step)
        available = self.balances.get(customer, 0) - self.held(customer)
        assert available + self.beyond[customer] >= 0, (customer, available, self.beyond[customer])
        if step.available is not None:
            assert step.available == available, step

    def _apply(self, told: list[Any]) -> None:
        for customer, hold_id, state, charged in told:
            self.balances[customer] = self.balances.get(customer, 0) - charged
            hold = self.holds.get(hold_id) if hold_id is not None else None
            covered = 0
            if hold is not None and hold.customer == customer and hold.state == "open" and state is not None:
                covered = min(hold.amount, charged)
                if state == "open":
                    hold.amount -= covered
                else:
                    hold.state = state
            if charged > 0:
                self.beyond[customer] += charged - covered
        self.seen["applied"] += 1

    def _reserve(self, customer: str, now: int, step: Step) -> None:
        word = step.answer[0].decode()
        self.seen[word] += 1
        if word in ("stale", "untrusted"):
            return
        hold_id, wanted = step.arguments[6], int(step.arguments[16])
        known = self.holds.get(hold_id)
        if word == "conflict":
            assert known is not None
            return
        if known is not None:
            assert word == ("same" if known.state == "open" else "ended"), step
            return
        held = self.held(customer)
        fits = held + wanted <= self.balances.get(customer, 0) or not wanted
        assert word in (("granted", "moved") if fits else ("refused",)), (step, held, self.balances)
        assert int(step.answer[4 if word == "moved" else 3]) == held + (wanted if fits else 0)
        if fits:
            made = self.holds[hold_id] = Modelled(customer, wanted, now + int(step.arguments[8]))
            self.unended[customer].append(made)

    def _extend(self, customer: str, now: int, step: Step) -> None:
        word = step.answer[0].decode()
        self.seen[f"extend {word}"] += 1
        hold = self.holds[step.arguments[6]]
        if word in ("stale", "untrusted", "conflict"):
            return
        if hold.state != "open":
            assert word == "ended"
            return
        wanted = int(step.arguments[12])
        fits = self.held(customer) + wanted <= self.balances.get(customer, 0) or not wanted
        assert word in (("extended", "moved") if fits else ("refused",)), step
        if fits:
            hold.amount += wanted
            hold.expires = max(hold.expires, now + int(step.arguments[8]))
            assert unpack_hold(step.answer[2]).expires_ms == hold.expires

    def _end(self, customer: str, now: int, step: Step) -> None:
        word = step.answer[0].decode()
        self.seen[f"end {word}"] += 1
        hold = self.holds[step.arguments[2]]
        if word == "settling":
            return
        if hold.state == "open":
            hold.state = "released"
        assert (word, unpack_ended(step.answer[1]).state) == ("ended", hold.state)

    def _settling(self, customer: str, now: int, step: Step) -> None:
        hold = self.holds[step.arguments[2]]
        if hold.state != "open":
            assert step.answer[0] == b"ended"
            return
        assert step.answer[0] == b"settling"
        if step.answer[2]:
            hold.amount = min(hold.amount, int(step.arguments[4]))
            hold.expires = max(hold.expires, now + int(step.arguments[5]))

    def _read(self, customer: str, now: int, step: Step) -> None:
        known = self.holds[step.arguments[2]]
        assert step.answer[0].decode() == ("open" if known.state == "open" else "ended")

    def _check(self, customer: str, now: int, step: Step) -> None:
        if step.answer[0] == b"held" and len(step.answer) > 2:
            assert int(step.answer[2]) == self.held(customer), step

    def _sweep(self, customer: str, now: int, step: Step) -> None:
        for one in self.open(customer):
            if one.expires <= now:
                one.state = "expired"
        self.seen["swept"] += int(step.answer[0])


class World:
    """Holders, a worker and a sweeper on one Redis."""

    def __init__(self, url: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.record = Record()
        self.redis = Redis.from_url(url)
        self.store = RecordedHolds(url, self.record)
        self.store.now_ms = BEGINNING_MS
        self.accounts = RecordedAccounts(url, self.record)
        self.ledger = Ledger(self.accounts)
        self.admission = Admission(self.store, 1, book_of(), patience_seconds=0.0)
        self.queue: list[tuple[str, str | None, bool, int]] = []
        """Usage and settlements that wait for the worker: customer, hold, final, nanos."""
        self.holds: list[str] = []
        self.asked: list[tuple[str, Ask, str | None, int]] = []
        self.values: dict[str, Account] = {}
        self.done = False

    async def begin(self) -> None:
        await self.redis.flushall()
        for number in range(CUSTOMERS):
            account = new_account("t", f"c{number}")
            account.currency = "USD"
            account.balance = (2**53 + number) if number == 0 else 50 * NANOS
            self.values[account.customer] = account
        key = account_key
        self.accounts.telling = [(key("t", one.customer), None, None, -one.balance) for one in self.values.values()]
        await self.ledger.apply(*self.values.values())
        for _ in range(2):
            try:
                await self.admission.held("t", "c0")
                break
            except Exception:  # noqa: BLE001 - not trusted before its next beat
                await asyncio.sleep(0.002)
                self.accounts.telling = []
                await self.ledger.apply()

    async def worker(self) -> None:
        """Charges what is queued, a batch at a time, as a lane does."""
        while not self.done or self.queue:
            batch, self.queue = self.queue[:15], self.queue[15:]  # one script call, and so one step
            endings: list[HoldEnd] = []
            telling: list[Any] = []
            touched: dict[str, Account] = {}
            names = [
                HoldName(account_key("t", customer), HOLD, hold) for customer, hold, *_ in batch if hold is not None
            ]
            known = await self.accounts.read_holds(0, names) if names else {}
            for place, (customer, hold_id, final, amount) in enumerate(batch):
                account = self.values[customer]
                account.balance -= amount
                touched[customer] = account
                name = HoldName(account_key("t", customer), HOLD, hold_id or "")
                state = None
                if hold_id is not None and known.get(name, (OPEN,)) == (OPEN,):
                    state = "settled" if final else "open"
                    if final:
                        known[name] = ("settled",)
                    end = HoldEnd(name.account, hold_id, state, max(amount, 0), self.ledger.offset * 100 + place)
                    endings.append(end)
                telling.append((name.account, hold_id, state, amount))
            self.accounts.telling = telling
            await self.ledger.apply(*touched.values(), endings=endings)
            await asyncio.sleep(0.001)

    async def sweeper(self) -> None:
        while not self.done:
            assert self.store.now_ms is not None
            for account in await self.store.due(0, self.store.now_ms, 10):
                await self.store.sweep(0, account)
            await asyncio.sleep(0.002)

    async def holder(self, operations: int) -> None:
        for _ in range(operations):
            await self.one()

    async def one(self) -> None:
        draw, admission = self.random, self.admission
        assert self.store.now_ms is not None
        self.store.now_ms += draw.randrange(3)
        customer = f"c{draw.randrange(CUSTOMERS)}"
        amount = draw.choice([0, 1, draw.randrange(NANOS), draw.randrange(20 * NANOS), 2**53])
        kind = draw.choices(range(8), [6, 2, 3, 2, 5, 3, 1, 1])[0]
        hold_id = draw.choice(self.holds) if self.holds and draw.random() < 0.9 else None
        answer: object = None
        if kind == 0 or (hold_id is None and kind in (2, 3, 4, 5)):
            ask = Ask(MeterAsk("token", draw.randrange(500) * NANOS) if draw.random() < 0.3 else AmountAsk(amount))
            given = f"mine-{draw.randrange(10**6)}" if draw.random() < 0.3 else None
            asked = (customer, ask, given, draw.choice([1, 2, 5, 300]))
            if self.asked and draw.random() < 0.2:
                asked = draw.choice(self.asked)
            elif given is not None:
                self.asked.append(asked)
            try:
                answer = await admission.hold("t", *asked)
            except Conflict:
                answer = None
            if isinstance(answer, Standing):
                self.holds.append(answer.hold_id)
        elif kind == 1:
            checked = await admission.check("t", customer, Ask(AmountAsk(amount)))
            assert checked.reason != "unavailable"
        elif kind == 2:
            assert hold_id is not None
            try:
                answer = await admission.extend("t", hold_id, draw.choice([1, 10]), amount=draw.choice([0, amount]))
            except Conflict:
                answer = None
        elif kind == 3:
            assert hold_id is not None
            answer = await admission.release("t", hold_id)
        elif kind in (4, 5):
            assert hold_id is not None
            found = await admission.find("t", hold_id)
            assert found is not None
            used = draw.randrange(2 * found.amount + 10)
            if kind == 5 and found.state == "open":
                settled = await admission.settling("t", hold_id, str(used), used, 60_000)
                if settled is not None and isinstance(settled[1], Settling) and settled[1].ours:
                    self.queue.append((found.customer, hold_id, True, used))
            else:
                self.queue.append((found.customer, hold_id, draw.random() < 0.7, used))
        elif kind == 6:
            self.queue.append((customer, None, True, draw.randrange(NANOS)))
        else:
            self.queue.append((customer, None, True, -draw.randrange(20 * NANOS)))  # a deposit
        if isinstance(answer, Standing) and answer.available is not None:
            self.record.told(answer.available)

    async def run(self, operations: int) -> Model:
        """All of it; then everything ends. The model that followed."""
        await self.begin()
        beside = [asyncio.create_task(self.worker()), asyncio.create_task(self.sweeper())]
        await asyncio.gather(*(self.holder(operations // TASKS) for _ in range(TASKS)))
        self.done = True
        await asyncio.gather(*beside)
        assert self.store.now_ms is not None
        self.store.now_ms += 3_600_000
        for _ in range(200):
            due = await self.store.due(0, self.store.now_ms, 10)
            if not due:
                break
            for account in due:
                await self.store.sweep(0, account)
        model = Model()
        for order in range(1, max(self.record.steps) + 1):
            model.follow(self.record.steps[order])
        return model

    async def close(self) -> None:
        await self.redis.aclose()
        await self.admission.close()
        await self.accounts.close()


async def check(redis_url: str, seed: int, operations: int = OPERATIONS) -> Model:
    print(f"seed {seed}")
    world = World(redis_url, seed)
    try:
        model = await world.run(operations)
        assert {hold.state for hold in model.holds.values()} <= {"settled", "released", "expired"}
        for number in range(CUSTOMERS):
            account = account_key("t", f"c{number}")
            left = await world.redis.hgetall(f"{{0}}:h:{account}")  # type: ignore[misc]
            assert {name.partition(b":")[0] for name in left} <= {b"e"}, "something is still held"
            assert model.balances[account] == world.values[f"c{number}"].balance
            for name, value in left.items():
                ended: Ended = unpack_ended(value)
                assert model.holds[name.decode()[2:]].state == ended.state
        return model
    finally:
        await world.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_concurrent_holders_are_told_is_what_a_naive_model_says(redis_url: str, seed: int) -> None:
    """Step by step, to the nano; every hold ends once, and nothing stays held."""
    model = await check(redis_url, seed)
    for word in (
        "granted",
        "refused",
        "same",
        "extend extended",
        "extend refused",
        "end ended",
        "applied",
    ):
        assert model.seen[word], (word, model.seen)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 30))
async def test_with_many_seeds(redis_url: str, seed: int) -> None:
    """The same, further afield."""
    await check(redis_url, seed)
