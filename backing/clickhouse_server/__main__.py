"""`python -m backing.clickhouse_server`: serves the ClickHouse engine of one directory until SIGTERM.

SIGTERM: nothing new is accepted, what runs has STOP_TIMEOUT_S to end, then the engine is closed and the exit code is
0. What runs on after that is cut: an insert cut so was never answered, and is either there whole or not at all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

import click
import uvicorn

from schemas.errors import InvalidInput, Unavailable

STOP_TIMEOUT_S: Final = 20
KEEP_ALIVE_S: Final = 600
"""Clients pool their connections: one that the server closes first costs them a failed request."""

_LAST_TIMEOUT_S: Final = 5.0


@click.command()
@click.option("--path", type=click.Path(path_type=Path, file_okay=False), required=True, help="Directory of the data.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes a free one.")
@click.option("--user", required=True, help="The user who may do everything.")
@click.option("--password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--readonly-user", help="A second user, who may read tables only.")
@click.option("--readonly-password-file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads of one query.")
def main(
    path: Path,
    host: str,
    port: int,
    user: str,
    password_file: Path,
    readonly_user: str | None,
    readonly_password_file: Path | None,
    threads: int,
) -> None:
    """Serves ClickHouse's HTTP interface over the chDB engine."""
    if (readonly_user is None) != (readonly_password_file is None):
        raise click.UsageError("--readonly-user and --readonly-password-file belong together")
    if readonly_user == user:
        raise click.UsageError("--readonly-user must be another user than --user")
    accounts = [(user, _password(password_file), False)]
    if readonly_user is not None and readonly_password_file is not None:
        accounts.append((readonly_user, _password(readonly_password_file), True))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The engine takes its time zone from here when it is loaded, and Tollgate knows none but UTC.
    os.environ["TZ"] = "UTC"
    time.tzset()
    # The protocol is named since asyncio switches Nagle's algorithm off for what says it is TCP only.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        is_clean = _serve(path, threads, accounts, listening)
    except (OSError, InvalidInput, Unavailable) as error:
        print(f"clickhouse_server: {error}", file=sys.stderr)
        sys.exit(1)
    if not is_clean:
        # Threads inside the engine cannot be interrupted, and the interpreter would wait for them.
        os._exit(0)


def _serve(path: Path, threads: int, accounts: list[tuple[str, str, bool]], listening: socket.socket) -> bool:
    # Loads the engine, which has to see the time zone set.
    from backing.clickhouse_server import credentials
    from backing.clickhouse_server.application import Application
    from backing.clickhouse_server.engine import Engine

    engine = Engine(path, threads)
    users = [credentials.user(name, password, is_reader=is_reader) for name, password, is_reader in accounts]
    application = Application(engine, users)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            # Not uvloop, which closes the descriptor of a pipe twice: the second time it may be a file of the engine.
            loop="asyncio",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
        )
    )

    async def serve() -> bool:
        await server.serve(sockets=[listening])
        return await application.close(_LAST_TIMEOUT_S)

    # uvicorn raises the signals that ended it once more, for whoever was there before: being asked to end is no error.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    host, port = listening.getsockname()[:2]
    logging.getLogger(__name__).info("ClickHouse %s (chDB) in %s on http://%s:%d", engine.version, path, host, port)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        is_clean = runner.run(serve())
    if is_clean:
        engine.close()
    return is_clean


def _password(file: Path) -> str:
    password = file.read_text(encoding="utf-8").rstrip("\r\n")
    if not password:
        raise click.UsageError(f"{file} holds no password")
    return password


if __name__ == "__main__":
    main()
