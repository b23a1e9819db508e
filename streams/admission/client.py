"""Admission for those who ask: checks and holds, one script call each in the normal case.

In process it is the fastest way to ask; the HTTP API asks by it too. An account is kept beside its bytes, so that a
call reads nothing: the script compares the bytes, and tells the new ones where they differ. A partition is trusted as
`streams.admission.trust` says. What a denial was about is kept for 24 hours under its id.

    admission = Admission(HoldStore(redis_url, timeout_seconds=0.05), partitions, book)
    hold = await admission.hold("acme", "cust-42", Ask(EventAsk("session.tokens_used", {...})))

Errors: Unavailable while Redis is away or a partition is not whole (a check answers by `on_error` then); Conflict where
a hold's id names another hold, or its generation is another; InvalidInput for what cannot be sized.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar

import orjson

from rating.admission import MONEY, AmountAsk, Ask, Assessment, assess, buys, wallet_room
from rating.book import CompiledCatalogue, PriceBook
from rating.quotas import quota_key
from schemas.account import Account, account_key
from schemas.errors import Conflict, InvalidInput, Unavailable
from schemas.ids import partition_of
from schemas.usage_types import PRODUCT_USAGE_RECORDED, USAGE_REPORTED
from streams.admission.answers import (
    Beside,
    Checked,
    Denial,
    Standing,
    opened,
    quotas_left,
    standing_of,
    tightest,
)
from streams.admission.asking import asked_by, digest_of, more_of, new_hold, own_id
from streams.admission.denying import denial_of, refusing
from streams.admission.keys import directory_partition
from streams.admission.port import Denials, Journal
from streams.admission.seen import GrantedHolds, Seen, reach_after
from streams.admission.store import HoldStore
from streams.admission.trust import Breaker, Trust
from streams.admission.turns import HURRIES
from streams.admission.values import (
    Conflicting,
    Ended,
    Extended,
    Finished,
    Granted,
    Held,
    Hold,
    Refused,
    Same,
    Settling,
    Stale,
    Unknown,
    Untrusted,
    pack_hold,
    unpack_hold,
)

log = logging.getLogger(__name__)

TTL_SECONDS: Final = 300
TTL_MAX_SECONDS: Final = 30 * 24 * 60 * 60
ATTEMPTS: Final = 50
"""A customer whose account changes faster than one can ask, so often in a row, is not to be had."""

PATIENCE_SECONDS: Final = 1.2
"""A beat comes every half second: the first question after a start waits for one rather than be refused."""

LOOK_SECONDS: Final = 0.05
OWN_PREFIX: Final = "w:"
"""Begins the ids of holds that our own processes make for a command."""

Answer = TypeVar("Answer")
OnError = Literal["deny", "allow"]


class Admission:
    """Asks for customers of all tenants."""

    def __init__(
        self,
        store: HoldStore,
        partitions: int | Callable[[], Awaitable[int]],
        book: PriceBook,
        *,
        journal: Journal | None = None,
        denials: Denials | None = None,
        on_error: OnError = "deny",
        now: Callable[[], int] = lambda: time.time_ns() // 1_000,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`now` in microseconds: in which windows usage falls. When holds expire is Redis's own clock."""
        self.store = store
        self._partition_count = partitions
        self._book = book
        self._journal = journal
        self._denials = denials
        self._on_error = on_error
        self._now = now
        self._patience_seconds = patience_seconds
        self._trust = Trust()
        store.when_lost = self._trust.lost
        self._breaker = Breaker(time.monotonic)
        self._seen = Seen()
        self._granted = GrantedHolds()

    async def check(self, tenant: str, customer: str, ask: Ask) -> Checked:
        """Whether this may be spent now. Changes nothing."""
        try:
            partition, key = await self._where(tenant, customer)
            assessment, held = await self._look(partition, key, tenant, ask)
        except Unavailable as away:
            log.warning("%s", away)
            return Checked(self._on_error == "allow", "unavailable", None, None, None, "")
        quotas = quotas_left(assessment, held.held)
        available = assessment.room - held.held[0]
        which = refusing(assessment.bounds, held.held)
        if assessment.denied is None and which is None:
            return Checked(True, None, None, tightest(quotas), available, assessment.currency, quotas)
        denial = await self._deny(partition, tenant, customer, ask, assessment, held, which)
        quota = None
        if which is not None and assessment.bounds[which].used is not None:
            quota = quotas[sum(bound.used is not None for bound in assessment.bounds[:which])]
        return Checked(False, denial.reason, denial, quota or tightest(quotas), available, assessment.currency, quotas)

    async def hold(
        self, tenant: str, customer: str, ask: Ask, hold_id: str | None = None, ttl_seconds: int = TTL_SECONDS
    ) -> Standing | Denial:
        """Holds what is asked for. The same `hold_id` with the same words is the same hold, however it stands."""
        partition, key = await self._where(tenant, customer)
        count = await self._partitions()
        digest = digest_of(customer, ask, ttl_seconds)
        listed = True
        if hold_id is None:
            hold_id = own_id("h_", partition, count)
        elif (at := directory_partition(hold_id, count)) != partition:
            listed = False
            named = await self._ask(self.store.claim_directory(at, tenant, hold_id, key, ttl_seconds * 1000))
            if named != key:
                raise _conflict(hold_id)
        return await self._reserve(partition, key, tenant, customer, ask, hold_id, digest, ttl_seconds, listed=listed)

    async def hold_amount(
        self, tenant: str, customer: str, hold_id: str, amount: int, ttl_seconds: int = TTL_SECONDS
    ) -> Standing | Denial:
        """Holds money for a command of ours that takes it out."""
        return await self.hold_unlisted(tenant, customer, Ask(AmountAsk(amount)), hold_id, ttl_seconds)

    async def hold_unlisted(
        self, tenant: str, customer: str, ask: Ask, hold_id: str, ttl_seconds: int = TTL_SECONDS
    ) -> Standing | Denial:
        """Holds for a record of ours that names the hold beside its customer: no directory need know it."""
        partition, key = await self._where(tenant, customer)
        digest = digest_of(customer, ask, ttl_seconds)
        return await self._reserve(partition, key, tenant, customer, ask, hold_id, digest, ttl_seconds, listed=False)

    async def release_amount(self, tenant: str, customer: str, hold_id: str) -> None:
        """Ends a hold of `hold_amount` whose command came to nothing."""
        partition, key = await self._where(tenant, customer)
        await self._ask(self.store.end(partition, key, hold_id, "released"))
        if self._journal is not None:
            self._journal.ended(partition, key, hold_id)

    async def held(self, tenant: str, customer: str) -> tuple[Account | None, int, int]:
        """The account, what open holds hold of its wallet, and what is available, all of one moment; nanos."""
        partition, key = await self._where(tenant, customer)
        account, (held,) = await self._held(partition, key, [MONEY])
        return account, held, wallet_room(account) - held

    async def held_of_quotas(self, tenant: str, customer: str, quotas: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """What open holds hold of quotas, named by id and scope."""
        partition, key = await self._where(tenant, customer)
        return (await self._held(partition, key, [quota_key(rule, scope) for rule, scope in quotas]))[1]

    async def extend(
        self,
        tenant: str,
        hold_id: str,
        ttl_seconds: int,
        quantity: int | None = None,
        amount: int | None = None,
        generation: int | None = None,
    ) -> Standing | Denial | None:
        """Gives a hold more time, and more to hold; None where there is no such hold. An ended one stays as it is."""
        found = await self._find(tenant, hold_id)
        if found is None:
            return None
        partition, key, customer, hold = found
        if isinstance(hold, Ended):
            return standing_of(hold_id, customer, hold)
        ask = more_of(hold, quantity, amount)
        for _ in range(ATTEMPTS):
            seen, account = self._seen.account(key)
            now = self._time_of(account)
            catalogue = self._catalogue(tenant, now)
            assessment = assess(account, catalogue, ask, now, self._seen.reach(key))
            if assessment.denied is not None:
                return await self._deny(
                    partition, tenant, customer, ask, *await self._look(partition, key, tenant, ask), None
                )
            answer = await self._ask(
                self.store.extend(
                    partition, key, seen, self._trust.of(partition), hold_id, generation, ttl_seconds * 1000,
                    assessment.bounds, self._terms_bytes(key, assessment),
                )
            )  # fmt: skip
            match answer:
                case Extended():
                    self._trust.saw(partition, answer.offset)
                    if answer.moved is not None:
                        self._seen.take(key, answer.moved)
                        account = self._seen.account(key)[1]
                        assessment = assess(account, catalogue, ask, now)
                    self._remember(partition, key, tenant, hold_id, pack_hold(answer.hold))
                    self._seen.take_reach(key, assessment, answer.held)
                    # More money may be wanted of no meter; what is left buys what the hold is for.
                    whole = assessment
                    with suppress(InvalidInput):  # the prices it was sized by may be gone
                        whole = assess(account, catalogue, asked_by(hold), now, self._seen.reach(key))
                    beside = _beside(assessment, answer.held, whole)
                    return standing_of(hold_id, customer, answer.hold, beside)
                case Refused():
                    if not self._seen.take_reach_of(key, assessment, answer):
                        return await self._deny(partition, tenant, customer, ask, assessment, answer, answer.which)
                case Finished():
                    return standing_of(hold_id, customer, answer.ended)
                case Unknown():
                    return None
                case Conflicting():
                    raise Conflict("conflict", f"the hold {hold_id!r} has another generation or is being settled")
                case _:
                    await self._again(partition, key, answer)
        raise _restless(key)

    async def release(self, tenant: str, hold_id: str) -> Standing | None:
        """Ends a hold and frees what it held; one that has ended keeps the state it has. None: there is none."""
        found = await self._find(tenant, hold_id)
        if found is None:
            return None
        partition, key, customer, _ = found
        answer = await self._ask(self.store.end(partition, key, hold_id, "released"))
        if isinstance(answer, Unknown):
            return None
        if isinstance(answer, Settling):
            return standing_of(hold_id, customer, answer.hold)
        self._granted.forget(tenant, hold_id)
        if answer.now and self._journal is not None:
            self._journal.ended(partition, key, hold_id)
        return standing_of(hold_id, customer, answer.ended)

    async def find(self, tenant: str, hold_id: str) -> Standing | None:
        """How a hold stands; None where there is none, nor was in the last 24 hours."""
        found = await self._find(tenant, hold_id)
        return standing_of(hold_id, found[2], found[3]) if found is not None else None

    async def settling(
        self, tenant: str, hold_id: str, digest: str, amount: int | None, least_ms: int
    ) -> tuple[str, Settling | Finished] | None:
        """Says that a settlement is on its way (an empty digest: that it is not, after all); the customer and how the
        hold stands, None where there is none."""
        found = await self._find(tenant, hold_id)
        if found is None:
            return None
        partition, key, customer, _ = found
        answer = await self._ask(self.store.settling(partition, key, hold_id, digest, amount, least_ms))
        return None if isinstance(answer, Unknown) else (customer, answer)

    async def account(self, tenant: str, customer: str) -> Account | None:
        """A customer's account as of the last applied entry."""
        return (await self.held(tenant, customer))[0]

    def event_type_of(self, tenant: str, meter: str | None) -> str | None:
        """The type of the events that a meter measures; None where there is no such meter."""
        catalogue = self._catalogue(tenant, self._now())
        found = catalogue.meter(meter) if catalogue is not None and meter is not None else None
        if found is None:
            return None
        return USAGE_REPORTED if found.event_type == PRODUCT_USAGE_RECORDED else found.event_type

    async def denial(self, tenant: str, denial_id: str) -> dict[str, Any] | None:
        """What a denial was about; None after 24 hours."""
        at = directory_partition(denial_id, await self._partitions())
        kept = await self._ask(self.store.denial(at, tenant, denial_id))
        document: dict[str, Any] | None = orjson.loads(kept) if kept is not None else None
        return document

    async def close(self) -> None:
        """Gives connections back."""
        await self.store.close()

    # -- how

    async def _reserve(
        self,
        partition: int,
        key: str,
        tenant: str,
        customer: str,
        ask: Ask,
        hold_id: str,
        digest: str,
        ttl_seconds: int,
        *,
        listed: bool,
    ) -> Standing | Denial:
        for _ in range(ATTEMPTS):
            seen, account = self._seen.account(key)
            now = self._time_of(account)
            catalogue = self._catalogue(tenant, now)
            assessment = assess(account, catalogue, ask, now, self._seen.reach(key))
            if assessment.denied is not None and self._trust.of(partition).ledger_id:
                looked = await self._look(partition, key, tenant, ask)
                if looked[0].denied is not None:
                    return await self._deny(partition, tenant, customer, ask, *looked, None)
                continue
            hold, asked = new_hold(digest, ask, assessment)
            answer = await self._ask(
                self.store.reserve(
                    partition, key, seen, self._trust.of(partition), hold_id, hold, ttl_seconds * 1000,
                    assessment.bounds, tenant if listed else None, self._terms_bytes(key, assessment),
                )
            )  # fmt: skip
            match answer:
                case Granted():
                    self._trust.saw(partition, answer.offset)
                    if answer.moved is not None:  # what is told is told of the account that stands
                        self._seen.take(key, answer.moved)
                        account = self._seen.account(key)[1]
                        assessment = assess(account, catalogue, ask, now)
                    self._remember(partition, key, tenant, hold_id, answer.packed)
                    self._seen.take_reach(key, assessment, answer.held)
                    beside = _beside(assessment, answer.held, assessment)
                    return opened(hold_id, customer, hold, answer.expires_ms, beside, asked)
                case Refused():
                    if not self._seen.take_reach_of(key, assessment, answer):
                        return await self._deny(partition, tenant, customer, ask, assessment, answer, answer.which)
                case Same():
                    beside = _beside(assessment, answer.held, assessment)
                    return standing_of(hold_id, customer, answer.hold, beside)
                case Conflicting():
                    raise _conflict(hold_id)
                case _:
                    await self._again(partition, key, answer)
        raise _restless(key)

    async def _held(self, partition: int, key: str, names: list[str]) -> tuple[Account | None, tuple[int, ...]]:
        """The account, and what is held under some names, at one moment."""
        for _ in range(ATTEMPTS):
            seen, account = self._seen.account(key)
            answer = await self._ask(self.store.check(partition, key, seen, self._trust.of(partition), names))
            if isinstance(answer, Held):
                self._trust.saw(partition, answer.offset)
                return account, answer.held
            await self._again(partition, key, answer)
            if isinstance(answer, Stale):
                HURRIES.set(False)
                return self._seen.account(key)[1], answer.held
        raise _restless(key)

    async def _look(self, partition: int, key: str, tenant: str, ask: Ask) -> tuple[Assessment, Held]:
        """What an ask comes to, and what is held of it, at one moment."""
        for _ in range(ATTEMPTS):
            seen, account = self._seen.account(key)
            reach, now = self._seen.reach(key), self._time_of(account)
            assessment = assess(account, self._catalogue(tenant, now), ask, now, reach)
            names = [bound.name for bound in assessment.bounds]
            answer = await self._ask(self.store.check(partition, key, seen, self._trust.of(partition), names))
            if not isinstance(answer, Held):
                await self._again(partition, key, answer)
                if not isinstance(answer, Stale):
                    continue
                # What is held was told beside the account that stands: it need not be asked again for the same names.
                account = self._seen.account(key)[1]
                now = self._time_of(account)
                assessment = assess(account, self._catalogue(tenant, now), ask, now, reach)
                if names != [bound.name for bound in assessment.bounds]:
                    continue
                HURRIES.set(False)
                answer = Held(answer.offset, answer.held)
            self._trust.saw(partition, answer.offset)
            if all(
                bound.kind != "reach" or (reach or {}).get(bound.name, 0) >= held
                for bound, held in zip(assessment.bounds, answer.held, strict=True)
            ):
                return assessment, answer
            self._seen.take_reach(key, assessment, answer.held)
        raise _restless(key)

    async def _again(self, partition: int, key: str, answer: Stale | Untrusted) -> None:
        """Takes in why a call has to be made again, and waits where only time helps. Raises Unavailable."""
        if isinstance(answer, Stale):
            HURRIES.set(True)
            self._trust.saw(partition, answer.offset)
            self._seen.take(key, answer.account)
            return
        deadline = time.monotonic() + self._patience_seconds
        while not self._trust.judge(partition, answer):
            if not answer.serving or time.monotonic() >= deadline:
                raise Unavailable(f"partition {partition} of the accounts is not served")
            await asyncio.sleep(LOOK_SECONDS)
            found = await self._ask(self.store.check(partition, key, None, self._trust.of(partition), ()))
            if not isinstance(found, Untrusted):
                return
            answer = found

    async def _find(self, tenant: str, hold_id: str) -> tuple[int, str, str, Hold | Ended] | None:
        """Partition, account key and customer of a hold, and how it stands; what this process granted and Redis lost is
        brought back."""
        count = await self._partitions()
        at = directory_partition(hold_id, count)
        key = await self._ask(self.store.directory(at, tenant, hold_id))
        granted = self._granted.find(tenant, hold_id)
        if key is None and granted is None:
            return None
        key = key or granted[0] if granted is not None else key
        assert key is not None
        customer = key[len(account_key(tenant, "")) :]
        partition = partition_of(customer, count)
        hold = await self._ask(self.store.read(partition, key, hold_id))
        if isinstance(hold, Unknown):
            if granted is None:
                return None
            beside = tenant if at == partition else None
            hold = unpack_hold(granted[1])
            if not await self._ask(self.store.restore(partition, key, hold_id, hold, beside)):
                return None
        return partition, key, customer, hold

    async def _deny(
        self,
        partition: int,
        tenant: str,
        customer: str,
        ask: Ask,
        assessment: Assessment,
        held: Held,
        which: int | None,
    ) -> Denial:
        denial_id = own_id("d_", partition, await self._partitions())
        account = self._seen.account(account_key(tenant, customer))[1]
        denial = denial_of(denial_id, tenant, customer, ask, assessment, held, which, account, partition, self._now())
        await self._ask(self.store.keep_denial(partition, tenant, denial.id, orjson.dumps(denial.document())))
        if self._denials is not None:
            self._denials.denied(denial)
        return denial

    def _remember(self, partition: int, key: str, tenant: str, hold_id: str, packed: bytes) -> None:
        self._granted.remember(tenant, hold_id, key, packed)
        if self._journal is not None:
            self._journal.opened(partition, key, hold_id, packed)

    def _terms_bytes(self, key: str, assessment: Assessment) -> int | None:
        """Of an account that may move by money and counts without changing what an ask comes to, else None."""
        return None if assessment.counts_on_periods else self._seen.terms_bytes(key)

    def _time_of(self, account: Account | None) -> int:
        """A customer's own now: of its test clock, where it lives on one."""
        return account.clock if account is not None and account.clock else self._now()

    def _catalogue(self, tenant: str, now: int) -> CompiledCatalogue | None:
        return self._book.catalogue(tenant, self._book.position, now)

    async def _where(self, tenant: str, customer: str) -> tuple[int, str]:
        return partition_of(customer, await self._partitions()), account_key(tenant, customer)

    async def _partitions(self) -> int:
        count = self._partition_count
        return count if isinstance(count, int) else await count()

    async def _ask(self, call: Awaitable[Answer]) -> Answer:
        try:
            self._breaker.admit()
        except Unavailable:
            if asyncio.iscoroutine(call):
                call.close()
            raise
        try:
            answer = await call
        except Unavailable:
            self._breaker.failed()
            self._trust.lost()
            raise
        self._breaker.succeeded()
        if not isinstance(answer, Stale):
            HURRIES.set(False)
        return answer


def _beside(assessment: Assessment, held: tuple[int, ...], whole: Assessment) -> Beside:
    available, reach = assessment.room - held[0], reach_after(assessment, held)
    return Beside(available, quotas_left(assessment, held), buys(whole, available, reach))


def _conflict(hold_id: str) -> Conflict:
    return Conflict("conflict", f"{hold_id!r} names another hold")


def _restless(key: str) -> Unavailable:
    return Unavailable(f"the account {key!r} changed faster than it could be asked about")
