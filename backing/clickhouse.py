"""ClickHouse: the engine of the `chdb` wheels behind our own ClickHouse-HTTP server, as one process of its own."""

from __future__ import annotations

import hmac
import sys
from typing import ClassVar, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from backing import ports
from backing.service import Service, write_config
from backing.state import ServiceState

USER: Final = "tollgate"
READER: Final = "reader"
"""May read and nothing else."""


def reader_url(url: str) -> str:
    """The reader's URL of a native ClickHouse. Its password is made from the owner's and does not lead back to it."""
    parts = urlsplit(url)
    password = hmac.digest(unquote(parts.password or "").encode(), READER.encode(), "sha256").hex()
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{READER}:{password}@{host}"))


class ClickHouse(Service):
    """The native ClickHouse."""

    name: ClassVar[str] = "clickhouse"
    setting: ClassVar[str] = "clickhouse_url"

    def fetch(self) -> None:
        """Nothing: the engine is a dependency of ours."""

    def url_for(self, chosen: dict[str, int], password: str) -> str:
        """Its URL, user and password included."""
        return f"http://{USER}:{password}@{ports.LOOPBACK}:{chosen['port']}"

    def prepare(self, noted: ServiceState) -> list[str]:
        """Writes the files of passwords."""
        password, data = self.folder / "password", self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        write_config(password, noted.password)
        # -P: the folder that `tollgate` happens to be called in is no place to import from.
        command = [sys.executable, "-P", "-m", "backing.clickhouse_server", "--path", str(data)]
        command += ["--host", ports.LOOPBACK, "--port", str(noted.ports["port"])]
        command += ["--user", unquote(urlsplit(noted.url).username or "default"), "--password-file", str(password)]
        reader = urlsplit(reader_url(noted.url))
        reader_password = self.folder / "reader_password"
        write_config(reader_password, unquote(reader.password or ""))
        command += ["--readonly-user", READER, "--readonly-password-file", str(reader_password)]
        return [*command, "--threads", str(self.settings.clickhouse_threads)]
