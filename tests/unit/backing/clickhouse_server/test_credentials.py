"""Who is let in."""

from __future__ import annotations

import base64

import pytest

from backing.clickhouse_server.credentials import Credentials, authenticate, offered, user
from backing.clickhouse_server.errors import Refusal

OWNER = user("owner", "pässword", is_reader=False)
READER = user("reader", "look:only", is_reader=True)


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "arguments"),
    [
        (basic("reader:look:only"), {}),
        ({"authorization": "bASIC " + base64.b64encode(b"reader:look:only").decode()}, {}),
        ({"x-clickhouse-user": "reader", "x-clickhouse-key": "look:only"}, {}),
        ({}, {"user": "reader", "password": "look:only"}),
    ],
)
def test_each_way_of_offering(headers: dict[str, str], arguments: dict[str, str]) -> None:
    """Basic, ClickHouse's headers and the URL name the same user."""
    assert authenticate([OWNER, READER], offered(headers, arguments)) is READER


@pytest.mark.parametrize(
    ("name", "password", "status", "code"),
    [
        ("owner", "wrong", 403, 516),
        ("owner", "look:only", 403, 516),
        ("nobody", "pässword", 403, 516),
        ("OWNER", "pässword", 403, 516),
        ("owner", "", 401, 194),
        ("default", "", 401, 194),
    ],
)
def test_wrong_names_and_passwords(name: str, password: str, status: int, code: int) -> None:
    """A wrong password is 403, none at all 401; which of name and password was wrong is not told."""
    with pytest.raises(Refusal, match="password is incorrect, or there is no user with such name") as refused:
        authenticate([OWNER, READER], Credentials(name, password))
    assert (refused.value.status, refused.value.code) == (status, code)


@pytest.mark.parametrize(
    ("headers", "arguments"),
    [
        ({**basic("owner:pässword"), "x-clickhouse-user": "owner"}, {}),
        (basic("owner:pässword"), {"user": "owner"}),
        ({"x-clickhouse-key": "pässword"}, {"password": "pässword"}),
        ({"authorization": "Bearer abc"}, {}),
        ({"authorization": "Basic ***"}, {}),
        ({"authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, {}),
        ({"authorization": "Basic"}, {"password": "x"}),
    ],
)
def test_mixed_and_unknown_ways_are_refused(headers: dict[str, str], arguments: dict[str, str]) -> None:
    """Credentials come in one known way or not at all."""
    with pytest.raises(Refusal) as refused:
        offered(headers, arguments)
    assert (refused.value.status, refused.value.code) == (403, 516)


def test_nobody_is_the_default_user_without_a_password() -> None:
    """A request that offers nothing offers ClickHouse's default user."""
    assert offered({}, {}) == Credentials("default", "")


def test_no_password_is_shown() -> None:
    """Neither an offer nor a user shows its password in a traceback."""
    assert "look:only" not in repr(READER)
    assert "look:only" not in repr(Credentials("reader", "look:only"))
