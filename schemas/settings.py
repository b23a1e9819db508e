"""Every setting of Tollgate: one environment variable each, declared once.

`Settings.from_environment` is the only reader of TOLLGATE_* variables. Processes get a `Settings` value handed in;
nothing else looks at the environment. `python -m schemas.settings` prints the table of the README.

Refuses a value that is not of its kind or out of its bounds: InvalidInput that names the variable.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from schemas.errors import InvalidInput
from schemas.kafka import MECHANISMS, PROTOCOLS, KafkaAddress, Security

PREFIX: Final = "TOLLGATE_"

_SPAN: Final = re.compile(r"(?P<number>\d{1,9})(?P<unit>ms|s|m|h|d)?", re.ASCII)
_SPAN_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MILLISECOND: Final = timedelta(milliseconds=1)


def _refuse(reason: str) -> InvalidInput:
    return InvalidInput("setting", reason)


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value).expanduser().absolute()


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
            raise _refuse("is not a whole number")
        if not low <= int(value) <= high:
            raise _refuse(f"is not between {low} and {high}")
        return int(value)

    return read


def _span(low: timedelta, high: timedelta) -> Callable[[str], timedelta]:
    """A span of time as people write it: `90` (seconds), `500ms`, `10m`, `1h`, `30d`."""

    def read(value: str) -> timedelta:
        found = _SPAN.fullmatch(value.strip())
        if found is None:
            raise _refuse("is not a span of time such as 500ms, 30s, 10m, 1h or 30d")
        span = int(found["number"]) * _SPAN_UNITS_MS[found["unit"] or "s"] * _MILLISECOND
        if not low <= span <= high:
            raise _refuse(f"is not between {low} and {high}")
        return span

    return read


def _choice(*words: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in words:
            raise _refuse(f"is not one of {', '.join(words)}")
        return value

    return read


def _url(*schemes: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  # reading it is what checks it
        except ValueError:
            raise _refuse("is not a URL") from None  # what the error quotes may be of a password
        if parts.scheme not in schemes or not parts.hostname:
            raise _refuse(f"is not a URL of {' or '.join(schemes)}")
        return value.rstrip("/")

    return read


def _java_size(value: str) -> str:
    if not re.fullmatch(r"\d{1,6}[mMgG]", value, re.ASCII):
        raise _refuse("is not a size such as 768m or 2g")
    return value


def _bootstrap(value: str) -> str:
    for server in value.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not colon or not host or not re.fullmatch(r"\d{1,5}", port, re.ASCII):
            raise _refuse("is not host:port, or several of them with commas between")
    return value


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the table of settings says of one variable."""

    default: str | None
    unit: str
    sentence: str
    read: Callable[[str], Any]

    @property
    def is_secret(self) -> bool:
        """Whether its value, a URL's password too, stays out of messages and representations."""
        return self.unit in ("secret", "URL")


def setting(default: str | None, read: Callable[[str], Any], unit: str, sentence: str) -> Any:
    """One field of Settings; `default` is text as it would stand in the environment, None where there is none."""
    declaration = Declaration(default, unit, sentence, read)
    return dataclasses.field(metadata={"declaration": declaration}, repr=not declaration.is_secret)


_FOREVER: Final = timedelta(days=3650)
_NOTHING: Final = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Values of all settings. The variable of a field is TOLLGATE_ and its name in capitals."""

    # Stores
    kafka_bootstrap: str | None = setting(
        None, _bootstrap, "host:port[,…]", "Kafka's bootstrap servers; unset, the ones `tollgate up` started."
    )
    kafka_security_protocol: str = setting(
        "PLAINTEXT",
        _choice(*PROTOCOLS),
        "word",
        "How Kafka is spoken to: with TLS, a password, both or neither.",
    )
    kafka_sasl_mechanism: str = setting("PLAIN", _choice(*MECHANISMS), "word", "How the password is shown to Kafka.")
    kafka_sasl_username: str | None = setting(None, _text, "text", "User of Kafka.")
    kafka_sasl_password: str | None = setting(None, _text, "secret", "The user's password.")
    kafka_ssl_cafile: Path | None = setting(
        None, _path, "file", "Authorities that Kafka's certificate may be of, PEM; unset, the system's."
    )
    kafka_ssl_certfile: Path | None = setting(None, _path, "file", "Our certificate, PEM, where Kafka asks for one.")
    kafka_ssl_keyfile: Path | None = setting(None, _path, "file", "The key of our certificate, PEM.")
    redis_url: str | None = setting(
        None,
        _url("redis", "rediss"),
        "URL",
        "Redis with its password, `rediss://` with TLS; unset, the one `tollgate up` started.",
    )
    clickhouse_url: str | None = setting(
        None,
        _url("http", "https"),
        "URL",
        "ClickHouse's HTTP interface with user and password, or `https://`; unset, the one `tollgate up` started.",
    )
    clickhouse_reader_url: str | None = setting(
        None,
        _url("http", "https"),
        "URL",
        "ClickHouse as a user who may read `tollgate.*` and nothing else: whom the API asks as; unset, the one of the "
        "native ClickHouse, else as above.",
    )
    data_dir: Path = setting(
        ".tollgate", _path, "folder", "Where services keep data, logs and pids, and workers their identity index."
    )
    partitions: int = setting(
        "8",
        _whole(1, 1024),
        "count",
        "Partitions of the input topics and the ledger, fixed when the topics are created.",
    )
    replication: int = setting(
        "1", _whole(1, 7), "count", "Copies that Kafka keeps of each topic that `tollgate up` creates."
    )

    # Backing services
    backend: str = setting(
        "auto",
        _choice("auto", "external", "docker", "native"),
        "word",
        "How `tollgate up` provides the backing services.",
    )
    start_timeout: timedelta = setting(
        "180s",
        _span(timedelta(seconds=1), timedelta(hours=1)),
        "time",
        "How long `tollgate up` waits for one service to answer.",
    )
    stop_timeout: timedelta = setting(
        "30s",
        _span(_NOTHING, timedelta(hours=1)),
        "time",
        "How long a service may take to stop on SIGTERM before it gets SIGKILL.",
    )
    kafka_heap: str = setting("768m", _java_size, "Java size", "Largest heap of the native Kafka broker.")
    clickhouse_threads: int = setting("2", _whole(1, 256), "count", "Threads of one query in the native ClickHouse.")

    # HTTP
    http_host: str = setting("127.0.0.1", _text, "address", "Address the API listens on.")
    http_port: int = setting("8080", _whole(0, 65535), "port", "Port the API listens on; 0 takes a free one.")
    service_tokens: Path | None = setting(
        None, _path, "file", "Hashed service tokens; unset, `tokens.json` in the data dir."
    )

    rate_limit: int = setting(
        "5000",
        _whole(0, 10**9),
        "units/s",
        "What a token may ask of one API process: a balance, a hold or an event costs 1, a listing 5, a catalogue 100 "
        "and each 16 KiB of body 1; beyond it 429. 0: no limit.",
    )
    rate_burst: int = setting("25000", _whole(0, 10**9), "units", "How much of that a token may ask for at once.")
    metrics_host: str = setting(
        "127.0.0.1",
        _text,
        "address",
        "Address on which processes show their metrics; the API has `/metrics`.",
    )
    metrics_port: int = setting(
        "0", _whole(0, 65535), "port", "Port for a process's metrics; 0, or where it is taken, a free one."
    )

    # Rating
    admission_on_error: str = setting(
        "deny",
        _choice("deny", "allow"),
        "word",
        "What an admission check answers while Redis is away; no event is ever dropped.",
    )
    max_future: timedelta = setting(
        "1h", _span(_NOTHING, _FOREVER), "time", "How far an event's time may lie ahead of Kafka's append time."
    )

    # The services around us
    accounts_url: str | None = setting(
        None, _url("http", "https"), "URL", "The accounts service; unset, every user is valid."
    )
    organizations_url: str | None = setting(None, _url("http", "https"), "URL", "The organizations service.")
    notifications_url: str | None = setting(
        None, _url("http", "https"), "URL", "The notifications service; unset, nobody is told of receipts and invoices."
    )
    storage_url: str | None = setting(
        None, _url("http", "https"), "URL", "The storage service; unset, nothing is known of what is stored."
    )
    services_token: str | None = setting(None, _text, "secret", "What these services ask for as a bearer token.")

    # On every invoice
    seller_name: str | None = setting(None, _text, "text", "Who bills, as invoices name it; unset, nobody is named.")
    seller_address: str | None = setting(None, _text, "text", "Its address, with `;` between lines.")
    seller_tax_id: str | None = setting(None, _text, "text", "Its tax id.")
    seller_remittance: str | None = setting(
        None, _text, "text", "How an invoice can be paid, in words: an account, a link."
    )

    # Stripe
    stripe_api_key: str | None = setting(None, _text, "secret", "Stripe's API key; unset, nothing is pushed to Stripe.")
    stripe_api_base: str | None = setting(
        None, _url("http", "https"), "URL", "Another address for Stripe's API, for tests."
    )
    stripe_webhook_secret: str | None = setting(
        None, _text, "secret", "Checks the signature of Stripe's webhooks; several, with commas, while they rotate."
    )

    def __post_init__(self) -> None:
        self._kafka_security.check()
        if self.kafka_bootstrap is not None:
            object.__setattr__(self, "kafka_bootstrap", self.kafka_address(self.kafka_bootstrap))

    def kafka_address(self, bootstrap: str) -> KafkaAddress:
        """An address of Kafka, secured as these settings say."""
        return KafkaAddress(bootstrap, self._kafka_security)

    @property
    def _kafka_security(self) -> Security:
        return Security(
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_sasl_username,
            self.kafka_sasl_password,
            self.kafka_ssl_cafile,
            self.kafka_ssl_certfile,
            self.kafka_ssl_keyfile,
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """The settings of an environment (the process's own if None); `given` fields go before it.

        An empty variable is as if it were not set. Errors: InvalidInput.
        """
        source = os.environ if environment is None else environment
        values: dict[str, Any] = dict(given)
        for field in dataclasses.fields(cls):
            if field.name in values:
                continue
            name = variable_of(field.name)
            declaration: Declaration = field.metadata["declaration"]
            written = source.get(name) or declaration.default
            if written is None:
                values[field.name] = None
                continue
            try:
                values[field.name] = declaration.read(written)
            except InvalidInput as error:
                hidden = declaration.is_secret and (declaration.unit != "URL" or "@" in written)
                shown = "its value" if hidden else repr(written)
                raise InvalidInput("setting", f"{name}: {shown} {error.detail}", f"/{name}") from None
        return cls(**values)

    def is_given(self, field: str, environment: Mapping[str, str] | None = None) -> bool:
        """Whether somebody chose a field's value: its variable is set, or the value is another than the default."""
        source = os.environ if environment is None else environment
        declaration = next(f.metadata["declaration"] for f in dataclasses.fields(self) if f.name == field)
        default = declaration.read(declaration.default) if declaration.default is not None else None
        return bool(source.get(variable_of(field))) or getattr(self, field) != default

    @property
    def tokens_file(self) -> Path:
        """Where hashed service tokens are kept."""
        return self.service_tokens if self.service_tokens is not None else self.data_dir / "tokens.json"

    def environment(self) -> dict[str, str]:
        """The variables that make a child process read these very settings."""
        written: dict[str, str] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            text = f"{value // _MILLISECOND}ms" if isinstance(value, timedelta) else str(value)
            written[variable_of(field.name)] = text
        return written


def variable_of(field: str) -> str:
    """The environment variable that a field of Settings is read from."""
    return PREFIX + field.upper()


def table() -> str:
    """All settings as a Markdown table."""
    rows = ["| variable | default | unit | meaning |", "| --- | --- | --- | --- |"]
    for field in dataclasses.fields(Settings):
        declaration: Declaration = field.metadata["declaration"]
        default = f"`{declaration.default}`" if declaration.default is not None else "unset"
        rows.append(f"| `{variable_of(field.name)}` | {default} | {declaration.unit} | {declaration.sentence} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
