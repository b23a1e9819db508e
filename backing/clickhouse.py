"""ClickHouse: the engine of the `chdb` wheels behind our own ClickHouse-HTTP server, as one process of its own."""

from __future__ import annotations

import sys
from typing import ClassVar, Final
from urllib.parse import unquote, urlsplit

from backing import ports
from backing.service import Service, write_config
from backing.state import ServiceState

USER: Final = "tollgate"


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
        """Writes the password file."""
        password, data = self.folder / "password", self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        write_config(password, noted.password)
        # -P: the folder that `tollgate` happens to be called in is no place to import from.
        command = [sys.executable, "-P", "-m", "backing.clickhouse_server", "--path", str(data)]
        command += ["--host", ports.LOOPBACK, "--port", str(noted.ports["port"])]
        command += ["--user", unquote(urlsplit(noted.url).username or "default"), "--password-file", str(password)]
        return [*command, "--threads", str(self.settings.clickhouse_threads)]
