"""`tollgate demo` as somebody runs it who has just cloned: on nothing, again, and stopped half-way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pypdf import PdfReader

from tests.deployment import Tollgate, settings_in, until

CHECK = re.compile(r"^check: sent=(\d+) rated=(\d+) duplicate=(\d+) ignored=(\d+) dead_letter=(\d+)\b", re.MULTILINE)
INVOICE = re.compile(r"^Invoice (INV-\d+)  \(open\)$.*?^ +Total +(\d+\.\d\d)$", re.MULTILINE | re.DOTALL)
DEMO_S = 240


@pytest.fixture(scope="module")
def tollgate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tollgate]:
    """The command line in an empty data dir, with no service given."""
    made = Tollgate(settings_in(tmp_path_factory.mktemp("demo") / "data", http_port=0))
    try:
        yield made
    finally:
        made("down", "--purge")


def left(data_dir: Path) -> list[str]:
    """Processes that name a data dir, in their environment or their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                told = (entry / "environ").read_bytes() + command
            except OSError:
                continue
            if os.fsencode(data_dir) in told:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def checked(tollgate: Tollgate) -> list[int]:
    """One whole demo: its tables, its invoice, whose total is the ledger's, and the five numbers of its check line."""
    done = tollgate("demo", timeout_s=DEMO_S)
    for shown in ("gpt-4o-mini", "device_gpu_seconds", "dearest customers", "one event followed", " a second"):
        assert shown in done.stdout
    ((number, total),) = INVOICE.findall(done.stdout)
    assert number == "INV-000001"
    assert f"total   of the invoice {total} USD, of the ledger {total} USD: equal" in done.stdout
    assert "DIFFERENT" not in done.stdout
    (pdf,) = re.findall(r"^pdf: (\S+)$", done.stdout, re.MULTILINE)
    said = " ".join(page.extract_text() for page in PdfReader(pdf).pages)
    assert number in said
    assert re.search(rf"Total\s+{total}\b", said)
    (numbers,) = CHECK.findall(done.stdout)
    assert ", 0 do not hold)" in done.stdout
    assert left(tollgate.settings.data_dir) == []
    return [int(number) for number in numbers]


def test_the_demo_shows_what_was_charged_and_leaves_nothing_behind(tollgate: Tollgate) -> None:
    """The five numbers add up, every equation holds, and no process of it is left."""
    sent, *outcomes = checked(tollgate)
    assert sent == sum(outcomes) > 19_366
    assert all(outcomes)


def test_stopped_half_way_it_leaves_nothing_and_the_next_run_is_whole(tollgate: Tollgate, tmp_path: Path) -> None:
    """Ctrl-C while processes start, and again while the first is being heard."""
    log = tmp_path / "demo.log"
    with tollgate.started("demo", log=log) as demo:
        until(lambda: "processes: starting" in log.read_text() or demo.poll() is not None, 120)
        assert demo.poll() is None, log.read_text()
        os.kill(demo.pid, signal.SIGINT)
        until(lambda: left(tollgate.settings.data_dir) != [] or demo.poll() is not None)
        if demo.poll() is None:
            os.kill(demo.pid, signal.SIGINT)
        try:
            assert demo.wait(60) == 130
        except subprocess.TimeoutExpired:
            pytest.fail(log.read_text())
    assert left(tollgate.settings.data_dir) == []
    sent, *outcomes = checked(tollgate)
    assert sent == sum(outcomes) > 19_366
