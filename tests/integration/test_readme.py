"""The README's commands, run as they stand there, and the event that it follows to its charge."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from backing import launch
from backing.service import silent
from schemas.settings import PREFIX
from tests.deployment import ROOT, settings_in

README: Final = (ROOT / "README.md").read_text("utf-8")
BOUND_S: Final = 240

# Between two commands a reader looks at the ledger; a script waits until there is something to look at.
LOOK: Final = """
until grep -q m-9 entries.json 2>/dev/null; do
  .venv/bin/tollgate rated tail --from-beginning --until-end > entries.json
done
"""


def blocks(language: str, heading: str) -> list[str]:
    """The fenced blocks of a language below a heading, down to the next heading."""
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#|\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    fenced: list[str] = re.findall(rf"^```{language}\n(.*?)^```", found[1], re.MULTILINE | re.DOTALL)
    return fenced


def clone(folder: Path) -> Path:
    """What of a clone the commands touch. Its environment is the tests' own, so `make` has nothing to install."""
    folder.mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("Makefile", "console", "requirements.lock", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def holds(shown: Any, found: Any) -> bool:
    """Whether what is shown is there: objects may have more fields, lists no more items."""
    if isinstance(shown, dict):
        return isinstance(found, dict) and all(key in found and holds(shown[key], found[key]) for key in shown)
    if isinstance(shown, list):
        return isinstance(found, list) and len(shown) == len(found) and all(map(holds, shown, found))
    return bool(shown == found)


def test_the_commands_do_what_is_shown(tmp_path: Path) -> None:
    """Each line of "Try it" exits with 0, and the event comes to exactly the entry that stands there."""
    event, shown = blocks("json", "### One event in, its charge out")
    (commands,) = blocks("sh", "## Try it")
    assert commands.count("tollgate reconcile\n") == 1
    here = clone(tmp_path / "clone")
    (here / "event.json").write_text(event)
    before, reconcile, after = commands.partition(".venv/bin/tollgate reconcile\n")
    make = 'make() { command make --old-file=.venv/.installed "$@"; }\n'
    settings = settings_in(tmp_path / "data")
    kept = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "MAKE", "PYTHON"))}
    with (tmp_path / "log").open("w+") as log:
        shell = subprocess.Popen(
            ["bash", "-exc", make + before + LOOK + reconcile + after],
            cwd=here,
            env={**kept, "TOLLGATE_DATA_DIR": str(settings.data_dir), "TOLLGATE_HTTP_PORT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
        try:
            code = shell.wait(BOUND_S)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
            launch.down(settings, purge=True, report=silent)
        log.seek(0)
        assert code == 0, log.read()[-5000:]
    (entry,) = [json.loads(line) for line in (here / "entries.json").read_text().splitlines()]
    assert holds(json.loads(shown), entry), entry
