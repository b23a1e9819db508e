"""Closing and jobs without stores: what a closer asks ClickHouse and Redis, answered from a partition in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from invoicing.close import Closer
from invoicing.jobs import Jobs
from invoicing.usage_rows import Ask, PriceSum
from schemas import invoicing_commands as types
from schemas.account import account_key, pack_account
from schemas.commands import Command
from schemas.documents import decode_body
from schemas.ledger import rows
from schemas.period import Period, parse_time
from streams.accounts.port import Position
from tests.fakes.commands import FakeCommands
from tests.fakes.partition import NOW, MemoryPartition, event


class FakeReader:
    """Accounts and documents as Redis has them."""

    def __init__(self, partition: MemoryPartition) -> None:
        self.partition = partition

    async def snapshot(self, partition: int, keys: Sequence[str]) -> tuple[Position | None, list[bytes | None]]:
        accounts = self.partition.accounts
        return None, [pack_account(accounts[key]) if key in accounts else None for key in keys]

    async def documents(self, partitions: int, keys: Sequence[str]) -> list[bytes | None]:
        return [self.partition.documents.get(key) for key in keys]


class FakeRows:
    """Charges as ClickHouse has them; what the wallet paid is worked out posting by posting, in another way."""

    def __init__(self, partition: MemoryPartition) -> None:
        self.partition = partition
        self.read = 0
        self.entries: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def ends(self) -> dict[int, int]:
        self._catch_up()
        return {0: self.partition.place.seq}

    def customers(
        self, after: tuple[str, str], since: int, end: int, limit: int, tenant: str = ""
    ) -> list[tuple[str, str]]:
        self._catch_up()
        named = sorted({("default", customer) for customer in self.entries})
        return [one for one in named if one > after][:limit]

    def sums(self, tenant: str, asks: Sequence[Ask]) -> list[PriceSum]:
        self._catch_up()
        found: dict[tuple[str, Period, str, str, str, str], list[int]] = {}
        for ask in asks:
            for entry in self.entries[ask.customer]:
                if not (ask.from_seq <= entry["seq"] < ask.to_seq and entry["occurred_at"] in ask.period):
                    continue
                left = _paid(entry)
                for charge in entry["charges"]:
                    key = (
                        ask.customer, ask.period, charge["currency"], charge["price_id"], charge["meter"],
                        charge["unit_amount"],
                    )  # fmt: skip
                    part = min(left, charge["amount"])
                    left -= part
                    sums = found.setdefault(key, [0, 0, 0, 0, 0])
                    sums[0] = max(sums[0], charge["catalog_version"])
                    for place, more in enumerate((charge["quantity"], charge["amount"], part, 1), 1):
                        sums[place] += more
        return [PriceSum(*key, *sums) for key, sums in found.items()]

    def _catch_up(self) -> None:
        decided = self.partition.decided
        for chunk in decided[self.read :]:
            for row in rows(chunk.record):
                if row["charges"] or row["postings"]:
                    self.entries[row["customer"]].append(row)
        self.read = len(decided)


def _paid(entry: Mapping[str, Any]) -> int:
    """What of an entry's charges the wallet had at or above zero."""
    paid = 0
    for posting in entry["postings"]:
        if posting["kind"] in ("charge", "correction"):
            before = posting["balance_after"] - posting["amount"]
            paid += max(before, 0) - max(posting["balance_after"], 0)
    return paid


class BillingWorld:
    """A tenant `default` whose log, close and jobs run in memory."""

    def __init__(self, catalog: str) -> None:
        self.partition = MemoryPartition(catalog)
        self.commands = FakeCommands(self.partition)
        self.rows = FakeRows(self.partition)
        self.now = NOW
        self.closer = self.another_closer()
        self.jobs = Jobs(self.closer)

    def another_closer(self) -> Closer:
        """A closer that shares nothing with the others but the stores."""

        async def ends(partitions: Sequence[int]) -> Mapping[int, int]:
            return self.rows.ends()

        return Closer(
            self.rows, FakeReader(self.partition), self.commands, self.partition.book, 1, ends, lambda: self.now
        )

    async def command(self, customer: str, event_type: str, name: str, **data: Any) -> Any:
        """A command's outcome."""
        return await self.commands.run(Command("default", customer, event_type, name, data))

    def documents(self, kind: str) -> list[dict[str, Any]]:
        """All documents of a kind."""
        found = [(key, body) for key, body in self.partition.documents.items() if key.startswith(f"{kind}:")]
        return [decode_body(body) for _, body in sorted(found)]

    def account(self, customer: str) -> Any:
        """A customer's account."""
        return self.partition.accounts[account_key("default", customer)]


class ClockWorld(BillingWorld):
    """One customer, `c`, on a test clock; what is due is done when the clock moves. A meter `calls`."""

    def __init__(self, catalog: str) -> None:
        super().__init__(catalog)
        self.names = iter(range(1_000))

    async def do(self, event_type: str, **data: Any) -> Any:
        """A command that is carried out."""
        done = await self.command(data.pop("to", "c"), event_type, f"n{next(self.names)}", **data)
        assert done.status == "done", done
        return done

    async def at(self, time: str) -> None:
        """The clock moves on; nothing is done by itself."""
        await self.do(types.CLOCK_SET, to=types.CLOCKS_CUSTOMER, clock="k", now=time, customers=["c"])

    def use(self, time: str, calls: int) -> None:
        """Usage at a time."""
        data = {"meter": "calls", "quantity": calls}
        (row,) = self.partition.usage(event(f"u{next(self.names)}", "usage.reported", data, subject="c", time=time))
        assert row["outcome"] == "rated"

    async def jobs_at(self, time: str) -> None:
        """The clock moves on, and what is due is done."""
        await self.at(time)
        await self.jobs.catch_up("default", ["c"], parse_time(time))

    def invoices(self, kind: str = "period") -> list[dict[str, Any]]:
        """Of a kind, by the end of their period."""
        found = [one for one in self.documents("invoice") if one["kind"] == kind]
        return sorted(found, key=lambda one: (one["period"]["end"], one["revision"]))
