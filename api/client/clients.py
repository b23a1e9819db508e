"""The two clients: the same calls, waited for or awaited. See the package for their use and errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from types import TracebackType
from typing import Any, Final

import httpx

from api.client import calls
from api.client.calls import SOURCE, Call, new_key
from api.client.errors import ApiError, Away, NotFound
from api.client.shared import (
    PATIENCE_SECONDS,
    TIMEOUT_SECONDS,
    Answer,
    Number,
    Shared,
    When,
    answer_of,
    least_of,
    span_of,
)
from api.client.values import Balance, Check, Hold, Invoice, Operation, Plan, Quota, Subscription, Usage

_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=100)
"""All are kept: beyond 20, which httpx keeps by itself, it closes what is idle for a moment and connects again. Of 50
tasks with 40 calls each: 57 to 69 connections instead of 338 to 1,361."""


class Client(Shared):
    """Waits for its answers. Not for several threads at once."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(token, patience_seconds)
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds, transport=transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives connections back."""
        self._http.close()

    def _do(self, call: Call[Answer]) -> Answer:
        since, attempt = time.monotonic(), 0
        while True:
            try:
                return answer_of(call, self._http.request(**self._request(call)))
            except httpx.TransportError as error:
                failed: ApiError = Away(0, "no_answer", f"no answer: {type(error).__name__}")
            except ApiError as error:
                failed = error
            time.sleep(self._pause(failed, attempt, since))
            attempt += 1

    def plans(self) -> list[Plan]:
        """All plans of the catalogue."""
        return self._do(calls.plans())

    def plan(self, plan_id: str) -> Plan:
        """One plan. Errors: NotFound."""
        return self._do(calls.plan(plan_id))

    def subscription(self, customer: str) -> Subscription | None:
        """A customer's subscription; None without one."""
        try:
            return self._do(calls.subscription(customer))
        except NotFound:
            return None

    def has_active_subscription(self, customer: str) -> bool:
        """Whether the customer is served by a subscription."""
        found = self.subscription(customer)
        return found is not None and found.is_active

    def create_subscription(
        self, customer: str, plan_id: str, *, key: str | None = None, **options: Any
    ) -> Subscription:
        """Subscribes a customer to a plan."""
        return self._do(calls.create_subscription(customer, plan_id, options, key or new_key()))

    def upgrade_subscription(
        self, customer: str, plan_id: str, when: When = "now", *, key: str | None = None
    ) -> Subscription:
        """Changes the plan; what it costs now stands in the answer's `body`."""
        return self._do(calls.change_subscription(customer, plan_id, {"when": when}, key or new_key()))

    def cancel_subscription(self, customer: str, when: When = "period_end", *, key: str | None = None) -> Subscription:
        """Ends the subscription."""
        return self._do(calls.cancel_subscription(customer, when, key or new_key()))

    def record_usage(
        self,
        customer: str,
        meter: str,
        quantity: Number = 1,
        *,
        event_id: str | None = None,
        source: str = SOURCE,
        **data: Any,
    ) -> None:
        """Reports usage. The same `event_id` counts once, however often it is sent: give one that its cause has."""
        self._do(calls.record_usage(customer, meter, quantity, event_id or new_key(), source, data))

    def usage_summary(self, customer: str, period: str | None = None, **span: str) -> list[Usage]:
        """Usage and cost by meter: of a month (`2026-11`), or of `from_` and `to` (RFC 3339)."""
        return list(self._all(lambda cursor: calls.usage(customer, span_of(period, span), cursor)))

    def check_quota(self, customer: str, meter: str, quantity: Number = 1, *, user: str | None = None) -> Check:
        """Whether the customer may use so much more; changes nothing."""
        return self._do(calls.check_quota(customer, meter, quantity, user))

    def check(self, customer: str, **wish: Any) -> Check:
        """Whether something may be spent; changes nothing. What: `meter` with `quantity`, `amount`, or `event` (`type`,
        `data` with its largest counts); also `user`, `dimensions`."""
        return self._do(calls.check(customer, wish))

    def consume(
        self, customer: str, meter: str, quantity: Number = 1, *, user: str | None = None, key: str | None = None
    ) -> Check:
        """Reports usage of a plain count if it is allowed, once for a key."""
        return self._do(calls.consume(customer, meter, quantity, user, key or new_key()))

    def hold(self, customer: str, *, hold_id: str | None = None, **wish: Any) -> Hold:
        """Holds what is asked for, as in `check`; also `ttl_seconds`, `session_id`, `allocation_id`. The same call with
        the same `hold_id` is the same hold. Errors: Refused."""
        return self._do(calls.hold(customer, {"hold_id": hold_id or f"hc_{new_key()}", **wish}))

    def find_hold(self, hold_id: str) -> Hold:
        """A hold as it stands. Errors: NotFound."""
        return self._do(calls.find_hold(hold_id))

    def extend_hold(self, hold_id: str, ttl_seconds: int, *, generation: int | None = None, **more: Any) -> Hold:
        """More time from now on, and `quantity` or `amount` more. With the `generation` that it has it is done once,
        however often it is sent. Errors: Refused, and it stays as it was."""
        return self._do(calls.extend_hold(hold_id, {"ttl_seconds": ttl_seconds, "generation": generation, **more}))

    def settle_hold(self, hold_id: str, **used: Any) -> Hold:
        """Books what was used (`quantity`, `amount`, or `data` of its event) and ends the hold."""
        return self._do(calls.settle_hold(hold_id, used)) or self.find_hold(hold_id)

    def release_hold(self, hold_id: str) -> Hold:
        """Frees what was held; one that has ended keeps the state it has."""
        return self._do(calls.release_hold(hold_id))

    def remaining_quota(self, customer: str, meter: str) -> Decimal | None:
        """The least that any quota of the meter leaves; None: without limit."""
        return least_of(self._do(calls.quotas(customer)), meter)

    def quotas(self, customer: str) -> list[Quota]:
        """How all quotas of a customer stand."""
        return self._do(calls.quotas(customer))

    def balances(self, customer: str) -> list[Balance]:
        """The customer's wallet."""
        return self._do(calls.balances(customer))

    def deposit(self, customer: str, amount: Decimal | str, currency: str, *, key: str) -> Operation:
        """Puts money into the wallet, once for a key."""
        return self._do(calls.deposit(customer, amount, currency, key))

    def invoices(self, customer: str) -> list[Invoice]:
        """All invoices of a customer."""
        return list(self._all(lambda cursor: calls.invoices(customer, cursor)))

    def invoice(self, invoice_id: str) -> Invoice:
        """One invoice with its lines. Errors: NotFound."""
        return self._do(calls.invoice(invoice_id))

    def upcoming_invoice(self, customer: str) -> Invoice:
        """What the period at hand comes to so far."""
        return self._do(calls.upcoming_invoice(customer))

    def generate_invoice(self, customer: str, period: str) -> Invoice:
        """Closes a month (`2026-10`) of a customer; whoever asks how often, there is one invoice."""
        return self._do(calls.generate_invoice(customer, period))

    def _all(self, page_behind: Any) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            page = self._do(page_behind(cursor))
            yield from page
            if (cursor := page.following) is None:
                return


class AsyncClient(Shared):
    """As Client, awaited; for one event loop."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(token, patience_seconds)
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_seconds, transport=transport, limits=_LIMITS)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives connections back."""
        await self._http.aclose()

    async def _do(self, call: Call[Answer]) -> Answer:
        since, attempt = time.monotonic(), 0
        while True:
            try:
                return answer_of(call, await self._http.request(**self._request(call)))
            except httpx.TransportError as error:
                failed: ApiError = Away(0, "no_answer", f"no answer: {type(error).__name__}")
            except ApiError as error:
                failed = error
            await asyncio.sleep(self._pause(failed, attempt, since))
            attempt += 1

    async def plans(self) -> list[Plan]:
        """All plans of the catalogue."""
        return await self._do(calls.plans())

    async def plan(self, plan_id: str) -> Plan:
        """One plan. Errors: NotFound."""
        return await self._do(calls.plan(plan_id))

    async def subscription(self, customer: str) -> Subscription | None:
        """A customer's subscription; None without one."""
        try:
            return await self._do(calls.subscription(customer))
        except NotFound:
            return None

    async def has_active_subscription(self, customer: str) -> bool:
        """Whether the customer is served by a subscription."""
        found = await self.subscription(customer)
        return found is not None and found.is_active

    async def create_subscription(
        self, customer: str, plan_id: str, *, key: str | None = None, **options: Any
    ) -> Subscription:
        """Subscribes a customer to a plan."""
        return await self._do(calls.create_subscription(customer, plan_id, options, key or new_key()))

    async def upgrade_subscription(
        self, customer: str, plan_id: str, when: When = "now", *, key: str | None = None
    ) -> Subscription:
        """Changes the plan; what it costs now stands in the answer's `body`."""
        return await self._do(calls.change_subscription(customer, plan_id, {"when": when}, key or new_key()))

    async def cancel_subscription(
        self, customer: str, when: When = "period_end", *, key: str | None = None
    ) -> Subscription:
        """Ends the subscription."""
        return await self._do(calls.cancel_subscription(customer, when, key or new_key()))

    async def record_usage(
        self,
        customer: str,
        meter: str,
        quantity: Number = 1,
        *,
        event_id: str | None = None,
        source: str = SOURCE,
        **data: Any,
    ) -> None:
        """Reports usage. The same `event_id` counts once, however often it is sent: give one that its cause has."""
        await self._do(calls.record_usage(customer, meter, quantity, event_id or new_key(), source, data))

    async def usage_summary(self, customer: str, period: str | None = None, **span: str) -> list[Usage]:
        """Usage and cost by meter: of a month (`2026-11`), or of `from_` and `to` (RFC 3339)."""
        return [row async for row in self._all(lambda cursor: calls.usage(customer, span_of(period, span), cursor))]

    async def check_quota(self, customer: str, meter: str, quantity: Number = 1, *, user: str | None = None) -> Check:
        """Whether the customer may use so much more; changes nothing."""
        return await self._do(calls.check_quota(customer, meter, quantity, user))

    async def check(self, customer: str, **wish: Any) -> Check:
        """Whether something may be spent; changes nothing. What: `meter` with `quantity`, `amount`, or `event` (`type`,
        `data` with its largest counts); also `user`, `dimensions`."""
        return await self._do(calls.check(customer, wish))

    async def consume(
        self, customer: str, meter: str, quantity: Number = 1, *, user: str | None = None, key: str | None = None
    ) -> Check:
        """Reports usage of a plain count if it is allowed, once for a key."""
        return await self._do(calls.consume(customer, meter, quantity, user, key or new_key()))

    async def hold(self, customer: str, *, hold_id: str | None = None, **wish: Any) -> Hold:
        """Holds what is asked for, as in `check`; also `ttl_seconds`, `session_id`, `allocation_id`. The same call with
        the same `hold_id` is the same hold. Errors: Refused."""
        return await self._do(calls.hold(customer, {"hold_id": hold_id or f"hc_{new_key()}", **wish}))

    async def find_hold(self, hold_id: str) -> Hold:
        """A hold as it stands. Errors: NotFound."""
        return await self._do(calls.find_hold(hold_id))

    async def extend_hold(self, hold_id: str, ttl_seconds: int, *, generation: int | None = None, **more: Any) -> Hold:
        """More time from now on, and `quantity` or `amount` more. With the `generation` that it has it is done once,
        however often it is sent. Errors: Refused, and it stays as it was."""
        return await self._do(
            calls.extend_hold(hold_id, {"ttl_seconds": ttl_seconds, "generation": generation, **more})
        )

    async def settle_hold(self, hold_id: str, **used: Any) -> Hold:
        """Books what was used (`quantity`, `amount`, or `data` of its event) and ends the hold."""
        return await self._do(calls.settle_hold(hold_id, used)) or await self.find_hold(hold_id)

    async def release_hold(self, hold_id: str) -> Hold:
        """Frees what was held; one that has ended keeps the state it has."""
        return await self._do(calls.release_hold(hold_id))

    async def remaining_quota(self, customer: str, meter: str) -> Decimal | None:
        """The least that any quota of the meter leaves; None: without limit."""
        return least_of(await self._do(calls.quotas(customer)), meter)

    async def quotas(self, customer: str) -> list[Quota]:
        """How all quotas of a customer stand."""
        return await self._do(calls.quotas(customer))

    async def balances(self, customer: str) -> list[Balance]:
        """The customer's wallet."""
        return await self._do(calls.balances(customer))

    async def deposit(self, customer: str, amount: Decimal | str, currency: str, *, key: str) -> Operation:
        """Puts money into the wallet, once for a key."""
        return await self._do(calls.deposit(customer, amount, currency, key))

    async def invoices(self, customer: str) -> list[Invoice]:
        """All invoices of a customer."""
        return [row async for row in self._all(lambda cursor: calls.invoices(customer, cursor))]

    async def invoice(self, invoice_id: str) -> Invoice:
        """One invoice with its lines. Errors: NotFound."""
        return await self._do(calls.invoice(invoice_id))

    async def upcoming_invoice(self, customer: str) -> Invoice:
        """What the period at hand comes to so far."""
        return await self._do(calls.upcoming_invoice(customer))

    async def generate_invoice(self, customer: str, period: str) -> Invoice:
        """Closes a month (`2026-10`) of a customer; whoever asks how often, there is one invoice."""
        return await self._do(calls.generate_invoice(customer, period))

    async def _all(self, page_behind: Any) -> AsyncIterator[Any]:
        cursor: str | None = None
        while True:
            page = await self._do(page_behind(cursor))
            for row in page:
                yield row
            if (cursor := page.following) is None:
                return
