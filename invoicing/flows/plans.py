"""Plans as flows ask for them: the customer's from its account, the tenant's from the catalogue in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rating.book import PriceBook
from schemas.account import account_key, unpack_account
from schemas.catalog_shapes import Plan
from schemas.ids import partition_of
from streams.accounts.port import Accounts


class KnownPlans:
    """The Plans port. `now` in microseconds."""

    def __init__(
        self, book: PriceBook, accounts: Accounts, partitions: Callable[[], Awaitable[int]], now: Callable[[], int]
    ) -> None:
        self._book = book
        self._accounts = accounts
        self._partitions = partitions
        self._now = now

    async def plan_of(self, tenant: str, customer: str) -> str:
        """See the port."""
        partition = partition_of(customer, await self._partitions())
        _, packed = await self._accounts.peek(partition, account_key(tenant, customer))
        if packed is None:
            return ""
        account = unpack_account(packed)
        return account.plan_at(account.clock or self._now())

    def plans(self, tenant: str) -> tuple[tuple[Plan, ...], str]:
        """See the port."""
        compiled = self._book.catalogue(tenant, self._book.position)
        return (compiled.catalog.plans, compiled.currency) if compiled is not None else ((), "")
