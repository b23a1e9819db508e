"""Section 1: `tollgate events`."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.site import Site, fresh, until
from tests.deployment import ROOT, Tollgate, settings_in

FILE = ROOT / "ingest" / "traces"


def test_send_puts_every_line_unchanged_on_the_topic_of_its_type(site: Site) -> None:
    """One CloudEvent a line, unchanged and unjudged, in file order, to the topic of its type, key = `subject`, else
    `data.user_id`, else empty; a line that is no JSON goes to `usage.events` with an empty key.
    """
    mark = fresh("mark")
    plain = {"specversion": "1.0", "source": mark, "tenantid": mark}
    lines = [
        json.dumps({**plain, "id": "1", "type": "session.tokens_used", "subject": f"{mark}-c", "data": {"user_id": "u"}}),
        json.dumps({**plain, "id": "2", "type": "credit.granted", "data": {"user_id": f"{mark}-u"}}),
        json.dumps({**plain, "id": "3", "type": "never.heard_of"}),
        f'{{"source":   "{mark}", broken',
        json.dumps({**plain, "id": "4", "type": "session.tokens_used", "subject": f"{mark}-c"}, indent=None),
    ]  # fmt: skip
    site.tollgate.send("\n".join(lines).encode() + b"\n")
    found = {
        topic: [(key, value) for _, _, key, value in site.read(topic) if value is not None and mark.encode() in value]
        for topic in ("usage.events", "account.events")
    }
    expected = [
        (f"{mark}-c".encode(), lines[0].encode()),
        (b"", lines[2].encode()),
        (b"", lines[3].encode()),
        (f"{mark}-c".encode(), lines[4].encode()),
    ]
    usage = [(key or b"", value) for key, value in found["usage.events"]]
    assert sorted(usage) == sorted(expected)
    assert [value for key, value in usage if key] == [lines[0].encode(), lines[4].encode()]
    assert found["account.events"] == [(f"{mark}-u".encode(), lines[1].encode())]


def test_nothing_is_lost_where_kafka_is_away(tmp_path: Path) -> None:
    """`events send`: exit 0 only when Kafka has all."""

    away = Tollgate(settings_in(tmp_path, kafka_bootstrap="127.0.0.1:9"))
    done = away("events", "send", "--timeout", "2", "-", stdin='{"a": 1}\n', check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("trace", "name"), [("azure-llm", "azure"), ("alibaba-gpu", "alibaba")])
def test_from_trace_is_deterministic(site: Site, trace: str, name: str) -> None:
    """Prints CloudEvents, one a line, deterministic for a seed, at the trace's own times."""
    (file,) = (path for path in FILE.glob("*.csv") if name in path.name)
    arguments = ("events", "from-trace", trace, str(file), "--customers", "7", "--seed")
    first, same, other = (site.tollgate(*arguments, seed).stdout for seed in ("5", "5", "6"))
    assert first == same
    assert first != other
    events = [json.loads(line) for line in first.splitlines()]
    assert len({event["subject"] for event in events}) == 7
    assert len({event["id"] for event in events}) == len(events)
    assert all(event["specversion"] == "1.0" and event["time"].endswith("Z") for event in events)


# What stands in a file, in its order; the values that are then in Kafka.
LINES: list[tuple[str, bytes, list[bytes]]] = [
    ("a byte order mark", b'\xef\xbb\xbf{"a": "MARK 4"}\n', [b'\xef\xbb\xbf{"a": "MARK 4"}']),
    ("empty lines", b"\n\n  \n\r\n", []),
    ("lines of other systems", b'{"a": "MARK 2"}\r\n{"a": "MARK 3"}\r\n', [b'{"a": "MARK 2"}\r', b'{"a": "MARK 3"}\r']),
    ("a long line", b'{"a": "MARK 5' + b"x" * 1_000_000 + b'"}\n', [b'{"a": "MARK 5' + b"x" * 1_000_000 + b'"}']),
    ("bytes that are no text", b"\xff\xfe MARK\n", [b"\xff\xfe MARK"]),
    ("no line feed at the end", b'{"a": "MARK 1"}', [b'{"a": "MARK 1"}']),
]  # fmt: skip


def test_lines_of_any_kind(site: Site) -> None:
    """One line, one record, unchanged and unjudged; an empty line is none, nor is an empty file."""
    mark = fresh("file").encode()
    site.tollgate.send(b"")
    site.tollgate.send(b"".join(sent for _, sent, _ in LINES).replace(b"MARK", mark))
    found = [value for _, _, _, value in site.read("usage.events") if value is not None and mark in value]
    assert sorted(found) == sorted(value.replace(b"MARK", mark) for _, _, values in LINES for value in values)


def test_a_line_that_is_too_large_keeps_nothing_else_back(site: Site) -> None:
    """It is named in one line, exit 2; whatever else is there is sent, to the topic and key of its type and customer."""
    mark = fresh("large")
    large = {"type": "credit.granted", "subject": mark, "x": "y" * 300_000}
    sent = [json.dumps(large), json.dumps({**large, "x": "y" * 5_000_000}), json.dumps({"type": "x", "subject": mark})]
    done = site.tollgate("events", "send", "-", stdin="\n".join(sent), check=False)
    assert done.returncode == 2
    assert "line 2" in done.stderr.splitlines()[-1]
    accounts = [(key, value) for _, _, key, value in site.read("account.events") if key == mark.encode()]
    usage = [(key, value) for _, _, key, value in site.read("usage.events") if key == mark.encode()]
    assert accounts == [(mark.encode(), sent[0].encode())]
    assert usage == [(mark.encode(), sent[2].encode())]


def test_waiting_for_input_can_be_interrupted(site: Site, tmp_path: Path) -> None:
    """Ctrl-C ends it at once, with one line, also while whoever is to write says nothing."""
    with subprocess.Popen(
        site.tollgate.command("events", "send", "-"),
        env=site.tollgate.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as waiting:
        assert waiting.stdin is not None
        waiting.stdin.write(b'{"a": 1}\n')
        waiting.stdin.flush()
        until(lambda: _is_reading(waiting.pid), "a consumer of its input")
        waiting.send_signal(signal.SIGINT)
        waiting.wait(20)
        assert waiting.returncode == 130
        assert waiting.stderr is not None
        assert waiting.stderr.read().split(b"\n")[-2:] == [b"tollgate: interrupted", b""]


def _is_reading(pid: int) -> bool:
    """Whether a process waits in epoll with a loop that watches its standard input."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):  # it is closed meanwhile
            if "tfd:        0 " in path.read_text():
                return True
    return False


@pytest.mark.parametrize("arguments", [("events", "send", "-"), ("price", "estimate")], ids=" ".join)
def test_a_closed_input_is_one_line(site: Site, arguments: tuple[str, ...]) -> None:
    """A bad input is one clear line on stderr and exit 2."""
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *site.tollgate.command(*arguments)]
    done = subprocess.run(command, env=site.tollgate.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
