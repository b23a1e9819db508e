"""Holders on the real pipeline while it is broken, and an auditor that knows from the ledger what may have been spent.

The holders ask two in-process clients (each its own connections and journal) for holds, renew, settle and release them,
and report usage that names them or none. What was not answered is asked again until it is: a holder knows its hold's
id. A unit costs one, so that quantities are amounts.

The auditor shares nothing with admission but the ledger's rows. Of each customer, in the ledger's order: a charge is
covered as far as its hold still held it, by what holders were told; what is beyond is counted. The wallet must never be
below zero by more than that. A hold that Redis forgot before its line reached the journal, and that its own holder
brought back, may have been granted twice over: what it holds is counted as beyond as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import orjson
from redis.asyncio import Redis

from ingest.accept import Record
from ingest.publish import Publisher
from rating.admission import AmountAsk, Ask
from rating.book import PriceBook
from schemas.account import account_key
from schemas.catalog import from_document
from schemas.errors import Conflict, Unavailable
from schemas.ledger import rows
from schemas.topics import ACCOUNT_EVENTS, USAGE_EVENTS
from streams import catalogue, ledger
from streams.accounts.redis import RedisAccounts
from streams.admission.answers import Denial, Standing
from streams.admission.client import Admission
from streams.admission.journal import HoldJournal, sheet_of
from streams.admission.outbox import Outbox
from streams.admission.settlement import Settlement, Settlements
from streams.admission.store import HoldStore
from streams.admission.values import Hold, unpack_ended, unpack_hold
from streams.commands import Commands, Operation
from tests.faults.harness import Scene

NANOS: Final = 10**9
CATALOGUE: Final[dict[str, Any]] = {
    "currency": "USD",
    "meters": [{"id": "money", "event_type": "usage.reported"}],
    "prices": [{"id": "money", "meter": "money", "model": "per_unit", "unit_amount": "1"}],
}
BALANCES: Final = (2**53 - 1, 2**53, 2**53 + 1, 20 * NANOS, 50 * NANOS, 0)
"""Nanos that each customer begins with."""

DECIDED_SECONDS: Final = 300.0
Answer = TypeVar("Answer")


def _decimal(nanos: int) -> str:
    return f"{nanos // NANOS}.{nanos % NANOS:09d}"


class Store(HoldStore):
    """Knows which lost holds a holder has brought back by itself."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_seconds=2.0, wait_seconds=60.0)
        self.brought_back: dict[str, int] = {}

    async def restore(self, partition: int, account: str, hold_id: str, hold: Hold, directory: str | None) -> bool:
        restored = await super().restore(partition, account, hold_id, hold, directory)
        if restored:
            self.brought_back[hold_id] = sum(map(int, hold.amounts))
        return restored


@dataclass
class Side:
    """One process's worth of client."""

    admission: Admission
    settlements: Settlements
    store: Store
    publisher: Publisher


@dataclass
class Known:
    """What a holder was told of its hold."""

    customer: str
    amount: int
    generation: int = 1
    over: bool = False
    """It was told that it has ended."""


@dataclass
class Holders:
    """Everybody who asks."""

    made: Scene
    tenant: str
    sides: list[Side]
    redis: Redis
    random: random.Random
    holds: dict[str, Known] = field(default_factory=dict)
    sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By event id: customer and nanos, below zero what it brings."""
    settled: dict[str, int] = field(default_factory=dict)
    """By hold: the one amount it was settled for by API, as answered."""
    seen: Counter[str] = field(default_factory=Counter)
    starts: dict[int, tuple[int, int | None]] = field(default_factory=dict)

    def customer(self) -> str:
        return f"h{self.random.randrange(len(BALANCES))}"

    async def grant(self) -> None:
        """The wallets' first credits, and that they are there."""
        for number, balance in enumerate(BALANCES):
            await self.deposit(f"h{number}", balance)
        await self.decided()

    async def deposit(self, customer: str, amount: int) -> None:
        event_id = f"grant-{len(self.sent)}"
        data = {
            "user_id": customer,
            "credit_id": event_id,
            "amount": _decimal(amount),
            "currency": "USD",
        }
        if amount:
            await self._send(ACCOUNT_EVENTS, "credit.granted", event_id, customer, data, -amount)

    async def use(self, customer: str, amount: int, hold_id: str | None, *, final: bool = True) -> None:
        """Reports usage, also of more than is held."""
        data: dict[str, Any] = {"meter": "money", "quantity": orjson.Fragment(_decimal(amount))}
        if hold_id is not None:
            data |= {"hold_id": hold_id, "final": final}
        await self._send(USAGE_EVENTS, "usage.reported", f"use-{len(self.sent)}", customer, data, amount)

    async def one(self) -> None:
        """One random thing."""
        draw, side = self.random, self.random.choice(self.sides)
        kind = draw.choices(range(8), [6, 2, 3, 2, 2, 5, 1, 1])[0]
        open_holds = [name for name, known in self.holds.items() if not known.over]
        hold_id = draw.choice(open_holds) if open_holds else None
        amount = draw.choice([1, draw.randrange(NANOS), draw.randrange(10 * NANOS), 2**53])
        if kind == 0 or (hold_id is None and kind in (2, 3, 4, 5)):
            await self._hold(side, self.customer(), amount)
        elif kind == 1:
            account, held, available = await self._answered(lambda: side.admission.held(self.tenant, self.customer()))
            assert available == (account.balance if account is not None else 0) - held
        elif kind == 6:
            await self.use(self.customer(), draw.randrange(NANOS // 10), None)
        elif kind == 7:
            await self.deposit(self.customer(), draw.randrange(5 * NANOS))
        else:
            assert hold_id is not None
            known = self.holds[hold_id]
            if kind == 2:
                await self._extend(side, hold_id, known, draw.choice([0, draw.randrange(NANOS)]))
            elif kind == 3:
                known.over = True
                answer = await self._answered(lambda: side.settlements.release(self.tenant, hold_id))
                self._ended(answer)
            elif kind == 4:
                known.over = True
                await self._settle(side, hold_id, draw.randrange(2 * known.amount + 10))
            else:
                known.over = draw.random() < 0.7
                await self.use(known.customer, draw.randrange(2 * known.amount + 10), hold_id, final=known.over)

    async def _hold(self, side: Side, customer: str, amount: int) -> None:
        hold_id = f"hold-{self.random.randrange(10**12)}"
        answer = await self._answered(
            lambda: side.admission.hold(self.tenant, customer, Ask(AmountAsk(amount)), hold_id, 3_600)
        )
        if isinstance(answer, Denial):
            self.seen[answer.reason] += 1
            return
        self.seen["granted"] += 1
        self.holds[hold_id] = Known(customer, answer.amount)
        assert answer.available is not None
        assert answer.available >= 0, answer

    async def _extend(self, side: Side, hold_id: str, known: Known, amount: int) -> None:
        """A generation names what is extended, so that asking again extends once."""
        generation = known.generation
        try:
            answer: Standing | Denial | None = await self._answered(
                lambda: side.admission.extend(self.tenant, hold_id, 3_600, amount=amount, generation=generation)
            )
        except Conflict:
            answer = await self._answered(lambda: side.admission.find(self.tenant, hold_id))
        if isinstance(answer, Standing) and answer.state == "open":
            known.generation = max(known.generation, answer.generation)
            known.amount = max(known.amount, answer.amount)
            self.seen["extended"] += answer.generation > generation

    async def _settle(self, side: Side, hold_id: str, amount: int) -> None:
        answer = await self._answered(lambda: side.settlements.settle(self.tenant, hold_id, Settlement(amount=amount)))
        while isinstance(answer, Operation):
            await asyncio.sleep(0.1)
            answer = await self._answered(lambda: side.settlements.release(self.tenant, hold_id))
        self._ended(answer)

    def _ended(self, answer: Standing | None) -> None:
        self.seen[answer.state if answer is not None else "forgotten"] += 1

    async def _answered(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Asks until there is an answer."""
        deadline = time.monotonic() + DECIDED_SECONDS
        while True:
            try:
                return await ask()
            except Unavailable:
                self.seen["unavailable"] += 1
                assert time.monotonic() < deadline, "no answer came"
                await asyncio.sleep(0.05)

    async def _send(
        self, topic: str, kind: str, event_id: str, customer: str, data: dict[str, Any], amount: int
    ) -> None:
        self.sent[event_id] = customer, amount
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": "holders",
            "type": kind,
            "subject": customer,
            "tenantid": self.tenant,
            "data": data,
        }
        await self.sides[0].publisher.put(Record(topic, customer.encode(), orjson.dumps(event)), event_id)

    async def consistent(self) -> None:
        """In Redis, at any moment: what is held under a name is the sum of what open holds hold of it."""
        for number in range(len(BALANCES)):
            try:
                fields = await self.redis.hgetall(self._key(f"h{number}"))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - Redis is away: redis-py has many words for it
                self.seen[type(error).__name__] += 1
                return
            held: Counter[str] = Counter()
            counted: dict[str, int] = {}
            for name, value in fields.items():
                kind, _, rest = name.decode().partition(":")
                if kind == "h":
                    hold = unpack_hold(value)
                    held.update(dict(zip(hold.names, map(int, hold.amounts), strict=True)))
                elif kind == "c":
                    counted[rest] = int(value)
            assert counted == {name: amount for name, amount in held.items() if amount}, fields
            self.seen["looks"] += 1

    def _key(self, customer: str) -> str:
        return f"{{{self.made.home_of(customer)}}}:h:{account_key(self.tenant, customer)}"

    async def rows(self) -> list[dict[str, Any]]:
        """What the ledger has of our customers, partition by partition in its order."""
        found: list[dict[str, Any]] = []
        for number, (offset, seq) in self.starts.items():
            end = (await ledger.tail(self.made.bootstrap, number)).end_offset
            async for _, record in ledger.read(self.made.bootstrap, number, offset, end, next_seq=seq):
                found += [row for row in rows(record) if row["tenant"] == self.tenant]
        return found

    async def decided(self) -> list[dict[str, Any]]:
        """The ledger's rows once each event has one."""
        await self.sides[0].publisher.flush()
        deadline = time.monotonic() + DECIDED_SECONDS
        while True:
            found = await self.rows()
            missing = self.sent.keys() - {row["event_id"] for row in found}
            if not missing:
                return found
            assert time.monotonic() < deadline, (
                f"{len(missing)} events are not decided, {sorted(missing)[:3]} among them"
            )
            await asyncio.sleep(0.2)

    async def end(self) -> None:
        """Everybody lets go, and nothing is held; the ledger is audited."""
        await self.decided()
        for hold_id, known in self.holds.items():
            answer = await self._answered(
                lambda hold_id=hold_id: self.sides[0].settlements.release(self.tenant, hold_id)  # type: ignore[misc]
            )
            assert answer is None or answer.state != "open", (hold_id, known, answer)
        faults = self._audit(await self.decided())
        for number in range(len(BALANCES)):
            account, held, available = await self._answered(
                lambda number=number: self.sides[1].admission.held(self.tenant, f"h{number}")  # type: ignore[misc]
            )
            mine = -sum(amount for customer, amount in self.sent.values() if customer == f"h{number}")
            mine -= sum(amount for hold, amount in self.charged.items() if self.holds[hold].customer == f"h{number}")
            balance = account.balance if account is not None else 0
            if (balance, held, available) != (mine, 0, mine):
                faults.append(
                    f"h{number}: balance {balance}, held {held}, available {available}, not {mine}, 0, {mine}"
                )
            fields = await self.redis.hgetall(self._key(f"h{number}"))  # type: ignore[misc]
            left = [name for name in fields if name[:2] != b"e:"]
            if left:
                faults.append(f"h{number}: {left[:3]} is left")
            for name, value in fields.items():
                hold_id, state = name.decode()[2:], unpack_ended(value).state
                if (state == "settled") != (hold_id in self.ended_by_ledger):
                    faults.append(f"{hold_id} is {state}; by the ledger it ended: {hold_id in self.ended_by_ledger}")
        assert faults == [], faults[:10]

    def _audit(self, found: list[dict[str, Any]]) -> list[str]:
        faults: list[str] = []
        entries: Counter[str] = Counter()
        balances: defaultdict[str, int] = defaultdict(int)
        beyond: defaultdict[str, int] = defaultdict(int)
        for side in self.sides:
            for hold_id, amount in side.store.brought_back.items():
                beyond[self.holds[hold_id].customer] += amount
        left = {hold_id: known.amount for hold_id, known in self.holds.items()}
        self.ended_by_ledger: set[str] = set()
        self.charged: dict[str, int] = {}
        for row in found:
            # A command that was not answered is sent again, and is a duplicate then.
            entries[row["event_id"]] += row["event_id"] in self.sent or row["outcome"] == "rated"
            customer, charge = row["customer"], -sum(posting["amount"] for posting in row["postings"])
            balances[customer] -= charge
            if row["event_id"] in self.sent:
                if row["outcome"] == "duplicate" and row["reason"] == "hold_settled":
                    self.sent[row["event_id"]] = customer, 0  # the settlement was the charge
                elif row["outcome"] != "rated":
                    faults.append(f"{row['event_id']} is {row['outcome']}: {row['reason']}")
                if charge != self.sent[row["event_id"]][1]:
                    faults.append(f"{row['event_id']} moved {charge}, not {self.sent[row['event_id']]}")
            elif row["outcome"] == "rated":
                self.charged[row["hold_ends"][0]["hold_id"]] = charge
            covered = 0
            for end in row["hold_ends"]:
                hold_id = end["hold_id"]
                if hold_id in self.ended_by_ledger:
                    faults.append(f"{hold_id} ended twice")
                covered = min(left.get(hold_id, 0), max(charge, 0))
                left[hold_id] = left.get(hold_id, 0) - covered
                if end["state"] != "open":
                    self.ended_by_ledger.add(hold_id)
            beyond[customer] += max(charge, 0) - covered
            if balances[customer] + beyond[customer] < 0:
                faults.append(f"{customer} at {balances[customer]}, {beyond[customer]} was used beyond holds: {row}")
        faults += [f"{event_id} has {count} entries" for event_id, count in entries.items() if count > 1]
        return faults


@asynccontextmanager
async def holders(made: Scene, seed: int) -> AsyncIterator[Holders]:
    """Customers with their first credits, and two clients."""
    tenant = f"{made.tenant}-held"
    await catalogue.apply(made.bootstrap, from_document(CATALOGUE), tenant, time.time_ns() // 1_000)
    book = PriceBook()
    for version in await catalogue.read_all(made.bootstrap):
        book.add(version)
    redis_url = str(made.settings.redis_url)
    sides, closing = [], []

    async def partitions() -> int:
        return made.partitions

    async def nothing(*_: str) -> None:
        return None

    for _ in range(2):
        publisher = Publisher(made.bootstrap)
        store, outbox, accounts = Store(redis_url), Outbox(publisher, sheet_of), RedisAccounts(redis_url)
        admission = Admission(store, made.partitions, book, journal=HoldJournal(outbox))
        commands = Commands(publisher, accounts, partitions, nothing)
        sides.append(Side(admission, Settlements(admission, commands), store, publisher))
        closing += [outbox.close, admission.close, accounts.close, publisher.close]
    redis: Redis = Redis.from_url(redis_url)
    found = Holders(made, tenant, sides, redis, random.Random(seed))
    for number in range(made.partitions):
        tail = await ledger.tail(made.bootstrap, number)
        found.starts[number] = tail.end_offset, tail.last.next_seq if tail.last is not None else None
    try:
        await found.grant()
        yield found
    finally:
        for close in (*closing, redis.aclose):
            await close()


async def storm(found: Holders, tasks: int, operations: int, faults: Callable[[], Awaitable[None]]) -> None:
    """So many random things by so many tasks while `faults` goes on; then everything ends and is audited."""
    done = asyncio.Event()

    async def asking() -> None:
        for _ in range(operations // tasks):
            await found.one()

    async def looking() -> None:
        while not done.is_set():
            await found.consistent()
            await asyncio.sleep(0.05)

    beside = asyncio.create_task(looking())
    breaking = asyncio.create_task(faults())  # type: ignore[arg-type]
    try:
        await asyncio.gather(*(asking() for _ in range(tasks)))
        await breaking
    finally:
        done.set()
        breaking.cancel()
        await beside
    await found.end()
    print(dict(found.seen))
