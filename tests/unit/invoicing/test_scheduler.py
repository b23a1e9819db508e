"""When a periodic job is due: by when it last ran, whoever led then."""

from __future__ import annotations

from invoicing.scheduler import AWAY_SECONDS, BY_NAME, JOBS, is_due
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
