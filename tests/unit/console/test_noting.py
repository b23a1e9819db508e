"""Commands that change something end in the audit log."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.audit_file import FILE
from console.main import COMMANDS, main
from console.noting import NOTED
from schemas.audit import AuditEntry, decode_entry


def noted(data_dir: Path) -> list[AuditEntry]:
    file = data_dir / FILE
    return [decode_entry(line) for line in file.read_bytes().splitlines()] if file.exists() else []


def run(*words: str) -> None:
    with pytest.raises(SystemExit):
        main(list(words))


def test_a_token_that_is_issued_is_noted_without_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who, for which tenant, and that it was done."""
    monkeypatch.setenv("TOLLGATE_DATA_DIR", str(tmp_path))
    run("token", "issue", "--tenant", "acme")
    secret = capsys.readouterr().out.splitlines()[-1]
    run("token", "revoke", "no-such-token")
    run("token", "ls")
    run("token", "issue", "--help")
    issued, failed = noted(tmp_path)
    assert (issued.tenant, issued.action, issued.status) == ("acme", "tollgate token issue", 200)
    assert issued.target == "token issue --tenant acme"
    assert "@" in issued.actor
    assert (failed.action, failed.status) == ("tollgate token revoke", 500)
    assert secret.encode() not in (tmp_path / FILE).read_bytes()


def test_a_command_is_not_held_up_by_its_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the folder cannot be written, the command is what it was, and a line says so."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("TOLLGATE_SERVICE_TOKENS", str(blocked / "tokens.json"))
    with pytest.raises(SystemExit) as ended:
        main(["token", "revoke", "x"])
    assert ended.value.code == 1
    assert "audit log" in caplog.text


def test_only_commands_that_are_there_are_listed() -> None:
    """By their first word, as far as this version has them."""
    assert {name.split()[0] for name in NOTED} & set(COMMANDS) >= {"token", "catalog"}
