"""The client's errors, by what its caller has to do. The tree is drawn in the package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api.client.values import Fault


class ApiError(Exception):
    """A request that was not answered as asked. `status` is 0 where there was no answer."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        errors: tuple[Fault, ...] = (),
        denial_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {detail}" if status else detail)
        self.status = status
        self.reason = reason
        """Machine-readable: the end of the problem's `type`."""
        self.detail = detail
        self.errors = errors
        self.denial_id = denial_id
        self.retry_after_seconds = retry_after_seconds


class BadRequest(ApiError):
    """The request is at fault: the same again will be refused again."""


class Unauthorized(ApiError):
    """No token, or none that holds."""


class Forbidden(ApiError):
    """The token lacks a scope."""


class NotFound(ApiError):
    """There is no such thing in the token's tenant."""


class Refused(ApiError):
    """The account does not allow it now."""


class Contradiction(ApiError):
    """It contradicts what stands: another body under the same key, another state."""


class Away(ApiError):
    """Nothing is known; the same call may be repeated."""


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    401: Unauthorized,
    402: Refused,
    403: Forbidden,
    404: NotFound,
    409: Contradiction,
    429: Refused,
}
_SERVER: Final = 500


def error_of(status: int, headers: Mapping[str, str], problem: Any) -> ApiError:
    """The error that an answer is; `problem` is its body where that is JSON."""
    body: dict[str, Any] = problem if isinstance(problem, dict) else {}
    reason = str(body.get("type") or "").rpartition(":")[2] or str(status)
    faults = tuple(
        Fault(str(fault.get("pointer", "")), str(fault.get("reason", ""))) for fault in body.get("errors") or ()
    )
    kind = _BY_STATUS.get(status, Away if status >= _SERVER else BadRequest)
    after = headers.get("retry-after", "")
    return kind(
        status,
        reason,
        str(body.get("detail") or body.get("title") or ""),
        faults,
        body.get("denial_id"),
        float(after) if after.isdigit() else None,
    )
