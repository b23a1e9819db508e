"""Kafka alone, for tests that write what no worker should meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backing import launch
from backing.service import silent
from schemas.settings import Settings
from tests.deployment import settings_in


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A broker of the module's own, with its topics."""
    data_dir: Path = tmp_path_factory.mktemp("kafka")
    settings = settings_in(data_dir)
    try:
        yield launch.up(settings, backend="native", only=["kafka"])
    finally:
        launch.down(settings, purge=True, report=silent)
