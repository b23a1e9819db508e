"""Closes billing periods: reads rated rows up to a stated seq, builds invoices, and has the log draft them.

Page by page of customers, each in memory that does not depend on how many charges it has. Whatever runs how often makes
one invoice: its id is made of what it is for, and the log refuses a draft that was built upon anything older than the
customer's billing document. A draft that stands unchanged is not sent again, one that is final is left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from invoicing.by_day import Day, day_asks, days_of
from invoicing.drafting import alike, draft_command
from invoicing.material import (
    Standing,
    check_bound,
    currency_of,
    draft_data,
    late_asks,
    standing_of,
    subscription_ids,
    usage_asks,
)
from invoicing.periods import ending_in
from invoicing.stores import Commanding, Reader, Rows
from invoicing.summary import Summary
from invoicing.usage_rows import PriceSum
from rating.book import CompiledCatalogue, PriceBook
from schemas import invoicing_commands as types
from schemas.account import account_key, new_account, unpack_account
from schemas.commands import Command
from schemas.documents import COUNTER, CUSTOMER, INVOICE, SUBSCRIPTION, decode_body, document_key
from schemas.errors import InvalidInput, Unavailable
from schemas.ids import partition_of
from schemas.invoice import PERIODIC, money_of, period_from
from schemas.period import DAY, Period
from streams.commands import DONE, PENDING, Operation

PAGE: Final = 200
"""Customers read and built together."""

AT_ONCE: Final = 32
"""Drafts on their way."""

LOOK_BACK: Final = 32 * DAY
"""Customers with charges since so long before the window may have a month that ends in it."""

PERIODS_MAX: Final = 64
"""Of one customer in one window."""

STALE_TRIES: Final = 5
"""How often an invoice is built again because something came between."""

SETTLE_SECONDS: Final = 30.0
"""How long the outcome of a draft, or rows up to the stated position, are waited for."""

Progress = Callable[[str], None]


class Closer:
    """Builds invoices of periods and has them drafted."""

    def __init__(
        self,
        rows: Rows,
        reader: Reader,
        commands: Commanding,
        book: PriceBook,
        partitions: int,
        ledger_ends: Callable[[Sequence[int]], Awaitable[Mapping[int, int]]],
        now: Callable[[], int],
    ) -> None:
        self._rows = rows
        self._reader = reader
        self._commands = commands
        self._book = book
        self._partitions = partitions
        self._ledger_ends = ledger_ends
        self._now = now
        self._places = asyncio.Semaphore(AT_ONCE)

    async def close(
        self,
        window: Period,
        *,
        tenant: str = "",
        customer: str = "",
        due_only: bool = False,
        progress: Progress = lambda _: None,
    ) -> Summary:
        """Closes every billing period that ends in the window (after its start, up to its end) of all customers, or of
        one. `due_only`: only what has ended by the customer's own time."""
        summary = Summary()
        reached = await self.position(
            [partition_of(customer, self._partitions)] if customer else range(self._partitions)
        )
        if customer and tenant:
            await self._page(tenant, [customer], window, reached, summary, due_only)
            return summary
        after = ("", "")
        while True:
            page = await asyncio.to_thread(
                self._rows.customers, after, window.start - LOOK_BACK, window.end, PAGE, tenant
            )
            if not page:
                return summary
            for of in sorted({name for name, _ in page}):
                named = [
                    one for name, one in page
                    if name == of and not one.startswith("tollgate:") and customer in ("", one)
                ]  # fmt: skip
                await self._page(of, named, window, reached, summary, due_only)
            after = page[-1]
            progress(f"{summary.customers} customers, {summary.drafted} invoices drafted")

    async def position(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """The ledger's ends now, once ClickHouse has all below them. Errors: Unavailable."""
        wanted = await self._ledger_ends(partitions)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            there = await asyncio.to_thread(self._rows.ends)
            if all(there.get(partition, 0) >= end for partition, end in wanted.items()):
                return wanted
            if time.monotonic() > deadline:
                raise Unavailable(f"rows in ClickHouse did not reach the ledger within {SETTLE_SECONDS:.0f} s")
            await asyncio.sleep(0.1)

    async def upcoming(self, tenant: str, customer: str, period: Period) -> dict[str, Any] | None:
        """The invoice of a period as it would be now; nothing is kept of it."""
        reached = await asyncio.to_thread(self._rows.ends)
        standing = (await self.standings(tenant, [customer]))[customer]
        used, late = await self._sums(tenant, {customer: (standing, period)}, reached)
        data = self._built(standing, period, used, late, reached)
        body: dict[str, Any] | None = data["invoice"] if data is not None else None
        return body

    async def standings(self, tenant: str, customers: Sequence[str]) -> dict[str, Standing]:
        """How customers stand: accounts and documents."""
        by_partition: dict[int, list[str]] = {}
        for name in customers:
            by_partition.setdefault(partition_of(name, self._partitions), []).append(name)
        accounts = {}
        for partition, names in by_partition.items():
            _, packed = await self._reader.snapshot(partition, [account_key(tenant, name) for name in names])
            for name, value in zip(names, packed, strict=True):
                accounts[name] = unpack_account(value) if value is not None else new_account(tenant, name)
        wanted = [(COUNTER, types.billing_id(name)) for name in customers] + [(CUSTOMER, name) for name in customers]
        wanted += [(SUBSCRIPTION, one) for name in customers for one in subscription_ids(accounts[name])]
        found = await self.documents(tenant, wanted)
        return {
            name: standing_of(
                tenant,
                accounts[name],
                found.get((COUNTER, types.billing_id(name))),
                found.get((CUSTOMER, name)),
                [
                    body
                    for one in subscription_ids(accounts[name])
                    if (body := found.get((SUBSCRIPTION, one))) is not None and body["customer"] == name
                ],
                partition_of(name, self._partitions),
            )
            for name in customers
        }

    async def documents(self, tenant: str, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """Documents by kind and id, those there are."""
        bodies = await self._reader.documents(
            self._partitions, [document_key(tenant, kind, name) for kind, name in wanted]
        )
        return {key: decode_body(body) for key, body in zip(wanted, bodies, strict=True) if body is not None}

    async def _page(
        self,
        tenant: str,
        customers: Sequence[str],
        window: Period,
        reached: Mapping[int, int],
        summary: Summary,
        due_only: bool,
    ) -> None:
        """Closes a page of customers: the first period of each, then the second, for the one builds upon the other."""
        summary.customers += len(customers)
        todo: dict[str, list[Period]] = {}
        standings = await self.standings(tenant, customers)
        for name, standing in standings.items():
            until = standing.account.clock or self._now()
            periods = [
                period
                for period in list(ending_in(standing.account.spans, window))[:PERIODS_MAX]
                if not due_only or period.end <= until
            ]
            if periods:
                todo[name] = periods
        tries = dict.fromkeys(todo, 0)
        while todo:
            asked = {name: (standings[name], periods[0]) for name, periods in todo.items()}
            used, late = await self._sums(tenant, asked, reached)
            drafts = await self._existing(tenant, asked)
            done = await asyncio.gather(
                *(
                    self._one(standings[name], period, used, late, reached, drafts.get(name), summary)
                    for name, (_, period) in asked.items()
                )
            )
            for name, settled in zip(asked, done, strict=True):
                tries[name] += 1
                if settled or tries[name] >= STALE_TRIES:
                    tries[name] = 0
                    todo[name] = todo[name][1:]
            todo = {name: periods for name, periods in todo.items() if periods}
            if todo:
                standings = await self.standings(tenant, list(todo))

    async def _sums(
        self, tenant: str, asked: Mapping[str, tuple[Standing, Period]], reached: Mapping[int, int]
    ) -> tuple[dict[str, list[PriceSum]], dict[str, list[PriceSum]]]:
        asks, late = [], []
        for standing, period in asked.values():
            to_seq = reached.get(standing.partition, 0)
            currency = currency_of(standing, self._catalogue(standing, period))
            asks += usage_asks(standing, currency, period, to_seq)
            late += late_asks(standing, currency, period, to_seq)
        return (
            _by_customer(await asyncio.to_thread(self._rows.sums, tenant, asks)),
            _by_customer(await asyncio.to_thread(self._rows.sums, tenant, late)),
        )

    async def _existing(self, tenant: str, asked: Mapping[str, tuple[Standing, Period]]) -> dict[str, dict[str, Any]]:
        """Drafts that stand of the periods asked about."""
        wanted = {
            name: one["id"]
            for name, (standing, _) in asked.items()
            for one in standing.billing["invoices"]
            if one["state"] == "draft"
        }
        if not wanted:
            return {}
        ids = [one["id"] for name in wanted for one in asked[name][0].billing["invoices"] if one["state"] == "draft"]
        found = await self.documents(tenant, [(INVOICE, one) for one in ids])
        drafts: dict[str, dict[str, Any]] = {}
        for (_, invoice_id), body in found.items():
            drafts.setdefault(body["customer"], {})[invoice_id] = body
        return drafts

    def _built(
        self,
        standing: Standing,
        period: Period,
        used: Mapping[str, list[PriceSum]],
        late: Mapping[str, list[PriceSum]],
        reached: Mapping[int, int],
    ) -> dict[str, Any] | None:
        name = standing.account.customer
        return draft_data(
            standing,
            self._catalogue(standing, period),
            period,
            used.get(name, ()),
            late.get(name, ()),
            reached.get(standing.partition, 0),
            standing.account.clock or self._now(),
        )

    def _catalogue(self, standing: Standing, period: Period) -> CompiledCatalogue | None:
        return self._book.catalogue(standing.tenant, self._book.position, period.end - 1)

    async def _one(
        self,
        standing: Standing,
        period: Period,
        used: Mapping[str, list[PriceSum]],
        late: Mapping[str, list[PriceSum]],
        reached: Mapping[int, int],
        drafts: Mapping[str, Any] | None,
        summary: Summary,
    ) -> bool:
        """Builds and drafts one invoice; False where it has to be built again."""
        data = self._built(standing, period, used, late, reached)
        if data is None:
            summary.periods += 1
            summary.empty += 1
            return True
        check_bound(data)
        body = data["invoice"]
        stands = (drafts or {}).get(body["id"])
        if stands is not None and alike(stands, data):
            summary.unchanged += 1
        else:
            async with self._places:
                operation = await self.settled(draft_command(standing, data))
            if operation.reason == "stale":
                return False
            summary.drafted += operation.status == DONE
        summary.periods += 1
        summary.lines += len(body["lines"])
        summary.totals[body["currency"]] = summary.totals.get(body["currency"], 0) + money_of(body, "total")
        if len(summary.invoices) < 1_000:
            summary.invoices.append((standing.tenant, body["id"]))
        return True

    async def settled(self, command: Command) -> Operation:
        """What became of a command, waited for. Errors: Unavailable, InvalidInput for one that is no command."""
        operation = await self._commands.run(command)
        deadline = time.monotonic() + SETTLE_SECONDS
        while operation.status == PENDING:
            if time.monotonic() > deadline:
                raise Unavailable(f"{command.type} of {command.customer} is not decided after {SETTLE_SECONDS:.0f} s")
            await asyncio.sleep(0.2)
            found = await self._commands.find(command.tenant, command.id, operation.partition, operation.offset)
            operation = found if found is not None else operation
        if operation.status == "invalid":
            raise InvalidInput(operation.reason, operation.detail)
        return operation

    async def finalize(
        self, tenant: str, invoice_id: str, due_days: int | None = None, *, refresh: bool = True
    ) -> dict[str, Any]:
        """Brings a draft up to date and finalizes it; the invoice, with its number. Errors: InvalidInput `not_found`,
        `state`."""
        body = await self.invoice(tenant, invoice_id)
        if body["state"] != "draft":
            raise InvalidInput("state", f"invoice {invoice_id} is {body['state']}, not a draft")
        if refresh and body["kind"] in PERIODIC and not body.get("numbering"):
            period = period_from(body["period"])
            reached = await self.position([partition_of(body["customer"], self._partitions)])
            for _ in range(STALE_TRIES):
                standings = await self.standings(tenant, [body["customer"]])
                asked = {body["customer"]: (standings[body["customer"]], period)}
                used, late = await self._sums(tenant, asked, reached)
                drafts = await self._existing(tenant, asked)
                standing = standings[body["customer"]]
                if await self._one(standing, period, used, late, reached, drafts.get(body["customer"]), Summary()):
                    break
            body = await self.invoice(tenant, invoice_id)
        takes = body.get("takes")
        data: dict[str, Any] = {"invoice_id": invoice_id}
        if takes:
            data["subscription_id"] = takes["subscription_id"]
        if due_days is not None:
            data["due_days"] = due_days
        if not body.get("numbering"):
            command = Command(tenant, body["customer"], types.INVOICE_FINALIZE, f"finalize:{invoice_id}", data)
            operation = await self.settled(command)
            if operation.status != DONE and operation.reason != "state":
                raise InvalidInput(operation.reason, operation.detail)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            body = await self.invoice(tenant, invoice_id)
            if body["state"] != "draft":
                return body
            if time.monotonic() > deadline:
                raise Unavailable(f"invoice {invoice_id} has no number after {SETTLE_SECONDS:.0f} s")
            await asyncio.sleep(0.02)

    async def void(self, tenant: str, invoice_id: str, reason: str = "") -> dict[str, Any]:
        """Voids an invoice; the invoice. Errors: InvalidInput `not_found`, `state`, `paid`."""
        body = await self.invoice(tenant, invoice_id)
        takes = body.get("takes")
        data: dict[str, Any] = {"invoice_id": invoice_id, "reason": reason or None}
        if takes:
            data["subscription_id"] = takes["subscription_id"]
        command = Command(
            tenant,
            body["customer"],
            types.INVOICE_VOID,
            f"void:{invoice_id}",
            {name: value for name, value in data.items() if value is not None},
        )
        operation = await self.settled(command)
        if operation.status != DONE:
            raise InvalidInput(operation.reason, operation.detail)
        return await self.invoice(tenant, invoice_id)

    async def days(self, tenant: str, body: Mapping[str, Any]) -> list[Day]:
        """The usage that an invoice billed, day by day. Errors: Unavailable."""
        asks = day_asks(body)
        sums = await asyncio.to_thread(self._rows.sums, tenant, asks) if asks else []
        compiled = self._book.catalogue(tenant, self._book.position, period_from(body["period"]).end - 1)
        meters = compiled.catalog.meters if compiled is not None else ()
        return days_of(sums, body, {meter.id: meter.name for meter in meters if meter.name})

    async def invoice(self, tenant: str, invoice_id: str) -> dict[str, Any]:
        """An invoice's document. Errors: InvalidInput `not_found`."""
        found = await self.documents(tenant, [(INVOICE, invoice_id)])
        if not found:
            raise InvalidInput("not_found", f"there is no invoice {invoice_id!r}")
        return found[INVOICE, invoice_id]


def _by_customer(sums: Sequence[PriceSum]) -> dict[str, list[PriceSum]]:
    found: dict[str, list[PriceSum]] = {}
    for one in sums:
        found.setdefault(one.customer, []).append(one)
    return found
