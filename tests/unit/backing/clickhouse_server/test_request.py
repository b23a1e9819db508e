"""What an HTTP request asks for: SQL, parameters, settings, session, form."""

from __future__ import annotations

import pytest

from backing.clickhouse_server.errors import Refusal
from backing.clickhouse_server.request import SESSION_LONGEST_S, Request, SessionRequest, parse, parse_arguments


def asked(query_string: str = "", method: str = "POST", **headers: str) -> Request:
    return parse(
        method,
        {name.replace("_", "-"): value for name, value in headers.items()},
        parse_arguments(query_string.encode()),
    )


def test_sql_is_the_url_and_then_the_body() -> None:
    """The query of the URL goes first, the body follows on its own line, each alone is enough."""
    form = "application/x-www-form-urlencoded"
    assert asked("query=INSERT+INTO+t+FORMAT+CSV").with_body(b"1\n", "").sql == b"INSERT INTO t FORMAT CSV\n1\n"
    assert asked("query=SELECT%201").with_body(b"", "").sql == b"SELECT 1"
    assert asked().with_body(b"SELECT 1&query=2", form).sql == b"SELECT 1&query=2"
    assert asked("query=SELECT+&query=1").sql == b"SELECT 1"
    assert asked("query=SELECT+'%FF'").sql == b"SELECT '\xff'"


def test_arguments_are_transport_parameters_or_settings() -> None:
    """What is neither the transport's nor a parameter is a setting; `readonly` never is one."""
    request = asked(
        "database=d&default_format=JSON&query_id=q&wait_end_of_query=1&enable_http_compression=1&readonly=2"
        "&param_x=a%09b&max_threads=1&insert_deduplication_token=1-2&client_protocol_version=54405&buffer_size=9"
    )
    assert request.settings == {"max_threads": "1", "insert_deduplication_token": "1-2"}
    assert request.parameters == {"x": "a\tb"}
    assert (request.database, request.default_format, request.query_id) == ("d", "JSON", "q")
    assert (request.wants_whole_answer, request.wants_compression, request.is_read_only) == (True, True, True)


def test_headers_stand_in_for_arguments() -> None:
    """Database and format may come in headers; the URL goes before them; without either there are defaults."""
    headers = {"x_clickhouse_database": "d", "x_clickhouse_format": "CSV"}
    assert (asked(**headers).database, asked(**headers).default_format) == ("d", "CSV")
    assert asked("database=e&default_format=JSON", **headers).database == "e"
    assert (asked().database, asked().default_format) == ("default", "TabSeparated")
    assert asked().query_id != asked().query_id


@pytest.mark.parametrize(
    ("method", "query_string", "is_read_only"),
    [
        ("GET", "", True),
        ("HEAD", "", True),
        ("POST", "", False),
        ("POST", "readonly=0", False),
        ("POST", "readonly=1", True),
        ("GET", "readonly=0", True),
    ],
)
def test_what_is_read_only(method: str, query_string: str, is_read_only: bool) -> None:
    """GET always is, POST where it asks for it."""
    assert asked(query_string, method).is_read_only is is_read_only


@pytest.mark.parametrize(
    ("query_string", "code"),
    [
        ("compress=1", 48),
        ("decompress=1", 48),
        ("role=owner", 512),
        ("default_format=CSV%20SETTINGS%20a=1", 73),
        ("a%3D1%2Cb=2", 115),
        ("param_a%27=2", 115),
        ("session_id=s&session_timeout=x", 374),
        (f"session_id=s&session_timeout={SESSION_LONGEST_S + 1}", 374),
        ("session_id=s&session_timeout=%C2%B2", 374),
    ],
)
def test_what_is_refused(query_string: str, code: int) -> None:
    """Block compression, roles, and names that would become SQL."""
    with pytest.raises(Refusal) as refused:
        asked(query_string)
    assert refused.value.code == code


def test_sessions() -> None:
    """A session has an id, a time to live and may have to be there."""
    assert asked().session is None
    assert asked("session_id=").session is None
    assert asked("session_id=s").session == SessionRequest("s", 60, must_exist=False)
    assert asked("session_id=s&session_timeout=5&session_check=1").session == SessionRequest("s", 5, must_exist=True)


def form(*parts: tuple[str, bytes], boundary: bytes = b"b") -> bytes:
    body = b"".join(b"--" + boundary + b"\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n" for head, value in parts)
    return body + b"--" + boundary + b"--\r\n"


def test_a_multipart_form_is_query_and_parameters() -> None:
    """Text fields of a form, kept to the byte."""
    body = form(
        ('Content-Disposition: form-data; name="query"', b"SELECT {x:String}\r\n--\n"),
        ('Content-Disposition: form-data; name="param_x"\r\nContent-Type: text/plain', "é\r\n".encode()),
    )
    for content_type in ("multipart/form-data; boundary=b", 'Multipart/Form-Data; charset=utf-8; boundary="b"'):
        request = asked("param_y=1").with_body(body, content_type)
        assert request.sql == b"SELECT {x:String}\r\n--\n"
        assert request.parameters == {"x": "é\r\n", "y": "1"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (form(('Content-Disposition: form-data; name="t"; filename="t"', b"1\n")), 48),
        (form(('Content-Disposition: form-data; name="t_structure"', b"a Int")), 36),
        (form(("Content-Disposition: form-data", b"1")), 36),
        (form(('Content-Disposition: form-data; name="query"', b"SELECT 1"))[:-8], 36),
        (form(('Content-Disposition: form-data; name="query"', b"SELECT 1"), boundary=b"c"), 36),
        (b"", 36),
    ],
)
def test_forms_that_are_refused(body: bytes, code: int) -> None:
    """External data, unknown fields, and forms that are cut."""
    with pytest.raises(Refusal) as refused:
        asked().with_body(body, "multipart/form-data; boundary=b")
    assert refused.value.code == code
