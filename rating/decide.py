"""The decision: records of one partition, what stands, and a catalogue version in; ledger entries and new values out.

Pure and deterministic: no clock (times come with the records), no I/O, no float, no unordered iteration in an amount.
The order of steps for a record is the same for all: can it be read; does its customer live here; is its identity
booked; is what it claims booked; then what its type does. The accounts handed in are owned by the decision and
changed in place; if deciding raises, the caller drops them all and reads them again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from rating.book import PriceBook
from rating.charging import rate_into, settle
from rating.chunk import Chunk
from rating.counting import Counted, Unseen, unique_identities
from rating.decision import Decision, Outgoing, Standing, Unreadable
from rating.devices import is_lease
from rating.effects import EFFECTS, IDENTITIES
from rating.effects.credits import expired, moved
from rating.effects.top_up import charged
from rating.holds import ENDING, end_holds, hold_identity, settled_by_api
from rating.names import Names
from rating.plain import Plain
from rating.turn import Effect, NoEffect, Refused, Turn
from schemas.account import Account, new_account, pack_account, unpack_account
from schemas.claims import ALLOCATION, Claim
from schemas.documents import OPERATION
from schemas.errors import InvalidInput
from schemas.event import ACCOUNT_TYPES, COMMAND_PREFIX, Event
from schemas.ledger import PostingKind
from schemas.outcome import Outcome
from schemas.usage_types import DEVICE_RELEASED

CHARGEABLE = frozenset({"session.tokens_used", "device.released", "usage.reported"})
"""Types that are a dead letter when nothing measures them: not to charge them is to lose money."""

UNCHARGED = frozenset({"session.ended"})
"""Built-in types that need no meter."""


def identities_named(event: Event) -> list[bytes]:
    """All that must be looked up before an event can be decided."""
    named = [event.identity, *[claim.identity for claim in event.claims]]
    if event.type in IDENTITIES:
        named.extend(IDENTITIES[event.type](event))
    if event.hold_id is not None:
        named.append(hold_identity(event, event.hold_id))
    return named


def decide(
    names: Names,
    start: int,
    stop: int,
    standing: Standing,
    book: PriceBook,
    position: int,
    plain: Plain | None = None,
) -> Decision:
    """Decides records of a batch in their order, from `start` on and before `stop`, under the catalogues of `position`:
    as many as fit a ledger record, at least one; `decision.count` says how many. Where it needs more
    looked up it ends before that record, which may be the first: see `Decision.unseen`.

    `plain` is of the same batch; it makes no difference but in speed.
    """
    most = min(stop, len(names.received)) - start
    chunk = Chunk(most, standing, book, position)
    if plain is not None:
        plain.begin(chunk, start)

    def finish(count: int) -> Decision:
        return chunk.finish(names, start, count, plain.taken(count) if plain is not None else None)

    index = -1
    while (index := index + 1) < most:
        if plain is not None:
            if (index := plain.take(index, most)) == most:
                break
            plain.release(index)
        key = names.key(start + index)
        if not chunk.has_room(index, int(names.weights[start + index]), key):
            return finish(index)
        event = names.event(start + index)
        if isinstance(event, Unreadable):
            chunk.dead_letter(index, event.refusal)
            continue
        try:
            decide_one(chunk, index, int(names.received_at[start + index]), event, key)
        except InvalidInput as refusal:
            chunk.dead_letter(index, refusal)
        except Unseen as needs:
            chunk.cut()
            chunk.decision.unseen = needs.identities
            return finish(index)
    return finish(most)


def values_counted(names: Names, start: int, standing: Standing, book: PriceBook, position: int) -> list[bytes]:
    """What has to be looked up to count a batch's events from `start` on with `unique`, as far as their accounts now
    tell."""
    scratch = Chunk(0, standing, book, position)
    found: list[bytes] = []
    for place in range(start, len(names.received)):
        event, key = names.event(place), names.key(place)
        if isinstance(event, Unreadable) or event.type in ACCOUNT_TYPES or key in standing.elsewhere:
            continue
        account = standing.accounts.get(key) or new_account(event.tenant, event.customer)
        with suppress(InvalidInput):  # which is for deciding to find
            tariff = scratch.tariff(event, account)
            if tariff is not None and tariff.unique:
                found += unique_identities(event, account, tariff)
    return [identity for identity in found if identity not in standing.looked_up]


def internal_failure(names: Names, place: int, detail: str) -> Decision:
    """The entry of a record that our own code cannot decide: a dead letter that may be retried after a fix."""
    chunk = Chunk(1, Standing({}, {}, {}), PriceBook(), 0)
    chunk.dead_letter(0, InvalidInput("internal_error", detail))
    return chunk.finish(names, place, 1)


def decide_one(chunk: Chunk, index: int, received_at: int, event: Event, key: str) -> None:
    """Decides one event. Raises InvalidInput, before anything is changed, for what becomes a dead letter."""
    if key in chunk.elsewhere:
        chunk.ignore(index, "rerouted")
        chunk.decision.reroutes.append((index, chunk.elsewhere[key]))
        return
    stands = chunk.booked.get(event.identity)
    if stands is not None:
        if stands != event.content:
            raise InvalidInput(
                "conflict", f"id {event.id!r} of source {event.source!r} is booked with other content", "/id"
            )
        chunk.entries.outcome[index] = Outcome.DUPLICATE
        chunk.entries.reason[index] = "same_identity"
        return
    of_account = event.type in ACCOUNT_TYPES
    if event.hold_id is not None and not of_account and settled_by_api(chunk, event):
        chunk.entries.outcome[index] = Outcome.DUPLICATE
        chunk.entries.reason[index] = "hold_settled"
        return
    for claim in event.claims:
        told = chunk.booked.get(claim.identity)
        if told is not None:
            _told_before(chunk, index, event, claim, told)
            return
    account = chunk.accounts.get(key)
    if account is None:
        account = chunk.accounts[key] = new_account(event.tenant, event.customer)
    effect = EFFECTS.get(event.type)
    if effect is not None and (event.type != DEVICE_RELEASED or is_lease(chunk, event, account)):
        _act(chunk, index, received_at, event, key, effect)
    elif of_account:
        chunk.ignore(index, "no_effect")
    elif event.zero:
        chunk.ignore(index, "zero")
    elif (tariff := chunk.tariff(event, account)) is None:
        _unmeasured(chunk, index, event)
    else:
        if tariff.unique and (unseen := set(unique_identities(event, account, tariff)) - chunk.looked_up):
            raise Unseen(sorted(unseen))
        if account.grants:
            _expire(chunk, index, key, account, account.clock or received_at)
        counted: Counted = []
        total = rate_into(chunk, event, account, tariff, counted)
        stood = account.balance
        settle(chunk, index, account, tariff.currency, total, counted, received_at=received_at, event=event)
        if account.balance < 0 <= stood or account.terms.top_up_amount:
            charged(Turn(chunk, index, event, received_at, account), stood)
        chunk.decision.touched[key] = account
    if (event.hold_id is not None or event.type in ENDING) and not of_account:
        end_holds(chunk, index, event, key)
    chunk.book_identity(index, event, event.claims)


def _act(chunk: Chunk, index: int, received_at: int, event: Event, key: str, effect: Effect) -> None:
    """An effect at its account. What it raises leaves everything as it was, but what expired before."""
    account, touched = chunk.accounts[key], chunk.decision.touched
    now = account.clock or received_at
    before, undo, was_touched = pack_account(account), chunk.mark(index), key in touched
    _expire(chunk, index, key, account, now)
    turn = Turn(chunk, index, event, received_at, account)
    told: dict[str, Any] = {"status": "done"}
    stood = account.balance
    try:
        effect(turn)
        if account.balance < stood:
            charged(turn, stood)
        touched[key] = account
    except (InvalidInput, Refused, NoEffect, Unseen) as refusal:
        undo()
        restored = chunk.accounts[key] = unpack_account(before)
        if was_touched:
            touched[key] = restored
        else:
            touched.pop(key, None)
        if isinstance(refusal, Unseen):
            raise
        turn.account = restored
        _expire(chunk, index, key, restored, now)
        if isinstance(refusal, InvalidInput):
            if event.type.startswith(COMMAND_PREFIX):
                told = {"status": "invalid", "reason": refusal.reason, "detail": refusal.detail}
                turn.put(OPERATION, event.id, {**told, "pointer": refusal.pointer})
            raise
        if isinstance(refusal, Refused):
            told = {"status": "refused", "reason": refusal.reason, "detail": refusal.detail}
        chunk.ignore(index, "refused" if isinstance(refusal, Refused) else "no_effect")
    if event.type.startswith(COMMAND_PREFIX):
        told["result"] = turn.result
        turn.put(OPERATION, event.id, told)


def _told_before(chunk: Chunk, index: int, event: Event, claim: Claim, told: bytes) -> None:
    if told != claim.content:
        told_of = claim.kind.replace("_", " ")
        raise InvalidInput("conflict", f"the event tells of a {told_of} that is booked already, otherwise", "/data")
    if claim.kind != ALLOCATION:
        chunk.ignore(index, "no_effect")
        chunk.book_identity(index, event, ())
        return
    chunk.entries.outcome[index] = Outcome.DUPLICATE
    chunk.entries.reason[index] = "same_allocation"


def _expire(chunk: Chunk, index: int, key: str, account: Account, now: int) -> None:
    """Books what expired by now. That stands whatever becomes of the event."""
    balance = account.balance
    for credit_id, amount in expired(account, now):
        balance -= amount
        chunk.post(index, PostingKind.EXPIRY, -amount, balance, account.currency, credit_id, [(credit_id, amount)])
        told = moved(account, PostingKind.EXPIRY, -amount, credit_id, balance)
        chunk.emit(Outgoing(index, "wallet.balance_changed", told))
        chunk.decision.touched[key] = account


def _unmeasured(chunk: Chunk, index: int, event: Event) -> None:
    catalogue = chunk.tariffs[event.tenant].catalogue
    if event.type in CHARGEABLE:
        raise InvalidInput("no_meter", f"no meter of the catalogue measures {event.type} events", "/type")
    if event.type not in UNCHARGED and (catalogue is None or not catalogue.knows_type(event.type)):
        raise InvalidInput("unknown_type", f"no meter names the type {event.type!r}, nor is it built in", "/type")
    chunk.ignore(index, "no_meter")
