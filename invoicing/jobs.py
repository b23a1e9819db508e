"""What falls due by itself: renewals, recurring credits, closes, finalization after the grace, attempts to collect,
overdue, expiry of credits and orders.

Every job asks what is due by now and sends commands for it, whose ids are made of what they are for: a job that runs
twice, late, or dies half-way does nothing twice, and a run that was missed is caught up by the next. Now is the
customer's own: of one on a test clock the clock's. Rows may tell of what is due a moment before they tell of the clock,
and an order that expired does not come back: so whoever acts asks the account for its clock first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from invoicing.close import Closer
from invoicing.usage_rows import UsageRows
from rating.subscription_document import from_document
from rating.subscriptions import LIVE
from schemas import commands as wallet
from schemas import invoicing_commands as types
from schemas.account import Account, unpack_account
from schemas.commands import Command
from schemas.documents import INVOICE, SUBSCRIPTION
from schemas.invoice import money_of
from schemas.period import DAY, Period, format_time, parse_time
from streams.accounts.redis import RedisAccounts
from streams.commands import DONE

ATTEMPT_DAYS: Final = (1, 3, 5, 7)
"""After finalization: when an invoice that is not paid is tried again."""

UNCOLLECTIBLE_DAYS: Final = 60
"""After its due time."""

CATCH_UP: Final = 62 * DAY
"""Periods that ended so long ago are still closed by themselves."""

GRACE: Final = 1 * DAY
"""How long after its end a period waits for late usage before its invoice is final."""

RENEWALS_MAX: Final = 600
"""Of one subscription in one run: years that are caught up month by month."""

AT_ONCE: Final = 32


class Jobs:
    """The jobs about customers, by their documents."""

    def __init__(self, closer: Closer, grace: int = GRACE) -> None:
        self._closer = closer
        self._grace = grace
        self._places = asyncio.Semaphore(AT_ONCE)

    async def renew(self, found: Iterable[tuple[str, str, str]], now: int) -> int:
        """Renews subscriptions, by tenant, customer and id, as often as is due; how many times in all."""
        done = await asyncio.gather(*(self._renew(*one, now) for one in found))
        return sum(done)

    async def close(self, now: int, tenant: str = "", customer: str = "") -> int:
        """Closes every period that has ended; how many invoices were drafted."""
        window = Period(max(now - CATCH_UP, 0), now)
        summary = await self._closer.close(window, tenant=tenant, customer=customer, due_only=True)
        return summary.drafted

    async def finalize(self, found: Iterable[tuple[str, Mapping[str, Any], int]]) -> int:
        """Finalizes drafts, by tenant, document and the customer's now, whose grace is over; how many."""
        drafts = [one for one in found if one[1]["state"] == "draft"]
        early = await asyncio.gather(
            *(
                self._is_early(tenant, body["customer"], parse_time(body["period"]["end"]) + self._grace, now)
                for tenant, body, now in drafts
            )
        )
        return await self._closer.finalize_all(
            [(tenant, body["id"]) for (tenant, body, _), waits in zip(drafts, early, strict=True) if not waits]
        )

    async def collect(self, found: Iterable[tuple[str, Mapping[str, Any], int]]) -> int:
        """Attempts, overdue, uncollectible: whatever is due of invoices that are owed; how many commands."""
        done = await asyncio.gather(*(self._collect(*one) for one in found))
        return sum(done)

    async def expire_orders(self, found: Iterable[tuple[str, str, str, int]], now: int) -> int:
        """Expires unpaid orders, by tenant, customer, id and when their time is over; how many."""
        done = await asyncio.gather(*(self._expire_order(*one, now) for one in found))
        return sum(done)

    async def catch_up(self, tenant: str, customers: Sequence[str], now: int) -> None:
        """Everything that is due for customers by now, in order, until nothing is."""
        for customer in customers:
            await self._told(tenant, customer, now)
            await self._send(tenant, customer, wallet.CUSTOMER_TICK, f"tick:{customer}:{now}"[:200], {})
            while True:
                standing = (await self._closer.standings(tenant, [customer]))[customer]
                subscriptions = [(tenant, customer, one.id) for one in standing.subscriptions]
                acted = await self.renew(subscriptions, now)
                window = Period(max(now - CATCH_UP, 0), now)
                if any(one.period.end > 0 for one in standing.subscriptions):
                    window = Period(min(window.start, *(one.started_at for one in standing.subscriptions)), now)
                acted += (await self._closer.close(window, tenant=tenant, customer=customer, due_only=True)).drafted
                listed = [one["id"] for one in standing.billing["invoices"]]
                invoices = await self._closer.documents(tenant, [(INVOICE, one) for one in listed])
                told = [(tenant, body, now) for body in invoices.values()]
                acted += await self.finalize(told)
                acted += await self.collect(told)
                if not acted:
                    break

    async def _told(self, tenant: str, customer: str, now: int) -> None:
        """Waits until the customer's account has the clock's time."""
        for _ in range(500):
            standing = (await self._closer.standings(tenant, [customer]))[customer]
            if standing.account.clock >= now:
                return
            await asyncio.sleep(0.02)

    async def _renew(self, tenant: str, customer: str, subscription_id: str, now: int) -> int:
        last = 0
        for count in range(RENEWALS_MAX):
            found = await self._closer.documents(tenant, [(SUBSCRIPTION, subscription_id)])
            if not found:
                return count
            subscription = from_document(found[SUBSCRIPTION, subscription_id])
            due = subscription.next_at()
            if not due or due == last or await self._is_early(tenant, customer, due, now):
                return count
            last = due
            name = f"renew:{subscription_id}:{format_time(due)}"
            if len(name) > 200:
                name = f"renew:{hash_of(subscription_id)}:{format_time(due)}"
            data = {"subscription_id": subscription_id, "due": format_time(due)}
            if not await self._send(tenant, customer, types.SUBSCRIPTION_RENEW, name, data):
                return count
        return RENEWALS_MAX

    async def _collect(self, tenant: str, body: Mapping[str, Any], now: int) -> int:
        if body["state"] not in ("open", "overdue") or body.get("finalized_at") is None:
            return 0
        finalized, due_at = parse_time(body["finalized_at"]), parse_time(body["due_at"])
        customer, name = body["customer"], body["id"]
        sent = 0
        tried = body.get("attempt_count", 0)
        named = {"invoice_id": name}

        async def is_due(at: int) -> bool:
            return not await self._is_early(tenant, customer, at, now)

        if (
            money_of(body, "amount_due")
            and tried < len(ATTEMPT_DAYS)
            and await is_due(finalized + ATTEMPT_DAYS[tried] * DAY)
        ):
            sent += await self._send(tenant, customer, types.INVOICE_COLLECT, f"collect:{name}:{tried + 1}", named)
        if body["state"] == "open" and await is_due(due_at):
            sent += await self._send(tenant, customer, types.INVOICE_OVERDUE, f"overdue:{name}", named)
        elif body["state"] == "overdue" and await is_due(due_at + UNCOLLECTIBLE_DAYS * DAY):
            sent += await self._send(tenant, customer, types.INVOICE_UNCOLLECTIBLE, f"uncollectible:{name}", named)
        return sent

    async def _expire_order(self, tenant: str, customer: str, order_id: str, due: int, now: int) -> bool:
        if await self._is_early(tenant, customer, due, now):
            return False
        name = f"expire:{order_id}"[:200]
        return await self._send(tenant, customer, wallet.ORDER_EXPIRE, name, {"order_id": order_id})

    async def _is_early(self, tenant: str, customer: str, due: int, now: int) -> bool:
        """Whether it is not due by what rows tell of the customer's now, or by the account's own clock."""
        if due > now:
            return True
        async with self._places:
            standing = (await self._closer.standings(tenant, [customer]))[customer]
        return 0 < standing.account.clock < due

    async def _send(self, tenant: str, customer: str, event_type: str, name: str, data: dict[str, Any]) -> bool:
        async with self._places:
            operation = await self._closer.settled(Command(tenant, customer, event_type, name, data))
        return operation.status == DONE


def hash_of(text: str) -> str:
    """A short name for a long one."""
    return blake2b(text.encode(), digest_size=12).hexdigest()


class Due:
    """Where jobs find what may be due: documents in ClickHouse, accounts in Redis."""

    def __init__(self, rows: UsageRows, accounts: RedisAccounts) -> None:
        self._rows = rows
        self._accounts = accounts

    async def clocks(self) -> dict[tuple[str, str], int]:
        """Customers on test clocks, by tenant and customer: their now."""
        found = await asyncio.to_thread(self._rows.documents, "counter", "startsWith(id, 'clock:')", {})
        return {
            (tenant, customer): parse_time(body["now"])
            for tenant, _, _, text in found
            for body in (orjson.loads(text),)
            for customer in body["customers"]
        }

    async def subscriptions(self, now: int) -> list[tuple[str, str, str]]:
        """Tenant, customer and id of those for which something is due."""
        clocks = await self.clocks()
        found = await asyncio.to_thread(
            self._rows.documents,
            SUBSCRIPTION,
            "JSONExtractString(body, 'status') IN {live:Array(String)} "
            "AND parseDateTime64BestEffortOrNull(JSONExtractString(body, 'next_at'), 6, 'UTC') <= "
            "fromUnixTimestamp64Micro({now:Int64})",
            {"live": sorted(LIVE), "now": max([now, *clocks.values()])},
        )
        return [
            (tenant, customer, name)
            for tenant, customer, name, text in found
            if parse_time(orjson.loads(text)["next_at"]) <= clocks.get((tenant, customer), now)
        ]

    async def invoices(self, states: Sequence[str], now: int) -> list[tuple[str, Mapping[str, Any], int]]:
        """Tenant, document and customer's now of invoices in these states."""
        clocks = await self.clocks()
        found = await asyncio.to_thread(
            self._rows.documents,
            INVOICE,
            "JSONExtractString(body, 'state') IN {states:Array(String)}",
            {"states": list(states)},
        )
        return [
            (tenant, orjson.loads(text), clocks.get((tenant, customer), now)) for tenant, customer, _, text in found
        ]

    async def orders(self, now: int) -> list[tuple[str, str, str, int]]:
        """Tenant, customer, id and end of unpaid orders whose time is over."""
        clocks = await self.clocks()
        found = await asyncio.to_thread(
            self._rows.documents,
            "order",
            "JSONExtractString(body, 'status') IN ('created', 'payment_pending') "
            "AND JSONExtractString(body, 'expires_at') != ''",
            {},
        )
        return [
            (tenant, customer, name, expires_at)
            for tenant, customer, name, text in found
            for expires_at in (parse_time(orjson.loads(text)["expires_at"]),)
            if expires_at <= clocks.get((tenant, customer), now)
        ]

    async def expiring(self, now: int) -> list[Account]:
        """Accounts with a credit whose time is over."""
        found: list[Account] = []
        names: dict[int, list[str]] = {}
        async for partition, key in self._accounts.kept():
            names.setdefault(partition, []).append(key)
        for partition, keys in names.items():
            for start in range(0, len(keys), 500):
                _, packed = await self._accounts.snapshot(partition, keys[start : start + 500])
                for value in packed:
                    account = unpack_account(value) if value is not None else None
                    if account is not None and 0 < account.next_expiry() <= (account.clock or now):
                        found.append(account)
        return found
