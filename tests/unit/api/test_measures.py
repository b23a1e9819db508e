"""What is counted of usage reports."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.conftest import World

BATCH = {"Content-Type": "application/cloudevents-batch+json"}


def event(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "chat",
        "type": "usage.reported",
        "subject": "c",
        "data": {"meter": "m"},
        **changed,
    }


def counted(world: World, name: str, **labels: str) -> float:
    value = world.app.state.application.measures.registry.get_sample_value(name, labels)
    assert value is not None, name
    return float(value)


async def test_reports_are_counted_by_what_became_of_them(world: World) -> None:
    """Taken by Kafka, refused for good, or lost since Kafka is away: event by event, each once."""
    headers = {**world.token(), **BATCH}
    sent = [event(number) for number in range(5)] + [event(9, specversion="0.1")]
    assert (await world.client.post("/v1/events", json=sent, headers=headers)).status_code == 202
    assert counted(world, "billing_report_total", status="success") == 5
    assert counted(world, "billing_report_total", status="failed") == 1
    assert counted(world, "billing_report_errors_total", reason="invalid") == 1
    world.publisher.away = True
    assert (await world.client.post("/v1/events", json=sent, headers=headers)).status_code == 503
    assert counted(world, "billing_report_total", status="success") == 5
    assert counted(world, "billing_report_total", status="failed") == 7
    assert counted(world, "billing_report_errors_total", reason="unavailable") == 5
    assert counted(world, "billing_report_duration_seconds_count") == 2


@pytest.mark.parametrize("status", ["success", "failed"])
async def test_a_rate_has_a_beginning(world: World, status: str) -> None:
    """Both are 0 before the first report."""
    assert counted(world, "billing_report_total", status=status) == 0


async def test_a_single_event_that_is_refused_is_one_failed_report(world: World) -> None:
    """And nothing is taken."""
    headers = {**world.token(), "Content-Type": "application/json"}
    assert (await world.client.post("/v1/events", json=event(1, id=""), headers=headers)).status_code == 422
    assert counted(world, "billing_report_total", status="failed") == 1
    assert counted(world, "billing_report_total", status="success") == 0
