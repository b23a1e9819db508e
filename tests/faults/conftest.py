"""One native deployment for the faults of a run: they stop, kill and wipe what it consists of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from backing import launch
from schemas.settings import Settings
from tests.deployment import settings_in

PARTITIONS: Final = 8
"""As a deployment has by itself: what goes wrong with one must leave many others alone."""


@contextlib.contextmanager
def staged(data_dir: Path) -> Iterator[Settings]:
    """Kafka, Redis and ClickHouse as processes of this machine, so that each can be killed."""
    settings = settings_in(data_dir, partitions=PARTITIONS)
    try:
        yield launch.up(settings, backend="native")
    finally:
        launch.down(settings, purge=True)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Shared: whatever is done to it, it is whole again afterwards."""
    with staged(tmp_path_factory.mktemp("faults")) as settings:
        yield settings
