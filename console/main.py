"""The `tollgate` command line: imports a command's module when it is called; one line and an exit code for each
error.

Exit codes: 0 done; 1 an error of our own kinds; 2 a bad argument, setting or input; 130 interrupted. A command with
further codes (`reconcile`) returns the code. Messages go to standard error, results to standard output.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from console.noting import note_command
from schemas.errors import InvalidInput, TollgateError

# Where a command lives: module of this package, its attribute, and the line of `tollgate --help`. Written here
# so that help needs none of the modules and a command imports only its own.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "up": ("services", "up", "Start the backing services, or attach to those that run."),
    "down": ("services", "down", "Stop what `up` started."),
    "status": ("services", "status", "Show services, processes and lag."),
    "settings": ("services", "settings", "Print the table of settings."),
    "serve": ("serve", "serve", "Run API, rating workers, sink and scheduler under one supervisor."),
    "api": ("serve", "api", "Run the HTTP API alone."),
    "worker": ("serve", "worker", "Run one rating worker alone."),
    "sink": ("serve", "sink", "Run the ClickHouse sink alone."),
    "scheduler": ("jobs", "scheduler", "Run the periodic jobs alone."),
    "jobs": ("jobs", "jobs", "List the periodic jobs, or run one now."),
    "token": ("tokens", "token", "Issue, revoke and list service tokens."),
    "demo": ("demo", "demo", "Rate the real traces end to end and show what was charged."),
    "catalog": ("catalog", "catalog", "Check, apply, show and compare catalogues."),
    "events": ("events", "events", "Send events, or make them from a trace."),
    "rated": ("rated", "rated", "Follow the ledger."),
    "price": ("price", "price", "Estimate amounts without a server."),
    "invoices": ("invoices", "invoices", "Close billing periods; finalize, void and show invoices."),
    "reconcile": ("reconcile", "reconcile", "Prove that log, ledger, accounts and rows agree."),
    "dlq": ("dlq", "dlq", "List, show, retry and drop dead letters."),
    "explain": ("explain", "explain", "Say why an event or a charge came to what it did."),
    "rebuild": ("rebuild", "rebuild", "Recompute all of Redis from the ledger."),
    "rerate": ("rerate", "rerate_command", "Rate history again under another catalogue."),
    "bench": ("bench", "bench", "Run the benchmarks."),
}


COLLECTED_AFTER: Final = 100_000
"""Values more than went away, after which Python looks for cycles. What serves says how many it wants once it is
loaded."""


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(f"console.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tollgate", prog_name="tollgate")
def tollgate() -> None:
    """Usage-based billing that charges every event exactly once."""


def _fail(message: str, code: int) -> NoReturn:
    print(f"tollgate: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command, notes it if it changes something, and exits with its code."""
    if arguments is None:
        _load_quickly()
    try:
        _run(arguments)
    except SystemExit as ended:
        note_command(sys.argv[1:] if arguments is None else arguments, ended.code if isinstance(ended.code, int) else 1)
        raise


def _load_quickly() -> None:
    """Of a program's first second of CPU a fifth went into what loading it has no use for."""
    # What is loaded stays: the collector walks through all of it some fifty times and finds nothing.
    gc.set_threshold(COLLECTED_AFTER)
    # numpy's matrices, which nothing here multiplies, would have a thread for each core that spins before it sleeps.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _run(arguments: Sequence[str] | None) -> NoReturn:
    for told in ("aiokafka", "clickhouse_connect", "streams.catalogue"):
        # What they have to say comes as our own errors; processes that serve set up a log, where it is heard.
        logging.getLogger(told).addHandler(logging.NullHandler())
    given: list[str] | None = list(arguments) if arguments is not None else None
    try:
        code: Any = tollgate.main(args=given, prog_name="tollgate", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        path = error.ctx.command_path if error.ctx is not None else "tollgate"
        _fail(f"a command is missing; `{path} --help` lists them", 2)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except InvalidInput as error:
        _fail(str(error), 2)
    except TollgateError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        # The reader of a listing has seen enough (`| head`). Standard output must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        # A data dir or token file that this user may not write. What names no file is a fault of ours.
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
