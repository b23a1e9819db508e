"""The services around us in memory: what they were told, and ways for them to be away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from invoicing.flows.ports import Body, PaymentMethod, Services, StorageUsage, User
from schemas.errors import Unavailable


@dataclass
class FakeServices:
    """All of them in one. `away` makes so many of the next calls Unavailable."""

    users: dict[str, User] = field(default_factory=dict)
    stored: dict[str, StorageUsage] = field(default_factory=dict)
    sent: list[tuple[str, str, str]] = field(default_factory=list)
    """Template, user and key; a key that was sent before is the same message."""
    away: int = 0

    @property
    def services(self) -> Services:
        """As the flows take them."""
        return Services(self, self, self, self)

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("services: away")

    async def get_user(self, user_id: str) -> User | None:
        """See the port."""
        self._answer()
        return self.users.get(user_id)

    async def validate_user(self, user_id: str) -> bool:
        """See the port."""
        user = await self.get_user(user_id)
        return user is not None and user.active

    async def get_user_tier(self, user_id: str) -> str | None:
        """See the port."""
        self._answer()
        return None

    async def get_payment_methods(self, user_id: str) -> Sequence[PaymentMethod]:
        """See the port."""
        self._answer()
        return []

    async def get_organization(self, organization_id: str) -> Body | None:
        """See the port."""
        self._answer()
        return None

    async def send_payment_receipt(self, user_id: str, payment: Body, key: str) -> None:
        """See the port."""
        self._send("payment_receipt", user_id, key)

    async def send_invoice(self, user_id: str, invoice: Body, key: str) -> None:
        """See the port."""
        self._send("invoice", user_id, key)

    async def send_order_confirmation(self, user_id: str, order: Body, key: str) -> None:
        """See the port."""
        self._send("order_confirmation", user_id, key)

    async def send_order_status(self, user_id: str, order: Body, key: str) -> None:
        """See the port."""
        self._send("order_status", user_id, key)

    async def get_storage_usage(self, user_id: str) -> StorageUsage | None:
        """See the port."""
        self._answer()
        return self.stored.get(user_id)

    async def validate_quota(self, user_id: str, more_bytes: Decimal) -> bool:
        """See the port."""
        usage = await self.get_storage_usage(user_id)
        return usage is None or usage.limit_bytes is None or usage.used_bytes + more_bytes <= usage.limit_bytes

    def _send(self, template: str, user_id: str, key: str) -> None:
        self._answer()
        if (template, user_id, key) not in self.sent:
            self.sent.append((template, user_id, key))
