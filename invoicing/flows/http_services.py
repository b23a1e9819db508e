"""The services around us over HTTP, JSON both ways; and, where one is not there, what is assumed of it.

    accounts        GET /users/{id} -> {id, email, name, active}      404: none
                    GET /users/{id}/tier -> {tier}                    404: none
                    GET /users/{id}/payment-methods -> [{id, kind, default}]
    organizations   GET /organizations/{id}
    notifications   POST /notifications {template, user_id, data}, Idempotency-Key
    storage         GET /users/{id}/storage -> {used_bytes, limit_bytes}
                    GET /users/{id}/storage/quota?bytes=N -> {allowed}

Without an address of accounts every user is valid; without one of notifications nobody is told; without one of storage
nothing is known of what is stored. Any answer that is neither 2xx nor 404 is Unavailable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import orjson

from invoicing.flows.ports import Body, PaymentMethod, Services, StorageUsage, User
from schemas.errors import Unavailable
from schemas.settings import Settings

TIMEOUT_SECONDS: Final = 5.0
_NOT_FOUND: Final = 404
_OK: Final = range(200, 300)


class HttpServices:
    """All services that have an address. Close it."""

    def __init__(self, settings: Settings) -> None:
        headers = {"Accept": "application/json"}
        if settings.services_token:
            headers["Authorization"] = f"Bearer {settings.services_token}"
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), raise_for_status=False
        )
        self.services = Services(
            accounts=HttpAccounts(self._session, settings.accounts_url),
            organizations=HttpOrganizations(self._session, settings.organizations_url),
            notifications=HttpNotifications(self._session, settings.notifications_url),
            storage=HttpStorage(self._session, settings.storage_url),
        )

    async def close(self) -> None:
        """Gives connections back."""
        await self._session.close()


class _Http:
    def __init__(self, session: aiohttp.ClientSession, url: str | None) -> None:
        self._session = session
        self._url = url.rstrip("/") if url else None

    async def _get(self, path: str, **query: str) -> Any:
        """The answer's body; None for 404 and for a service without an address."""
        return await self._ask("GET", path, params=query or None)

    async def _ask(self, method: str, path: str, **more: Any) -> Any:
        if self._url is None:
            return None
        try:
            async with self._session.request(method, self._url + path, **more) as answer:
                if answer.status == _NOT_FOUND:
                    return None
                body = await answer.read()
                if answer.status not in _OK:
                    raise Unavailable(f"{self._url}{path} answered {answer.status}")
                return orjson.loads(body) if body else {}
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise Unavailable(f"{self._url}{path}: {type(error).__name__}") from error


class HttpAccounts(_Http):
    """The Accounts port."""

    async def get_user(self, user_id: str) -> User | None:
        """See the port."""
        found = await self._get(f"/users/{quote(user_id, safe='')}")
        if not isinstance(found, Mapping):
            return None
        return User(user_id, found.get("email") or "", found.get("name") or "", found.get("active") is not False)

    async def validate_user(self, user_id: str) -> bool:
        """See the port."""
        if self._url is None:
            return True
        user = await self.get_user(user_id)
        return user is not None and user.active

    async def get_user_tier(self, user_id: str) -> str | None:
        """See the port."""
        found = await self._get(f"/users/{quote(user_id, safe='')}/tier")
        return found.get("tier") if isinstance(found, Mapping) else None

    async def get_payment_methods(self, user_id: str) -> Sequence[PaymentMethod]:
        """See the port."""
        found = await self._get(f"/users/{quote(user_id, safe='')}/payment-methods")
        return [
            PaymentMethod(str(one["id"]), str(one.get("kind", "")), bool(one.get("default"))) for one in found or ()
        ]


class HttpOrganizations(_Http):
    """The Organizations port."""

    async def get_organization(self, organization_id: str) -> Body | None:
        """See the port."""
        found: Body | None = await self._get(f"/organizations/{quote(organization_id, safe='')}")
        return found


class HttpNotifications(_Http):
    """The Notifications port."""

    async def send_payment_receipt(self, user_id: str, payment: Body, key: str) -> None:
        """See the port."""
        await self._send("payment_receipt", user_id, payment, key)

    async def send_invoice(self, user_id: str, invoice: Body, key: str) -> None:
        """See the port."""
        await self._send("invoice", user_id, invoice, key)

    async def send_order_confirmation(self, user_id: str, order: Body, key: str) -> None:
        """See the port."""
        await self._send("order_confirmation", user_id, order, key)

    async def send_order_status(self, user_id: str, order: Body, key: str) -> None:
        """See the port."""
        await self._send("order_status", user_id, order, key)

    async def _send(self, template: str, user_id: str, data: Body, key: str) -> None:
        message = {"template": template, "user_id": user_id, "data": dict(data)}
        await self._ask("POST", "/notifications", json=message, headers={"Idempotency-Key": key})


class HttpStorage(_Http):
    """The Storage port."""

    async def get_storage_usage(self, user_id: str) -> StorageUsage | None:
        """See the port."""
        found = await self._get(f"/users/{quote(user_id, safe='')}/storage")
        if not isinstance(found, Mapping):
            return None
        limit = found.get("limit_bytes")
        return StorageUsage(Decimal(str(found["used_bytes"])), Decimal(str(limit)) if limit is not None else None)

    async def validate_quota(self, user_id: str, more_bytes: Decimal) -> bool:
        """See the port."""
        found = await self._get(f"/users/{quote(user_id, safe='')}/storage/quota", bytes=str(more_bytes))
        return not isinstance(found, Mapping) or found.get("allowed") is not False
