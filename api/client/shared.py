"""What both clients have in common: a call as a request, its answer or error, and when it is worth another try."""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeVar

import httpx

from api.client.calls import PENDING, Call
from api.client.errors import ApiError, error_of
from api.client.values import Quota

Answer = TypeVar("Answer")
Number = int | str | Decimal
When = Literal["now", "period_end"]

TIMEOUT_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 15.0
"""How long a call is repeated that was not answered, or answered that it may come again."""
PAUSE_SECONDS: Final = 0.2
PAUSE_MAX_SECONDS: Final = 2.0
_OK: Final = 300
_COMES_AGAIN: Final = frozenset({PENDING, 429, 502, 503, 504})


class Shared:
    """Options of both clients, and how long to wait before a call is repeated."""

    def __init__(self, token: str, patience_seconds: float) -> None:
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._patience = patience_seconds

    def _request(self, call: Call[Any]) -> dict[str, Any]:
        return {
            "method": call.method,
            "url": call.path,
            "params": call.query or None,
            "json": call.body,
            "headers": {**self._headers, **(call.headers or {})},
        }

    def _pause(self, error: ApiError, attempt: int, since: float) -> float:
        """Seconds until the next try; raises the error where there is none."""
        pause: float = min(PAUSE_SECONDS * 2**attempt, PAUSE_MAX_SECONDS)
        pause = max(pause, min(error.retry_after_seconds or 0, PAUSE_MAX_SECONDS))
        # A quota's 429 names its denial: it is an answer, and waiting here would not change it.
        again = error.status == 0 or (error.status in _COMES_AGAIN and error.denial_id is None)
        if not again or time.monotonic() - since + pause > self._patience:
            raise error
        return pause


def answer_of(call: Call[Answer], response: httpx.Response) -> Answer:
    is_json = "json" in response.headers.get("content-type", "")
    body = response.json() if is_json and response.content else None
    if response.status_code >= _OK:
        raise error_of(response.status_code, response.headers, body)
    return call.read(response.status_code, response.headers, body)


def span_of(period: str | None, span: Mapping[str, str]) -> dict[str, str]:
    asked = {name.rstrip("_"): value for name, value in span.items()}
    return {**asked, "period": period} if period else asked


def least_of(quotas: list[Quota], meter: str) -> Decimal | None:
    left = [quota.remaining for quota in quotas if quota.meter == meter and quota.remaining is not None]
    return min(left, default=None)
