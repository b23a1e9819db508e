"""Who asks: the server's users, and the check of what a request offers, in constant time. Pure.

A user is a name and the hash of a password; a `reader` may only read. A request offers a name and a password in
headers (X-ClickHouse-User, X-ClickHouse-Key), as HTTP Basic or in its URL, in one of these ways only, as with
ClickHouse. Errors: Refusal (REQUIRED_PASSWORD, 401, without a password; AUTHENTICATION_FAILED, 403, otherwise).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backing.clickhouse_server.errors import AUTHENTICATION_FAILED, REQUIRED_PASSWORD, refusal

_DEFAULT_USER: Final = "default"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What a request offers."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class User:
    """Who may ask."""

    name: str
    password_digest: bytes
    is_reader: bool


def user(name: str, password: str, *, is_reader: bool) -> User:
    """A user with this password, of which only the hash is kept."""
    return User(name, _digest(password), is_reader)


def authenticate(users: Sequence[User], offered: Credentials) -> User:
    """The user that `offered` proves to be.

    All users are compared, names and passwords by their hashes, so that the time taken tells neither whether a
    name exists nor how much of a password was right.
    """
    name, password = _digest(offered.name), _digest(offered.password)
    found: User | None = None
    for known in users:
        is_name = hmac.compare_digest(_digest(known.name), name)
        if hmac.compare_digest(known.password_digest, password) & is_name:
            found = known
    if found is None:
        kind = AUTHENTICATION_FAILED if offered.password else REQUIRED_PASSWORD
        raise refusal(
            kind,
            f"{offered.name}: Authentication failed: password is incorrect, or there is no user with such name",
        )
    return found


def offered(headers: Mapping[str, str], arguments: Mapping[str, str]) -> Credentials:
    """What a request with these headers (names in lower case) and URL arguments offers."""
    authorization = headers.get("authorization")
    in_headers = "x-clickhouse-user" in headers or "x-clickhouse-key" in headers
    in_url = "user" in arguments or "password" in arguments
    if (authorization is not None) + in_headers + in_url > 1:
        raise refusal(AUTHENTICATION_FAILED, "Invalid authentication: it is not allowed to mix ways of authentication")
    if in_headers:
        return Credentials(headers.get("x-clickhouse-user") or _DEFAULT_USER, headers.get("x-clickhouse-key", ""))
    if authorization is not None:
        return _basic(authorization)
    return Credentials(arguments.get("user") or _DEFAULT_USER, arguments.get("password", ""))


def _basic(authorization: str) -> Credentials:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise refusal(AUTHENTICATION_FAILED, "Invalid authentication: of HTTP's schemes only Basic is known")
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise refusal(AUTHENTICATION_FAILED, "Invalid authentication: the credentials cannot be decoded") from error
    return Credentials(name or _DEFAULT_USER, password)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
