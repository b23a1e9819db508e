"""The ClickHouse-HTTP server over chDB, as its clients see it: a process of its own on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from backing import ports

USER, PASSWORD = "tollgate", "p@ss'word"
READER, READER_PASSWORD = "analyst", "look only"
START_TIMEOUT_S = 60.0


class Server:
    """One server process on a data directory that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.port = ports.choose(())
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "password").write_text(PASSWORD + "\n")
        (self.folder / "reader-password").write_text(READER_PASSWORD + "\n")
        self.process = self.spawn(self.port)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/ping", timeout=5).text == "Ok.\n":
                    return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)

    def spawn(self, port: int) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "backing.clickhouse_server", "--path", str(self.folder / "data dir")),
                    *("--host", "127.0.0.1", "--port", str(port), "--user", USER),
                    *("--password-file", str(self.folder / "password"), "--readonly-user", READER),
                    *("--readonly-password-file", str(self.folder / "reader-password")),
                ],
                stdout=log,
                stderr=log,
            )

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def client(self, **options: Any) -> Any:
        return clickhouse_connect.get_client(
            **{"host": "127.0.0.1", "port": self.port, "username": USER, "password": PASSWORD, **options}
        )

    def post(self, sql: str | bytes, user: tuple[str, str] = (USER, PASSWORD), /, **arguments: str) -> httpx.Response:
        return httpx.post(self.url, params=arguments, content=sql, auth=user, timeout=60)

    def largest_memory_bytes(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("clickhouse")) as started:
        yield started


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with server.client() as connected:
        yield connected


@pytest.fixture
def table(client: Any) -> str:
    return make_table(client)


def make_table(client: Any) -> str:
    name = f"t{uuid.uuid4().hex}"
    client.command(
        f"CREATE TABLE {name} (id UInt64, amount Int64, name String, tags Array(String), at DateTime64(3, 'UTC')) "
        "ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 1000"
    )
    return name


def insert(client: Any, table: str, first: int, rows: int, token: str = "", **options: Any) -> Any:
    ids = range(first, first + rows)
    return client.insert(
        table,
        [list(ids), [-n for n in ids], [f"name {n}" for n in ids], [["a", str(n)] for n in ids], list(ids)],
        column_names=["id", "amount", "name", "tags", "at"],
        column_type_names=["UInt64", "Int64", "String", "Array(String)", "DateTime64(3, 'UTC')"],
        column_oriented=True,
        settings={"insert_deduplication_token": token} if token else {},
        **options,
    )


def test_curl_d_is_sql_although_it_says_it_is_a_form(server: Server) -> None:
    """A body is SQL whatever its content type."""
    response = httpx.post(
        server.url,
        content=b"SELECT 1 + 1",
        auth=(USER, PASSWORD),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (response.status_code, response.text) == (200, "2\n")


@pytest.mark.parametrize(
    ("sql", "status", "code", "name"),
    [
        ("SELEC 1", 400, "62", "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", 400, "62", "SYNTAX_ERROR"),
        ("SELECT * FROM nowhere", 404, "60", "UNKNOWN_TABLE"),
        ("SELECT * FROM nowhere.t", 404, "81", "UNKNOWN_DATABASE"),
        ("SELECT nothing", 404, "47", "UNKNOWN_IDENTIFIER"),
        ("SELECT no_such_function(1)", 404, "46", "UNKNOWN_FUNCTION"),
        ("SELECT 1 FORMAT Nothing", 404, "73", "UNKNOWN_FORMAT"),
        ("INSERT INTO nowhere FORMAT CSV\n1\n", 404, "60", "UNKNOWN_TABLE"),
        ("INSERT INTO FUNCTION null('a UInt8') FORMAT TSV\nx\n", 400, "27", "CANNOT_PARSE_INPUT_ASSERTION_FAILED"),
        ("SELECT throwIf(1)", 500, "395", "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1 SETTINGS nothing = 1", 404, "115", "UNKNOWN_SETTING"),
        ("SELECT 1 INTO OUTFILE '/tmp/nothing'", 500, "358", "INTO_OUTFILE_NOT_ALLOWED"),
    ],
)
def test_errors_have_clickhouses_code_and_status(server: Server, sql: str, status: int, code: str, name: str) -> None:
    """A failing statement is answered with the code, text and HTTP status that ClickHouse gives it."""
    response = server.post(sql)
    assert (response.status_code, response.headers["X-ClickHouse-Exception-Code"]) == (status, code)
    assert response.text.startswith(f"Code: {code}. DB::Exception: ")
    assert f"({name}) (version " in response.text


@pytest.mark.parametrize(
    ("password", "status", "code"), [("wrong", 403, "516"), ("", 401, "194"), (PASSWORD, 200, None)]
)
def test_a_password_is_needed(server: Server, password: str, status: int, code: str | None) -> None:
    """Only the right password is let in, by header, Basic and URL alike."""
    responses = [
        httpx.post(server.url, content="SELECT 1", auth=(USER, password)),
        httpx.post(server.url, content="SELECT 1", headers={"X-ClickHouse-User": USER, "X-ClickHouse-Key": password}),
        httpx.post(server.url, content="SELECT 1", params={"user": USER, "password": password}),
    ]
    assert [response.status_code for response in responses] == [status] * 3
    assert [response.headers.get("X-ClickHouse-Exception-Code") for response in responses] == [code] * 3


def test_a_dashboard_reads_json_by_get(server: Server) -> None:
    """GET with header credentials, settings in the URL and FORMAT JSON, as Grafana asks."""
    response = httpx.get(
        server.url,
        params={"query": "SELECT getSetting('max_threads') AS threads FORMAT JSON", "max_threads": "1"},
        headers={"X-ClickHouse-User": READER, "X-ClickHouse-Key": READER_PASSWORD},
    )
    assert response.json()["data"] == [{"threads": 1}]
    assert response.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert response.headers["X-ClickHouse-Format"] == "JSON"
    assert response.headers["X-ClickHouse-Timezone"] == "UTC"
    assert json.loads(response.headers["X-ClickHouse-Summary"])["result_rows"] == "1"
    version = httpx.get(server.url, params={"query": "SELECT version()"}, auth=(READER, READER_PASSWORD)).text
    assert int(version.split(".")[0]) >= 26


def test_get_changes_nothing(server: Server, table: str) -> None:
    """A GET is read-only, whoever sends it."""
    for sql in (f"DROP TABLE {table}", f"INSERT INTO {table} (id) VALUES (1)", f"TRUNCATE TABLE {table}"):
        response = httpx.get(server.url, params={"query": sql}, auth=(USER, PASSWORD))
        assert response.headers["X-ClickHouse-Exception-Code"] == "164", sql
    assert server.post(f"SELECT count() FROM {table}").text == "0\n"


def test_settings_of_one_request_do_not_reach_another(server: Server) -> None:
    """A setting in the URL, even `readonly`, and a SET without a session end with their request."""
    asked = "SELECT getSetting('max_block_size')"
    usual = server.post(asked).text
    assert server.post(asked, max_block_size="123").text == "123\n"
    assert server.post("SET max_block_size = 77").status_code == 200
    assert server.post("CREATE TABLE nowhere (a UInt8) ENGINE = Memory", readonly="1").status_code == 500
    assert [server.post(asked).text for _ in range(20)] == [usual] * 20
    assert server.post("SELECT getSetting('readonly')").text == "0\n"
    assert server.post("SELECT 1", no_such_setting="1").headers["X-ClickHouse-Exception-Code"] == "115"


def test_database_format_and_query_id_are_taken_from_the_request(server: Server) -> None:
    """`database`, `default_format` and `query_id` in URL or header."""
    response = server.post("SELECT currentDatabase()", database="system", default_format="CSV", query_id="q-1\n2")
    assert response.text == '"system"\n'
    assert response.headers["X-ClickHouse-Query-Id"] == "q-1?2"
    headers = {"X-ClickHouse-Database": "system", "X-ClickHouse-Format": "JSONCompactEachRow"}
    response = httpx.post(server.url, content="SELECT currentDatabase()", auth=(USER, PASSWORD), headers=headers)
    assert response.json() == ["system"]
    assert server.post("SELECT 1", database="nowhere").headers["X-ClickHouse-Exception-Code"] == "81"


def test_parameters_are_bound_by_server_and_client(client: Any) -> None:
    """Both of clickhouse-connect's ways of binding, with what would break a naive quoting."""
    text = "it's a \\ and a\ttab\nand `{x}` 'é"
    server_side = "SELECT {text:String}, {numbers:Array(UInt64)}, {nothing:Nullable(String)}, {day:Date}"
    parameters = {"text": text, "numbers": [1, 2**63], "nothing": None, "day": "2026-11-21"}
    assert client.query(server_side, parameters=parameters).result_rows[0][:3] == (text, [1, 2**63], None)
    assert client.query("SELECT %(text)s, %(n)s", parameters={"text": text, "n": 5}).result_rows == [(text, 5)]
    client.command("CREATE TABLE IF NOT EXISTS {name:Identifier} (a String) ENGINE = Memory", parameters={"name": "b"})
    client.command("INSERT INTO {name:Identifier} VALUES ({v:String})", parameters={"name": "b", "v": text})
    assert client.query("SELECT a FROM b").result_rows == [(text,)]
    client.command("DROP TABLE b")


def test_long_parameters_travel_as_a_form(server: Server) -> None:
    """What is too long for a URL comes as multipart/form-data."""
    with server.client(form_encode_query_params=True) as client:
        text = "x" * 1_000_000 + "\r\n--"
        assert client.query("SELECT length({t:String})", parameters={"t": text}).result_rows == [(len(text),)]


def test_external_data_is_refused_clearly(server: Server) -> None:
    """A file in a form is an external table, which is said not to be served."""
    response = httpx.post(server.url, params={"query": "SELECT * FROM e"}, files={"e": b"1\n"}, auth=(USER, PASSWORD))
    assert (response.status_code, response.headers["X-ClickHouse-Exception-Code"]) == (501, "48")
    assert "External data" in response.text


@pytest.mark.parametrize("compress", [False, True, "lz4", "zstd", "gzip"])
def test_columns_go_in_and_out_in_every_compression(server: Server, compress: bool | str) -> None:
    """A columnar native insert, and its rows read back, with each of clickhouse-connect's compressions."""
    with server.client(compress=compress) as client:
        table = make_table(client)
        assert insert(client, table, 0, 70_000).written_rows == 70_000
        result = client.query(f"SELECT id, amount, name, tags, at FROM {table} ORDER BY id")
        assert len(result.result_rows) == 70_000
        assert result.result_rows[69_999][:4] == (69_999, -69_999, "name 69999", ["a", "69999"])
        client.command(f"DROP TABLE {table}")


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4", "deflate"])
def test_answers_of_http_clients_are_compressed(server: Server, encoding: str) -> None:
    """Accept-Encoding counts where enable_http_compression=1 stands, for small and for streamed answers."""
    for rows in (10, 3_000_000):
        with httpx.stream(
            "POST",
            server.url,
            params={"enable_http_compression": "1"},
            content=f"SELECT number FROM numbers({rows})",
            auth=(USER, PASSWORD),
            headers={"Accept-Encoding": encoding},
        ) as response:
            raw = b"".join(response.iter_raw())
        assert response.headers["Content-Encoding"] == encoding
        assert len(raw) < 100 or len(raw) < rows * 5
        if encoding == "gzip":
            assert gzip.decompress(raw).count(b"\n") == rows
    headers = {"Accept-Encoding": encoding}
    plain = httpx.post(server.url, content="SELECT 1", auth=(USER, PASSWORD), headers=headers)
    assert "Content-Encoding" not in plain.headers
    asked = {"enable_http_compression": "1"}
    error = httpx.post(server.url, params=asked, content="SELECT x", auth=(USER, PASSWORD), headers=headers)
    assert "Content-Encoding" not in error.headers
    assert error.text.startswith("Code: 47.")


def test_a_bomb_of_a_body_is_refused(server: Server) -> None:
    """A body that would decompress beyond the bound is refused, and the server lives on."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024)) * 5
    response = httpx.post(
        server.url, content=bomb, auth=(USER, PASSWORD), headers={"Content-Encoding": "gzip"}, timeout=60
    )
    assert (response.status_code, response.headers["X-ClickHouse-Exception-Code"]) == (413, "229")
    assert server.post("SELECT 1").text == "1\n"


def test_every_kind_of_insert(server: Server, table: str) -> None:
    """Payload in the body or after the statement, in VALUES, FORMAT and SELECT, with misleading texts before it."""
    statements: list[tuple[str | bytes, Mapping[str, str]]] = [
        (f"INSERT INTO {table} (id, name) VALUES (1, 'FORMAT CSV'), (2, ');');", {}),
        ("3,c\n", {"query": f"INSERT INTO {table} (id, name) FORMAT CSV"}),
        ("(4, 'd')", {"query": f"INSERT INTO {table} (id, name) VALUES"}),
        (f"/* FORMAT TSV */ INSERT INTO {table} (id, name) -- VALUES\nSETTINGS max_threads = 1 FORMAT CSV\n5,e\n", {}),
        (f"INSERT INTO {table} (id, name) SELECT 6, 'FORMAT' AS format", {}),
        (f"INSERT INTO {table} FORMAT JSONEachRow" + '\n{"id": 7}\n{"id": 8}', {}),
        (f"INSERT INTO default.`{table}` (id, name) FORMAT TabSeparated 9\ti\n", {"async_insert": "0"}),
        (f"INSERT INTO TABLE {table} (id) VALUES ({{id:UInt64}})", {"param_id": "10"}),
    ]
    for body, arguments in statements:
        response = server.post(body, **arguments)
        assert response.status_code == 200, response.text
    assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "1"
    assert server.post(f"SELECT groupArray(id) FROM (SELECT id FROM {table} ORDER BY id)").text == (
        "[1,2,3,4,5,6,7,8,9,10]\n"
    )
    assert server.post(f"SELECT name FROM {table} WHERE id IN (1, 2, 6) ORDER BY id").text == "FORMAT CSV\n);\nFORMAT\n"


def test_a_cut_payload_inserts_nothing(server: Server, client: Any, table: str) -> None:
    """A native block that ends in the middle, as that of a client that died, leaves no row."""
    insert(client, table, 0, 10)
    block = httpx.post(server.url, content=f"SELECT * FROM {table} FORMAT Native", auth=(USER, PASSWORD)).content
    response = server.post(f"INSERT INTO {table} FORMAT Native\n".encode() + block[:-5])
    assert response.status_code == 500
    assert server.post(f"SELECT count() FROM {table}").text == "10\n"


def test_the_same_token_inserts_once(client: Any, table: str) -> None:
    """An insert repeated with its token is answered and changes nothing; it is one part, whole or not there."""
    for _ in range(3):
        insert(client, table, 0, 20_000, token="block-1")
    insert(client, table, 20_000, 20_000, token="block-2")
    assert client.command(f"SELECT count() FROM {table}") == 40_000
    assert client.command(f"SELECT count() FROM system.parts WHERE table = '{table}' AND level = 0") <= 2


def test_tokens_and_rows_survive_kill_and_restart(own_server: Server) -> None:
    """After SIGTERM and after kill -9, rows are there and tokens are known."""
    with own_server.client() as client:
        table = make_table(client)
        insert(client, table, 0, 1_000, token="a")
    for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        assert own_server.end(number) == code
        own_server.start()
        with own_server.client() as client:
            insert(client, table, 0, 1_000, token="a")
            assert client.command(f"SELECT count() FROM {table}") == 1_000


def test_what_was_acknowledged_before_kill_is_there_after_it(own_server: Server) -> None:
    """kill -9 under inserts: every acknowledged block is there whole, and no block is there in part."""
    table = ""
    acknowledged = 0
    for round_number in range(3):
        with own_server.client() as client:
            table = table or make_table(client)
            killer = threading.Timer(0.4 + 0.3 * round_number, lambda: own_server.end(signal.SIGKILL))
            killer.start()
            with contextlib.suppress(OperationalError, DatabaseError):
                while True:
                    insert(client, table, acknowledged * 1_000, 1_000, token=f"block {acknowledged}")
                    acknowledged += 1
            killer.join()
        own_server.start()
        found = int(own_server.post(f"SELECT count() FROM {table}").text)
        # The block under way may be there too; it is inserted again under its token.
        assert found in (acknowledged * 1_000, (acknowledged + 1) * 1_000)
    assert acknowledged > 0
    assert own_server.post(f"SELECT max(n) FROM (SELECT count() AS n FROM {table} GROUP BY id)").text == "1\n"


def test_sigterm_lets_a_running_insert_end(own_server: Server) -> None:
    """SIGTERM: the insert under way is answered, the exit code is 0, nobody waits longer than the bound."""
    with own_server.client() as client:
        table = make_table(client)
    with ThreadPoolExecutor() as threads:
        slow = f"INSERT INTO {table} (id) SELECT number + sleepEachRow(0.07) FROM numbers(40)"
        running_insert = threads.submit(own_server.post, slow)
        while own_server.post("SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'").text != "1\n":
            assert not running_insert.done()
        assert own_server.end(signal.SIGTERM) == 0
        assert running_insert.result().status_code == 200
    own_server.start()
    assert own_server.post(f"SELECT count() FROM {table}").text == "40\n"


def test_one_server_a_directory(own_server: Server) -> None:
    """A second server on the same directory says in one line why it does not start."""
    second = own_server.spawn(port=0)
    assert second.wait(timeout=60) == 1
    assert "another ClickHouse server runs in" in (own_server.folder / "log").read_text()
    assert own_server.post("SELECT 1").text == "1\n"


def test_readers_read_while_inserts_run(server: Server, client: Any, table: str) -> None:
    """Readers beside one inserting client see whole blocks only."""
    is_over, begun = threading.Event(), threading.Semaphore(0)

    def read() -> set[int]:
        counts: set[int] = set()
        with server.client() as reader:
            while not is_over.is_set():
                counts.add(reader.command(f"SELECT count() FROM {table}"))
                begun.release()
        return counts

    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(read) for _ in range(6)]
        assert begun.acquire(timeout=60)
        for block in range(20):
            insert(client, table, block * 1_000, 1_000, token=f"{block}")
        is_over.set()
        seen = set().union(*(reader.result() for reader in readers))
    assert client.command(f"SELECT count() FROM {table}") == 20_000
    assert len(seen) > 1
    assert {count % 1_000 for count in seen} == {0}


def test_a_large_answer_streams_in_bounded_memory(own_server: Server) -> None:
    """300 MB of answer leave the server's memory where it was, in a format with a frame around its rows too."""
    own_server.post("SELECT number, toString(number) FROM numbers(100000) FORMAT JSON")
    before_bytes = own_server.largest_memory_bytes()
    size_bytes = 0
    with httpx.stream(
        "POST",
        own_server.url,
        content="SELECT number, toString(number) AS text FROM numbers(6000000) FORMAT JSON",
        auth=(USER, PASSWORD),
    ) as response:
        tail = b""
        for chunk in response.iter_raw():
            size_bytes += len(chunk)
            tail = (tail + chunk)[-2_000:]
    assert size_bytes > 300_000_000
    assert b'"rows": 6000000' in tail
    assert own_server.largest_memory_bytes() - before_bytes < 150_000_000


def test_rows_are_streamed_by_block(client: Any) -> None:
    """clickhouse-connect's query_row_block_stream."""
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(1000000)") as stream:
        rows = sum(len(block) for block in stream)
    assert rows == 1_000_000


def test_an_error_in_the_middle_of_an_answer_is_seen(client: Any) -> None:
    """What fails after the status was sent fails for the client too, with its reason, and never ends as an answer."""
    sql = "SELECT throwIf(number = 3000000, 'in the middle') FROM numbers(4000000)"
    with pytest.raises(DatabaseError, match="in the middle"):
        client.query(sql)
    with client.query_row_block_stream(sql) as stream, pytest.raises(DatabaseError, match="in the middle"):
        list(stream)
    assert client.command("SELECT 1") == 1


def test_a_query_whose_client_has_gone_is_ended(server: Server) -> None:
    """An answer that nobody reads any more does not keep a core busy."""
    endless = "SELECT number FROM numbers(1000000000000)"
    with httpx.stream("POST", server.url, content=endless, auth=(USER, PASSWORD)) as response:
        next(response.iter_raw())
    deadline = time.monotonic() + 30
    asked = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT number FROM numbers(1000000000000)%'"
    while server.post(asked).text != "0\n":
        assert time.monotonic() < deadline


def test_commands_and_empty_answers(client: Any, table: str) -> None:
    """Commands answer as with ClickHouse, and an empty result is a result."""
    assert client.command(f"EXISTS TABLE {table}") == 1
    assert table in client.command("SHOW TABLES")
    assert client.query(f"SELECT id, name FROM {table}").result_rows == []
    assert client.query(f"SELECT id, name FROM {table} LIMIT 0").column_names == ("id", "name")
    assert client.raw_query(f"SELECT id FROM {table} FORMAT JSONCompact").startswith(b"{")
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.command("DROP TABLE nowhere")


async def test_the_async_client(server: Server) -> None:
    """clickhouse-connect's async client: insert, concurrent queries, stream."""
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1", port=server.port, username=USER, password=PASSWORD, autogenerate_session_id=False
    )
    async with client:
        table = await asyncio.to_thread(make_table_on, server)
        await client.insert(
            table,
            [[1, 2], ["a", "b"]],
            column_names=["id", "name"],
            column_type_names=["UInt64", "String"],
            column_oriented=True,
            settings={"insert_deduplication_token": "x"},
        )
        results = await asyncio.gather(*(client.query(f"SELECT {n}, count() FROM {table}") for n in range(20)))
        assert [result.result_rows for result in results] == [[(n, 2)] for n in range(20)]
        rows = 0
        async with await client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
            async for block in stream:
                rows += len(block)
        assert rows == 300_000


def make_table_on(server: Server) -> str:
    with server.client() as client:
        return make_table(client)


def test_a_session_keeps_its_tables_and_settings(server: Server) -> None:
    """Temporary tables and SET live in their session, of their user; settings in the URL do not."""
    session = {"session_id": uuid.uuid4().hex}
    assert server.post("CREATE TEMPORARY TABLE kept (a UInt8)", **session).status_code == 200
    assert server.post("INSERT INTO kept VALUES (5)", **session).status_code == 200
    assert server.post("INSERT INTO kept FORMAT CSV\nx\n", **session).status_code == 400
    assert server.post("SET max_block_size = 99", **session).status_code == 200
    assert server.post("SELECT a, getSetting('max_block_size') FROM kept", max_threads="1", **session).text == "5\t99\n"
    assert server.post("SELECT getSetting('max_threads')", **session).text == "2\n"
    read = {"query": "SELECT a FROM kept", **session}
    assert httpx.get(server.url, params=read, auth=(USER, PASSWORD)).text == "5\n"
    changed = {"query": "DROP TABLE kept", **session}
    assert httpx.get(server.url, params=changed, auth=(USER, PASSWORD)).headers["X-ClickHouse-Exception-Code"] == "164"
    assert server.post("SELECT a FROM kept").headers["X-ClickHouse-Exception-Code"] == "60"
    foreign = server.post("SELECT a FROM kept", (READER, READER_PASSWORD), **session)
    assert foreign.headers["X-ClickHouse-Exception-Code"] in ("60", "497")
    unknown = server.post("SELECT 1", session_id="unknown", session_check="1")
    assert unknown.headers["X-ClickHouse-Exception-Code"] == "372"
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(server.post, "SELECT sleep(3), 'slow'", **session)
        while server.post("SELECT count() FROM system.processes WHERE query LIKE '%''slow''%'").text == "1\n":
            assert not slow.done()
        assert server.post("SELECT 1", **session).headers["X-ClickHouse-Exception-Code"] == "373"
        assert slow.result().status_code == 200


@pytest.mark.parametrize("session_id", ["", "a reader's session"])
def test_a_reader_only_reads_tables(server: Server, client: Any, table: str, session_id: str) -> None:
    """The second user reads tables, and neither writes nor leaves its role, nor reads the machine's files."""
    insert(client, table, 0, 3)
    reader = (READER, READER_PASSWORD)
    arguments = {"session_id": session_id} if session_id else {}
    assert server.post(f"SELECT count() FROM {table}", reader, max_threads="1", **arguments).text == "3\n"
    refused = [
        f"INSERT INTO {table} (id) VALUES (9)",
        f"DROP TABLE {table}",
        f"ALTER TABLE {table} DELETE WHERE 1",
        "CREATE TABLE made (a UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE made (a UInt8)",
        "SET ROLE owner",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "KILL QUERY WHERE 1",
        "SYSTEM SHUTDOWN",
        "SELECT file('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        "SELECT `fil\\x65`('/etc/passwd')",
        "SELECT arrayMap(file, ['/etc/passwd'])",
        "SELECT * APPLY(file) FROM (SELECT '/etc/passwd')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM `/etc/passwd`",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM Python(os)",
        "SELECT 1 INTO OUTFILE '/tmp/made'",
        "SELECT 1; DROP TABLE made",
    ]
    for sql in refused:
        for readonly in ({}, {"readonly": "0"}):
            response = server.post(sql, reader, **arguments, **readonly)
            assert response.status_code in (400, 403, 500), sql
            assert response.headers["X-ClickHouse-Exception-Code"] in ("62", "164", "358", "497"), response.text
    assert server.post("SELECT currentRoles(), getSetting('readonly')", reader, **arguments).text == "['reader']\t2\n"
    assert server.post(f"SELECT count() FROM {table}").text == "3\n"
    with server.client(username=READER, password=READER_PASSWORD) as connected:
        assert connected.command(f"SELECT count() FROM {table}") == 3


def test_what_the_client_would_retry_is_not_kept_waiting(server: Server) -> None:
    """Many more requests than threads at once are all answered."""
    with ThreadPoolExecutor(60) as threads:
        answers = list(threads.map(lambda n: server.post(f"SELECT {n}, sleep(0.05)").text, range(120)))
    assert answers == [f"{n}\t0\n" for n in range(120)]


def test_times_are_utc_wherever_the_machine_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's zone, the engine's is UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with running(tmp_path) as server:
        assert server.post("SELECT timezone(), toString(toDateTime(0))").text == "UTC\t1970-01-01 00:00:00\n"
