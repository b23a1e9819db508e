"""Section 1: `tollgate events`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.site import Record, Site, fresh
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


def test_bytes_that_are_no_event_are_sent_as_they_are(site: Site) -> None:
    """Unjudged: whatever stands on the line."""
    mark = fresh("raw").encode()
    site.tollgate.send(b"\xff\xfe" + mark + b"\n")
    assert [value for _, _, _, value in site.read("usage.events") if value is not None and mark in value] == [
        b"\xff\xfe" + mark
    ]
    placed = site.produce([Record("usage.events", b"\xff\xfe" + mark)])
    assert len(placed) == 1


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
