"""The command line where nothing runs: one clear line and the right exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from console.main import COMMANDS, main, tollgate

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `tollgate ...` in a data dir where nothing was started: exit code, stdout, stderr."""
    monkeypatch.setenv("TOLLGATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return int(str(ended.value.code or 0)), out, err

    return called


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_there(name: str, run: Run) -> None:
    """What `--help` lists can be asked for its own help, which begins as the list says or says more."""
    assert isinstance(tollgate.get_command(click.Context(tollgate), name), click.Command)
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: tollgate {name}")
    assert f"  {name} " in run("--help")[1]


def test_help_imports_no_command() -> None:
    """Nor anything that a command needs: help is there at once."""
    asked = "import sys, console.main as c; c.tollgate.main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "console.main" in loaded
    assert not {"asyncio", "aiokafka", "faust", "fastapi", "numpy", "pydantic", "msgspec"} & set(loaded)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("console.services", {"aiokafka", "fastapi", "numpy", "pydantic", "redis", "clickhouse_connect"}),
        ("console.events", {"aiokafka", "fastapi", "numpy", "pydantic", "redis", "clickhouse_connect"}),
        ("console.tokens", {"aiokafka", "fastapi", "numpy", "pydantic", "redis", "clickhouse_connect"}),
        ("console.reconcile", {"faust", "fastapi", "httpx", "numba", "stripe", "typst"}),
        ("invoicing.scheduler", {"faust", "fastapi", "httpx", "numba", "stripe", "typst"}),
        ("streams.sink", {"faust", "fastapi", "httpx", "numba", "pydantic", "stripe"}),
        ("api.server", {"faust", "httpx", "numba", "stripe", "typst"}),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(module: str, unwanted: set[str]) -> None:
    """What a command or a process begins with: each of these would cost every start of it a tenth of a second."""
    asked = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.split())


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("", 2, "a command is missing"),
        ("events", 2, "`tollgate events --help`"),
        ("scheduler", 1, "`tollgate up`"),
        ("events send nothing-there", 2, "'nothing-there' does not exist"),
        ("catalog check nothing-there", 2, "'nothing-there' does not exist"),
        ("catalog check not.yaml", 2, "not YAML: line 2, column 1"),
        ("token issue", 2, "--tenant"),
        ("token issue --tenant a --scopes all", 2, "'all' is no scope"),
        ("token revoke t-1", 2, "no token with the id 't-1'"),
        ("serve --workers 0", 2, "--workers"),
        ("down --everything", 2, "--everything"),
        ("reconcile --period 2026-13", 2, "no month"),
        ("reconcile", 3, "`tollgate up`"),
        ("reconcile --json", 3, "`tollgate up`"),
        ("serve", 1, "`tollgate up`"),
        ("worker", 1, "`tollgate up`"),
        ("sink", 1, "`tollgate up`"),
        ("api", 1, "`tollgate up`"),
        ("rated tail", 1, "`tollgate up`"),
        ("catalog show", 1, "`tollgate up`"),
        ("events send not.yaml", 1, "`tollgate up`"),
        ("up --backend external", 2, "TOLLGATE_KAFKA_BOOTSTRAP"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    command: str, code: int, said: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 for what was asked wrongly, 3 for stores that reconcile cannot read, 1 for what else is not there."""
    monkeypatch.setattr(
        "os.nice", lambda more: more
    )  # a process that served would stay as nice: this one is of all tests
    (tmp_path / "not.yaml").write_text("currency: [\n")
    ended, out, err = run(*command.split())
    assert (ended, out) == (code, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_setting_that_is_none_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command."""
    monkeypatch.setenv("TOLLGATE_PARTITIONS", "many")
    assert run("status") == (2, "", "tollgate: TOLLGATE_PARTITIONS: 'many' is not a whole number\n")


@pytest.mark.parametrize("command", ["up", "token issue --tenant acme", "status"])
def test_a_data_dir_that_cannot_be_made_is_one_line(
    command: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the path."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TOLLGATE_DATA_DIR", str(tmp_path / "file" / "data"))
    code, out, err = run(*command.split())
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert str(tmp_path / "file") in err


def test_status_of_nothing_says_so(run: Run) -> None:
    """It is no error that nothing was started."""
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        [name, "not", "started"] for name in ("kafka", "redis", "clickhouse")
    ]


def test_down_where_nothing_is_says_so(run: Run, tmp_path: Path) -> None:
    """Whether the data dir is there or not."""
    assert run("down") == (0, "", f"nothing runs in {tmp_path}/data\n")
    (tmp_path / "data").mkdir()
    assert run("down") == (0, "", f"nothing was started in {tmp_path}/data\n")
