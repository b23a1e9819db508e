"""One native deployment for the faults of a run: they stop, kill and wipe what it consists of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backing import launch
from schemas.settings import Settings
from tests.deployment import settings_in


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Kafka, Redis and ClickHouse as processes of this machine, so that each can be killed."""
    settings = settings_in(tmp_path_factory.mktemp("faults"))
    try:
        yield launch.up(settings, backend="native")
    finally:
        launch.down(settings, purge=True)
