from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from api.tokens import MISS_SECONDS, RELOAD_SECONDS, SCOPES, TokenFile, TokenReader, parse_expiry, read
from schemas.errors import InvalidInput, Unavailable
from schemas.period import parse_time

NOW = 1_800_000_000_000_000
DAY = 86_400_000_000


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_token_is_found_by_its_text_alone(tmp_path: Path) -> None:
    """Text finds the token; another secret with the same id, its hash or its id do not."""
    token, text = TokenFile(tmp_path / "t.json").issue("acme", (), None, NOW)
    reader = TokenReader(tmp_path / "t.json")
    assert reader.find(text, NOW) == token
    for wrong in (text[:-1] + ("A" if text[-1] != "A" else "B"), token.hash, token.id, "", "tg__", text + "A", "ü"):
        assert reader.find(wrong, NOW) is None


def test_the_file_holds_nothing_a_token_could_be_made_from(tmp_path: Path) -> None:
    """Only a hash is kept, readable by its owner alone."""
    path = tmp_path / "deep" / "tokens.json"
    _, text = TokenFile(path).issue("acme", ["admin"], None, NOW)
    assert text.encode() not in path.read_bytes()
    assert text.split("_", 2)[2].encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == ["tokens.json", "tokens.json.lock"]


def test_scopes_are_those_named_and_all_without_a_name(tmp_path: Path) -> None:
    """Without scopes a token may do everything; an unknown one is refused."""
    file = TokenFile(tmp_path / "t.json")
    assert file.issue("acme", (), None, NOW)[0].scopes == SCOPES
    assert file.issue("acme", ["admin", "events:write"], None, NOW)[0].scopes == ("events:write", "admin")
    with pytest.raises(InvalidInput, match="'events:read' is no scope"):
        file.issue("acme", ["events:read"], None, NOW)
    with pytest.raises(InvalidInput, match="tenant"):
        file.issue("", (), None, NOW)


def test_a_token_ends_when_it_expires(tmp_path: Path) -> None:
    """The instant of its expiry is no longer its."""
    _, text = TokenFile(tmp_path / "t.json").issue("acme", (), NOW + 1_000_000, NOW)
    reader = TokenReader(tmp_path / "t.json")
    assert reader.find(text, NOW + 999_999) is not None
    assert reader.find(text, NOW + 1_000_000) is None


def test_a_running_reader_sees_issue_and_revoke(tmp_path: Path) -> None:
    """What is issued counts at once, what is revoked after RELOAD_SECONDS at most."""
    path, clock = tmp_path / "t.json", Clock()
    file, reader = TokenFile(path), TokenReader(path, clock)
    assert reader.find("tg_0", NOW) is None
    token, text = file.issue("acme", (), None, NOW)
    clock.seconds += MISS_SECONDS
    assert reader.find(text, NOW) is not None
    file.revoke(token.id)
    clock.seconds += RELOAD_SECONDS
    assert reader.find(text, NOW) is None
    with pytest.raises(InvalidInput, match="no token"):
        file.revoke(token.id)


def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    """A damaged file is Unavailable, not an empty list: nobody is told that a good token is bad."""
    path = tmp_path / "t.json"
    path.write_text("{")
    with pytest.raises(Unavailable):
        TokenReader(path).find("tg_0", NOW)
    path.write_text('{"format": 2, "tokens": []}')
    with pytest.raises(Unavailable, match="format 2"):
        read(path)


def test_tokens_issued_at_once_are_all_kept(tmp_path: Path) -> None:
    """Commands that run at the same time lose none of each other's tokens."""
    path = tmp_path / "t.json"
    threads = [threading.Thread(target=lambda: TokenFile(path).issue("acme", (), None, NOW)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({token.id for token in read(path)}) == 16


def test_expiry_is_a_span_or_a_time_that_lies_ahead() -> None:
    """30d and 12h count from now; any offset is read; what lies behind is refused."""
    assert parse_expiry("30d", NOW) == NOW + 30 * DAY
    assert parse_expiry("12h", NOW) == NOW + DAY // 2
    assert parse_expiry("P1Y2D", parse_time("2028-01-01T00:00:00Z")) == parse_time("2029-01-03T00:00:00Z")
    assert parse_expiry("2030-01-01T01:00:00+01:00", NOW) == parse_time("2030-01-01T00:00:00Z")
    for wrong in ("0s", "2020-01-01T00:00:00Z", "tomorrow", "-1d", "", "999999d9", "30 d"):
        with pytest.raises(InvalidInput):
            parse_expiry(wrong, NOW)


def test_a_rotated_token_holds_until_its_overlap_is_over(tmp_path: Path) -> None:
    """Both hold meanwhile, the new one has the tenant and scopes of the old, and an earlier end stays."""
    file = TokenFile(tmp_path / "t.json")
    first, text = file.issue("acme", ["usage:read"], None, NOW)
    old, new, new_text = file.rotate(first.id, NOW + DAY, None, NOW)
    reader = TokenReader(tmp_path / "t.json")
    assert (new.tenant, new.scopes, new.expires_at) == ("acme", ("usage:read",), None)
    assert reader.find(text, NOW + DAY - 1) == old
    assert reader.find(new_text, NOW) == reader.find(new_text, NOW + 1000 * DAY) == new
    assert reader.find(text, NOW + DAY) is None
    again, _, _ = file.rotate(first.id, NOW + 9 * DAY, None, NOW)
    assert again.expires_at == old.expires_at
    with pytest.raises(InvalidInput, match="no token"):
        file.rotate("0" * 16, NOW + DAY, None, NOW)
