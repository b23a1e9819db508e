"""When a periodic job is due: by when it last ran, whoever led then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from invoicing import scheduler
from invoicing.scheduler import AWAY_SECONDS, BY_NAME, JOBS, RECONCILE, Job, is_due, now
from schemas.period import SECOND, format_time

NOW = 1_795_000_000_000_000


def test_a_job_is_due_when_its_time_has_come_again() -> None:
    """Never before: at once. A time that went by while nobody led: at once, and once."""
    for job in JOBS:
        ran = {"last_run": format_time(NOW)}
        assert is_due(job, None, NOW)
        assert not is_due(job, ran, NOW + job.every_seconds * SECOND - 1)
        assert is_due(job, ran, NOW + job.every_seconds * SECOND)
        assert is_due(job, ran, NOW + 1_000 * job.every_seconds * SECOND)


def test_a_job_that_found_a_store_away_does_not_wait_for_its_time() -> None:
    """A proof that could not be made is made a minute later, not on the next day."""
    for job in JOBS:
        ran = {"last_run": format_time(NOW), "away": True}
        again = min(job.every_seconds, AWAY_SECONDS) * SECOND
        assert not is_due(job, ran, NOW + again - 1)
        assert is_due(job, ran, NOW + again)


class Told:
    """A table in which every job has just run, and the proof as it is told; a lock that is held."""

    def __init__(self, status: str) -> None:
        ran = {"last_run": format_time(now()), "status": "done"}
        self.ran = {job.name: ran for job in JOBS} | {RECONCILE: {**ran, "status": status}}

    async def read(self) -> dict[str, Any]:
        return dict(self.ran)

    async def is_held(self) -> bool:
        return True


@pytest.mark.parametrize(("status", "again"), [("failed", [RECONCILE]), ("done", [])])
async def test_who_begins_to_lead_measures_drift_once_where_there_was_some(
    monkeypatch: pytest.MonkeyPatch, status: str, again: list[str]
) -> None:
    """The gauge that an alert looks at is gone with the process that had it."""
    told, ran, stopping = Told(status), list[str](), asyncio.Event()

    async def run_job(job: Job, *_: Any) -> None:
        ran.append(job.name)

    monkeypatch.setattr(scheduler, "run_job", run_job)
    monkeypatch.setattr(scheduler, "LOOK_SECONDS", 0.001)
    asyncio.get_running_loop().call_later(0.1, stopping.set)
    await scheduler._run_due(None, told, told, stopping)  # type: ignore[arg-type]
    assert ran == again


def test_each_job_has_its_name() -> None:
    """By which it is run alone."""
    assert len(BY_NAME) == len(JOBS)
    assert {
        "renew-subscriptions",
        "close",
        "finalize",
        "collect",
        "orders",
        "expire-credits",
        "stripe",
    } <= BY_NAME.keys()
