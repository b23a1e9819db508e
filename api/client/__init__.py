"""The Python client: what portals, chat services and device schedulers ask of the API, typed, sync and async.

    from api.client import Client, AsyncClient

    with Client("https://tollgate.example", token) as tollgate:
        if tollgate.check_quota("cust-42", "ai_chat", 1).allowed:
            tollgate.record_usage("cust-42", "ai_chat", event_id="chat-9/message-3")

Every call that changes something carries an id or key of its caller's, so that it may be repeated; the client itself
repeats what was not answered, not known in time (202) or answered 429 or 503, for `patience_seconds` in all.

A service that stands beside Redis and Kafka asks without HTTP: `api.client.in_process` has the same calls for checks
and holds.

    ApiError
    ├── BadRequest      the request is at fault (400, 413, 415, 422, 428); `errors` names the fields
    ├── Unauthorized    no token, or none that holds (401)
    ├── Forbidden       the token lacks a scope (403)
    ├── NotFound        there is no such thing in the token's tenant (404)
    ├── Refused         the account does not allow it: 402 money, 429 quota; `denial_id` says why
    ├── Contradiction   it contradicts what stands (409)
    └── Away            no answer, none in time, or 5xx: nothing is known; the same call may be repeated
"""

from api.client.clients import AsyncClient, Client
from api.client.errors import (
    ApiError,
    Away,
    BadRequest,
    Contradiction,
    Forbidden,
    NotFound,
    Refused,
    Unauthorized,
)
from api.client.values import (
    Balance,
    Check,
    Fault,
    Hold,
    Invoice,
    InvoiceLine,
    Operation,
    Plan,
    Quota,
    Subscription,
    Usage,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "Away",
    "BadRequest",
    "Balance",
    "Check",
    "Client",
    "Contradiction",
    "Fault",
    "Forbidden",
    "Hold",
    "Invoice",
    "InvoiceLine",
    "NotFound",
    "Operation",
    "Plan",
    "Quota",
    "Refused",
    "Subscription",
    "Unauthorized",
    "Usage",
]
