"""What whoever asks is told: granted, denied, and how a hold stands. Values with their documents, as HTTP has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import orjson

from rating.admission import MONEY, Assessment, Bound, Reason
from schemas.money import format_nanos
from schemas.period import format_time
from streams.admission.values import Ended, Hold


class QuotaLeft(msgspec.Struct, frozen=True):
    """A quota that an ask counts in, and what of it is left beside what is used and held."""

    meter: str | None
    """None: of money."""
    limit: int
    remaining: int
    resets_at: int | None
    window: str
    per: str
    soft: bool

    def document(self) -> dict[str, Any]:
        """As HTTP has it."""
        return {
            "meter": self.meter,
            "limit": format_nanos(self.limit),
            "remaining": format_nanos(self.remaining),
            "resets_at": _time(self.resets_at),
            "window": self.window,
            "per": self.per,
            "soft": self.soft,
        }


@dataclass(frozen=True, slots=True)
class Denial:
    """Why something was not allowed: which limit, which window, which numbers, at which position of the ledger."""

    id: str
    tenant: str
    customer: str
    reason: Reason
    detail: str
    currency: str
    available: int
    """Nanos that could be spent then."""
    wanted: int
    """Of what was refused: nano-units of the meter, or nanos."""
    meter: str | None = None
    """None: money."""
    limit: int | None = None
    used: int | None = None
    held: int | None = None
    resets_at: int | None = None
    window: str = ""
    per: str = ""
    scope: str = ""
    user: str | None = None
    plan: str = ""
    catalog_version: int = 0
    balance: int = 0
    partition: int = 0
    offset: int = 0
    """The ledger's position that the account was at."""
    denied_at: int = 0
    """Microseconds."""

    @property
    def remaining(self) -> int | None:
        """What of the limit was left."""
        if self.limit is None:
            return None
        return max(self.limit - (self.used or 0) - (self.held or 0), 0)

    def document(self) -> dict[str, Any]:
        """As it is kept and explained."""
        return {
            "denial_id": self.id,
            "customer": self.customer,
            "reason": self.reason,
            "detail": self.detail,
            "meter": self.meter,
            "limit": _text(self.limit),
            "used": _text(self.used),
            "held": _text(self.held),
            "wanted": format_nanos(self.wanted),
            "remaining": _text(self.remaining),
            "window": self.window or None,
            "per": self.per or None,
            "scope": self.scope or None,
            "user": self.user,
            "resets_at": _time(self.resets_at),
            "available": format_nanos(self.available),
            "balance": format_nanos(self.balance),
            "currency": self.currency,
            "plan": self.plan or None,
            "catalog_version": self.catalog_version or None,
            "ledger": {"partition": self.partition, "offset": self.offset},
            "denied_at": format_time(self.denied_at),
        }


class Checked(msgspec.Struct, frozen=True):
    """The answer to a check."""

    allowed: bool
    reason: Reason | None
    denial: Denial | None
    quota: QuotaLeft | None
    """The one that refuses, or that has the least left."""
    available: int | None
    currency: str
    quotas: tuple[QuotaLeft, ...] = ()

    def document(self) -> dict[str, Any]:
        """As HTTP has it."""
        quota = self.quota
        return {
            "allowed": self.allowed,
            "reason": self.reason,
            "denial_id": self.denial.id if self.denial is not None else None,
            "limit": format_nanos(quota.limit) if quota is not None else None,
            "remaining": format_nanos(quota.remaining) if quota is not None else None,
            "resets_at": _time(quota.resets_at) if quota is not None else None,
            "available": format_nanos(self.available) if self.available is not None else None,
            "currency": self.currency,
        }


class Standing(msgspec.Struct, frozen=True):
    """A hold as it stands; of an ended one only what is kept of it."""

    hold_id: str
    customer: str
    state: str
    currency: str
    amount: int
    """Nanos it holds."""
    generation: int
    expires_ms: int | None = None
    ended_ms: int | None = None
    charged: int | None = None
    """Nanos the ledger charged with its end."""
    session: str = ""
    allocation: str = ""
    settling: bool = False
    asked: dict[str, Any] = msgspec.field(default_factory=dict)
    available: int | None = None
    quotas: tuple[QuotaLeft, ...] = ()
    affordable: dict[str, int | None] = msgspec.field(default_factory=dict)
    created: bool = False
    """Whether this very call opened it."""

    def document(self) -> dict[str, Any]:
        """As HTTP has it."""
        told: dict[str, Any] = {
            "hold_id": self.hold_id,
            "customer": self.customer,
            "state": self.state,
            "generation": self.generation,
            "held": {"amount": format_nanos(self.amount), "currency": self.currency},
            "expires_at": _time(self.expires_ms * 1000) if self.expires_ms is not None else None,
        }
        if self.ended_ms is not None:
            told["ended_at"] = _time(self.ended_ms * 1000)
        if self.charged is not None:
            told["charged"] = {"amount": format_nanos(self.charged), "currency": self.currency}
        if self.session:
            told["session_id"] = self.session
        if self.allocation:
            told["allocation_id"] = self.allocation
        if self.settling:
            told["settling"] = True
        if self.asked:
            told["prices"] = self.asked.get("prices", [])
        if self.available is not None:
            told["available"] = format_nanos(self.available)
            told["quotas"] = [quota.document() for quota in self.quotas]
            told["affordable"] = {
                meter: format_nanos(bought) if bought is not None else None for meter, bought in self.affordable.items()
            }
        return told


class Beside(msgspec.Struct, frozen=True):
    """What is told with a hold where it was granted, extended or asked for again."""

    available: int
    quotas: tuple[QuotaLeft, ...]
    affordable: dict[str, int | None]


def opened(hold_id: str, customer: str, hold: Hold, expires_ms: int, beside: Beside, asked: dict[str, Any]) -> Standing:
    """A hold that this very call opened, of which the whole words are at hand."""
    return Standing(
        hold_id,
        customer,
        "open",
        hold.currency,
        hold.holds(MONEY),
        hold.generation,
        expires_ms=expires_ms,
        session=hold.session,
        allocation=hold.allocation,
        asked=asked,
        available=beside.available,
        quotas=beside.quotas,
        affordable=beside.affordable,
        created=True,
    )


def standing_of(hold_id: str, customer: str, hold: Hold | Ended, beside: Beside | None = None) -> Standing:
    """A hold as Redis has it."""
    available, quotas, affordable = (
        (None, (), {}) if beside is None else (beside.available, beside.quotas, beside.affordable)
    )
    if isinstance(hold, Ended):
        return Standing(
            hold_id,
            customer,
            hold.state,
            hold.currency,
            0,
            hold.generation,
            ended_ms=hold.ended_ms,
            charged=int(hold.charged) if hold.charged else None,
            available=available,
            quotas=quotas,
            affordable=affordable,
        )
    return Standing(
        hold_id,
        customer,
        "open",
        hold.currency,
        hold.holds(MONEY),
        hold.generation,
        expires_ms=hold.expires_ms,
        session=hold.session,
        allocation=hold.allocation,
        settling=bool(hold.settling),
        asked=orjson.loads(hold.body),
        available=available,
        quotas=quotas,
        affordable=affordable,
    )


def quotas_left(assessment: Assessment, held: tuple[int, ...]) -> tuple[QuotaLeft, ...]:
    """What is left of each quota of an ask beside what is held of it."""
    left = []
    for bound, holding in zip(assessment.bounds, held, strict=True):
        used = bound.used
        if used is None:
            continue
        left.append(
            QuotaLeft(
                bound.meter or None,
                used.limit,
                max(used.limit - used.quantity - holding, 0),
                used.resets_at,
                bound.rule.window_text if bound.rule is not None else "lifetime",
                bound.rule.per if bound.rule is not None else "customer",
                used.refuse_above is None,
            )
        )
    return tuple(left)


def refusing(denial: Denial) -> QuotaLeft | None:
    """The quota that a denial is about; None: it is about none."""
    if denial.limit is None or denial.reason not in ("quota", "budget"):
        return None
    left = denial.remaining or 0
    return QuotaLeft(denial.meter, denial.limit, left, denial.resets_at, denial.window, denial.per, soft=False)


def tightest(quotas: tuple[QuotaLeft, ...]) -> QuotaLeft | None:
    """The quota that has the least left: of meters before those of money, hard before soft."""
    return min(quotas, key=lambda quota: (quota.meter is None, quota.soft, quota.remaining), default=None)


def detail_of(bound: Bound, held: int) -> str:
    """Why a bound refused, in a sentence."""
    wanted = format_nanos(bound.wanted)
    if bound.kind == "wallet":
        room = format_nanos((bound.room or 0) - held)
        return f"{wanted} is wanted and {room} is available"
    used = bound.used
    assert used is not None
    of = f"meter {bound.meter!r}" if bound.meter else "spending"
    window = bound.rule.window_text if bound.rule is not None else "lifetime"
    return (
        f"{wanted} more of {of} is wanted; of {format_nanos(used.limit)} in this {window}, "
        f"{format_nanos(used.quantity)} is used and {format_nanos(held)} is held"
    )


def refused(denial: Denial, bound: Bound, held: int) -> Denial:
    """The denial with what of it is known of the bound that refused."""
    reason: Literal["quota", "budget", "wallet"] = "wallet" if bound.kind in ("wallet", "reach") else bound.kind  # type: ignore[assignment]
    used, rule = bound.used, bound.rule
    return replace(
        denial,
        reason=reason,
        detail=detail_of(bound, held),
        wanted=bound.wanted,
        meter=bound.meter or None,
        limit=used.limit if used is not None else bound.room,
        used=used.quantity if used is not None else 0,
        held=held,
        resets_at=used.resets_at if used is not None else None,
        window=rule.window_text if rule is not None else "",
        per=rule.per if rule is not None else "",
        scope=bound.scope,
    )


def _text(value: int | None) -> str | None:
    return format_nanos(value) if value is not None else None


def _time(instant: int | None) -> str | None:
    return format_time(instant) if instant is not None else None
