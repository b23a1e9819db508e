"""What admission and Redis tell each other: constraints, holds, and what became of a call.

Amounts are nanos or nano-units, at least 0; on the way to Redis they are 30 decimal digits, because a number of Lua is
a double. A `room` says how much all open holds of a counter may hold together; None is without bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from rating.admission import Bound

DIGITS: Final = 30
AMOUNT_END: Final = 10**DIGITS

EndState = Literal["settled", "released", "expired"]


class Hold(msgspec.Struct, array_like=True, frozen=True):
    """An open hold as it lies in Redis and in the journal."""

    digest: str
    """Of what was asked: the same id with another digest is another hold."""
    generation: int
    """1, and one more with every extension."""
    expires_ms: int
    session: str
    allocation: str
    names: list[str]
    meters: list[str]
    amounts: list[str]
    """By name: what it holds, 30 digits."""
    seq: str
    """The last entry of the ledger that was charged against it and left it open."""
    currency: str
    settling: str
    """Digest of the settlement that is on its way; empty: none."""
    body: str
    """JSON: what was asked, for answers and for its settlement."""

    def holds(self, name: str) -> int:
        """How much it holds under a name."""
        return next((int(amount) for held, amount in zip(self.names, self.amounts, strict=True) if held == name), 0)


class Ended(msgspec.Struct, array_like=True, frozen=True):
    """A hold that has ended."""

    state: EndState
    ended_ms: int
    digest: str
    """Empty where Redis never knew it open."""
    charged: str
    """What the ledger charged with its end, 30 digits; empty: nothing."""
    currency: str
    generation: int


class Held(msgspec.Struct, frozen=True):
    """What open holds hold of each constraint, in their order, at a position of the ledger."""

    offset: int
    held: tuple[int, ...]


class Granted(Held, frozen=True):
    """The hold is open; `held` is after it."""

    expires_ms: int
    packed: bytes
    """The hold as it lies in Redis."""
    moved: bytes | None = None
    """The account as it stands, where it is another than was seen: all is granted beside this one."""


class Extended(Held, frozen=True):
    """The hold as it is now; `held` is after it."""

    hold: Hold
    moved: bytes | None = None
    """As of Granted."""


class Refused(Held, frozen=True):
    """A constraint has no room; nothing changed."""

    which: int


class Same(Held, frozen=True):
    """The id names a hold that was asked for in the same words."""

    hold: Hold | Ended


class Conflicting(msgspec.Struct, frozen=True):
    """The id names another hold; or the hold has another generation, or is being settled."""


class Stale(msgspec.Struct, frozen=True):
    """The account is not the one the caller saw: this one is."""

    ledger_id: str
    offset: int
    account: bytes | None
    held: tuple[int, ...] = ()
    """Of a check: what is held of each name beside this account."""


class Trusted(msgspec.Struct, frozen=True):
    """A partition as the caller last knew it to be whole."""

    ledger_id: str
    offset: int


class Untrusted(msgspec.Struct, frozen=True):
    """The partition is not known to be whole, or lies behind what the caller has seen."""

    ledger_id: str
    offset: int
    serving: bool
    beat: int
    asked: Trusted
    """What the caller took the partition to be."""


class Unknown(msgspec.Struct, frozen=True):
    """There is no such hold, nor has there been in the last 24 hours."""


class Settling(msgspec.Struct, frozen=True):
    """The settlement of an open hold is on its way; `ours`: it is the one that was told of."""

    hold: Hold
    ours: bool


class Finished(msgspec.Struct, frozen=True):
    """The hold has ended; `now`: by this call."""

    ended: Ended
    now: bool


Seen: TypeAlias = bytes | None
"""The packed account that the caller computed with; None: there was none."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the journal is known to stand in Redis."""

    offset: int | None
    """None: nothing is known."""
    marked_run: str
    """The run of Redis in which it was said."""
    run: str
    """The one it is in."""


def digits(amount: int) -> str:
    """An amount as Redis keeps it."""
    assert 0 <= amount < AMOUNT_END
    return f"{amount:030d}"


def room_text(room: int | None) -> str:
    """A room as the scripts take it."""
    if room is None:
        return "*"
    return "-" if room < 0 else digits(min(room, AMOUNT_END - 1))


def constraint_arguments(constraints: Sequence[Bound]) -> list[str]:
    """The tail of a script's ARGV."""
    arguments: list[str] = []
    for one in constraints:
        arguments += (one.name, one.meter, room_text(one.room), digits(one.wanted))
    return arguments


_pack = msgspec.msgpack.Encoder().encode


def pack_hold(hold: Hold) -> bytes:
    """A hold as it lies in Redis and in the journal."""
    return _pack(hold)


def halves_of(hold: Hold) -> tuple[bytes, bytes]:
    """A hold that is asked for, packed, but for when it expires, which is Redis's to say and stands between the two."""
    packed, at = _pack(hold), 3 + len(hold.digest)
    assert packed[at] == hold.expires_ms == 0  # one byte each: array, length of the digest, generation, expiry
    return packed[:at], packed[at + 1 :]


def joined(halves: tuple[bytes, bytes], expires_ms: int) -> bytes:
    """The packed hold, as the script has joined it."""
    return halves[0] + _pack(expires_ms) + halves[1]


unpack_hold = msgspec.msgpack.Decoder(Hold).decode
unpack_ended = msgspec.msgpack.Decoder(Ended).decode
_unpack_names = msgspec.msgpack.Decoder(tuple[str, ...]).decode


def unpack_names(packed: bytes) -> tuple[str, ...]:
    """Ids of the open holds that were made with a session or an allocation."""
    return _unpack_names(packed)
