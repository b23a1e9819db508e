"""Closes billing periods: reads rated rows up to a stated seq, builds invoices, and has the log draft them.

Page by page of customers, each in memory that does not depend on how many charges it has. Whatever runs how often makes
one invoice: its id is made of what it is for, and the log refuses a draft that was built upon anything older than the
customer's billing document. A draft that stands unchanged is not sent again, one that is final is left alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from invoicing.by_day import Day, day_asks, days_of
from invoicing.drafting import alike, draft_command, finalize_command, is_draft_of, void_command
from invoicing.material import (
    Standing,
    before_asks,
    check_bound,
    currency_of,
    draft_data,
    late_asks,
    usage_asks,
)
from invoicing.periods import ending_in
from invoicing.settling import SETTLE_SECONDS, LedgerEnds, Settling, caught_up
from invoicing.standings import documents, standings
from invoicing.stores import Commanding, Reader, Rows
from invoicing.summary import Summary
from invoicing.usage_rows import PriceSum, by_customer
from rating.book import CompiledCatalogue, PriceBook
from schemas.commands import Command
from schemas.documents import INVOICE
from schemas.errors import InvalidInput, Unavailable
from schemas.ids import partition_of
from schemas.invoice import FINAL, PERIODIC, period_from
from schemas.period import DAY, Period
from streams.commands import DONE, Operation

PAGE: Final = 200
"""Customers read and built together."""

LISTED: Final = 10_000
"""Names of customers that are asked for together: finding them is a look at all entries."""

AT_ONCE: Final = 32
"""Invoices that are finalized together."""

LOOK_BACK: Final = 32 * DAY
"""Customers with charges since so long before the window may have a month that ends in it."""

PERIODS_MAX: Final = 64
"""Of one customer in one window."""

STALE_TRIES: Final = 5
"""How often an invoice is built again because something came between."""

Progress = Callable[[str], None]
Page = Callable[[Sequence[tuple[str, str]]], Awaitable[object]]
"""Is given tenants and ids of the drafts of a page of customers."""


class Sums(NamedTuple):
    """Charges of the periods that are closed, by customer."""

    used: Mapping[str, Sequence[PriceSum]]
    """Those to bill."""
    late: Mapping[str, Sequence[PriceSum]]
    """Of earlier periods."""
    before: Mapping[str, Sequence[PriceSum]]
    """Those that were billed while the period ran."""


class Closer:
    """Builds invoices of periods and has them drafted."""

    def __init__(
        self,
        rows: Rows,
        reader: Reader,
        commands: Commanding,
        book: PriceBook,
        partitions: int,
        ledger_ends: LedgerEnds,
        now: Callable[[], int],
    ) -> None:
        self.rows = rows
        self._reader = reader
        self._settling = Settling(commands)
        self._book = book
        self.partitions = partitions
        self._ledger_ends = ledger_ends
        self.now = now
        self._places = asyncio.Semaphore(AT_ONCE)

    async def close(
        self,
        window: Period,
        *,
        tenant: str = "",
        customer: str = "",
        due_only: bool = False,
        progress: Progress = lambda _: None,
        drafted: Page | None = None,
    ) -> Summary:
        """Closes every billing period that ends in the window (after its start, up to its end) of all customers, or of
        one. `due_only`: only what has ended by the customer's own time. `drafted` is awaited after each page."""
        summary = Summary()
        reached = await self.position([partition_of(customer, self.partitions)] if customer else range(self.partitions))
        if customer and tenant:
            await self._page(tenant, [customer], window, reached, summary, due_only)
            await _hand_over(summary, drafted)
            return summary
        after = ("", "")
        while True:
            listed = await asyncio.to_thread(
                self.rows.customers, after, window.start - LOOK_BACK, window.end, LISTED, tenant
            )
            if not listed:
                return summary
            for of in sorted({name for name, _ in listed}):
                named = [
                    one for name, one in listed
                    if name == of and not one.startswith("tollgate:") and customer in ("", one)
                ]  # fmt: skip
                for start in range(0, len(named), PAGE):
                    await self._page(of, named[start : start + PAGE], window, reached, summary, due_only)
                    await _hand_over(summary, drafted)
                    progress(f"{summary.customers} customers, {summary.drafted} invoices drafted")
            after = listed[-1]

    async def position(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """See `caught_up`."""
        return await caught_up(self.rows, self._ledger_ends, partitions)

    async def upcoming(self, tenant: str, customer: str, period: Period) -> dict[str, Any] | None:
        """The invoice of a period as it would be now; nothing is kept of it."""
        reached = await asyncio.to_thread(self.rows.ends)
        standing = (await self.standings(tenant, [customer]))[customer]
        data = self._built(standing, period, await self._sums(tenant, {customer: (standing, period)}, reached), reached)
        body: dict[str, Any] | None = data["invoice"] if data is not None else None
        return body

    async def standings(self, tenant: str, customers: Sequence[str]) -> dict[str, Standing]:
        """How customers stand: accounts and documents."""
        return await standings(self._reader, self.partitions, tenant, customers)

    async def documents(self, tenant: str, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """Documents by kind and id, those there are."""
        return await documents(self._reader, self.partitions, tenant, wanted)

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
            until = standing.account.clock or self.now()
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
            sums = await self._sums(tenant, asked, reached)
            drafts = await self._existing(tenant, asked)
            done = await self._draft(
                [(standings[name], period, drafts.get(name, {})) for name, (_, period) in asked.items()],
                sums,
                reached,
                summary,
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
    ) -> Sums:
        used, late, before = [], [], []
        for standing, period in asked.values():
            to_seq = reached.get(standing.partition, 0)
            currency = currency_of(standing, self.catalogue(standing, period))
            used += usage_asks(standing, currency, period, to_seq)
            late += late_asks(standing, currency, period, to_seq)
            before += before_asks(standing, currency, period)
        return Sums(
            *[by_customer(await asyncio.to_thread(self.rows.sums, tenant, asks)) for asks in (used, late, before)]
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
        sums: Sums,
        reached: Mapping[int, int],
    ) -> dict[str, Any] | None:
        name = standing.account.customer
        return draft_data(
            standing,
            self.catalogue(standing, period),
            period,
            sums.used.get(name, ()),
            sums.late.get(name, ()),
            sums.before.get(name, ()),
            reached.get(standing.partition, 0),
            standing.account.clock or self.now(),
        )

    def catalogue(self, standing: Standing, period: Period) -> CompiledCatalogue | None:
        """The tenant's catalogue at the end of a period."""
        return self._book.catalogue(standing.tenant, self._book.position, period.end - 1)

    async def _draft(
        self,
        asked: Sequence[tuple[Standing, Period, Mapping[str, Any]]],
        sums: Sums,
        reached: Mapping[int, int],
        summary: Summary,
    ) -> list[bool]:
        """Builds and drafts one invoice each, with the drafts that a customer has; False where it has to be built
        again. A draft of which nothing is left is void."""
        commands: list[Command] = []
        bodies: list[tuple[Standing, dict[str, Any]]] = []
        done = [True] * len(asked)
        sent: list[int] = []
        for place, (standing, period, drafts) in enumerate(asked):
            summary.periods += 1
            data = self._built(standing, period, sums, reached)
            if data is None:
                summary.empty += 1
                for name, stands in drafts.items():
                    if is_draft_of(stands, period):
                        await self.void(standing.tenant, name, "nothing is left to bill")
                continue
            check_bound(data)
            stands = drafts.get(data["invoice"]["id"])
            if stands is not None and alike(stands, data):
                summary.unchanged += 1
            else:
                sent.append(place)
                commands.append(draft_command(standing, data))
            bodies.append((standing, data["invoice"]))
        for place, operation in zip(sent, await self._settling.all(commands), strict=True):
            done[place] = operation.reason != "stale"
            summary.drafted += operation.status == DONE
        stale = {asked[place][0].account.customer for place, fine in enumerate(done) if not fine}
        for standing, body in bodies:
            if standing.account.customer in stale:
                summary.periods -= 1
                continue
            summary.add(standing.tenant, body)
        return done

    async def settled(self, command: Command) -> Operation:
        """What became of a command, waited for. Errors: Unavailable, InvalidInput for one that is no command."""
        return await self._settling.one(command)

    async def finalize(
        self, tenant: str, invoice_id: str, due_days: int | None = None, *, refresh: bool = True
    ) -> dict[str, Any]:
        """Brings a draft up to date and finalizes it; the invoice, with its number. One that is final already, by
        whomever, is answered as it stands. Errors: InvalidInput `not_found`, `state` (of a void one)."""
        body = await self.invoice(tenant, invoice_id)
        if body["state"] in FINAL:
            return body
        if body["state"] != "draft":
            raise InvalidInput("state", f"invoice {invoice_id} is {body['state']}, not a draft")
        if refresh and body["kind"] in PERIODIC and not body.get("numbering"):
            period = period_from(body["period"])
            reached = await self.position([partition_of(body["customer"], self.partitions)])
            for _ in range(STALE_TRIES):
                standings = await self.standings(tenant, [body["customer"]])
                asked = {body["customer"]: (standings[body["customer"]], period)}
                sums = await self._sums(tenant, asked, reached)
                drafts = await self._existing(tenant, asked)
                own = [(standings[body["customer"]], period, drafts.get(body["customer"], {}))]
                if all(await self._draft(own, sums, reached, Summary())):
                    break
            body = await self.invoice(tenant, invoice_id)
            if body["state"] == "void":
                raise InvalidInput("state", f"invoice {invoice_id} is void: nothing is left to bill")
        if not body.get("numbering"):
            operation = await self.settled(finalize_command(tenant, body, due_days))
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

    async def finalize_all(self, invoices: Sequence[tuple[str, str]], *, refresh: bool = True) -> int:
        """Finalizes drafts by tenant and id; how many of them it was. Those that are drafts no more are left alone."""

        async def each(tenant: str, own: Sequence[str]) -> int:
            done = 0
            async with self._places:
                for invoice_id in own:  # one after the other: what the first bills the next does not
                    try:
                        await self.finalize(tenant, invoice_id, refresh=refresh)
                        done += 1
                    except InvalidInput as refused:
                        if refused.reason not in ("state", "not_found"):
                            raise
            return done

        customers: dict[tuple[str, str], list[str]] = {}
        for tenant in sorted({of for of, _ in invoices}):
            found = await self.documents(tenant, [(INVOICE, name) for of, name in invoices if of == tenant])
            drafts = [body for body in found.values() if body["state"] == "draft"]
            for body in sorted(drafts, key=lambda one: (one["period"]["end"], one["id"])):
                customers.setdefault((tenant, body["customer"]), []).append(body["id"])
        return sum(await asyncio.gather(*(each(tenant, own) for (tenant, _), own in customers.items())))

    async def void(self, tenant: str, invoice_id: str, reason: str = "") -> dict[str, Any]:
        """Voids an invoice; the invoice. Errors: InvalidInput `not_found`, `state`."""
        for tried in range(1, STALE_TRIES + 1):
            body = await self.invoice(tenant, invoice_id)
            operation = await self.settled(void_command(tenant, body, reason))
            if operation.status == DONE:
                break
            if operation.reason != "stale" or tried == STALE_TRIES:
                raise InvalidInput(operation.reason, operation.detail)
        return await self.invoice(tenant, invoice_id)

    async def days(self, tenant: str, body: Mapping[str, Any]) -> list[Day]:
        """The usage that an invoice billed, day by day. Errors: Unavailable."""
        asks = day_asks(body)
        sums = await asyncio.to_thread(self.rows.sums, tenant, asks) if asks else []
        compiled = self._book.catalogue(tenant, self._book.position, period_from(body["period"]).end - 1)
        meters = compiled.catalog.meters if compiled is not None else ()
        return days_of(sums, body, {meter.id: meter.name for meter in meters if meter.name})

    async def invoice(self, tenant: str, invoice_id: str) -> dict[str, Any]:
        """An invoice's document. Errors: InvalidInput `not_found`."""
        found = await self.documents(tenant, [(INVOICE, invoice_id)])
        if not found:
            raise InvalidInput("not_found", f"there is no invoice {invoice_id!r}")
        return found[INVOICE, invoice_id]


async def _hand_over(summary: Summary, drafted: Page | None) -> None:
    page = summary.take_page()
    if drafted is not None and page:
        await drafted(page)
