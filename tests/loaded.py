"""`tollgate` commands as processes of their own that need not load Python and its libraries first.

A run of the tests calls some four hundred commands, and two thirds of the CPU of most would go into importing. Here a
process that has imported what commands import is forked for each (multiprocessing's fork server). What runs is
`console.main.main` with the arguments, environment, folder and streams of the caller, and it ends as a process does.
That commands start from nothing is seen by the tests of the README and the demo, and of all that stays and serves.
"""

from __future__ import annotations

import atexit
import functools
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Final

LOADED: Final = (
    "backing.launch",
    "backing.status",
    "clickhouse_connect",
    "console.catalog",
    "console.dlq",
    "console.events",
    "console.explain",
    "console.invoices",
    "console.jobs",
    "console.rated",
    "console.reconcile",
    "console.rerate",
    "console.services",
    "console.tokens",
    "ingest.publish",
    "streams.catalogue",
    "tests.loaded",
)
"""What commands import, themselves or when they run."""

READ_WHILE_LOADING: Final = "SSL_CERT_FILE"
"""Of the environment: libraries keep what they find there when they are imported."""

_LOADED_WITH: Final = os.environ.get(READ_WHILE_LOADING)

_forking = threading.Lock()
"""Whoever starts a process also looks after all others, which two threads must not do at once."""


def command(arguments: Sequence[str]) -> list[str]:
    """`tollgate` with these arguments, for whoever starts it from nothing."""
    return [sys.executable, "-P", "-m", "console.main", *arguments]


def run(
    arguments: list[str], *, stdin: bytes, env: dict[str, str], timeout_s: float
) -> subprocess.CompletedProcess[bytes]:
    """`tollgate` with these arguments, to its end. Errors: subprocess.TimeoutExpired, once it is killed."""
    if env.get(READ_WHILE_LOADING) != _LOADED_WITH:
        return subprocess.run(
            command(arguments), input=stdin, env=env, capture_output=True, timeout=timeout_s, check=False
        )
    with ExitStack() as stack:
        given, said, told = (stack.enter_context(tempfile.NamedTemporaryFile()) for _ in range(3))
        given.write(stdin)
        given.flush()
        streams = [given.name, said.name, told.name]
        process = _server().Process(target=_command, args=(arguments, env, Path.cwd(), streams))
        with _forking:
            process.start()
        ended = wait([process.sentinel], timeout_s)
        with _forking:
            if not ended:
                process.kill()
            process.join()
        if not ended:
            raise subprocess.TimeoutExpired(arguments, timeout_s)
        assert process.exitcode is not None
        return subprocess.CompletedProcess(arguments, process.exitcode, said.read(), told.read())


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    return context


def _command(arguments: list[str], env: dict[str, str], folder: Path, streams: list[str]) -> None:
    gc.freeze()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for number, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        opened = os.open(path, flags | os.O_APPEND * (number > 0))
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # multiprocessing has put another in its place
    sys.argv = ["tollgate", *arguments]
    from console.main import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
