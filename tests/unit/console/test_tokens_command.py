from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from api.tokens import SCOPES, TokenReader
from console.main import main

Run = Callable[..., tuple[int, str, str]]
FAR = 4_000_000_000_000_000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `tollgate token ...` on a token file of its own: exit code, stdout, stderr."""
    monkeypatch.setenv("TOLLGATE_DATA_DIR", str(tmp_path))

    def tollgate(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["token", *arguments])
        out, err = capsys.readouterr()
        return int(str(ended.value.code or 0)), out, err

    return tollgate


def test_issue_prints_the_token_as_its_last_line(run: Run, tmp_path: Path) -> None:
    """It works before anything else ran, and a reader of the file knows the token at once."""
    code, out, _ = run("issue", "--tenant", "acme", "--scopes", "usage:read, events:write", "--expires", "30d")
    assert code == 0
    token = TokenReader(tmp_path / "tokens.json").find(out.splitlines()[-1], 0)
    assert token is not None
    assert (token.tenant, token.scopes) == ("acme", ("events:write", "usage:read"))
    assert token.expires_at is not None


def test_ls_shows_all_but_the_token(run: Run) -> None:
    """As lines and as JSON."""
    _, out, _ = run("issue", "--tenant", "acme")
    secret = out.splitlines()[-1]
    listed = json.loads(run("ls", "--json")[1])
    assert [(each["tenant"], tuple(each["scopes"]), each["expired"]) for each in listed] == [("acme", SCOPES, False)]
    assert listed[0]["id"] in run("ls")[1]
    for text in (run("ls")[1], run("ls", "--json")[1]):
        assert secret not in text
        assert "hash" not in text


def test_revoke_takes_a_token_away(run: Run, tmp_path: Path) -> None:
    """And says so; a second time there is none."""
    _, out, _ = run("issue", "--tenant", "acme")
    token_id = json.loads(run("ls", "--json")[1])[0]["id"]
    assert run("revoke", token_id)[0] == 0
    assert TokenReader(tmp_path / "tokens.json").find(out.splitlines()[-1], FAR) is None
    code, _, err = run("revoke", token_id)
    assert (code, len(err.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("issue",),
        ("issue", "--tenant", ""),
        ("issue", "--tenant", "acme", "--scopes", "all"),
        ("issue", "--tenant", "acme", "--scopes", ""),
        ("issue", "--tenant", "acme", "--expires", "soon"),
        ("issue", "--tenant", "acme", "--expires", "2020-01-01T00:00:00Z"),
        ("revoke",),
        ("revoke", "nobody"),
        ("nothing",),
    ],
)
def test_a_bad_argument_is_one_clear_line(run: Run, arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Exit 2, nothing issued."""
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert not (tmp_path / "tokens.json").exists()


def test_no_token_is_ever_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Standard output is the one place it appears in."""
    caplog.set_level(logging.DEBUG)
    _, out, err = run("issue", "--tenant", "acme")
    assert out.splitlines()[-1] not in caplog.text + err


def test_rotate_leaves_both_tokens_for_the_overlap(run: Run, tmp_path: Path) -> None:
    """The last line is the new one; the old one's end is written down."""
    _, out, _ = run("issue", "--tenant", "acme", "--scopes", "usage:read")
    old = json.loads(run("ls", "--json")[1])[0]["id"]
    code, rotated, _ = run("rotate", old, "--overlap", "1h")
    assert code == 0
    reader = TokenReader(tmp_path / "tokens.json")
    assert reader.find(rotated.splitlines()[-1], FAR) is not None
    assert reader.find(out.splitlines()[-1], 0) is not None
    assert reader.find(out.splitlines()[-1], FAR) is None
    assert [each["tenant"] for each in json.loads(run("ls", "--json")[1])] == ["acme", "acme"]
