"""Service tokens: who may ask for what, of which tenant.

A token is `tg_<id>_<secret>`, its secret 256 random bits. The file keeps SHA-256 of the whole text and nothing that the
token could be made from: a slow password hash would defend guessable secrets, and nobody guesses one of 2^256.
`TokenFile` changes the file, for the command line; `TokenReader` looks a token up, for a running API, which sees a
change within RELOAD_SECONDS.

The file has mode 0600 and is replaced in one step under a lock, so that a reader never sees half of it and two commands
never lose each other's token. Times are RFC 3339 text in it. Refuses: an unknown scope, an unknown id, a bad expiry
(InvalidInput). A file that cannot be read is Unavailable: nobody is let in by a guess, and nobody is told 401 wrongly.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from schemas.errors import InvalidInput, Unavailable
from schemas.ids import check_id
from schemas.period import DAY, SECOND, TIME_END, format_time, parse_time, span_end

SCOPES: Final = (
    "events:write",
    "usage:read",
    "quota:check",
    "holds:write",
    "wallet:write",
    "subscriptions:write",
    "invoices:write",
    "admin",
)

FILE_FORMAT: Final = 1
SECRET_BYTES: Final = 32
ID_BYTES: Final = 8
RELOAD_SECONDS: Final = 0.5
"""A running API looks this often at most whether the file is another; a change has to count within 2 s."""

MISS_SECONDS: Final = 0.02
"""Who brings a token that is not known may have been issued it just now: then it looks again this soon."""

assert MISS_SECONDS < RELOAD_SECONDS < 2

_TOKEN: Final = re.compile(r"tg_([0-9a-f]{16})_[A-Za-z0-9_-]{43}", re.ASCII)
_SPAN: Final = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_SPAN_UNITS: Final = {"s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": DAY, "w": 7 * DAY}
_NOBODY: Final = hashlib.sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()
"""Compared with where an id is unknown, so that it takes as long as a wrong secret."""


class Token(msgspec.Struct, frozen=True):
    """What is known of a token. The token itself is not."""

    id: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: str
    expires_at: str | None
    hash: str
    """SHA-256 of the token's text, hexadecimal."""

    def holds_at(self, now: int) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or now < parse_time(self.expires_at)


class _File(msgspec.Struct):
    format: int
    tokens: list[Token]


class TokenFile:
    """The file of tokens, as the command line changes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def issue(self, tenant: str, scopes: Sequence[str], expires_at: int | None, now: int) -> tuple[Token, str]:
        """A new token of a tenant: what is kept of it, and its text, which is nowhere kept. No scopes: all."""
        check_id(tenant, "/tenant")
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown:
            raise InvalidInput("bad_scope", f"{unknown[0]!r} is no scope; there are {', '.join(SCOPES)}", "/scopes")
        held = tuple(scope for scope in SCOPES if not scopes or scope in scopes)
        token, text = _made(tenant, held, expires_at, now)
        with self._locked():
            self._write([*read(self.path), token])
        return token, text

    def rotate(self, token_id: str, old_expires_at: int, expires_at: int | None, now: int) -> tuple[Token, Token, str]:
        """A new token of the same tenant and scopes, while the old one holds until `old_expires_at` at most: the old as
        it is now, the new, and its text. InvalidInput if there is none with this id."""
        with self._locked():
            tokens = read(self.path)
            old = _found(tokens, token_id)
            ends = old_expires_at if old.expires_at is None else min(old_expires_at, parse_time(old.expires_at))
            old = msgspec.structs.replace(old, expires_at=format_time(ends))
            token, text = _made(old.tenant, old.scopes, expires_at, now)
            self._write([*(old if each.id == token_id else each for each in tokens), token])
        return old, token, text

    def revoke(self, token_id: str) -> Token:
        """Takes a token away; InvalidInput if there is none with this id."""
        with self._locked():
            tokens = read(self.path)
            gone = _found(tokens, token_id)
            self._write([token for token in tokens if token.id != token_id])
        return gone

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock lies beside the file, which is replaced and so cannot be held itself."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"token file {self.path}: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, tokens: list[Token]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_File(FILE_FORMAT, tokens)), indent=2) + b"\n"
        try:
            # Made with mode 0600, in the same folder, so that the rename is one step on one file system.
            descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise Unavailable(f"token file {self.path}: {error}") from error


class TokenReader:
    """Looks tokens up in a file that others change."""

    def __init__(self, path: Path, elapsed_seconds: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._elapsed_seconds = elapsed_seconds
        self._looked_at: float | None = None
        self._seen: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}

    def find(self, text: str, now: int) -> Token | None:
        """The token with this text if there is one and it has not expired. Errors: Unavailable."""
        self._refresh(RELOAD_SECONDS)
        match = _TOKEN.fullmatch(text)
        if match is not None and match[1] not in self._tokens:
            self._refresh(MISS_SECONDS)
        token = self._tokens.get(match[1]) if match is not None else None
        same = hmac.compare_digest(_hash(text), token.hash if token is not None else _NOBODY)
        return token if token is not None and same and token.holds_at(now) else None

    def _refresh(self, after_seconds: float) -> None:
        at = self._elapsed_seconds()
        if self._looked_at is not None and at - self._looked_at < after_seconds:
            return
        try:
            status = os.stat(self.path)
            # A replaced file is another inode, so that two changes within one tick of the clock are two.
            found = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            found = None
        except OSError as error:
            raise Unavailable("service tokens cannot be read") from error
        if found != self._seen or self._looked_at is None:
            self._tokens = {token.id: token for token in read(self.path)}
            self._seen = found
        self._looked_at = at


def read(path: Path) -> list[Token]:
    """All tokens of a file, in the order of their issue; none where there is no file. Errors: Unavailable."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unavailable(f"token file {path}: {error}") from error
    try:
        file = _decode(content)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"token file {path} is damaged: {error}") from None
    if file.format != FILE_FORMAT:
        raise Unavailable(f"token file {path} has format {file.format}, known is {FILE_FORMAT}")
    return file.tokens


def parse_expiry(text: str, now: int) -> int:
    """A point in time from a span (`30d`, `12h`, `90s`, ISO 8601's `P1Y`) or an RFC 3339 time; it has to lie ahead."""
    if (span := _SPAN.fullmatch(text)) is not None:
        instant = now + int(span[1]) * _SPAN_UNITS[span[2]]
    else:
        instant = span_end(now, text) if text.startswith("P") else parse_time(text, "/expires")
    if not now < instant < TIME_END:
        raise InvalidInput("out_of_range", f"expires {text!r} does not lie ahead, or too far", "/expires")
    return instant


def _made(tenant: str, scopes: tuple[str, ...], expires_at: int | None, now: int) -> tuple[Token, str]:
    token_id = secrets.token_hex(ID_BYTES)
    text = f"tg_{token_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    expires = format_time(expires_at) if expires_at is not None else None
    return Token(token_id, tenant, scopes, format_time(now), expires, _hash(text)), text


def _found(tokens: Sequence[Token], token_id: str) -> Token:
    found = next((token for token in tokens if token.id == token_id), None)
    if found is None:
        raise InvalidInput("unknown_token", f"there is no token with the id {token_id!r}", "/id")
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_decode = msgspec.json.Decoder(_File).decode
