"""Metrics of a process as Prometheus reads them."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest

from console.exposition import expose
from console.supervisor import TARGETS_FILE, Role, say_metrics, supervise
from schemas.metrics import PROCESS_RESTARTS
from schemas.settings import Settings
from tests.unit.console.test_supervisor import After, after, terminate

__all__ = ["after"]


def url_in(data_dir: Path) -> str:
    (noted,) = (data_dir / "run").glob("*.metrics")
    return noted.read_text()


def scraped(url: str) -> str:
    assert url.startswith("http://127.0.0.1:")
    with urlopen(url, timeout=10) as answer:  # noqa: S310  # the URL is the test's own
        text: str = answer.read().decode()
    return text


def test_a_metric_shows_on_the_port_that_is_noted(tmp_path: Path) -> None:
    """With those of the process itself, as they are when they are asked for."""
    registry = expose(Settings.from_environment({}, data_dir=tmp_path))
    PROCESS_RESTARTS.on(registry).labels("sink").inc(3)
    text = scraped(url_in(tmp_path))
    assert 'tollgate_process_restarts_total{role="sink"} 3.0' in text
    assert "process_resident_memory_bytes" in text


def test_a_taken_port_is_no_reason_not_to_start(tmp_path: Path) -> None:
    """Several workers have one setting: whoever comes second takes a free port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        expose(Settings.from_environment({}, data_dir=tmp_path, metrics_port=port))
        assert f":{port}/" not in url_in(tmp_path)
        assert "process_cpu_seconds_total" in scraped(url_in(tmp_path))


def test_restarts_are_counted_and_targets_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, after: After
) -> None:
    """The supervisor counts each end of a child by its role, and names itself to Prometheus."""
    settings = Settings.from_environment({}, data_dir=tmp_path)
    registry = expose(settings)
    seen: list[object] = []

    def look() -> None:
        if not caplog.records:  # no child has ended yet
            after(0.2, look)
            return
        seen.append(json.loads((tmp_path / TARGETS_FILE).read_bytes()))
        terminate()

    after(0.2, look)
    supervise(settings, [Role("no-such-command", 0)], registry)
    host = url_in(tmp_path).removeprefix("http://").removesuffix("/metrics")
    assert seen == [[{"targets": [host], "labels": {"role": "supervisor"}}]]
    restarts = registry.get_sample_value("tollgate_process_restarts_total", {"role": "no-such-command"})
    assert restarts is not None
    assert restarts >= 1
    assert not (tmp_path / TARGETS_FILE).exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/metrics", "http://[::1]:2/metrics"])
def test_what_a_process_says_of_its_metrics_is_kept_by_pid(tmp_path: Path, url: str) -> None:
    """The last word counts."""
    say_metrics(tmp_path, "http://127.0.0.1:9/metrics")
    say_metrics(tmp_path, url)
    assert url_in(tmp_path) == url
