"""ClickHouse's codes, and the HTTP status of each."""

from __future__ import annotations

import pytest

from backing.clickhouse_server.errors import SYNTAX_ERROR, from_engine, refusal


@pytest.mark.parametrize(
    ("message", "code", "status", "text"),
    [
        ("Code: 62. DB::Exception: no. (SYNTAX_ERROR)", 62, 400, "Code: 62. DB::Exception: no. (SYNTAX_ERROR)"),
        (
            "Code: 164. DB::Exception: Code: 164. DB::Exception: no. (READONLY) (version 26.9.2.1). (READONLY)",
            164,
            500,
            "Code: 164. DB::Exception: no. (READONLY)",
        ),
        (
            "Failed: Code: 33. DB::Exception: cut. (CANNOT_READ_ALL_DATA) (version 26.9.2.1)",
            33,
            500,
            "Code: 33. DB::Exception: cut. (CANNOT_READ_ALL_DATA)",
        ),
        ("Code: 60. DB::Exception: a\nb. (UNKNOWN_TABLE)", 60, 404, "Code: 60. DB::Exception: a\nb. (UNKNOWN_TABLE)"),
        ("something else.", 1001, 500, "Code: 1001. DB::Exception: something else. (STD_EXCEPTION)"),
        ("", 1001, 500, "Code: 1001. DB::Exception: . (STD_EXCEPTION)"),
    ],
)
def test_the_engines_errors(message: str, code: int, status: int, text: str) -> None:
    """The code is read out of the text, which is unwrapped and loses the version it may have."""
    error = from_engine(message)
    assert (error.code, error.status, error.text) == (code, status, text)


@pytest.mark.parametrize(
    ("code", "status"),
    [(194, 401), (516, 403), (497, 403), (60, 404), (81, 404), (62, 400), (159, 408), (48, 501), (252, 500)],
)
def test_status_by_code(code: int, status: int) -> None:
    """The statuses are ClickHouse's."""
    assert from_engine(f"Code: {code}. DB::Exception: x. (X)").status == status


def test_an_own_refusal_looks_like_clickhouses() -> None:
    """Code, detail, name and version, on one line."""
    assert refusal(SYNTAX_ERROR, "no").body("1.2") == (b"Code: 62. DB::Exception: no. (SYNTAX_ERROR) (version 1.2)\n")
