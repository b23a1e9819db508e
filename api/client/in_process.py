"""Checks, consumption and holds without HTTP, for a service beside Redis and Kafka: a hold is one script call.

    async with in_process("acme", kafka="127.0.0.1:9092", redis="redis://…") as tollgate:
        hold = await tollgate.hold("cust-42", event={"type": "session.tokens_used", "data": {...}})

The calls, their answers and their errors are those of AsyncClient; what is asked is judged by the API's own code. There
is no token: whoever reaches the stores may ask for any tenant. Nothing is repeated by itself: Away says that it may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

from api.asking import ask_of, generation_in, hold_id_in, more_in, settlement_in, ttl_in
from api.client import calls
from api.client.errors import ApiError, Away, BadRequest, Contradiction, NotFound, Refused
from api.client.shared import Number
from api.client.values import Check, Fault, Hold
from api.consuming import consume
from api.problems import status_of, status_of_denial
from ingest.publish import Publisher
from rating.book import PriceBook
from schemas.errors import Conflict, InvalidInput, TollgateError
from schemas.ids import check_id
from schemas.money import NANOS
from streams import catalogue, ledger
from streams.accounts.redis import RedisAccounts
from streams.admission.answers import Denial, Standing
from streams.admission.client import Admission, OnError
from streams.admission.denials import DenialLog
from streams.admission.journal import HoldJournal, sheet_of
from streams.admission.outbox import Outbox
from streams.admission.settlement import Settlements
from streams.admission.store import HoldStore
from streams.commands import Commands, Operation

TIMEOUT_SECONDS: Final = 0.25
"""How long Redis may take to answer."""


class InProcessClient:
    """Made by `in_process`. One event loop; any number of tasks."""

    def __init__(self, tenant: str, admission: Admission, settlements: Settlements, publisher: Publisher) -> None:
        self._tenant = tenant
        self._admission = admission
        self._settlements = settlements
        self._publisher = publisher

    async def check_quota(self, customer: str, meter: str, quantity: Number = 1, *, user: str | None = None) -> Check:
        """See AsyncClient."""
        return await self._check(calls.check_quota(customer, meter, quantity, user).body)

    async def check(self, customer: str, **wish: Any) -> Check:
        """See AsyncClient."""
        return await self._check(calls.wished(customer, wish))

    async def consume(
        self, customer: str, meter: str, quantity: Number = 1, *, user: str | None = None, key: str | None = None
    ) -> Check:
        """See AsyncClient."""
        key = key or calls.new_key()
        body = calls.consume(customer, meter, quantity, user, key).body
        with _TOLD:
            asked = check_id(body.get("customer"), "/customer"), ask_of(body), check_id(key, "/key")
            publish = self._publisher.publish
            return Check.of((await consume(self._admission, publish, self._tenant, *asked)).document())

    async def hold(self, customer: str, *, hold_id: str | None = None, **wish: Any) -> Hold:
        """See AsyncClient. Without a `hold_id` it is given one that is found fastest."""
        body = calls.wished(customer, {"hold_id": hold_id, **wish})
        with _TOLD:
            asked = check_id(body.get("customer"), "/customer"), ask_of(body), hold_id_in(body), ttl_in(body)
            return _hold(await self._admission.hold(self._tenant, *asked))

    async def find_hold(self, hold_id: str) -> Hold:
        """See AsyncClient."""
        with _TOLD:
            return _hold(await self._admission.find(self._tenant, hold_id))

    async def extend_hold(self, hold_id: str, ttl_seconds: int, *, generation: int | None = None, **more: Any) -> Hold:
        """See AsyncClient."""
        body = calls.extend_hold(hold_id, {"ttl_seconds": ttl_seconds, "generation": generation, **more}).body
        with _TOLD:
            asked = ttl_in(body), *more_in(body), generation_in(body)
            return _hold(await self._admission.extend(self._tenant, hold_id, *asked))

    async def settle_hold(self, hold_id: str, **used: Any) -> Hold:
        """See AsyncClient."""
        with _TOLD:
            settlement = settlement_in(calls.settle_hold(hold_id, used).body)
            answer = await self._settlements.settle(self._tenant, hold_id, settlement)
        return await self.find_hold(hold_id) if isinstance(answer, Operation) else _hold(answer)

    async def release_hold(self, hold_id: str) -> Hold:
        """See AsyncClient."""
        with _TOLD:
            return _hold(await self._settlements.release(self._tenant, hold_id))

    async def held(self, customer: str) -> Decimal:
        """How much money open holds of a customer hold."""
        with _TOLD:
            return Decimal((await self._admission.held(self._tenant, customer))[1]) / NANOS

    async def _check(self, body: dict[str, Any]) -> Check:
        with _TOLD:
            customer = check_id(body.get("customer"), "/customer")
            return Check.of((await self._admission.check(self._tenant, customer, ask_of(body))).document())


@asynccontextmanager
async def in_process(
    tenant: str, *, kafka: str, redis: str, timeout_seconds: float = TIMEOUT_SECONDS, on_error: OnError = "deny"
) -> AsyncIterator[InProcessClient]:
    """A client on the stores at these addresses; `on_error` is what a check answers where it cannot know."""
    book = PriceBook()
    for version in await catalogue.read_all(kafka):
        book.add(version)
    count = await ledger.partition_count(kafka)
    publisher, accounts = Publisher(kafka), RedisAccounts(redis, timeout_seconds)
    outbox = Outbox(publisher, sheet_of)
    admission = Admission(
        HoldStore(redis, timeout_seconds),
        count,
        book,
        journal=HoldJournal(outbox),
        denials=DenialLog(outbox),
        on_error=on_error,
    )

    async def partitions() -> int:
        return count

    commands = Commands(publisher, accounts, partitions, _archived)
    following = asyncio.create_task(catalogue.keep_up(kafka, redis, book, asyncio.Event()), name="catalogue")
    try:
        yield InProcessClient(tenant, admission, Settlements(admission, commands), publisher)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await outbox.close()
        await admission.close()
        await accounts.close()
        await publisher.close()


async def _archived(tenant: str, kind: str, document_id: str) -> bytes | None:
    """What Redis no longer knows (of settlements, after 24 hours) is not looked for: that would take ClickHouse."""
    return None


class _Told:
    """Errors of the core as the errors of clients."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TollgateError):
            raise _error_of(error) from error


_TOLD: Final = _Told()


def _error_of(error: TollgateError) -> ApiError:
    status = status_of(error)
    match error:
        case InvalidInput():
            return BadRequest(status, error.reason, error.detail, (Fault(error.pointer, error.reason),))
        case Conflict():
            return Contradiction(status, error.reason, error.detail)
        case _:
            return Away(status, "unavailable", str(error))


def _hold(answer: Standing | Denial | None) -> Hold:
    if answer is None:
        raise NotFound(404, "not_found", "there is no hold with this id")
    if isinstance(answer, Denial):
        raise Refused(status_of_denial(answer.reason), answer.reason, answer.detail, (), answer.id)
    return Hold.of(answer.document())
