"""The services around us, as far as flows need them. Defined here, because here they are needed.

Every call may raise Unavailable: nothing is known, and it is made again. A message that is sent has a `key`: the same
key is the same message, and whoever sends messages sends it once. None of the questions changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class User:
    """Who uses the platform, as the accounts service knows them."""

    id: str
    email: str
    name: str
    active: bool


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """How a user pays."""

    id: str
    kind: str
    default: bool


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """What a user has stored, in bytes; `limit_bytes` None: without limit."""

    used_bytes: Decimal
    limit_bytes: Decimal | None


class Accounts(Protocol):
    """The accounts service."""

    async def get_user(self, user_id: str) -> User | None:
        """The user; None where there is none."""

    async def validate_user(self, user_id: str) -> bool:
        """Whether the user is there and may buy."""

    async def get_user_tier(self, user_id: str) -> str | None:
        """The tier the user is in; None: none."""

    async def get_payment_methods(self, user_id: str) -> Sequence[PaymentMethod]:
        """How the user can pay."""


class Organizations(Protocol):
    """The organizations service."""

    async def get_organization(self, organization_id: str) -> Body | None:
        """An organization as its service has it; None where there is none."""


class Notifications(Protocol):
    """The notifications service."""

    async def send_payment_receipt(self, user_id: str, payment: Body, key: str) -> None:
        """Tells of a payment that came in."""

    async def send_invoice(self, user_id: str, invoice: Body, key: str) -> None:
        """Tells of an invoice that is final, or overdue."""

    async def send_order_confirmation(self, user_id: str, order: Body, key: str) -> None:
        """Tells of an order that was made."""

    async def send_order_status(self, user_id: str, order: Body, key: str) -> None:
        """Tells of a state that an order came to."""


class Storage(Protocol):
    """The storage service."""

    async def get_storage_usage(self, user_id: str) -> StorageUsage | None:
        """What a user has stored; None where the service knows nothing of them."""

    async def validate_quota(self, user_id: str, more_bytes: Decimal) -> bool:
        """Whether so much more may be stored."""


@dataclass(frozen=True, slots=True)
class Services:
    """All of them."""

    accounts: Accounts
    organizations: Organizations
    notifications: Notifications
    storage: Storage
