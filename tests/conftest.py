"""What every test may use. The environment's TOLLGATE_* settings have no say in a test."""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from schemas.settings import PREFIX, Settings
from streams import garbage
from tests.deployment import Tollgate, running

# The same examples on every run (but for a few that take a constant out of whatever modules are loaded by then), and no
# clock: a busy machine fails no law. `pytest --hypothesis-profile=default tests/laws` looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

for _name in [name for name in os.environ if name.startswith(PREFIX)]:
    del os.environ[_name]


# Seven thousand tests are loaded and stay: a fifth of the CPU of these processes went into walking through them.
gc.disable()
COLLECTED_AFTER: Final = 10_000

# Every client would read all the world's certificates again, 40 ms of CPU each, to speak HTTP without TLS.
httpx._transports.default.create_ssl_context = functools.cache(httpx.create_ssl_context)


def _interrupt(number: int, frame: object) -> None:
    """A test run that is told to end takes its services with it, as after ctrl-C."""
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, _interrupt)
# Where it is ignored, as by what a shell runs in the background, whatever is started here would ignore it as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOGETHER: Final = ("tests/acceptance/", "tests/security/")
"""Folders whose files share a deployment: one process takes them all. Elsewhere a file is what one process takes."""

LONGEST: Final = ("tests/acceptance/", "tests/faults/", "tests/integration/", "tests/security/", "tests/simulation/")
"""What is begun first, so that nothing long is left for one process at the end."""


class Together(LoadScopeScheduling):
    """Gives processes the tests that belong together, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.split("::", 1)[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Of `pytest -n`, which `make test` is: most tests wait, so several run beside one another."""
    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first."""
    items.sort(key=lambda item: next((at for at, folder in enumerate(LONGEST) if item.nodeid.startswith(folder)), 9))


def pytest_collection_finish() -> None:
    """From here on there is garbage to collect."""
    garbage.spare(COLLECTED_AFTER)
    gc.enable()


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Kafka, Redis and ClickHouse, running and made ready, shared by the tests of a run."""
    with running(tmp_path_factory.mktemp("services")) as settings:
        yield settings


@pytest.fixture
def own_services(tmp_path: Path) -> Iterator[Callable[..., Settings]]:
    """Makes deployments that belong to one test alone, for tests that stop, kill or wipe what they run on."""
    with ExitStack() as stack:

        def start(name: str = "data", **given: Any) -> Settings:
            return stack.enter_context(running(tmp_path / name, **given))

        yield start


@pytest.fixture
def tollgate(services: Settings) -> Tollgate:
    """The command line against the shared services."""
    return Tollgate(services)
