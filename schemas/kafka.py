"""How Kafka is reached: an address that knows what secures it, as Redis's and ClickHouse's URLs do.

Settings hold such an address; it is handed around as text, and every client is made with `connection(address)`. Plain
text is an address without TLS and without a password, which is what the native broker on loopback is.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

from schemas.errors import InvalidInput

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Security:
    """What a broker asks for. Files are PEM; without `ca_file` the system's authorities count (and SSL_CERT_FILE's)."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted, and the broker's name checked."""
        return self.protocol.endswith("SSL")

    @property
    def has_login(self) -> bool:
        """Whether there is a user and a password."""
        return self.protocol.startswith("SASL")

    def check(self) -> None:
        """Errors: InvalidInput where something needed is missing."""
        if self.has_login and (self.username is None or self.password is None):
            raise InvalidInput("setting", f"{self.protocol} needs a SASL user name and a password")
        if self.key_file is not None and self.cert_file is None:
            raise InvalidInput("setting", "a client's key needs its certificate")


_OPEN: Final = Security()


class KafkaAddress(str):
    """`host:port[,…]` and its security."""

    __slots__ = ("security",)
    security: Security

    def __new__(cls, bootstrap: str, security: Security) -> Self:
        address = super().__new__(cls, bootstrap)
        address.security = security
        return address


def security_of(bootstrap: str) -> Security:
    """What secures an address; nothing where it is plain text."""
    return bootstrap.security if isinstance(bootstrap, KafkaAddress) else _OPEN


def connection(bootstrap: str) -> dict[str, Any]:
    """What every aiokafka client of an address is made with. Errors: InvalidInput for unreadable files."""
    security = security_of(bootstrap)
    made: dict[str, Any] = {"bootstrap_servers": str(bootstrap)}
    if security == _OPEN:
        return made
    made["security_protocol"] = security.protocol
    if security.has_tls:
        made["ssl_context"] = tls_context(security)
    if security.has_login:
        made["sasl_mechanism"] = security.mechanism
        made["sasl_plain_username"] = security.username
        made["sasl_plain_password"] = security.password
    return made


@lru_cache(maxsize=8)
def tls_context(security: Security) -> ssl.SSLContext:
    """Checks certificates and names; TLS 1.2 or later. Errors: InvalidInput."""
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
        if security.cert_file is not None:
            context.load_cert_chain(security.cert_file, security.key_file)
    except OSError as error:
        raise InvalidInput("setting", f"Kafka's TLS files: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
